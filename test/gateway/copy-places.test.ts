import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { crc32Base64, s3, xmlText } from '../support/s3-raw.ts';
import type { StoreCall } from '../support/store-proxy.ts';
import { bucketName, COPY, Fixture, forSource, KMS, own, REPLACE, SSE, stores, told, type Headers } from './copies.ts';

const CHECKED = { 'x-amz-checksum-mode': 'ENABLED' };
const REDIRECT = 'x-amz-website-redirect-location';

describe.each(stores)('copies over $name', (store) => {
  const f = new Fixture();
  beforeAll(() => f.start(store), 60_000);
  afterAll(() => f.stop());

  it('parts of plaintext in a mixed bucket are sealed, with and without a range, in every mode', async () => {
    const [mixed, sealed] = [bucketName(), await f.bucket()];
    const body = randomBytes(70_000);
    await s3(store, { method: 'PUT', bucket: mixed });
    await s3(store, { method: 'PUT', bucket: mixed, key: 'plain', body });
    // The store tells times to the second: what was there before must be older than the cut-over.
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    expect((await f.gateway.admin('POST', `/kms/buckets/${mixed}/adopt`, { mode: 'mixed' })).status).toBe(200);
    for (const [name, write, range] of [
      ['SSE-S3', {}, undefined],
      ['SSE-KMS', KMS, 'bytes=10-65600'],
      ['SSE-C', own, 'bytes=69990-69999'],
    ] as const) {
      const upload = await f.upload(sealed, name, write);
      const key = name === 'SSE-C' ? own : {};
      const ranged: Headers = range === undefined ? {} : { [`${COPY}-range`]: range };
      const part = await upload.send(1, { headers: { [COPY]: `${mixed}/plain`, ...key, ...ranged } });
      expect(told(part)).toBe('200');
      expect(told(await upload.complete([{ partNumber: 1, etag: xmlText(part.text, 'ETag') }], key))).toBe('200');
      const [first, last] = (range ?? 'bytes=0-69999').slice(6).split('-').map(Number);
      const read = await f.send('GET', sealed, name, { headers: key });
      expect([read.status, read.body.equals(body.subarray(first, (last ?? 0) + 1))]).toEqual([200, true]);
      const stored = await s3(store, { method: 'GET', bucket: sealed, key: name });
      expect(stored.body.includes(body.subarray((first ?? 0) + 1, (first ?? 0) + 9))).toBe(false);
    }
    const given = { [COPY]: `${mixed}/plain`, ...forSource(own) };
    expect(told(await (await f.upload(sealed, 'k')).send(1, { headers: given }))).toBe('400 InvalidRequest');
  });

  it('from, to and within buckets that are mapped to a part of another one', async () => {
    const [target, mapped, other] = [bucketName(), bucketName(), await f.bucket()];
    await s3(store, { method: 'PUT', bucket: target });
    await s3(store, { method: 'PUT', bucket: target, key: 'secret', body: 'not theirs' });
    const adopted = { mode: 'encrypted-only', target: { bucket: target, prefix: 'team/' } };
    expect((await f.gateway.admin('POST', `/kms/buckets/${mapped}/adopt`, adopted)).status).toBe(200);
    const body = randomBytes(3000);
    await f.put(mapped, 'a', body);
    const source = (calls: readonly StoreCall[]): unknown =>
      calls.map(({ headers }) => headers[COPY]).find((value) => value !== undefined);
    const sent = await f.proxy.callsOf(async () => {
      expect(told(await f.copy(`${mapped}/a`, other, 'out', KMS))).toBe('200');
    });
    expect(source(sent)).toBe(store.name === 'radosgw' ? source(sent) : `/${target}/team/a`);
    expect(told(await f.copy(`${other}/out`, mapped, 'in', own))).toBe('200');
    expect(told(await f.copy(`${mapped}/a`, mapped, 'within', KMS))).toBe('200');
    expect(told(await f.copy(`${mapped}/a`, mapped, 'a', { ...REPLACE, 'x-amz-meta-v': '2' }))).toBe('200');
    expect(told(await f.partOf(`${mapped}/a`, other, 'part out'))).toBe('200');
    expect(told(await f.partOf(`${other}/out`, mapped, 'part in'))).toBe('200');
    for (const [bucket, key, read] of [
      [other, 'out', {}],
      [mapped, 'in', own],
      [mapped, 'within', {}],
      [mapped, 'a', {}],
      [other, 'part out', {}],
      [mapped, 'part in', {}],
    ] as const) {
      const got = await f.send('GET', bucket, key, { headers: read });
      expect([key, got.status, got.body.equals(body)]).toEqual([key, 200, true]);
    }
    expect((await f.send('HEAD', mapped, 'a')).headers['x-amz-meta-v']).toBe('2');
    expect((await s3(store, { method: 'HEAD', bucket: target, key: 'team/in' })).status).toBe(200);
    // Nobody's bucket by that name, and no way out of the prefix.
    for (const from of [`${target}/team/a`, `${target}/secret`, `${mapped}/../secret`, `${mapped}/%2E%2E/secret`]) {
      expect([from, (await f.copy(from, other, 'stolen')).status]).not.toEqual([from, 200]);
      expect([from, (await f.partOf(from, other, 'stolen')).status]).not.toEqual([from, 200]);
    }
    expect((await f.send('HEAD', other, 'stolen')).status).toBe(404);
  });

  it('UploadPartCopy and Complete that take long: 200 and white space, then the result or an Error', async () => {
    const bucket = await f.bucket();
    const body = randomBytes(500);
    await f.put(bucket, 'from', body);
    const uploads = await Promise.all(['part', 'refused', 'whole', 'unmade'].map((key) => f.upload(bucket, key)));
    const [part, refused, whole, unmade] = uploads;
    if (!part || !refused || !whole || !unmade) throw new Error('no upload');
    const parts = await Promise.all([whole, unmade].map((upload) => upload.part(1, body)));
    const fromHere = { headers: { [COPY]: `${bucket}/from` } };
    // A part this small lies aside until its Complete.
    const isSlow = ({ method, target }: StoreCall): boolean =>
      method === 'POST' ? target.includes('uploadId=') : method === 'PUT' && target.includes('/a/');
    const slowParts = await f.proxy.delaying(isSlow, 1_200, () =>
      Promise.all([part.send(1, fromHere), whole.complete(parts.slice(0, 1))]),
    );
    const failed = await f.proxy.lying(
      (call, answer) => (isSlow(call) ? { ...answer, status: 403, body: Buffer.alloc(0) } : answer),
      () =>
        f.proxy.delaying(isSlow, 1_200, () =>
          Promise.all([refused.send(1, fromHere), unmade.complete(parts.slice(1))]),
        ),
    );
    for (const answer of [...slowParts, ...failed]) {
      expect([answer.status, answer.headers['content-length'], answer.headers.etag]).toEqual([
        200,
        undefined,
        undefined,
      ]);
    }
    expect(slowParts[0].text).toMatch(/^<\?xml[^>]*>\n\s*<CopyPartResult/);
    expect(slowParts[1].text).toMatch(/^<\?xml[^>]*>\n\s*<CompleteMultipartUploadResult/);
    for (const { text } of failed) expect(text).toMatch(/^<\?xml[^>]*>\n\s*<Error><Code>/);
    const listed = { partNumber: 1, etag: xmlText(slowParts[0].text, 'ETag') };
    expect(told(await part.complete([listed]))).toBe('200');
    for (const key of ['part', 'whole']) expect((await f.send('GET', bucket, key)).body.equals(body)).toBe(true);
    expect(told(await f.send('HEAD', bucket, 'refused'))).toBe('404');
  });

  it('SSE-C that is blocked: no copy becomes SSE-C, no part goes on, no upload ends; what is there is copied out', async () => {
    const [bucket, source] = [await f.bucket(), await f.bucket()];
    await f.put(bucket, 'mine', 'under a key', own);
    await f.put(source, 'managed', 'managed');
    const [begun, ready] = [await f.upload(bucket, 'begun', own), await f.upload(bucket, 'ready', own)];
    const part = await ready.part(1, Buffer.from('a part'), own);
    await f.block(bucket, 'SSE-C');
    const broken = { ...own, [`${SSE}-customer-key`]: 'not a key' };
    const refusals = [
      await f.copy(`${source}/managed`, bucket, 'k', own),
      await f.copy(`${bucket}/mine`, bucket, 'k', { ...own, ...forSource(own) }),
      await f.copy(`${source}/managed`, bucket, 'k', broken),
      await begun.send(1, { headers: { [COPY]: `${source}/managed`, ...own } }),
      await begun.send(1, { headers: { [COPY]: `${source}/managed`, ...broken } }),
      await begun.send(1, { headers: own, body: 'a part' }),
      await ready.complete([part], own),
      await ready.complete([part]),
    ];
    expect(refusals.map(told)).toEqual(refusals.map(() => '403 AccessDenied'));
    expect(told(await f.copy(`${bucket}/mine`, bucket, 'out', forSource(own)))).toBe('200');
    expect((await f.send('GET', bucket, 'out')).text).toBe('under a key');
    expect(told(await f.partOf(`${bucket}/mine`, bucket, 'part', forSource(own)))).toBe('200');
    expect(told(await f.copy(`${bucket}/mine`, source, 'c', { ...own, ...forSource(own) }))).toBe('200');
    expect(told(await ready.list())).toBe('200');
    await f.block(bucket, 'NONE');
    expect(told(await ready.complete([part]))).toBe('200');
  });

  it("the source's checksum is the copy's, however it is copied; of a checksum of checksums a new one is made", async () => {
    const bucket = await f.bucket();
    const body = randomBytes(6000);
    const sum = { 'x-amz-checksum-crc32': crc32Base64(body) };
    await f.put(bucket, 'single', body, sum);
    const upload = await f.upload(bucket, 'parts', { 'x-amz-checksum-algorithm': 'CRC32' });
    const part = await upload.part(1, body);
    expect(told(await upload.complete([{ ...part, checksum: ['ChecksumCRC32', sum['x-amz-checksum-crc32']] }]))).toBe(
      '200',
    );
    const composite = (await f.send('HEAD', bucket, 'parts', { headers: CHECKED })).headers['x-amz-checksum-crc32'];
    expect(composite).toMatch(/-1$/);
    for (const [from, headers, value] of [
      ['single', KMS, sum['x-amz-checksum-crc32']],
      ['single', own, sum['x-amz-checksum-crc32']],
      ['parts', KMS, composite],
      ['parts', own, sum['x-amz-checksum-crc32']],
    ] as const) {
      const key = `${from} ${Object.keys(headers).length}`;
      const made = await f.copy(`${bucket}/${from}`, bucket, key, headers);
      const read = await f.send('HEAD', bucket, key, { headers: { ...CHECKED, ...(headers === own ? own : {}) } });
      expect([key, told(made), read.headers['x-amz-checksum-crc32']]).toEqual([key, '200', value]);
      expect([key, xmlText(made.text, 'ChecksumCRC32')]).toEqual([key, value]);
    }
  });

  it('a website redirect is never copied: it is what the copy itself asks for, or none', async () => {
    const bucket = await f.bucket();
    const asked = { [REDIRECT]: '/elsewhere' };
    const put = await f.send('PUT', bucket, 'from', {
      body: 'x',
      headers: { [REDIRECT]: '/old', 'x-amz-meta-v': '1' },
    });
    if (put.status === 501) {
      await f.put(bucket, 'from', 'x');
      expect(told(await f.copy(`${bucket}/from`, bucket, 'to', asked))).toBe('501 NotImplemented');
      return;
    }
    for (const [name, headers, redirect, metadata] of [
      ['COPY', {}, undefined, '1'],
      ['COPY with one', asked, '/elsewhere', '1'],
      ['REPLACE', REPLACE, undefined, undefined],
      ['REPLACE with one', { ...REPLACE, ...asked }, '/elsewhere', undefined],
      ['sealed anew', { ...own, ...asked }, '/elsewhere', '1'],
    ] as const) {
      expect([name, told(await f.copy(`${bucket}/from`, bucket, name, headers))]).toEqual([name, '200']);
      const read = await f.send('GET', bucket, name, { headers: name === 'sealed anew' ? own : {} });
      expect([name, read.status, read.headers[REDIRECT], read.headers['x-amz-meta-v']]).toEqual([
        ...[name, 200, redirect, metadata],
      ]);
    }
  });
});
