import { createSecretKey, randomBytes } from 'node:crypto';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { backupControl, restoreControl } from '../../src/control/backup.ts';
import { BucketRecords, type NewBucket } from '../../src/control/buckets.ts';
import { openControlDirectory } from '../../src/control/directory.ts';
import { loadEnvelopeKeys } from '../../src/control/envelope-keys.ts';
import { initControl, loadRealm } from '../../src/control/init.ts';
import { records, type ControlStore } from '../../src/control/port.ts';
import { controlDown, FakeControlStore } from '../kms/fakes.ts';

const settings: NewBucket = {
  target: { bucket: 'behind', prefix: '' },
  mode: 'encrypted-only',
  encryption: { algorithm: 'AES256', bucketKeyEnabled: true, blocked: ['SSE-C'] },
};

describe('bucket records', () => {
  let store: FakeControlStore;
  let now: number;
  let buckets: BucketRecords;
  beforeEach(() => {
    store = new FakeControlStore();
    now = Date.parse('2026-01-01T00:00:00Z');
    buckets = new BucketRecords({ store, clock: () => now });
  });

  it('are made with a random id, and read back', async () => {
    const record = await buckets.create('one', settings);
    expect(record).toMatchObject({ ...settings, arnName: 'one', createdAt: '2026-01-01T00:00:00.000Z' });
    expect(Buffer.from(record.bucketId, 'base64url').byteLength).toBe(16);
    expect(await buckets.get('one')).toEqual(record);
    expect(await buckets.list()).toEqual(['one']);
    expect((await buckets.create('two', settings)).bucketId).not.toBe(record.bucketId);
  });

  it('are never made by reading', async () => {
    for (const name of ['none', '', '..', 'a/b', '../realm']) expect(await buckets.get(name)).toBeUndefined();
  });

  it('of a bucket that is made again have another id, and its bucket keys are gone', async () => {
    const first = await buckets.create('one', settings);
    await store.compareAndSet(records.bucketKey(first.bucketId, 'k'), { some: 'key' }, 0);
    await buckets.retire('one');
    expect(await buckets.get('one')).toBeUndefined();
    expect(await store.list(records.bucketKeys)).toEqual([]);
    expect((await buckets.create('one', settings)).bucketId).not.toBe(first.bucketId);
  });

  it('of a replica inherit id and name', async () => {
    const { bucketId, arnName } = await buckets.create('one', settings);
    expect(await buckets.create('copy', { ...settings, inherit: { bucketId, arnName } })).toMatchObject({
      bucketId,
      arnName,
    });
  });

  it('exist once', async () => {
    await buckets.create('one', settings);
    await expect(buckets.create('one', settings)).rejects.toMatchObject({ code: 'BucketAlreadyOwnedByYou' });
    await expect(buckets.retire('none')).rejects.toMatchObject({ code: 'NoSuchBucket' });
    await expect(buckets.update('none', (r) => r)).rejects.toMatchObject({ code: 'NoSuchBucket' });
  });

  it('change their settings and keep their identity', async () => {
    const record = await buckets.create('one', settings);
    const changed = await buckets.update('one', (found) => ({
      ...found,
      bucketId: 'x',
      mode: 'mixed',
      cutover: '2026-02-01T00:00:00Z',
    }));
    expect(changed).toEqual({ ...record, mode: 'mixed', cutover: '2026-02-01T00:00:00Z' });
    expect(await buckets.get('one')).toEqual(changed);
  });

  it('written by another meanwhile are OperationAborted', async () => {
    await buckets.create('one', settings);
    store.beforeWrite = async (name) => {
      store.beforeWrite = undefined;
      const { value, version } = await store.get(name);
      await store.compareAndSet(name, value, version);
    };
    await expect(buckets.update('one', (found) => ({ ...found, mode: 'mixed' }))).rejects.toMatchObject({
      code: 'OperationAborted',
    });
  });

  it('are read from the store once a second, and from the last reading for 300 s while it is down', async () => {
    const record = await buckets.create('one', settings);
    await buckets.get('one');
    const { reads } = store;
    for (let i = 0; i < 100; i++) await buckets.get('one');
    expect(store.reads).toBe(reads);
    now += 1000;
    await buckets.get('one');
    expect(store.reads).toBe(reads + 1);
    store.broken = controlDown();
    now += 299_000;
    expect(await buckets.get('one')).toEqual(record);
    now += 1_001;
    await expect(buckets.get('one')).rejects.toMatchObject({ code: 'ServiceUnavailable' });
  });

  const damage: readonly (readonly [string, Record<string, unknown>])[] = [
    ['an unknown field', { extra: 1 }],
    ['no id', { bucketId: undefined }],
    ['a short id', { bucketId: 'AAAA' }],
    ['another mode', { mode: 'plain' }],
    ['another algorithm', { encryption: { ...settings.encryption, algorithm: 'none' } }],
    ['a key with AES256', { encryption: { ...settings.encryption, keyReference: 'k' } }],
    ['another block', { encryption: { ...settings.encryption, blocked: ['SSE-S3'] } }],
    ['a cut-over that is no time', { cutover: 'tomorrow' }],
  ];
  it.each(damage)('with %s are refused, not read as a default', async (_name, change) => {
    const record = await buckets.create('one', settings);
    const value = JSON.parse(JSON.stringify({ ...record, ...change })) as Record<string, string>;
    await store.compareAndSet(records.bucket('one'), value, 1);
    await expect(buckets.get('one')).rejects.toMatchObject({ code: 'ServiceUnavailable', reason: 'control-damaged' });
  });
});

describe('backup and restore', () => {
  const masterKey = createSecretKey(randomBytes(32));
  let dir: string;
  const stores: ControlStore[] = [];
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'backup-'));
  });
  afterEach(async () => {
    for (const store of stores.splice(0)) await store.close();
    await rm(dir, { recursive: true });
  });
  async function open(name: string): Promise<ControlStore> {
    const store = await openControlDirectory({ path: join(dir, name), masterKey, create: true });
    stores.push(store);
    return store;
  }
  async function filled(): Promise<ControlStore> {
    const store = await open('one');
    await initControl(store, 0);
    await store.compareAndSet(records.service, { generation: 7, desired: 'running', settings: { a: 1 } }, 1);
    await new BucketRecords({ store, clock: Date.now }).create('behind', settings);
    return store;
  }

  it('brings everything back, the service stopped', async () => {
    const store = await filled();
    const file = join(dir, 'backup');
    expect(await backupControl(store, file, masterKey, 0)).toBe(4);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    const copy = await open('two');
    expect(await restoreControl(copy, file, masterKey)).toBe(4);
    expect((await loadRealm(copy)).id.equals((await loadRealm(store)).id)).toBe(true);
    const [a, b] = await Promise.all([loadEnvelopeKeys(store), loadEnvelopeKeys(copy)]);
    expect(b.current().key.equals(a.current().key)).toBe(true);
    expect((await copy.get(records.bucket('behind'))).value).toEqual((await store.get(records.bucket('behind'))).value);
    expect((await copy.get(records.service)).value).toMatchObject({
      generation: 7,
      desired: 'stopped',
      settings: { a: 1 },
    });
  });

  it('holds no key in clear', async () => {
    const store = await filled();
    const file = join(dir, 'backup');
    await backupControl(store, file, masterKey, 0);
    const raw = (await loadEnvelopeKeys(store)).current().key.export();
    const bytes = await readFile(file);
    for (const form of [raw, raw.toString('base64'), raw.toString('hex'), 'realm'])
      expect(bytes.includes(form)).toBe(false);
  });

  it('is refused over a store that has something', async () => {
    const store = await filled();
    const file = join(dir, 'backup');
    await backupControl(store, file, masterKey, 0);
    await expect(restoreControl(store, file, masterKey)).rejects.toMatchObject({ code: 'Conflict' });
  });

  it.each(['another master key', 'a flipped bit', 'cut short', 'other bytes', 'a header edited', 'readable by others'])(
    'is refused with %s, and writes nothing',
    async (how) => {
      const store = await filled();
      const file = join(dir, 'backup');
      await backupControl(store, file, masterKey, 0);
      const bytes = await readFile(file);
      if (how === 'a flipped bit') bytes[60] = (bytes[60] ?? 0) ^ 1;
      if (how === 'a header edited') bytes[8] = (bytes[8] ?? 0) ^ 1;
      await writeFile(
        file,
        how === 'cut short' ? bytes.subarray(0, -1) : how === 'other bytes' ? randomBytes(99) : bytes,
      );
      if (how === 'readable by others') await chmod(file, 0o644);
      const key = how === 'another master key' ? createSecretKey(randomBytes(32)) : masterKey;
      const copy = await open('two');
      await expect(restoreControl(copy, file, key)).rejects.toMatchObject({ name: 'ServiceError' });
      expect((await copy.get(records.realm)).version).toBe(0);
      expect(await copy.list(records.envelopeKeys)).toEqual([]);
    },
  );
});
