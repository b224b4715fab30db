import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { s3 } from '../support/s3-raw.ts';
import { call } from './run.ts';

/** What an object is told to keep; every row is migrated in, and out again. */
const META = { 'content-type': 'text/plain', 'cache-control': 'no-store', 'x-amz-meta-origin': 'before the gateway' };
const OBJECTS = [
  { key: 'small.txt', body: Buffer.from('plaintext of old') },
  { key: 'of the size of a sealed one', body: randomBytes(1_121) },
  { key: 'a folder/ü + & =.bin', body: randomBytes(70_000) },
  { key: 'large.bin', body: randomBytes(6 * 1024 * 1024 + 1) },
  { key: 'empty', body: Buffer.alloc(0) },
];
const REDIRECT = 'x-amz-website-redirect-location';
const KEY = randomBytes(32);
const CUSTOMER = {
  'x-amz-server-side-encryption-customer-algorithm': 'AES256',
  'x-amz-server-side-encryption-customer-key': KEY.toString('base64'),
  'x-amz-server-side-encryption-customer-key-md5': createHash('md5').update(KEY).digest('base64'),
};

describe.each(inject('stores'))('a bucket is encrypted in place, and decrypted, over $name', (store) => {
  let gateway: TestGateway;
  let env: Record<string, string>;
  const run = (...args: string[]) => call(args, env);
  beforeAll(async () => {
    const [data, admin] = [await freePort(), await freePort()];
    const config = { data: { port: data }, admin: { port: admin } };
    gateway = await startGateway({ store, config: { ...config, development: { allowInsecureSseC: true } } });
    env = { S3SSE_CONFIG: join(gateway.folder, 'config.json') };
  });
  afterAll(() => gateway.stop());

  const atStore = (method: 'GET' | 'PUT' | 'HEAD', bucket: string, key: string, body?: Buffer) =>
    s3(store, { method, bucket, key, ...(body === undefined ? {} : { body, headers: META }) });
  const through = (method: 'GET' | 'PUT' | 'HEAD', bucket: string, key: string, more: object = {}) =>
    s3(gateway.raw, { method, bucket, key, ...more });

  async function plaintextBucket(): Promise<string> {
    const bucket = `migrate-${randomBytes(4).toString('hex')}`;
    expect((await s3(store, { method: 'PUT', bucket })).status).toBe(200);
    for (const { key, body } of OBJECTS) expect((await atStore('PUT', bucket, key, body)).status).toBe(200);
    await s3(store, { method: 'PUT', bucket, key: 'empty', headers: { ...META, [REDIRECT]: '/moved' } });
    // The store tells times to the second: what was there before must be older than the cut-over.
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    return bucket;
  }

  it('encrypt-bucket, and back by decrypt-bucket', { timeout: 120_000 }, async () => {
    const bucket = await plaintextBucket();
    const unseen = await run('encrypt-bucket', bucket, '--dry-run');
    expect([unseen.status, unseen.out]).toEqual([0, expect.stringContaining('would be adopted')]);
    expect((await run('buckets', 'adopt', bucket, '--mode', 'mixed')).status).toBe(0);
    const dry = await run('encrypt-bucket', bucket, '--dry-run');
    expect([dry.status, dry.out]).toEqual([0, expect.stringContaining('would seal 5 objects')]);
    expect((await atStore('GET', bucket, 'small.txt')).text).toBe('plaintext of old');

    const redirect = (await atStore('HEAD', bucket, 'empty')).headers[REDIRECT];
    // Some are sealed already: it was ended in its middle.
    const first = OBJECTS[0];
    expect((await through('PUT', bucket, 'small.txt', { body: first?.body, headers: META })).status).toBe(200);
    const sealed = await run('encrypt-bucket', bucket, '--writes-stopped');
    expect([sealed.status, sealed.out]).toEqual([0, expect.stringContaining('sealed 4 objects')]);
    expect(sealed.out).toContain('1 needed nothing');
    expect(sealed.out).toContain('encrypted-only');
    for (const { key, body } of OBJECTS) {
      const got = await through('GET', bucket, key);
      expect([got.status, got.body.equals(body)], key).toEqual([200, true]);
      expect(got.headers, key).toMatchObject({ ...META, 'x-amz-server-side-encryption': 'AES256' });
      const raw = await atStore('GET', bucket, key);
      if (body.length > 0) expect(raw.body.includes(body.subarray(0, 16)), key).toBe(false);
    }
    expect((await through('HEAD', bucket, 'empty')).headers[REDIRECT]).toBe(redirect);
    await atStore('PUT', bucket, 'slipped-in.txt', Buffer.from('by who can write at the store'));
    expect((await through('GET', bucket, 'slipped-in.txt')).status).toBe(500);
    expect((await run('encrypt-bucket', bucket)).out).toContain('encrypted-only already');

    const leaving = await run('decrypt-bucket', bucket, '--dry-run');
    expect([leaving.status, leaving.out]).toEqual([1, expect.stringContaining('slipped-in.txt')]);
    expect((await s3(store, { method: 'DELETE', bucket, key: 'slipped-in.txt' })).status).toBe(204);
    const left = await run('decrypt-bucket', bucket, '--writes-stopped');
    expect([left.status, left.out]).toEqual([0, expect.stringContaining('decrypted 5 objects')]);
    for (const { key, body } of OBJECTS) {
      for (const got of [await atStore('GET', bucket, key), await through('GET', bucket, key)]) {
        expect([got.status, got.body.equals(body)], key).toEqual([200, true]);
        expect(got.headers, key).toMatchObject(META);
        expect(
          Object.keys(got.headers).filter((name) => name.includes('s3-sse') || name.includes('server-side')),
        ).toEqual([]);
      }
    }
    expect((await atStore('HEAD', bucket, 'empty')).headers[REDIRECT]).toBe(redirect);
    expect((await run('decrypt-bucket', bucket, '--writes-stopped')).out).toContain('5 needed nothing');
  });

  it('decrypt-bucket leaves what is under a customer key, and says so', async () => {
    const bucket = `migrate-${randomBytes(4).toString('hex')}`;
    expect((await s3(gateway.raw, { method: 'PUT', bucket })).status).toBe(200);
    await through('PUT', bucket, 'managed', { body: 'mine' });
    const put = await through('PUT', bucket, 'theirs', { body: 'theirs', headers: CUSTOMER });
    expect(put.status).toBe(200);
    const left = await run('decrypt-bucket', bucket, '--writes-stopped');
    expect([left.status, left.out]).toEqual([1, expect.stringContaining('"theirs": sealed under a customer key')]);
    expect(left.out).toContain('decrypted 1 objects');
    expect((await through('GET', bucket, 'theirs', { headers: CUSTOMER })).text).toBe('theirs');
    expect((await atStore('GET', bucket, 'managed')).text).toBe('mine');
  });

  /** The embedded store has no Object Lock. */
  const itLocks = store.name === 'devstore' ? undefined : it;
  itLocks?.('a lock is kept, and a version of before stays behind', async () => {
    const bucket = `migrate-${randomBytes(4).toString('hex')}`;
    await s3(store, { method: 'PUT', bucket, headers: { 'x-amz-bucket-object-lock-enabled': 'true' } });
    const headers = {
      'x-amz-object-lock-legal-hold': 'ON',
      'content-md5': createHash('md5').update('held').digest('base64'),
    };
    expect((await s3(store, { method: 'PUT', bucket, key: 'held', body: 'held', headers })).status).toBe(200);
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    expect((await run('buckets', 'adopt', bucket, '--mode', 'mixed')).status).toBe(0);
    const sealed = await run('encrypt-bucket', bucket, '--writes-stopped', '--leave-old-versions');
    expect([sealed.status, sealed.out]).toEqual([0, expect.stringContaining('sealed 1 objects')]);
    const { headers: found } = await through('HEAD', bucket, 'held');
    expect(found['x-amz-server-side-encryption']).toBe('AES256');
    // versitygw shows a lock to nobody but GetObjectLegalHold, so that no copy can ask for the same.
    if (store.name === 'versitygw') return;
    const versionId = String(found['x-amz-version-id']);
    const gone = await s3(gateway.raw, { method: 'DELETE', bucket, key: 'held', query: { versionId } });
    expect(gone.status).toBe(store.name === 'minio' ? 400 : 403);
  });

  it('a bucket without a record is not the gateway’s to decrypt', async () => {
    const { status, err } = await run('decrypt-bucket', 'no-such-bucket');
    expect([status, err]).toEqual([2, expect.stringContaining('has no record')]);
  });
});
