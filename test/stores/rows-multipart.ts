import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { xmlText, xmlTexts } from '../support/s3-raw.ts';
import type { Row } from './row.ts';

const MIB = 1024 * 1024;
/** The least that AWS takes as a part that is not the last. */
const FIRST = Buffer.alloc(5 * MIB, '1');
const LAST = Buffer.alloc(1000, '2');

function multipartEtag(...parts: readonly Buffer[]): string {
  const digests = parts.map((part) => createHash('md5').update(part).digest());
  return `"${createHash('md5').update(Buffer.concat(digests)).digest('hex')}-${parts.length}"`;
}

export const MULTIPART_ROWS: readonly Row[] = [
  {
    title: 'an UploadPart cut off is not listed',
    async observe(site) {
      const upload = await site.createUpload('cut-part');
      await upload.send(1, { body: Buffer.alloc(300_000), payload: 'UNSIGNED-PAYLOAD', cutAfter: 200_000 });
      await sleep(500);
      const { text } = await upload.parts();
      await upload.abort();
      return xmlTexts(text, 'Size');
    },
    expected: [],
    gaps: {
      versitygw: {
        outcome: ['300000'],
        reason:
          'listed with its declared size (trait refusesShortBody): only parts that the gateway acknowledged count',
      },
    },
  },
  {
    title: 'parts 3 and 10000 only; what was given at Create is kept',
    async observe(site) {
      const upload = await site.createUpload('sparse', { 'x-amz-meta-kept': 'yes', 'content-type': 'text/x-test' });
      const parts = [await upload.part(3, FIRST), await upload.part(10_000, LAST)];
      const { status } = await upload.complete(parts);
      const { body, headers } = await site.get('sparse');
      const isWhole = body.equals(Buffer.concat([FIRST, LAST]));
      return [status, isWhole, headers['x-amz-meta-kept'], headers['content-type'], headers.etag];
    },
    expected: [200, true, 'yes', 'text/x-test', multipartEtag(FIRST, LAST)],
  },
  {
    title: 'the ETag in the answer of Complete',
    async observe(site) {
      const upload = await site.createUpload('etag');
      const { text } = await upload.complete([await upload.part(1, LAST)]);
      return xmlText(text, 'ETag').replaceAll('"', '');
    },
    expected: multipartEtag(LAST).replaceAll('"', ''),
    gaps: { radosgw: { outcome: '', reason: 'is empty: a HEAD tells it' } },
  },
  {
    title: 'Complete with the ETag of a part that was sent again since',
    async observe(site) {
      const upload = await site.createUpload('stale');
      const stale = await upload.part(1, LAST);
      await upload.part(1, Buffer.alloc(2000, '3'));
      const { status, text } = await upload.complete([stale]);
      await upload.abort();
      return [status, xmlText(text, 'Code'), (await site.get('stale')).body.length];
    },
    // The body of a 404 has another length at each store.
    expected: [400, 'InvalidPart', expect.any(Number)],
    gaps: {
      seaweedfs: {
        outcome: [200, '', 1000],
        reason: 'keeps both attempts and takes the one that is named: the gateway knows which was the last',
      },
    },
  },
  {
    title: 'ListParts after a part was sent again, and what Complete makes of its last ETag',
    async observe(site) {
      const upload = await site.createUpload('sent-again');
      await upload.part(1, LAST);
      const again = await upload.part(1, Buffer.alloc(2000, '3'));
      const sizes = xmlTexts((await upload.parts()).text, 'Size').sort();
      await upload.complete([again]);
      return [sizes, (await site.get('sent-again')).body.length];
    },
    expected: [['2000'], 2000],
    gaps: {
      seaweedfs: {
        outcome: [['1000', '2000'], 2000],
        reason: 'lists every attempt, in random order: the gateway looks for the ETag and size of the one it means',
      },
    },
  },
  {
    title: 'Complete with parts in the wrong order',
    async observe(site) {
      const upload = await site.createUpload('order');
      const parts = [await upload.part(1, FIRST), await upload.part(2, FIRST)];
      const { status, text } = await upload.complete(parts.reverse());
      await upload.abort();
      return [status, xmlText(text, 'Code')];
    },
    expected: [400, 'InvalidPartOrder'],
    gaps: { radosgw: { outcome: [200, ''], reason: 'sorts them: the gateway checks the order itself' } },
  },
  {
    title: 'Complete, sent again after it has succeeded',
    async observe(site) {
      const upload = await site.createUpload('again');
      const parts = [await upload.part(1, LAST)];
      await upload.complete(parts);
      const { status, text } = await upload.complete(parts);
      return [status, xmlText(text, 'ETag')];
    },
    expected: [200, multipartEtag(LAST)],
    gaps: {
      minio: { outcome: [404, ''], reason: 'forgets it: the gateway answers from its tombstone' },
      radosgw: { outcome: [200, multipartEtag(LAST).replaceAll('"', '')], reason: 'the gateway adds the quotes' },
    },
  },
  {
    title: 'Complete with If-None-Match: * over an object',
    async observe(site) {
      await site.put('occupied', 'old');
      const upload = await site.createUpload('occupied');
      const { status } = await upload.complete([await upload.part(1, LAST)], { 'if-none-match': '*' });
      await upload.abort();
      return [status, (await site.get('occupied')).text === 'old'];
    },
    expected: [412, true],
    gaps: { radosgw: { outcome: [200, false], reason: 'ignores the condition: the gateway answers 501 to it there' } },
  },
  {
    title: 'an aborted upload is gone, and takes no part',
    async observe(site) {
      const upload = await site.createUpload('aborted');
      await upload.part(1, LAST);
      const open = await site.send('GET', undefined, { query: { uploads: '', prefix: 'aborted' } });
      const { status } = await upload.abort();
      const late = await upload.send(2, { body: LAST });
      const after = await site.send('GET', undefined, { query: { uploads: '', prefix: 'aborted' } });
      const seen = xmlTexts(open.text, 'UploadId').includes(upload.id);
      return [seen, status, late.status, xmlTexts(after.text, 'UploadId')];
    },
    expected: [true, 204, 404, []],
  },
  {
    title: 'ListParts in pages: numbers, sizes, ETags',
    async observe(site) {
      const upload = await site.createUpload('pages');
      const parts = [await upload.part(2, LAST), await upload.part(1, FIRST)];
      const list = async (marker: string): Promise<string[]> => {
        const query = { uploadId: upload.id, 'max-parts': '1', 'part-number-marker': marker };
        const { text } = await site.send('GET', 'pages', { query });
        return ['PartNumber', 'Size', 'ETag', 'IsTruncated'].map((name) => xmlText(text, name).replaceAll('"', ''));
      };
      const seen = [await list('0'), await list('1')];
      await upload.abort();
      const etags = parts.map(({ etag }) => etag.replaceAll('"', ''));
      return [seen[0]?.join(), seen[1]?.join()].map((text) =>
        text?.replace(etags[0] ?? '', 'B').replace(etags[1] ?? '', 'A'),
      );
    },
    expected: [`1,${FIRST.length},A,true`, '2,1000,B,false'],
  },
  {
    title: 'UploadPartCopy with a range',
    async observe(site) {
      await site.put('copied-from', 'abcdefghij');
      const upload = await site.createUpload('copied-to');
      const source = { 'x-amz-copy-source': `/${site.bucket}/copied-from`, 'x-amz-copy-source-range': 'bytes=2-5' };
      const { text } = await upload.send(1, { headers: source });
      await upload.complete([{ number: 1, etag: xmlText(text, 'ETag') }]);
      return (await site.get('copied-to')).text;
    },
    expected: 'cdef',
  },
];
