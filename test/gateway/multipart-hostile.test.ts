import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { Attacker, codeOf, expectRefused, flipped } from '../support/attacker.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { customerKey } from '../support/modes.ts';
import { crc32Base64, s3, xmlText, xmlTexts, type RawRequest, type RawResponse } from '../support/s3-raw.ts';

const MIB = 1024 ** 2;
type Headers = Readonly<Record<string, string>>;

describe.each(inject('stores'))('over $name', (store) => {
  let gateway: TestGateway;
  const attacker = new Attacker(store);
  const bucket = `hostile-${randomBytes(4).toString('hex')}`;
  beforeAll(async () => {
    gateway = await startGateway({ store, config: { development: { allowInsecureSseC: true } } });
    await s3(gateway.raw, { method: 'PUT', bucket });
  }, 60_000);
  afterAll(() => gateway.stop());

  const call = (key: string, request: Omit<RawRequest, 'bucket' | 'key'>): Promise<RawResponse> =>
    s3(gateway.raw, { ...request, bucket, key });

  async function create(key: string, headers: Headers = {}): Promise<string> {
    const { status, text } = await call(key, { method: 'POST', query: { uploads: '' }, headers });
    expect(status).toBe(200);
    return xmlText(text, 'UploadId');
  }

  function send(key: string, uploadId: string, number: number, more: Partial<RawRequest>): Promise<RawResponse> {
    return call(key, { ...more, method: 'PUT', query: { uploadId, partNumber: String(number) } });
  }

  async function part(key: string, uploadId: string, number: number, body: Buffer, headers = {}): Promise<string> {
    const { status, headers: told } = await send(key, uploadId, number, { body, headers });
    expect(status).toBe(200);
    return String(told.etag);
  }

  function complete(key: string, uploadId: string, etags: readonly string[], headers = {}): Promise<RawResponse> {
    const parts = etags.map((etag, i) => `<Part><PartNumber>${i + 1}</PartNumber><ETag>${etag}</ETag></Part>`);
    const body = `<CompleteMultipartUpload>${parts.join('')}</CompleteMultipartUpload>`;
    return call(key, { method: 'POST', query: { uploadId }, body, headers });
  }

  const system = (method: 'GET' | 'PUT' | 'DELETE', key: string | undefined, more = {}): Promise<RawResponse> =>
    s3(store, { method, bucket: gateway.systemBucket, ...(key === undefined ? {} : { key }), ...more });
  const names = async (prefix = 'uploads/'): Promise<string[]> =>
    xmlTexts((await system('GET', undefined, { query: { 'list-type': '2', prefix } })).text, 'Key');

  it('SSE-C: the key of the upload on every part, none on Complete', async () => {
    const [own, other] = [customerKey(), customerKey()];
    const body = randomBytes(200_000);
    const id = await create('customer', own);
    const refused = await Promise.all([
      send('customer', id, 1, { body }),
      send('customer', id, 1, { body, headers: other }),
      send('customer', id, 1, { body, headers: { ...own, 'x-amz-server-side-encryption': 'AES256' } }),
    ]);
    expect(refused.map(codeOf)).toEqual(['InvalidRequest', 'InvalidRequest', 'InvalidArgument']);
    const managed = await create('managed');
    expect(codeOf(await send('managed', managed, 1, { body, headers: own }))).toBe('InvalidRequest');
    const etag = await part('customer', id, 1, body, own);
    expect((await complete('customer', id, [etag])).status).toBe(200);
    const read = await call('customer', { method: 'GET', headers: own });
    expect(read.body.equals(body)).toBe(true);
    const range = await call('customer', { method: 'GET', headers: { ...own, range: 'bytes=70000-70009' } });
    expect([range.status, range.body.equals(body.subarray(70_000, 70_010))]).toEqual([206, true]);
    expect(codeOf(await call('customer', { method: 'GET' }))).toBe('InvalidRequest');
    expect(codeOf(await call('customer', { method: 'GET', headers: { ...other, range: 'bytes=0-9' } }))).toBe(
      'AccessDenied',
    );
  });

  it('a part that fails leaves its upload usable, and nothing of it is listed', async () => {
    const id = await create('interrupted');
    const body = randomBytes(5 * MIB + 1);
    const wrong = createHash('sha256').update('another').digest('hex');
    await send('interrupted', id, 1, { body, payload: 'UNSIGNED-PAYLOAD', cutAfter: 3 * MIB });
    expect(codeOf(await send('interrupted', id, 1, { body, payload: wrong }))).toBe('XAmzContentSHA256Mismatch');
    const listed = await call('interrupted', { method: 'GET', query: { uploadId: id } });
    expect([listed.status, xmlTexts(listed.text, 'PartNumber')]).toEqual([200, []]);
    const etags = [await part('interrupted', id, 1, body), await part('interrupted', id, 2, body.subarray(0, 10))];
    const page = await call('interrupted', { method: 'GET', query: { uploadId: id, 'max-parts': '1' } });
    expect(['PartNumber', 'IsTruncated', 'NextPartNumberMarker'].map((name) => xmlText(page.text, name))).toEqual([
      '1',
      'true',
      '1',
    ]);
    expect((await complete('interrupted', id, etags)).status).toBe(200);
    const read = await call('interrupted', { method: 'GET' });
    expect(read.body.equals(Buffer.concat([body, body.subarray(0, 10)]))).toBe(true);
  });

  it('records are removed by Complete but for the tombstone, and by Abort', async () => {
    const before = new Set(await names());
    const added = async (): Promise<string[]> => (await names()).filter((name) => !before.has(name));
    const [done, dropped] = [await create('done'), await create('dropped')];
    const etag = await part('done', done, 1, randomBytes(100));
    await part('dropped', dropped, 1, randomBytes(100));
    expect(await added()).toHaveLength(6);
    expect((await complete('done', done, [etag])).status).toBe(200);
    expect((await call('dropped', { method: 'DELETE', query: { uploadId: dropped } })).status).toBe(204);
    expect((await added()).map((name) => name.replace(/[0-9a-f]{64}/, 'X'))).toEqual(['uploads/X/t']);
  });

  it('Complete on a condition passes, is refused, or is not known to the store: never passed over', async () => {
    const body = randomBytes(100);
    const condition = { 'if-none-match': '*' };
    const first = await create('condition');
    const fresh = await complete('condition', first, [await part('condition', first, 1, body)], condition);
    const known = store.name !== 'radosgw';
    expect(fresh.status).toBe(known ? 200 : 501);
    await call('condition', { method: 'PUT', body });
    const second = await create('condition');
    const over = await complete('condition', second, [await part('condition', second, 1, randomBytes(9))], condition);
    expect(over.status).toBe(known ? 412 : 501);
    expect((await call('condition', { method: 'GET' })).body.equals(body)).toBe(true);
  });

  it('checksums: of parts, composite and full', async () => {
    const [a, b] = [randomBytes(5 * MIB), randomBytes(1000)];
    const id = await create('full', { 'x-amz-checksum-algorithm': 'CRC32', 'x-amz-checksum-type': 'FULL_OBJECT' });
    const bad = await send('full', id, 1, { body: a, headers: { 'x-amz-checksum-crc32': 'AAAAAA==' } });
    expect(codeOf(bad)).toBe('BadDigest');
    const etags = [await part('full', id, 1, a), await part('full', id, 2, b)];
    const whole = crc32Base64(Buffer.concat([a, b]));
    expect(codeOf(await complete('full', id, etags, { 'x-amz-checksum-crc32': 'AAAAAA==' }))).toBe('BadDigest');
    const told = await complete('full', id, etags, { 'x-amz-checksum-crc32': whole });
    expect([xmlText(told.text, 'ChecksumCRC32'), xmlText(told.text, 'ChecksumType')]).toEqual([whole, 'FULL_OBJECT']);
  });

  it('while the service is stopped: no Create, part or Complete; Abort and ListParts go on', async () => {
    const [left, id] = [await create('left'), await create('stopped')];
    const etag = await part('stopped', id, 1, randomBytes(10));
    await gateway.admin('POST', '/kms/stop', { reason: 'test' });
    try {
      expect((await call('new', { method: 'POST', query: { uploads: '' } })).status).toBe(503);
      expect((await send('stopped', id, 2, { body: randomBytes(10) })).status).toBe(503);
      expect((await complete('stopped', id, [etag])).status).toBe(503);
      expect((await call('stopped', { method: 'GET', query: { uploadId: id } })).status).toBe(200);
      expect((await call('left', { method: 'DELETE', query: { uploadId: left } })).status).toBe(204);
    } finally {
      await gateway.admin('POST', '/kms/start', {});
    }
    expect((await complete('stopped', id, [etag])).status).toBe(200);
  });

  it('what lies in the system bucket is not believed', async () => {
    const [one, two] = [await create('one'), await create('two')];
    const before = new Set(await names());
    const etag = await part('one', one, 1, randomBytes(1000));
    const mine = (await names()).filter((name) => !before.has(name));
    const record = mine.find((name) => name.includes('/p/')) ?? '';
    const aside = mine.find((name) => name.includes('/a/')) ?? '';
    const others = [...before].filter((name) => name.endsWith('/r'));
    const root = record.split('/').slice(0, 2).join('/');
    const foreign = others.find((name) => !name.startsWith(root)) ?? '';
    // A record of another upload is none of this one.
    await system('PUT', record.replace(root, foreign.split('/').slice(0, 2).join('/')));
    expect(codeOf(await complete('two', two, [etag]))).toBe('InvalidPart');
    // A part put aside of which the head was changed is not the one that was acknowledged.
    const { body } = await system('GET', aside);
    await system('PUT', aside, { body: flipped(body, 40) });
    expect((await complete('one', one, [etag])).status).toBe(500);
    await system('PUT', aside, { body });
    // A forged record, and another upload's.
    const stored = (await system('GET', `${root}/r`)).body;
    for (const forged of [flipped(stored, 60), (await system('GET', foreign)).body]) {
      await system('PUT', `${root}/r`, { body: forged });
      expect((await complete('one', one, [etag])).status).toBe(500);
    }
    await system('PUT', `${root}/r`, { body: stored });
    expect((await complete('one', one, [etag])).status).toBe(200);
  });

  it('no byte of an object in parts can be changed unseen', async () => {
    const id = await create('tampered');
    const parts = [randomBytes(5 * MIB), randomBytes(150_000)];
    const etags = [
      await part('tampered', id, 1, parts[0] ?? Buffer.alloc(0)),
      await part('tampered', id, 2, parts[1] ?? Buffer.alloc(0)),
    ];
    expect((await complete('tampered', id, etags)).status).toBe(200);
    const loot = await attacker.take(bucket, 'tampered');
    const second = 16 + 74 + 5 * MIB + 80 * 32;
    const places = {
      'part prefix': 3,
      'FLOE header': 40,
      segment: 3 * MIB,
      'second prefix': second + 3,
      'second header': second + 50,
      manifest: -700,
      footer: -20,
    };
    const reads: [string, RawResponse][] = [];
    for (const [name, at] of Object.entries(places)) {
      await attacker.plant(bucket, 'tampered', { ...loot, body: flipped(loot.body, at) });
      reads.push([name, await call('tampered', { method: 'GET' })]);
    }
    const cut = Buffer.concat([loot.body.subarray(0, second), loot.body.subarray(second + 100)]);
    for (const [name, body] of [
      ['cut', cut],
      ['short', loot.body.subarray(0, -1)],
      ['long', Buffer.concat([loot.body, Buffer.alloc(1)])],
    ] as const) {
      await attacker.plant(bucket, 'tampered', { ...loot, body });
      reads.push([name, await call('tampered', { method: 'GET' })]);
      reads.push([`${name} HEAD`, await call('tampered', { method: 'HEAD' })]);
      reads.push([`${name} range`, await call('tampered', { method: 'GET', headers: { range: 'bytes=10-20' } })]);
    }
    expectRefused(gateway, reads);
    await attacker.plant(bucket, 'tampered', loot);
    expect((await call('tampered', { method: 'GET' })).body.equals(Buffer.concat(parts))).toBe(true);
  }, 60_000);
});
