import { createSecretKey, randomBytes } from 'node:crypto';
import { Writable } from 'node:stream';
import { afterAll, afterEach, beforeAll, describe, expect, inject, it, vi } from 'vitest';
import { BucketRecords } from '../../src/control/buckets.ts';
import { loadEnvelopeKeys } from '../../src/control/envelope-keys.ts';
import { parseConfig } from '../../src/config.ts';
import { Sweep, type Swept } from '../../src/gateway/uploads/sweep.ts';
import { SystemObjects } from '../../src/gateway/system-objects.ts';
import { createLog } from '../../src/log.ts';
import { startServer } from '../../src/server.ts';
import type { EnvelopeKeys } from '../../src/sse/mac.ts';
import { createStoreClient } from '../../src/store/client.ts';
import type { StoreClient } from '../../src/store/port.ts';
import { CAREFUL_TRAITS } from '../../src/store/traits.ts';
import { makeSite } from '../middleware/site.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { s3, xmlText, type RawResponse, type RawStore } from '../support/s3-raw.ts';

const HOUR = 60 * 60 * 1000;
const bucket = `swept-${randomBytes(4).toString('hex')}`;

function call(
  raw: RawStore,
  method: 'POST' | 'PUT' | 'GET' | 'DELETE',
  key: string,
  query: object,
  body?: Buffer | string,
) {
  return s3(raw, {
    method,
    bucket,
    key,
    query: query as Record<string, string>,
    ...(body === undefined ? {} : { body }),
  });
}

async function create(raw: RawStore, key: string): Promise<string> {
  return xmlText((await call(raw, 'POST', key, { uploads: '' })).text, 'UploadId');
}

async function sendOne(raw: RawStore, key: string, uploadId: string): Promise<string> {
  return String((await call(raw, 'PUT', key, { uploadId, partNumber: '1' }, randomBytes(100))).headers.etag);
}

function complete(raw: RawStore, key: string, uploadId: string, etag: string): Promise<RawResponse> {
  const body = `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>${etag}</ETag></Part></CompleteMultipartUpload>`;
  return call(raw, 'POST', key, { uploadId }, body);
}

describe.each(inject('stores'))('over $name', (store) => {
  let gateway: TestGateway;
  let client: StoreClient;
  let objects: SystemObjects;
  let keys: EnvelopeKeys;
  let targets: Awaited<ReturnType<BucketRecords['byId']>>;
  beforeAll(async () => {
    gateway = await startGateway({ store });
    await s3(gateway.raw, { method: 'PUT', bucket });
    [keys, targets] = await gateway.offline(async (control) => [
      await loadEnvelopeKeys(control),
      await new BucketRecords({ store: control, clock: Date.now }).byId(),
    ]);
    const { endpoint, region, accessKeyId, secretAccessKey } = store;
    const secret = createSecretKey(Buffer.from(`AWS4${secretAccessKey}`));
    client = createStoreClient({
      endpoint: new URL(endpoint),
      region,
      credentials: { accessKeyId, secret },
      traits: CAREFUL_TRAITS,
      pathStyle: true,
      clock: () => new Date(),
    });
    objects = new SystemObjects(client, gateway.systemBucket);
  }, 60_000);
  afterAll(async () => {
    await client.close();
    await gateway.stop();
  });

  const sweep = (
    hours: number,
    buckets: () => Promise<typeof targets> = () => Promise.resolve(targets),
  ): Promise<Swept> =>
    new Sweep({ objects, store: client, keys, buckets, clock: () => new Date(Date.now() + hours * HOUR) }).run();
  const names = (): Promise<string[]> => objects.list('uploads/');
  const added = async (work: () => Promise<unknown>): Promise<string[]> => {
    const before = new Set(await names());
    await work();
    return (await names()).filter((name) => !before.has(name));
  };

  it('removes after a day what is over, and never an upload that the store knows', async () => {
    const live = await create(gateway.raw, 'live');
    const etag = await sendOne(gateway.raw, 'live', live);
    const stays = await names();
    const over = await added(async () => {
      const done = await create(gateway.raw, 'done');
      await complete(gateway.raw, 'done', done, await sendOne(gateway.raw, 'done', done));
      // As the store's own lifecycle would.
      const aborted = await create(gateway.raw, 'aborted');
      await sendOne(gateway.raw, 'aborted', aborted);
      await call(store, 'DELETE', 'aborted', { uploadId: aborted });
      await objects.put(`uploads/${'0'.repeat(64)}/p/00001/record-without-an-upload`, Buffer.alloc(0));
    });
    expect(over).toHaveLength(5);
    expect(await sweep(23)).toMatchObject({ examined: 4, removed: 0, failed: 0 });
    expect((await names()).sort()).toEqual([...stays, ...over].sort());
    expect(await sweep(25)).toMatchObject({ removed: 3, failed: 0 });
    expect(await names()).toEqual(stays);
    expect(await sweep(24 * 365)).toMatchObject({ removed: 0, failed: 0 });
    expect((await complete(gateway.raw, 'live', live, etag)).status).toBe(200);
    await sweep(25);
    expect(await names()).toEqual([]);
  });

  it('leaves a record that does not verify, and an upload of a replica’s bucket', async () => {
    const id = await create(gateway.raw, 'replicated');
    const elsewhere = [...targets.values()]
      .flat()
      .map(({ target }) => ({ target: { ...target, prefix: 'elsewhere/' } }));
    const both = new Map([...targets].map(([bucketId, records]) => [bucketId, [...elsewhere, ...records]] as const));
    expect(await sweep(25, () => Promise.resolve(both as unknown as typeof targets))).toMatchObject({ removed: 0 });
    const [name = ''] = await names();
    const record = (await objects.get(name)) ?? Buffer.alloc(0);
    await call(store, 'DELETE', 'replicated', { uploadId: id });
    const forged = Buffer.from(record);
    forged[30] = (forged[30] ?? 0) ^ 1;
    await objects.put(name, forged);
    expect(await sweep(25)).toMatchObject({ removed: 0 });
    await objects.put(name, record);
    // Its bucket is gone, and its id with it.
    expect(await sweep(25, () => Promise.resolve(new Map()))).toMatchObject({ removed: 1 });
    expect(await names()).toEqual([]);
  });
});

describe('the stand-alone server', () => {
  afterEach(() => void vi.useRealTimers());

  it('sweeps by itself', async () => {
    const site = await makeSite();
    const lines: string[] = [];
    const stream = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        lines.push(chunk.toString());
        done();
      },
    });
    const server = await startServer(parseConfig(site.options()), createLog('info', stream), undefined, 50);
    try {
      await server.ready;
      const raw = { endpoint: server.dataUrl, region: 'us-east-1', ...site.user };
      await s3(raw, { method: 'PUT', bucket });
      const id = await create(raw, 'k');
      expect((await complete(raw, 'k', id, await sendOne(raw, 'k', id))).status).toBe(200);
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 25 * HOUR });
      const removed = (): boolean => lines.some((line) => line.includes('leftovers of uploads removed'));
      await vi.waitUntil(removed, { timeout: 20_000, interval: 50 });
    } finally {
      await server.close(200);
      site.remove();
    }
  });
});
