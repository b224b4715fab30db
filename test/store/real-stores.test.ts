import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import type { ServiceError } from '../../src/errors.ts';
import { setReleasing } from '../../src/bytes.ts';
import type { StoreClient, StoreTraits } from '../../src/store/port.ts';
import { probeTraits } from '../../src/store/probe.ts';
import { ensureSystemBucket } from '../../src/store/system-bucket.ts';
import { CAREFUL_TRAITS, traitsOf, type TraitName } from '../../src/store/traits.ts';
import { clientFor } from './clients.ts';

/** What each store was seen to do, by hand, before the probe was written (docs of the traits). */
const KNOWN: Readonly<Record<string, StoreTraits>> = {
  devstore: allBut(),
  versitygw: allBut('refusesShortBody', 'keepsSlashBody', 'keepsPathsApart'),
  seaweedfs: allBut('keepsSlashBody', 'keepsSlashMetadata', 'keepsPathsApart', 'keepsRedirect'),
  swift: allBut(
    ...(['acceptsTrailers', 'putIfMatch', 'putIfNoneMatch', 'deleteIfMatch'] as const),
    ...(['copySourceIfMatch', 'copyTags', 'keepsRedirect', 'keepsOctets'] as const),
  ),
  minio: allBut('deleteIfMatch', 'keepsPathsApart', 'keepsRedirect', 'keepsOctets'),
  radosgw: allBut(
    ...(['acceptsTrailers', 'putIfMatch', 'completeIfNoneMatch', 'deleteIfMatch'] as const),
    ...(['copySourceIfMatch', 'copyTags', 'completesSubset'] as const),
  ),
};

/** `atomicCopy` is never found: only pinned. */
function allBut(...missing: readonly TraitName[]): StoreTraits {
  return traitsOf(({ name }) => name !== 'atomicCopy' && !missing.includes(name));
}

const closing: StoreClient[] = [];
afterAll(async () => {
  await Promise.all(closing.map((client) => client.close()));
});

describe.each(inject('stores'))('$name', (store) => {
  const known = KNOWN[store.name] ?? expect.fail(`no row for ${store.name}`);
  const bucket = `client-${randomBytes(4).toString('hex')}`;
  const open = (traits: StoreTraits): StoreClient => {
    const client = clientFor(store, traits);
    closing.push(client);
    return client;
  };
  const client = open(known);

  beforeAll(() => ensureSystemBucket(client, bucket));

  async function read(
    key: string,
  ): Promise<{ status: number; body: Buffer; headers: Readonly<Record<string, string>> }> {
    const response = await client.request({ method: 'GET', bucket, key });
    return { status: response.status, headers: response.headers, body: await response.collect(32 * 1024 * 1024) };
  }

  test('is found to do what it is known to do, and nothing of the probe stays behind', async () => {
    const found = await probeTraits({
      client: (traits) => clientFor(store, traits),
      systemBucket: bucket,
      run: randomBytes(8).toString('hex'),
    });
    expect(found).toEqual(known);
    const list = await client.request({
      method: 'GET',
      bucket,
      query: [
        ['list-type', '2'],
        ['prefix', 'probe/'],
      ],
    });
    expect((await list.collect(100_000)).toString()).not.toContain('<Key>');
  });

  test.each(['a+b c', '100%', "grüße/日本!'()*", 'q?x#y&z=1', 'semi;colon:@$,'])(
    'takes and gives the key %j',
    async (key) => {
      const body = randomBytes(1000);
      const metadata = 'two  inner   spaces';
      const put = await client.request({ method: 'PUT', bucket, key, body, headers: { 'x-amz-meta-a': metadata } });
      put.discard();
      expect(put.status).toBe(200);
      const back = await read(key);
      expect(back.body.equals(body)).toBe(true);
      expect(back.headers['x-amz-meta-a']).toBe(metadata);
      const gone = await client.request({ method: 'DELETE', bucket, key });
      expect(gone.status).toBe(204);
      expect((await read(key)).status).toBe(404);
    },
  );

  describe.each([true, false])('releasing %s', (releasing) => {
    beforeAll(() => {
      setReleasing(releasing);
    });
    afterAll(() => {
      setReleasing(true);
    });

    test.each([
      ['the framing of its traits', known],
      ['the careful framing', CAREFUL_TRAITS],
    ])('takes an upload in %s, whole and without framing', async (_title, traits) => {
      const body = randomBytes(9_000_001);
      const uploader = open(traits);
      const upload = uploader.upload(
        { bucket, key: 'large', headers: { 'content-encoding': 'x-own' } },
        body.byteLength,
      );
      for (let at = 0; at < body.byteLength; at += 65_568) {
        const own = Buffer.from(new ArrayBuffer(Math.min(65_568, body.byteLength - at)));
        body.copy(own, 0, at);
        if (!upload.write(own)) await upload.drained();
      }
      upload.end();
      const stored = await upload.response;
      stored.discard();
      // Refused as a whole: never a body whose end nobody knows.
      const refused = store.name === 'swift' && traits === CAREFUL_TRAITS;
      expect(stored.status).toBe(refused ? 501 : 200);
      if (refused) return;
      const back = await read('large');
      expect(createHash('sha256').update(back.body).digest('hex')).toBe(
        createHash('sha256').update(body).digest('hex'),
      );
      expect(back.headers['content-encoding']).toBe('x-own');
    });
  });

  test.each([
    ['in its middle', 2_000_000],
    ['after all bytes were given', 4_000_000],
  ])('keeps the old object when an upload is destroyed %s', async (_title, given) => {
    const old = randomBytes(100_000);
    (await client.request({ method: 'PUT', bucket, key: 'kept', body: old })).discard();
    const upload = client.upload({ bucket, key: 'kept' }, 4_000_000);
    for (let at = 0; at < given; at += 50_000) {
      if (!upload.write(Buffer.from(new ArrayBuffer(50_000)))) await upload.drained();
    }
    await sleep(100);
    upload.destroy();
    await expect(upload.response).rejects.toMatchObject({ reason: 'store-aborted' });
    await sleep(500);
    expect((await read('kept')).body.equals(old)).toBe(true);
  });

  test('refuses an unsigned stranger, and that is an answer', async () => {
    const stranger = clientFor({ ...store, secretAccessKey: 'wrong' });
    closing.push(stranger);
    const response = await stranger.request({ method: 'GET', bucket, key: 'large' });
    expect(response.status).toBe(403);
    response.discard();
    const upload = stranger.upload({ bucket, key: 'large' }, 5_000_000);
    // Some verify before they ask for the body, some after they have it, some close while we write: the answer may be
    // lost then, and with it only the reason.
    const writing = (async () => {
      for (let i = 0; i < 100; i++) if (!upload.write(Buffer.alloc(50_000))) await upload.drained();
      upload.end();
    })().catch(() => undefined);
    const outcome = await upload.response.then(
      ({ status }) => status,
      (err: unknown) => (err as ServiceError).reason,
    );
    await writing;
    expect(String(outcome)).toMatch(/^(?:403|store-unreachable|store-unreachable-midway)$/);
    expect((await read('large')).body.byteLength).toBe(9_000_001);
  });
});
