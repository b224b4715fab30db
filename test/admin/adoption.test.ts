import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { s3 } from '../support/s3-raw.ts';

describe.each(inject('stores'))('a bucket that was not made here, over $name', (store) => {
  let gateway: TestGateway;
  const name = (): string => `adopt-${randomBytes(4).toString('hex')}`;
  beforeAll(async () => {
    gateway = await startGateway({ store });
  });
  afterAll(() => gateway.stop());

  /** Straight at the store, past the gateway. */
  const atStore = (method: 'GET' | 'PUT', bucket: string, key?: string, body?: string) =>
    s3(store, { method, bucket, ...(key === undefined ? {} : { key }), ...(body === undefined ? {} : { body }) });
  const through = (method: 'GET' | 'PUT', bucket: string, key?: string, body?: string) =>
    s3(gateway.raw, { method, bucket, ...(key === undefined ? {} : { key }), ...(body === undefined ? {} : { body }) });
  const adopt = (bucket: string, body: object) => gateway.admin('POST', `/kms/buckets/${bucket}/adopt`, body);
  const seal = (bucket: string) => gateway.admin('POST', `/kms/buckets/${bucket}/seal`, {});

  async function bucketWithPlaintext(key = 'old.txt'): Promise<string> {
    const bucket = name();
    expect((await atStore('PUT', bucket)).status).toBe(200);
    expect((await atStore('PUT', bucket, key, 'plaintext of old')).status).toBe(200);
    return bucket;
  }

  it('is refused, adopted as mixed, migrated and sealed', async () => {
    const bucket = await bucketWithPlaintext();
    for (const refused of [await through('GET', bucket, 'old.txt'), await through('PUT', bucket, 'new.txt', 'x')]) {
      expect(refused.status).toBe(409);
      expect(refused.text).toContain(`POST /kms/buckets/${bucket}/adopt`);
    }
    // The store tells times to the second: what was there before must be older than the cut-over.
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    const adopted = await adopt(bucket, { mode: 'mixed' });
    expect(adopted.status).toBe(200);
    expect(adopted.body).toMatchObject({ name: bucket, mode: 'mixed', target: { bucket, prefix: '' } });
    expect(String(adopted.body.bucket_id)).toMatch(/^[\w-]{22}$/);

    expect((await through('GET', bucket, 'old.txt')).text).toBe('plaintext of old');
    const put = await through('PUT', bucket, 'new.txt', 'written through the gateway');
    expect(put.status).toBe(200);
    expect(put.headers['x-amz-server-side-encryption']).toBe('AES256');
    expect((await atStore('GET', bucket, 'new.txt')).text).not.toContain('written through');
    expect((await through('GET', bucket, 'new.txt')).text).toBe('written through the gateway');
    const listing = (await through('GET', bucket)).text;
    expect([...listing.matchAll(/<Size>(\d+)<\/Size>/g)].map((match) => match[1])).toEqual(['27', '16']);

    await new Promise((resolve) => setTimeout(resolve, 1_100));
    expect((await atStore('PUT', bucket, 'slipped-in.txt', 'by who can write at the store')).status).toBe(200);
    const slipped = await through('GET', bucket, 'slipped-in.txt');
    expect([slipped.status, slipped.text.includes('by who can')]).toEqual([500, false]);

    const sealed = await seal(bucket);
    expect([sealed.status, sealed.body.mode, sealed.body.cutover]).toEqual([200, 'encrypted-only', undefined]);
    expect(sealed.body.bucket_id).toBe(adopted.body.bucket_id);
    const old = await through('GET', bucket, 'old.txt');
    expect([old.status, old.text.includes('plaintext of old')]).toEqual([500, false]);
    expect((await through('GET', bucket, 'new.txt')).text).toBe('written through the gateway');
    expect((await adopt(bucket, { mode: 'mixed' })).status).toBe(409);
  });

  it('is adopted as encrypted-only: no plaintext of any age', async () => {
    const bucket = await bucketWithPlaintext();
    expect((await adopt(bucket, { mode: 'encrypted-only' })).status).toBe(200);
    const old = await through('GET', bucket, 'old.txt');
    expect([old.status, old.text.includes('plaintext of old')]).toEqual([500, false]);
  });

  it('lies under a prefix of another one, and nothing else of it is seen', async () => {
    const target = await bucketWithPlaintext('team/old.txt');
    await atStore('PUT', target, 'other/secret.txt', 'not theirs');
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    const bucket = name();
    expect((await adopt(bucket, { mode: 'mixed', target: { bucket: target, prefix: 'team/' } })).status).toBe(200);
    expect((await through('GET', bucket, 'old.txt')).text).toBe('plaintext of old');
    expect((await through('PUT', bucket, 'new.txt', 'new')).status).toBe(200);
    expect((await atStore('GET', target, 'team/new.txt')).status).toBe(200);
    const keys = [...(await through('GET', bucket)).text.matchAll(/<Key>([^<]*)<\/Key>/g)].map((match) => match[1]);
    expect(keys).toEqual(['new.txt', 'old.txt']);
    expect((await through('GET', bucket, '../other/secret.txt')).status).not.toBe(200);
    const overlapping = await adopt(name(), { mode: 'mixed', target: { bucket: target, prefix: 'team/a/' } });
    expect([overlapping.status, overlapping.text.includes(bucket)]).toEqual([409, true]);
    // Making a bucket of that name must not end the record of the one that is mapped.
    expect((await through('PUT', bucket)).status).toBe(409);
    expect((await through('GET', bucket, 'new.txt')).text).toBe('new');
  });

  it.each([
    ['a cut-over to come', { mode: 'mixed', cutover: '2999-01-01T00:00:00Z' }, 'future'],
    ['a cut-over of encrypted-only', { mode: 'encrypted-only', cutover: '2020-01-01T00:00:00Z' }, 'cutover'],
    ['a time without zone', { mode: 'mixed', cutover: '2020-01-01T00:00:00' }, 'cutover'],
    ['no mode', {}, 'mode'],
    ['an unknown mode', { mode: 'lax' }, 'mode'],
    ['a misspelled field', { mode: 'mixed', cutOver: '2020-01-01T00:00:00Z' }, 'did you mean \\"cutover\\"'],
  ])('is not adopted with %s', async (_, body, message) => {
    const bucket = await bucketWithPlaintext();
    const answer = await adopt(bucket, body);
    expect([answer.status, answer.text]).toEqual([400, expect.stringContaining(message)]);
    expect((await through('GET', bucket, 'old.txt')).status).toBe(409);
  });

  it('must stand at the store, and is never the system bucket', async () => {
    expect((await adopt(name(), { mode: 'mixed' })).status).toBe(404);
    expect((await adopt(gateway.systemBucket, { mode: 'mixed' })).status).toBe(404);
    const target = { bucket: gateway.systemBucket, prefix: 'x/' };
    expect((await adopt(name(), { mode: 'mixed', target })).status).toBe(404);
    expect((await seal(name())).status).toBe(404);
  });

  it('is listed with the others, and its adoption is in the audit', async () => {
    const bucket = await bucketWithPlaintext();
    await adopt(bucket, { mode: 'mixed', cutover: '2020-01-01T00:00:00Z' });
    const { body } = await gateway.admin('GET', '/kms/buckets');
    expect(body.buckets).toContainEqual(
      expect.objectContaining({ name: bucket, mode: 'mixed', cutover: '2020-01-01T00:00:00Z', encryption: 'AES256' }),
    );
    // Older than its Last-Modified: the plaintext is refused.
    expect((await through('GET', bucket, 'old.txt')).status).toBe(500);
    expect(gateway.auditRecords()).toContainEqual(
      expect.objectContaining({
        type: 'outcome',
        operation: 'POST /kms/buckets/:name/adopt',
        bucket,
        principal: 'administrator',
        outcome: 'success',
        note: 'mixed before 2020-01-01T00:00:00Z',
      }),
    );
  });
});
