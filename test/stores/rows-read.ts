import { createHash } from 'node:crypto';
import { xmlText } from '../support/s3-raw.ts';
import type { Row } from './row.ts';
import type { Site } from './site.ts';

const LETTERS = 'abcdefghijklmnopqrstuvwxyz';

async function range(site: Site, header: string, method: 'GET' | 'HEAD' = 'GET'): Promise<string> {
  // A key of its own: radosgw answers 500 to a read while others write over the object.
  const key = `letters-${method}-${header}`;
  await site.put(key, LETTERS);
  const { status, headers, text } = await site.send(method, key, { headers: { range: header } });
  return [status, headers['content-range'] ?? '', headers['content-length'] ?? '', status < 300 ? text : ''].join(' ');
}

const SLASH = 'an object under a key ending in / (traits keepsSlashBody, keepsSlashMetadata; docs/FORMAT.md)';

export const READ_ROWS: readonly Row[] = [
  { title: 'range bytes=2-4', observe: (site) => range(site, 'bytes=2-4'), expected: '206 bytes 2-4/26 3 cde' },
  { title: 'range bytes=20-', observe: (site) => range(site, 'bytes=20-'), expected: '206 bytes 20-25/26 6 uvwxyz' },
  {
    title: 'range bytes=20-99',
    observe: (site) => range(site, 'bytes=20-99'),
    expected: '206 bytes 20-25/26 6 uvwxyz',
  },
  { title: 'range bytes=-3', observe: (site) => range(site, 'bytes=-3'), expected: '206 bytes 23-25/26 3 xyz' },
  {
    title: 'range bytes=-99',
    observe: (site) => range(site, 'bytes=-99'),
    expected: `206 bytes 0-25/26 26 ${LETTERS}`,
  },
  {
    title: 'a range behind the end',
    observe: async (site) => (await range(site, 'bytes=26-30')).slice(0, 3),
    expected: '416',
  },
  {
    title: 'a suffix range of an empty object',
    observe: async (site) => {
      await site.put('empty', '');
      const { status, headers } = await site.get('empty', { range: 'bytes=-64' });
      return [status, status === 206 ? headers['content-range'] : ''].join(' ');
    },
    expected: '416 ',
    gaps: {
      versitygw: { outcome: '200 ', reason: 'answers the whole object: its Content-Length tells the same' },
      swift: { outcome: '200 ', reason: 'answers the whole object: its Content-Length tells the same' },
      minio: { outcome: '206 bytes 0--1/0', reason: 'a Content-Range of its own making, which the gateway reads' },
    },
  },
  {
    title: 'HEAD with a range',
    observe: (site) => range(site, 'bytes=2-4', 'HEAD'),
    expected: '206 bytes 2-4/26 3 ',
    gaps: { seaweedfs: { outcome: '200  26 ', reason: 'ignores it' } },
  },
  {
    title: 'a range GET with If-Match, right and wrong',
    async observe(site) {
      await site.put('range-if', LETTERS);
      const bytes = { range: 'bytes=1-2' };
      const right = await site.get('range-if', { ...bytes, 'if-match': await site.etag('range-if') });
      const wrong = await site.get('range-if', { ...bytes, 'if-match': '"0123"' });
      return [right.status, right.text, wrong.status];
    },
    expected: [206, 'bc', 412],
  },
  {
    title: 'GET If-None-Match, If-Modified-Since, If-Unmodified-Since',
    async observe(site) {
      await site.put('conditions', 'x');
      const { headers } = await site.send('HEAD', 'conditions');
      const [etag, date] = [headers.etag ?? '', headers['last-modified'] ?? ''];
      const before = new Date(Date.parse(date) - 60_000).toUTCString();
      const sent = [
        { 'if-none-match': etag },
        { 'if-none-match': '"0123"' },
        { 'if-modified-since': date },
        { 'if-modified-since': before },
        { 'if-unmodified-since': before },
        { 'if-unmodified-since': date },
      ];
      return Promise.all(sent.map(async (condition) => (await site.get('conditions', condition)).status));
    },
    expected: [304, 200, 304, 200, 412, 200],
    gaps: {
      versitygw: {
        outcome: [304, 200, 200, 200, 412, 412],
        reason:
          "compares the header's seconds with the file's nanoseconds: the gateway decides on Last-Modified itself",
      },
    },
  },
  {
    title: 'metadata and content headers come back to the letter',
    async observe(site) {
      const sent = {
        'x-amz-meta-spaces': 'two  spaces',
        'x-amz-meta-text': '=?UTF-8?B?w6Q=?=',
        'cache-control': 'max-age=60, private',
        'content-disposition': 'attachment; filename="a b.txt"',
        'content-encoding': 'gzip',
        'content-language': 'de-DE',
        'content-type': 'text/plain;charset=utf-8',
        expires: 'Thu, 01 Dec 2033 16:00:00 GMT',
      };
      await site.put('headers', 'x', sent);
      const { headers } = await site.send('HEAD', 'headers');
      return Object.entries(sent).flatMap(([name, value]) => (headers[name] === value ? [] : [[name, headers[name]]]));
    },
    expected: [],
  },
  {
    title: 'an empty metadata value',
    async observe(site) {
      await site.put('empty-value', 'x', { 'x-amz-meta-empty': '' });
      return (await site.send('HEAD', 'empty-value')).headers['x-amz-meta-empty'] ?? 'gone';
    },
    expected: '',
    gaps: { seaweedfs: { outcome: 'gone', reason: 'drops it: the metadata digest counts an empty value as none' } },
  },
  {
    title: 'the Content-Type of an object that was given none',
    async observe(site) {
      await site.put('untyped.html', 'x');
      return (await site.send('HEAD', 'untyped.html')).headers['content-type'];
    },
    expected: 'binary/octet-stream',
    gaps: { seaweedfs: { outcome: 'text/plain; charset=utf-8', reason: 'guesses: the gateway always sends one' } },
  },
  {
    title: '1.9 KB of metadata in one value',
    async observe(site) {
      const value = 'v'.repeat(1900);
      await site.put('long-value', 'x', { 'x-amz-meta-v': value });
      return (await site.send('HEAD', 'long-value')).headers['x-amz-meta-v'] === value;
    },
    expected: true,
  },
  {
    title: 'an empty object',
    async observe(site) {
      const put = await site.put('nothing', '');
      const { status, body, headers } = await site.get('nothing');
      return [put.status, status, body.length, headers['content-length']];
    },
    expected: [200, 200, 0, '0'],
  },
  {
    title: 'a key ending in / with a body',
    async observe(site) {
      const { status } = await site.put('folder/', 'body');
      const got = await site.get('folder/');
      return [status, got.status === 200 ? got.text : '', got.status];
    },
    expected: [200, 'body', 200],
    gaps: {
      seaweedfs: { outcome: [200, '', 200], reason: `loses the body of ${SLASH}` },
      versitygw: { outcome: [400, '', 404], reason: `refuses ${SLASH}` },
    },
  },
  {
    title: 'a key ending in /, empty, with metadata',
    async observe(site) {
      const { status } = await site.put('bare/', '', { 'x-amz-meta-kept': 'yes' });
      return [status, (await site.send('HEAD', 'bare/')).headers['x-amz-meta-kept'] ?? 'gone'];
    },
    expected: [200, 'yes'],
    gaps: { seaweedfs: { outcome: [200, 'gone'], reason: `loses the metadata of ${SLASH}` } },
  },
  {
    title: 'object tags',
    async observe(site) {
      await site.put('tagged', 'x', { 'x-amz-tagging': 'a=1&b=2' });
      const tags = async (): Promise<string> => {
        const { text } = await site.send('GET', 'tagged', { query: { tagging: '' } });
        const pairs = [...text.matchAll(/<Key>([^<]*)<\/Key><Value>([^<]*)<\/Value>/g)];
        return pairs
          .map(([, name, value]) => `${name}=${value}`)
          .sort()
          .join('&');
      };
      const before = await tags();
      const body = '<Tagging><TagSet><Tag><Key>c</Key><Value>3</Value></Tag></TagSet></Tagging>';
      const md5 = { 'content-md5': createHash('md5').update(body).digest('base64') };
      await site.send('PUT', 'tagged', { query: { tagging: '' }, body, headers: md5 });
      const between = await tags();
      await site.send('DELETE', 'tagged', { query: { tagging: '' } });
      return [before, between, await tags(), (await site.get('tagged')).status];
    },
    expected: ['a=1&b=2', 'c=3', '', 200],
    gaps: { swift: { outcome: ['', '', '', 404], reason: 'has no tags: 501, to the PUT too' } },
  },
  {
    title: 'CopyObject keeps metadata, or replaces it',
    async observe(site) {
      await site.put('source', 'copied', { 'x-amz-meta-of': 'source', 'content-type': 'text/x-source' });
      const from = { 'x-amz-copy-source': `/${site.bucket}/source` };
      const kept = await site.send('PUT', 'copy', { headers: from });
      const replacing = { ...from, 'x-amz-metadata-directive': 'REPLACE', 'x-amz-meta-of': 'copy' };
      await site.send('PUT', 'replaced', { headers: replacing });
      const seen = await Promise.all(['copy', 'replaced'].map((key) => site.get(key)));
      return [
        xmlText(kept.text, 'ETag') !== '',
        ...seen.map(({ text, headers }) => `${text} of ${String(headers['x-amz-meta-of'])}`),
      ];
    },
    expected: [true, 'copied of source', 'copied of copy'],
  },
  {
    title: 'x-amz-copy-source-if-match, wrong',
    async observe(site) {
      await site.put('copy-if', 'x');
      const headers = { 'x-amz-copy-source': `/${site.bucket}/copy-if`, 'x-amz-copy-source-if-match': '"0123"' };
      const { status } = await site.send('PUT', 'copy-if-target', { headers });
      return [status, (await site.get('copy-if-target')).status];
    },
    expected: [412, 404],
    gaps: { radosgw: { outcome: [200, 200], reason: 'ignores it: the gateway compares ETags after the copy' } },
  },
  {
    title: 'the ETag of a multipart object after a copy onto itself with new metadata',
    async observe(site) {
      const upload = await site.createUpload('self');
      await upload.complete([await upload.part(1, Buffer.from('part'))]);
      const before = await site.etag('self');
      const headers = {
        'x-amz-copy-source': `/${site.bucket}/self`,
        'x-amz-metadata-directive': 'REPLACE',
        'x-amz-meta-n': '1',
      };
      await site.send('PUT', 'self', { headers });
      const { headers: after, text } = await site.get('self');
      return [text, after['x-amz-meta-n'], after.etag === before ? 'same' : after.etag];
    },
    // The MD5 of the bytes: a copy is one write.
    expected: ['part', '1', `"${createHash('md5').update('part').digest('hex')}"`],
    gaps: {
      seaweedfs: { outcome: ['part', '1', 'same'], reason: 'changes the metadata in place' },
      versitygw: { outcome: ['part', '1', 'same'], reason: 'changes the metadata in place' },
      radosgw: { outcome: ['part', '1', 'same'], reason: 'changes the metadata in place' },
      swift: { outcome: ['part', '1', 'same'], reason: 'copies the list of parts' },
    },
  },
];
