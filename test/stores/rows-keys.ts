import { createHash } from 'node:crypto';
import { s3, unescapeXml, xmlText, xmlTexts, type RawRequest } from '../support/s3-raw.ts';
import type { Gap, Row } from './row.ts';
import type { Site } from './site.ts';

/** Puts a key, reads it back and finds it in the listing as it was written. */
async function holds(site: Site, key: string): Promise<string> {
  const put = await site.put(key, `body of ${key}`);
  if (put.status !== 200) return 'refused';
  const { text } = await site.get(key);
  const listed = await keysOf(site, { prefix: key });
  return text === `body of ${key}` ? (listed.includes(key) ? 'kept' : 'kept, not listed') : 'lost';
}

/** Whether two keys that mean one path are two objects. */
async function apart(site: Site, key: string, path: string): Promise<string> {
  await site.put(path, 'first');
  const { status } = await site.put(key, 'second');
  if (status !== 200) return 'refused';
  const seen = await Promise.all([path, key].map(async (name) => (await site.get(name)).text));
  const listed = await keysOf(site, { prefix: key });
  return seen.join() === 'first,second' && listed.includes(key) ? 'two objects' : 'one object';
}

/** All keys of a listing in its order, page after page, with `encoding-type=url`. */
async function keysOf(site: Site, query: RawRequest['query']): Promise<string[]> {
  const found: string[] = [];
  let token = '';
  for (let page = 0; page < 50; page += 1) {
    const next = token === '' ? {} : { 'continuation-token': token };
    const all = { 'list-type': '2', 'encoding-type': 'url', ...query, ...next };
    const { text } = await site.send('GET', undefined, { query: all });
    const decode = (name: string): string => decodeURIComponent(name.replaceAll('+', ' '));
    const isEncoded = xmlText(text, 'EncodingType') === 'url';
    const names = [...text.matchAll(/<(?:Key|CommonPrefixes><Prefix)>([^<]*)</g)].map((match) =>
      unescapeXml(match[1] ?? ''),
    );
    found.push(...names.map((name) => (isEncoded ? decode(name) : name)));
    token = xmlText(text, 'NextContinuationToken');
    if (token === '') break;
  }
  return found;
}

async function filled(site: Site, prefix: string, keys: readonly string[]): Promise<void> {
  for (const key of keys) await site.put(prefix + key, 'x');
}

function gap(outcome: unknown, reason: string): Gap {
  return { outcome, reason };
}

const PATHS = 'keys are paths there: what it refuses is refused, and the name in the envelope tells merged keys apart';

export const KEY_ROWS: readonly Row[] = [
  {
    title: 'a key with every printable ASCII character, and beyond',
    observe: (site) => holds(site, 'p/ !"#$%&\'()*+,-.0:;<=>?@[]^_`{|}~ä€😀'),
    expected: 'kept',
  },
  {
    title: 'the key a//b beside a/b',
    observe: (site) => apart(site, 'a//b', 'a/b'),
    expected: 'two objects',
    gaps: { seaweedfs: gap('one object', PATHS), versitygw: gap('one object', PATHS), minio: gap('refused', PATHS) },
  },
  {
    title: 'the key /x beside x',
    observe: (site) => apart(site, '/x', 'x'),
    expected: 'two objects',
    gaps: { seaweedfs: gap('one object', PATHS), versitygw: gap('one object', PATHS), minio: gap('one object', PATHS) },
  },
  {
    title: 'the key e/../f beside f',
    observe: (site) => apart(site, 'e/../f', 'f'),
    expected: 'two objects',
    gaps: { seaweedfs: gap('refused', PATHS), versitygw: gap('one object', PATHS), minio: gap('refused', PATHS) },
  },
  {
    title: 'the key ../../outside beside outside',
    observe: (site) => apart(site, '../../outside', 'outside'),
    expected: 'two objects',
    gaps: { seaweedfs: gap('refused', PATHS), versitygw: gap('refused', PATHS), minio: gap('refused', PATHS) },
  },
  {
    title: 'a key of 1024 bytes without a slash',
    observe: (site) => holds(site, `long-${'k'.repeat(1019)}`),
    expected: 'kept',
    gaps: { seaweedfs: gap('refused', PATHS), versitygw: gap('refused', PATHS), minio: gap('refused', PATHS) },
  },
  {
    title: 'a key of 1025 bytes',
    observe: (site) => holds(site, `long-${'k'.repeat(1020)}`),
    expected: 'refused',
  },
  {
    title: 'the key n beside n/x',
    observe: async (site) => [await holds(site, 'n'), await holds(site, 'n/x'), (await site.get('n')).text],
    expected: ['kept', 'kept', 'body of n'],
    gaps: {
      versitygw: gap(['kept', 'refused', 'body of n'], PATHS),
      minio: gap(['kept', 'kept, not listed', 'body of n'], PATHS),
    },
  },
  {
    title: 'a listing in the order of UTF-8 bytes, where a key is also a prefix',
    async observe(site) {
      await filled(site, 'o/', ['b/x', 'b-', 'b0', 'b']);
      return keysOf(site, { prefix: 'o/' });
    },
    expected: ['o/b', 'o/b-', 'o/b/x', 'o/b0'],
    gaps: {
      seaweedfs: gap(['o/b', 'o/b/x', 'o/b-', 'o/b0'], 'walks folders: order is not relied on'),
      versitygw: gap(['o/b-', 'o/b/x', 'o/b0'], PATHS),
      minio: gap(['o/b', 'o/b-', 'o/b0'], PATHS),
    },
  },
  {
    title: 'a listing in the order of UTF-8 bytes, not of UTF-16 units',
    async observe(site) {
      await filled(site, 'u/', ['😀', '\uff5e', 'z']);
      return keysOf(site, { prefix: 'u/' });
    },
    expected: ['u/z', 'u/\uff5e', 'u/😀'],
  },
  {
    title: 'a listing by delimiter, in pages of two',
    async observe(site) {
      await filled(site, 'd/', ['a/1', 'a/2', 'b', 'c/1', 'e']);
      // Keys and prefixes stand in two lists of a page.
      return (await keysOf(site, { prefix: 'd/', delimiter: '/', 'max-keys': '2' })).sort();
    },
    expected: ['d/a/', 'd/b', 'd/c/', 'd/e'],
  },
  {
    title: 'a listing with encoding-type=url says that it is encoded',
    async observe(site) {
      await site.put('enc/ü', 'x');
      const query = { 'list-type': '2', 'encoding-type': 'url', prefix: 'enc/' };
      const { text } = await site.send('GET', undefined, { query });
      return [xmlText(text, 'EncodingType'), decodeURIComponent(xmlText(text, 'Key'))];
    },
    expected: ['url', 'enc/ü'],
    gaps: { versitygw: gap(['', 'enc/ü'], 'does not encode, and says so: decode only what says url') },
  },
  {
    title: 'ListObjects (V1) from a marker, and V2 after a key',
    async observe(site) {
      await filled(site, 'm/', ['1', '2', '3']);
      const v1 = await site.send('GET', undefined, { query: { prefix: 'm/', marker: 'm/1', 'max-keys': '1' } });
      const v2 = await keysOf(site, { prefix: 'm/', 'start-after': 'm/1' });
      return [xmlTexts(v1.text, 'Key'), xmlText(v1.text, 'IsTruncated'), v2];
    },
    expected: [['m/2'], 'true', ['m/2', 'm/3']],
  },
  {
    title: 'sizes and ETags in a listing',
    async observe(site) {
      await site.put('sized', 'four');
      const { text } = await site.send('GET', undefined, { query: { 'list-type': '2', prefix: 'sized' } });
      return [xmlText(text, 'Size'), xmlText(text, 'ETag').replaceAll('"', '')];
    },
    expected: ['4', createHash('md5').update('four').digest('hex')],
  },
  {
    title: 'DeleteObjects: what is there, what is not, quiet',
    async observe(site) {
      await filled(site, 'x/', ['1 & 2', '3']);
      const remove = async (quiet: boolean, ...keys: string[]): Promise<string[]> => {
        const objects = keys.map((key) => `<Object><Key>${key}</Key></Object>`).join('');
        const body = `<Delete><Quiet>${quiet}</Quiet>${objects}</Delete>`;
        const headers = { 'content-md5': createHash('md5').update(body).digest('base64') };
        const { text } = await site.send('POST', undefined, { query: { delete: '' }, body, headers });
        return xmlTexts(text, 'Key').sort();
      };
      const loud = await remove(false, 'x/1 &amp; 2', 'x/never');
      const quiet = await remove(true, 'x/3');
      return [loud, quiet, await keysOf(site, { prefix: 'x/' })];
    },
    expected: [['x/1 & 2', 'x/never'], [], []],
    gaps: { versitygw: gap([['x/1 & 2', 'x/never'], ['x/3'], []], 'never quiet: the gateway answers for itself') },
  },
  {
    title: 'DeleteBucket of a bucket that holds something, and that is empty',
    async observe({ store, bucket }) {
      const own = `${bucket}-full`;
      await s3(store, { method: 'PUT', bucket: own });
      await s3(store, { method: 'PUT', bucket: own, key: 'x', body: 'x' });
      const full = await s3(store, { method: 'DELETE', bucket: own });
      await s3(store, { method: 'DELETE', bucket: own, key: 'x' });
      const empty = await s3(store, { method: 'DELETE', bucket: own });
      return [full.status, xmlText(full.text, 'Code'), empty.status];
    },
    expected: [409, 'BucketNotEmpty', 204],
    gaps: { seaweedfs: gap([204, '', 404], 'deletes it with all it holds: the gateway lists before') },
  },
  {
    title: 'what is not there: object, bucket',
    async observe({ store, bucket }) {
      const object = await s3(store, { method: 'GET', bucket, key: 'nowhere' });
      const none = await s3(store, { method: 'GET', bucket: `${bucket}-none`, key: 'x' });
      const head = await s3(store, { method: 'HEAD', bucket: `${bucket}-none` });
      const seen = [object, none].map(({ status, text }) => `${status} ${xmlText(text, 'Code')}`);
      return [...seen, head.status];
    },
    expected: ['404 NoSuchKey', '404 NoSuchBucket', 404],
  },
  {
    title: 'a wrong secret, and a key id that nobody has',
    async observe({ store, bucket }) {
      const wrong = await s3({ ...store, secretAccessKey: 'wrong' }, { method: 'GET', bucket, key: 'x' });
      const unknown = await s3({ ...store, accessKeyId: 'NOBODY' }, { method: 'GET', bucket, key: 'x' });
      return [wrong, unknown].map(({ status, text }) => `${status} ${xmlText(text, 'Code')}`);
    },
    expected: ['403 SignatureDoesNotMatch', '403 InvalidAccessKeyId'],
    gaps: {
      swift: {
        outcome: ['403 SignatureDoesNotMatch', '403 SignatureDoesNotMatch'],
        reason: 'does not tell the two apart: both are refused',
      },
    },
  },
];
