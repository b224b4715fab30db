import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { RawUpload, type Listed } from '../support/multipart.ts';
import { s3, type RawResponse } from '../support/s3-raw.ts';
import { startStoreProxy, type StoreProxy } from '../support/store-proxy.ts';

const MIB = 1024 ** 2;
const bucket = `reads-${randomBytes(4).toString('hex')}`;
const BODIES = [randomBytes(5 * MIB + 11), randomBytes(5 * MIB), randomBytes(100_000)];
const WHOLE = Buffer.concat(BODIES);
const SHA256 = BODIES.map((body) => createHash('sha256').update(body).digest());
const COMPOSITE = `${createHash('sha256').update(Buffer.concat(SHA256)).digest('base64')}-3`;

/** Name, request headers, query, and what comes of it: first byte and end of the plaintext. */
const RANGES: readonly (readonly [string, Record<string, string>, Record<string, string>, number, number])[] = [
  ['first byte', { range: 'bytes=0-0' }, {}, 0, 1],
  ['in the first part', { range: 'bytes=70000-200000' }, {}, 70_000, 200_001],
  ['open end', { range: 'bytes=70000-' }, {}, 70_000, WHOLE.length],
  ['over the first end', { range: `bytes=100-${5 * MIB + 20}` }, {}, 100, 5 * MIB + 21],
  ['over all parts', { range: `bytes=100-${WHOLE.length + 5}` }, {}, 100, WHOLE.length],
  ['in the second part', { range: `bytes=${6 * MIB}-${6 * MIB + 9}` }, {}, 6 * MIB, 6 * MIB + 10],
  ['suffix', { range: 'bytes=-10' }, {}, WHOLE.length - 10, WHOLE.length],
  ['part 2', {}, { partNumber: '2' }, 5 * MIB + 11, 10 * MIB + 11],
];

describe.each(inject('stores').filter(({ name }) => name === 'devstore'))('over $name', (store) => {
  let gateway: TestGateway;
  let proxy: StoreProxy;
  let etag = '';
  beforeAll(async () => {
    proxy = await startStoreProxy(store);
    gateway = await startGateway({ store: { ...store, ...proxy.store } });
    await s3(gateway.raw, { method: 'PUT', bucket });
    const upload = await RawUpload.create(gateway.raw, bucket, 'parts', { 'x-amz-checksum-algorithm': 'SHA256' });
    const parts: Listed[] = [];
    for (const [i, body] of BODIES.entries()) {
      const part = await upload.part(i + 1, body);
      parts.push({ ...part, checksum: ['ChecksumSHA256', SHA256[i]?.toString('base64') ?? ''] });
    }
    const done = await upload.complete(parts);
    expect(done.status).toBe(200);
    await s3(gateway.raw, { method: 'PUT', bucket, key: 'single', body: WHOLE });
    etag = String((await s3(gateway.raw, { method: 'HEAD', bucket, key: 'parts' })).headers.etag);
  }, 60_000);
  afterAll(async () => {
    await gateway.stop();
    await proxy.stop();
  });

  async function asked(method: 'GET' | 'HEAD', key: string, more: object): Promise<[number, RawResponse]> {
    let answer: RawResponse | undefined;
    const calls = await proxy.callsOf(async () => {
      answer = await s3(gateway.raw, { method, bucket, key, ...more });
    });
    if (answer === undefined) throw new Error('no answer');
    return [calls.length, answer];
  }

  it('right after Complete a range takes one request', async () => {
    const [calls, { status, body }] = await asked('GET', 'parts', { headers: { range: 'bytes=-10' } });
    expect([calls, status, body.equals(WHOLE.subarray(-10))]).toEqual([1, 206, true]);
  });

  it.each(RANGES)('%s: two requests when nothing is known, then one', async (_name, headers, query, first, end) => {
    await gateway.restart();
    const counts: number[] = [];
    for (let again = 0; again < 2; again += 1) {
      const [calls, answer] = await asked('GET', 'parts', { headers, query });
      expect([answer.status, answer.body.equals(WHOLE.subarray(first, end))]).toEqual([206, true]);
      counts.push(calls);
    }
    expect(counts).toEqual([2, 1]);
  });

  it('If-Range: two requests; the whole where it does not hold', async () => {
    await gateway.restart();
    const range = 'bytes=100-109';
    const [calls, answer] = await asked('GET', 'parts', { headers: { range, 'if-range': etag } });
    expect([calls, answer.status, answer.body.equals(WHOLE.subarray(100, 110))]).toEqual([2, 206, true]);
    const [, whole] = await asked('GET', 'parts', { headers: { range, 'if-range': '"other-01"' } });
    expect([whole.status, whole.body.equals(WHOLE)]).toEqual([200, true]);
  });

  it('an object that is not in parts: one request up to 5 MiB; two beyond and for a suffix, then one', async () => {
    await gateway.restart();
    const far = { headers: { range: `bytes=${6 * MIB}-${6 * MIB + 9}` } };
    const near = { headers: { range: `bytes=10-${6 * MIB}` } };
    const [cold, answer] = await asked('GET', 'single', far);
    const [warm] = await asked('GET', 'single', far);
    expect([cold, warm, answer.body.equals(WHOLE.subarray(6 * MIB, 6 * MIB + 10))]).toEqual([2, 1, true]);
    await gateway.restart();
    const [one, early] = await asked('GET', 'single', near);
    expect([one, early.status, early.body.equals(WHOLE.subarray(10, 6 * MIB + 1))]).toEqual([1, 206, true]);
    const [suffix] = await asked('GET', 'single', { headers: { range: 'bytes=-5' } });
    expect(suffix).toBe(2);
  });

  it('the checksum: in one HEAD, and in a whole GET as soon as the manifest is known', async () => {
    await gateway.restart();
    const headers = { 'x-amz-checksum-mode': 'ENABLED' };
    const told = ({ headers: all }: RawResponse): unknown[] => [
      all['x-amz-checksum-sha256'],
      all['x-amz-checksum-type'],
    ];
    const [first, unknown] = await asked('GET', 'parts', { headers });
    expect([first, unknown.body.equals(WHOLE), ...told(unknown)]).toEqual([1, true, undefined, undefined]);
    const [second, known] = await asked('GET', 'parts', { headers });
    expect([second, known.body.equals(WHOLE), ...told(known)]).toEqual([1, true, COMPOSITE, 'COMPOSITE']);
    await gateway.restart();
    const [calls, head] = await asked('HEAD', 'parts', { headers });
    expect([calls, head.status, ...told(head)]).toEqual([1, 200, COMPOSITE, 'COMPOSITE']);
  });

  it('while the service is stopped HEAD answers, without the checksum', async () => {
    await gateway.restart();
    await gateway.admin('POST', '/kms/stop', { reason: 'test' });
    try {
      const head = await s3(gateway.raw, {
        method: 'HEAD',
        bucket,
        key: 'parts',
        headers: { 'x-amz-checksum-mode': 'ENABLED' },
      });
      expect([head.status, head.headers['content-length'], head.headers['x-amz-checksum-sha256']]).toEqual([
        200,
        String(WHOLE.length),
        undefined,
      ]);
    } finally {
      await gateway.admin('POST', '/kms/start', {});
    }
  });
});
