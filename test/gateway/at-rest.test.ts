import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it, vi } from 'vitest';
import type * as Bytes from '../../src/bytes.ts';
import { Site } from '../stores/site.ts';
import { ADMIN, startGateway, USER, type TestGateway } from '../support/gateway.ts';
import { startOpenBao, type OpenBao } from '../support/openbao.ts';
import { formsOf, Search, type Needle } from '../support/search.ts';
import { curl, minio, sdk, type Client, type SseHeaders } from './clients.ts';

/** Every key that the gateway makes a KeyObject of, copied on its way: data keys, object keys, and all others. */
const { taken } = vi.hoisted(() => ({ taken: new Map<string, Buffer>() }));
vi.mock('../../src/bytes.ts', async (original) => {
  const bytes = await original<typeof Bytes>();
  const takeKey: typeof Bytes.takeKey = (secret) => {
    taken.set(secret.toString('hex'), Buffer.from(secret));
    return bytes.takeKey(secret);
  };
  return { ...bytes, takeKey };
});

const MiB = 1024 ** 2;
const LONG = { timeout: 600_000 };

/** Sixteen bytes over and over: each window of sixteen bytes of the plaintext has one of its halves whole. */
const UNIT = randomBytes(16);
const BLOCK = Buffer.alloc(MiB, UNIT);
const PLAINTEXT: readonly Needle[] = [
  { name: 'plaintext, first half', bytes: UNIT.subarray(0, 8) },
  { name: 'plaintext, second half', bytes: UNIT.subarray(8) },
];

function* plaintext(size: number): Generator<Buffer> {
  for (let left = size; left > 0; left -= MiB) yield left >= MiB ? BLOCK : BLOCK.subarray(0, left);
}

function digest(size: number): string {
  const hash = createHash('sha256');
  for (const chunk of plaintext(size)) hash.update(chunk);
  return hash.digest('hex');
}

const CUSTOMER_KEY = randomBytes(32);
const CUSTOMER = {
  'x-amz-server-side-encryption-customer-algorithm': 'AES256',
  'x-amz-server-side-encryption-customer-key': CUSTOMER_KEY.toString('base64'),
  'x-amz-server-side-encryption-customer-key-md5': createHash('md5').update(CUSTOMER_KEY).digest('base64'),
};

/** Written past the gateway, so that the scan which must find nothing else is seen to find. */
const CONTROL = randomBytes(16);

/** A gibibyte where there is time for it: `TEST_FULL_SIZE=kms` makes it in SSE-KMS, `1` in every mode (CI sets both). */
const FULL = process.env['TEST_FULL_SIZE'];
const large = (full: boolean): number => (full ? 1024 : 128) * MiB;

const MODES: readonly (readonly [name: string, sse: SseHeaders, size: number])[] = [
  ['SSE-KMS', { put: { 'x-amz-server-side-encryption': 'aws:kms' }, get: {} }, large(FULL !== undefined)],
  ['SSE-S3', { put: { 'x-amz-server-side-encryption': 'AES256' }, get: {} }, large(FULL === '1')],
  ['SSE-C', { put: CUSTOMER, get: CUSTOMER }, large(FULL === '1')],
];

const CLIENTS: readonly (readonly [name: string, client: Client, size: number | undefined])[] = [
  ['@aws-sdk/client-s3', sdk, undefined],
  ['minio', minio, 5 * MiB],
  ['curl', curl, 11],
];
const ROWS = MODES.flatMap(([mode, sse, longest]) =>
  CLIENTS.map(([name, client, size = longest]) => [mode, name, size, client, sse] as const),
);
const TOTAL = ROWS.reduce((sum, [, , size]) => sum + size, 0);

let bao: OpenBao;
beforeAll(async () => {
  bao = await startOpenBao();
  await Promise.all([bao.createKey('data'), bao.createKey('s3')]);
});
afterAll(() => bao.stop());

describe.each(inject('stores'))('over $name', (store) => {
  const bucket = `at-rest-${randomBytes(4).toString('hex')}`;
  const atStore = new Site(store, bucket);
  const keys: string[] = [];
  let gateway: TestGateway;
  let caFile: string;
  let secrets: readonly Needle[];

  beforeAll(async () => {
    const { roleId, secretId } = await bao.appRole(`at-rest-${store.name}`);
    const secretIdFile = join(bao.folder, `secret-id-${store.name}`);
    await writeFile(secretIdFile, secretId, { mode: 0o600 });
    gateway = await startGateway({ store, tls: true, vault: { bao, roleId, secretIdFile } });
    caFile = join(gateway.folder, 'ca.pem');
    await writeFile(caFile, gateway.ca ?? '');
    const masterKey = Buffer.from(await readFile(join(gateway.folder, 'master.key'), 'utf8'), 'base64');
    secrets = [
      ...formsOf('customer key', CUSTOMER_KEY),
      ...formsOf('master key', masterKey),
      ...formsOf('SecretID of the AppRole', Buffer.from(secretId)),
      ...[USER, ADMIN].flatMap((user) => formsOf(user.accessKeyId, Buffer.from(user.secretAccessKey))),
    ];
    expect((await new Site(gateway.raw, bucket).send('PUT', undefined)).status).toBe(200);
  });
  afterAll(async () => {
    for (const key of keys) await atStore.send('DELETE', key);
    await gateway.stop();
  });

  it.each(ROWS)('%s with %s: %i bytes come back identical', LONG, async (mode, _name, size, client, sse) => {
    const key = `${mode}/${size}`;
    keys.push(key);
    const target = { gateway, caFile, bucket, key, sse };
    await client.put(target, plaintext(size), size);
    expect(await client.get(target)).toBe(digest(size));
  });

  it(
    'nothing of the plaintext and no key is found: in its files, in our logs, audit, metrics and answers',
    LONG,
    async () => {
      const used = [...taken.values()].filter(({ length }) => length >= 16);
      // The wire-tap works: the keys that we know are among those that it took.
      expect([...taken.keys()]).toContain(CUSTOMER_KEY.toString('hex'));
      expect(used.length).toBeGreaterThan(2 * ROWS.length);
      expect((await atStore.put('control', Buffer.alloc(5 * MiB, CONTROL))).status).toBe(200);
      keys.push('control');

      const control = [{ name: 'control', bytes: CONTROL }];
      const needles = [...PLAINTEXT, ...secrets, ...used.flatMap((key, i) => formsOf(`key ${i}`, key))];
      const search = new Search([...needles, ...control]);

      const files = await search.inFolders([...store.dataDirectories, join(gateway.folder, 'control')]);
      expect(files.found).toEqual(['control']);
      // What was uploaded is there to be searched.
      expect(files.bytes).toBeGreaterThan(TOTAL);

      // Metadata may lie in attributes that no file shows; each is read, and decoded, over the store's own API.
      const heads = await Promise.all(keys.map((key) => atStore.send('HEAD', key)));
      const values = heads.flatMap(({ headers }) => Object.values(headers).flat().map(String));
      expect(values.length).toBeGreaterThan(5 * ROWS.length);
      const told = await gateway.traces();
      expect(told).toContain('"operation":"PutObject"');
      const storeSecret = formsOf("the store's secret", Buffer.from(store.secretAccessKey));
      const wide = new Search([...needles, ...storeSecret]);
      for (const text of [told, ...values]) {
        expect([...wide.inBytes(Buffer.from(text, 'latin1'))]).toEqual([]);
        expect([...wide.inBytes(Buffer.from(text, 'base64'))]).toEqual([]);
      }
    },
  );
});

describe('the search', () => {
  const secret = randomBytes(32);
  const search = new Search([...PLAINTEXT, ...formsOf('key', secret)]);
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'search-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it.each([
    ['plaintext, first half', UNIT.subarray(0, 8)],
    ['plaintext, second half', UNIT.subarray(8)],
    ['key (raw)', secret],
    ['key (hex)', Buffer.from(secret.toString('hex'))],
    ['key (base64)', Buffer.from(secret.toString('base64'))],
    ['key (base64url)', Buffer.from(secret.toString('base64url'))],
  ])('finds the %s at every place of a file, over the edges of what is read at once', async (name, bytes) => {
    for (const at of [
      0,
      1,
      2,
      3,
      5000,
      MiB - bytes.length,
      MiB - bytes.length + 1,
      MiB - 1,
      MiB,
      2 * MiB - 3,
      2 * MiB + 100 - bytes.length,
    ]) {
      const file = Buffer.alloc(2 * MiB + 100, at % 2 === 0 ? 0 : 7);
      bytes.copy(file, at);
      await writeFile(join(folder, 'file'), file);
      const { found } = await search.inFolders([folder]);
      expect(found, `at ${at}`).toContain(name);
    }
  });

  it('finds each window of sixteen bytes of the plaintext', () => {
    for (let at = 0; at < 16; at += 1) {
      expect(search.inBytes(BLOCK.subarray(at, at + 16)).size).toBeGreaterThan(0);
    }
  });

  it('finds nothing in random bytes', () => {
    expect([...search.inBytes(randomBytes(4 * MiB))]).toEqual([]);
  });
});
