import { randomBytes } from 'node:crypto';
import { afterAll, describe, expect, inject, test } from 'vitest';
import type { StoreClient } from '../../src/store/port.ts';
import {
  checkRealmMarker,
  ensureSystemBucket,
  readRealmMarker,
  writeRealmMarker,
} from '../../src/store/system-bucket.ts';
import { startStoreProxy } from '../support/store-proxy.ts';
import { clientFor } from './clients.ts';

const clients: StoreClient[] = [];
afterAll(async () => {
  await Promise.all(clients.map((client) => client.close()));
});

describe.each(inject('stores'))('the system bucket on $name', (store) => {
  const client = clientFor(store);
  clients.push(client);

  test('is made once, and a bucket that was made beforehand is taken', async () => {
    const bucket = `system-${randomBytes(4).toString('hex')}`;
    await ensureSystemBucket(client, bucket);
    await ensureSystemBucket(client, bucket);
    const head = await client.request({ method: 'HEAD', bucket });
    expect(head.status).toBe(200);
  });

  test('is not usable with credentials that the store refuses', async () => {
    const stranger = clientFor({ ...store, secretAccessKey: 'wrong' });
    clients.push(stranger);
    const bucket = `system-${randomBytes(4).toString('hex')}`;
    await expect(ensureSystemBucket(stranger, bucket)).rejects.toMatchObject({ reason: 'system-bucket' });
    expect((await client.request({ method: 'HEAD', bucket })).status).toBe(404);
  });

  test('belongs to one realm: init is refused where a marker is, its own or another', async () => {
    const bucket = `system-${randomBytes(4).toString('hex')}`;
    await ensureSystemBucket(client, bucket);
    const [realm, other] = [randomBytes(16), randomBytes(16)];
    expect(await readRealmMarker(client, bucket)).toBeUndefined();
    await expect(checkRealmMarker(client, bucket, realm)).rejects.toMatchObject({ reason: 'realm-missing' });
    await writeRealmMarker(client, bucket, realm);
    await checkRealmMarker(client, bucket, realm);
    expect((await readRealmMarker(client, bucket))?.equals(realm)).toBe(true);
    const taken = { code: 'Conflict', reason: 'realm-exists' };
    await expect(writeRealmMarker(client, bucket, realm)).rejects.toMatchObject(taken);
    await expect(writeRealmMarker(client, bucket, other)).rejects.toMatchObject(taken);
    await expect(checkRealmMarker(client, bucket, other)).rejects.toMatchObject({ reason: 'realm-mismatch' });
    await checkRealmMarker(client, bucket, realm);
  });

  test('is marked on a store that answers 501 to the condition, as OpenStack Swift does', async () => {
    const proxy = await startStoreProxy(store);
    const through = clientFor({ ...store, endpoint: proxy.store.endpoint });
    clients.push(through);
    const bucket = `system-${randomBytes(4).toString('hex')}`;
    await ensureSystemBucket(through, bucket);
    const realm = randomBytes(16);
    await proxy.lying(
      ({ headers }, answer) =>
        headers['if-none-match'] === undefined ? answer : { status: 501, headers: {}, body: Buffer.alloc(0) },
      () => writeRealmMarker(through, bucket, realm),
    );
    expect((await readRealmMarker(client, bucket))?.equals(realm)).toBe(true);
    await proxy.stop();
  });

  test('with a marker that cannot be read is refused, not taken over', async () => {
    const bucket = `system-${randomBytes(4).toString('hex')}`;
    await ensureSystemBucket(client, bucket);
    const put = await client.request({ method: 'PUT', bucket, key: 'realm', body: Buffer.from('something else') });
    put.discard();
    const refused = { reason: 'realm-marker' };
    await expect(writeRealmMarker(client, bucket, randomBytes(16))).rejects.toMatchObject(refused);
    await expect(checkRealmMarker(client, bucket, randomBytes(16))).rejects.toMatchObject(refused);
  });
});
