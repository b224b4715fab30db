import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { BucketRecords } from '../../src/control/buckets.ts';
import { Attacker, codeOf } from '../support/attacker.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { s3, xmlTexts, type RawRequest, type RawResponse } from '../support/s3-raw.ts';
import { startStoreProxy, type StoreProxy } from '../support/store-proxy.ts';

/** How many requests an operation makes does not depend on the store. */
const [store] = inject('stores');
if (store === undefined) throw new Error('the run has no store');

const bucket = `listing-${randomBytes(4).toString('hex')}`;
const attacker = new Attacker(store);
let proxy: StoreProxy;
let gateway: TestGateway;

beforeAll(async () => {
  proxy = await startStoreProxy(store);
  gateway = await startGateway({ store: proxy.store });
  await send('PUT');
});
afterAll(async () => {
  await gateway.stop();
  await proxy.stop();
});

function send(method: RawRequest['method'], key?: string, rest: Partial<RawRequest> = {}): Promise<RawResponse> {
  return s3(gateway.raw, { method, bucket, ...(key === undefined ? {} : { key }), ...rest });
}

const V2 = { 'list-type': '2' };

describe('requests to the store', () => {
  beforeAll(async () => {
    await send('PUT', 'object', { body: randomBytes(200_000) });
    await send('PUT', 'zero', { body: '' });
  });

  it.each<[string, number, RawRequest['method'], string, Partial<RawRequest>]>([
    ['a small PUT', 1, 'PUT', 'small', { body: 'x' }],
    ['a streamed PUT', 1, 'PUT', 'large', { body: randomBytes(300_000) }],
    ['a conditional PUT', 1, 'PUT', 'small', { body: 'x', headers: { 'if-none-match': '*' } }],
    ['a whole GET', 1, 'GET', 'object', {}],
    ['a range', 1, 'GET', 'object', { headers: { range: 'bytes=70000-70009' } }],
    ['an open range', 1, 'GET', 'object', { headers: { range: 'bytes=70000-' } }],
    ['a suffix range', 2, 'GET', 'object', { headers: { range: 'bytes=-9' } }],
    ['a HEAD', 1, 'HEAD', 'object', {}],
    ['a HEAD of zero bytes', 2, 'HEAD', 'zero', {}],
    ['a GET of zero bytes', 1, 'GET', 'zero', {}],
    ['a DELETE', 1, 'DELETE', 'small', {}],
  ])('%s: %i', async (_title, count, method, key, rest) => {
    const calls = await proxy.callsOf(() => send(method, key, rest));
    expect(calls.map((call) => `${call.method} ${call.target}`)).toHaveLength(count);
  });
});

describe('a thousand keys', () => {
  const sizes = [0, 1, 1000, 65_536, 65_537];
  beforeAll(async () => {
    const loot = await Promise.all(
      sizes.map(async (size) => {
        await send('PUT', `size-${size}`, { body: randomBytes(size) });
        return attacker.take(bucket, `size-${size}`);
      }),
    );
    // A listing reads no envelope: what lies under these names needs to be of a sealed size only.
    const names = Array.from({ length: 1000 }, (_, i) => `many/${String(i).padStart(4, '0')}`);
    for (let i = 0; i < names.length; i += 25) {
      await Promise.all(
        names.slice(i, i + 25).map(async (name, j) => {
          const some = loot[(i + j) % loot.length];
          if (some !== undefined) await attacker.plant(bucket, name, some);
        }),
      );
    }
  }, 120_000);

  it.each<[string, Readonly<Record<string, string>>]>([
    ['ListObjectsV2', V2],
    ['ListObjects', {}],
  ])('%s: one request, plaintext sizes, ETags as GET has them', async (_title, kind) => {
    const pages: RawResponse[] = [];
    const calls = await proxy.callsOf(async () => {
      pages.push(await send('GET', undefined, { query: { ...kind, prefix: 'many/' } }));
    });
    expect(calls).toHaveLength(1);
    const [page] = pages;
    expect(xmlTexts(page?.text ?? '', 'Key')).toHaveLength(1000);
    expect(xmlTexts(page?.text ?? '', 'Size').map(Number)).toEqual(
      Array.from({ length: 1000 }, (_, i) => sizes[i % sizes.length]),
    );
    const etags = xmlTexts(page?.text ?? '', 'ETag');
    for (const etag of etags) expect(etag).toMatch(/^"[0-9a-f]{32}-01"$/);
    expect(page?.text).not.toContain('ChecksumAlgorithm');
  });

  it("a listing's ETag is the one of HEAD", async () => {
    const { text } = await send('GET', undefined, { query: { ...V2, prefix: 'size-1000' } });
    expect(xmlTexts(text, 'ETag')).toEqual([(await send('HEAD', 'size-1000')).headers.etag]);
  });

  it('pages, markers and delimiters', async () => {
    const seen: string[] = [];
    let token: string | undefined;
    let pages = 0;
    do {
      const query = { ...V2, prefix: 'many/', 'max-keys': '300', ...(token && { 'continuation-token': token }) };
      const { text } = await send('GET', undefined, { query });
      seen.push(...xmlTexts(text, 'Key'));
      token = xmlTexts(text, 'NextContinuationToken')[0];
      pages += 1;
    } while (token !== undefined && pages < 10);
    expect([pages, seen.length, new Set(seen).size]).toEqual([4, 1000, 1000]);
    const grouped = await send('GET', undefined, { query: { ...V2, delimiter: '/' } });
    expect(xmlTexts(grouped.text, 'Prefix')).toContain('many/');
    const after = await send('GET', undefined, { query: { ...V2, prefix: 'many/', 'start-after': 'many/0997' } });
    expect(xmlTexts(after.text, 'Key')).toEqual(['many/0998', 'many/0999']);
  });

  it.each([
    ['list-type', '3'],
    ['max-keys', '-1'],
    ['max-keys', 'all'],
    ['encoding-type', 'base64'],
    ['continuation-token', ''],
  ])('%s=%j is 400', async (name, value) => {
    const answer = await send('GET', undefined, { query: { ...V2, [name]: value } });
    expect(`${answer.status} ${codeOf(answer)}`).toBe('400 InvalidArgument');
  });

  it('a size that no sealed object has is not passed off as a plaintext one', async () => {
    await attacker.plant(bucket, 'odd', { headers: {}, body: Buffer.alloc(777) });
    const { status, text } = await send('GET', undefined, { query: { ...V2, prefix: 'odd' } });
    expect([status, xmlTexts(text, 'Key')]).toEqual([200, ['odd']]);
    expect((await send('GET', 'odd')).status).toBe(500);
  });
});

describe('a mixed bucket', () => {
  const mixed = { bucket: `${bucket}-mixed` };
  const old = 'plaintext that was there before';

  it('older plaintext is read and listed, with probes for it alone; younger is refused; new objects are sealed', async () => {
    await s3(store, { method: 'PUT', ...mixed });
    await attacker.plant(mixed.bucket, 'old', { headers: { 'content-type': 'text/plain' }, body: Buffer.from(old) });
    // Of a size that a sealed object has, so that only its metadata can tell.
    await attacker.plant(mixed.bucket, 'old-1121', { headers: {}, body: Buffer.alloc(1121, 'x') });
    await gateway.offline(async (control) => {
      const records = new BucketRecords({ store: control, clock: Date.now });
      const target = { bucket: mixed.bucket, prefix: '' };
      // Last-Modified has whole seconds.
      const cutover = new Date(Date.now() + 2000).toISOString();
      await records.create(mixed.bucket, { target, mode: 'mixed', cutover });
    });
    expect((await send('GET', 'old', mixed)).text).toBe(old);
    const part = await send('GET', 'old', { ...mixed, headers: { range: 'bytes=0-8' } });
    expect([part.status, part.text, part.headers['content-range']]).toEqual([
      206,
      'plaintext',
      `bytes 0-8/${old.length}`,
    ]);
    expect((await send('GET', 'old', { ...mixed, headers: { range: 'bytes=-6' } })).text).toBe('before');
    expect((await send('HEAD', 'old', mixed)).headers['content-length']).toBe(String(old.length));

    await send('PUT', 'new', { ...mixed, body: 'sealed' });
    expect((await attacker.take(mixed.bucket, 'new')).body.includes('sealed')).toBe(false);
    expect((await send('GET', 'new', mixed)).text).toBe('sealed');

    const listed: string[] = [];
    const calls = await proxy.callsOf(async () => {
      const { text } = await send('GET', undefined, { ...mixed, query: V2 });
      listed.push(...xmlTexts(text, 'Key').map((key, i) => `${key} ${xmlTexts(text, 'Size')[i]}`));
    });
    expect(listed).toEqual(['new 6', `old ${old.length}`, 'old-1121 1121']);
    const probed = calls.filter(({ method }) => method === 'HEAD').map(({ target }) => target.split('/').at(-1));
    expect(probed.sort()).toEqual(['new', 'old-1121']);

    await new Promise((resolve) => setTimeout(resolve, 3100));
    await attacker.plant(mixed.bucket, 'late', { headers: {}, body: Buffer.from('plaintext after the cut-over') });
    const late = await send('GET', 'late', mixed);
    expect([late.status, late.text.includes('plaintext')]).toEqual([500, false]);
    expect((await send('GET', 'old', mixed)).text).toBe(old);
  });
});
