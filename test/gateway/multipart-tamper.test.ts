import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { Attacker, codeOf, expectRefused, flipped } from '../support/attacker.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { RawUpload, type Listed } from '../support/multipart.ts';
import { s3, xmlTexts, type RawResponse } from '../support/s3-raw.ts';

const MIB = 1024 ** 2;
const PREFIX = 16;
const bucket = `tamper-${randomBytes(4).toString('hex')}`;
/** Sealed bytes of a part of five MiB. */
const SEALED = PREFIX + 74 + 5 * MIB + 80 * 32;

/** The store's owner against an upload in parts: whatever is authentic by itself, in a place where it does not belong. */
describe.each(inject('stores'))('over $name', (store) => {
  let gateway: TestGateway;
  const attacker = new Attacker(store);
  beforeAll(async () => {
    gateway = await startGateway({ store });
    await s3(gateway.raw, { method: 'PUT', bucket });
  }, 60_000);
  afterAll(() => gateway.stop());

  const open = (key: string): Promise<RawUpload> => RawUpload.create(gateway.raw, bucket, key);
  const get = (key: string, headers = {}): Promise<RawResponse> =>
    s3(gateway.raw, { method: 'GET', bucket, key, headers });
  const system = (method: 'GET' | 'PUT' | 'DELETE', key?: string, more = {}): Promise<RawResponse> =>
    s3(store, { method, bucket: gateway.systemBucket, ...(key === undefined ? {} : { key }), ...more });
  const names = async (): Promise<string[]> =>
    xmlTexts((await system('GET', undefined, { query: { 'list-type': '2', prefix: 'uploads/' } })).text, 'Key');
  const rootOf = (name: string): string => name.split('/').slice(0, 2).join('/');

  /** The names that `work` adds to the system bucket. */
  async function added<T>(work: () => Promise<T>): Promise<[T, string[]]> {
    const before = new Set(await names());
    const result = await work();
    return [result, (await names()).filter((name) => !before.has(name))];
  }

  async function twoParts(key: string, first: Buffer, second: Buffer): Promise<Buffer> {
    const upload = await open(key);
    const parts = [await upload.part(1, first), await upload.part(2, second)];
    expect((await upload.complete(parts)).status).toBe(200);
    return (await attacker.take(bucket, key)).body;
  }

  it('an object of pieces of others: older attempts, parts and tails of other uploads', async () => {
    const [first, second] = [randomBytes(5 * MIB), randomBytes(1000)];
    const mine = await twoParts('mine', first, second);
    const loot = await attacker.take(bucket, 'mine');
    const other = await twoParts('other', first, second);
    // An older attempt of part 1 of the same upload, and the manifest of another list of it.
    const upload = await open('again');
    const old = await upload.part(1, first);
    const small = await upload.part(2, second);
    const kept = await upload.part(1, randomBytes(5 * MIB));
    expect([old.etag === kept.etag, (await upload.complete([kept, small])).status]).toEqual([false, 200]);
    const again = await attacker.take(bucket, 'again');
    const reads: [string, RawResponse][] = [];
    const refused = async (name: string, body: Buffer): Promise<void> => {
      await attacker.plant(bucket, 'mine', { ...loot, body });
      reads.push([name, await get('mine')]);
      reads.push([`${name}, range`, await get('mine', { range: `bytes=10-${5 * MIB + 9}` })]);
    };
    await refused('first part of another upload', Buffer.concat([other.subarray(0, SEALED), mine.subarray(SEALED)]));
    await refused('last part and tail of another', Buffer.concat([mine.subarray(0, SEALED), other.subarray(SEALED)]));
    await refused('all of another upload', other);
    await refused('all of a third', again.body);
    expectRefused(gateway, reads);
    await attacker.plant(bucket, 'mine', loot);
    expect((await get('mine')).body.equals(Buffer.concat([first, second]))).toBe(true);
  }, 60_000);

  it('records of an older attempt, rolled back, forged, or of another upload', async () => {
    const [[upload, [record = '']], [, [foreign = '']]] = [
      await added(() => open('one')),
      await added(() => open('two')),
    ];
    const root = rootOf(record);
    const [part, own] = await added(() => upload.part(1, randomBytes(1000)));
    const [newer, more] = await added(() => upload.part(1, randomBytes(1000)));
    const aside = own.find((name) => name.includes('/a/')) ?? '';
    const newerAside = more.find((name) => name.includes('/a/')) ?? '';
    const outcome = async (parts: readonly Listed[]): Promise<string> => {
      const answer = await upload.complete(parts);
      return `${answer.status} ${codeOf(answer)}`.trim();
    };
    // The bytes of the two attempts exchanged: each is authentic, and not the one that was acknowledged.
    const bytes = [(await system('GET', aside)).body, (await system('GET', newerAside)).body];
    await system('PUT', aside, { body: bytes[1] });
    await system('PUT', newerAside, { body: bytes[0] });
    expect([await outcome([part]), await outcome([newer])]).toEqual(['500 InternalError', '500 InternalError']);
    await system('PUT', aside, { body: bytes[0] });
    await system('DELETE', newerAside);
    expect(await outcome([newer])).toBe('503 ServiceUnavailable');
    // A part record that was rolled back is a part that was not acknowledged.
    const partRecord = own.find((name) => name.includes('/p/')) ?? '';
    await system('DELETE', partRecord);
    expect(await outcome([part])).toBe('400 InvalidPart');
    const renamed = partRecord.slice(0, -1) + (partRecord.endsWith('A') ? 'B' : 'A');
    await system('PUT', renamed);
    await system('PUT', partRecord.replace('/00001/', '/00002/'));
    expect(await outcome([part])).toBe('400 InvalidPart');
    await system('PUT', partRecord);
    // The upload's record: of another upload, with a bit turned over, cut.
    const stored = (await system('GET', record)).body;
    const strange = (await system('GET', foreign)).body;
    for (const body of [strange, flipped(stored, 20), flipped(stored, -1), stored.subarray(0, -1), Buffer.alloc(0)]) {
      await system('PUT', record, { body });
      expect(await outcome([part])).toBe('500 InternalError');
      expect((await upload.send(2, { body: 'x' })).status).toBe(500);
    }
    await system('DELETE', record);
    expect(await outcome([part])).toBe('404 NoSuchUpload');
    await system('PUT', record, { body: stored });
    expect(root).toBe(rootOf(partRecord));
    expect(await outcome([part])).toBe('200');
  }, 60_000);

  it('tombstones: forged, or of another upload, answer nobody', async () => {
    const done: { upload: RawUpload; part: Listed; stone: string; body: Buffer }[] = [];
    for (const key of ['three', 'four']) {
      const upload = await open(key);
      const part = await upload.part(1, randomBytes(10));
      const [answer, left] = await added(() => upload.complete([part]));
      expect(answer.status).toBe(200);
      const stone = left.find((name) => name.endsWith('/t')) ?? '';
      done.push({ upload, part, stone, body: (await system('GET', stone)).body });
    }
    const [one, two] = done;
    if (one === undefined || two === undefined) throw new Error('two uploads');
    const statuses: number[] = [];
    for (const body of [two.body, flipped(one.body, 50), flipped(one.body, -40), one.body.subarray(0, -1)]) {
      await system('PUT', one.stone, { body });
      statuses.push((await one.upload.complete([one.part])).status);
    }
    expect(statuses).toEqual([500, 500, 500, 500]);
    await system('PUT', one.stone, { body: one.body });
    expect(codeOf(await one.upload.complete([{ ...one.part, etag: two.part.etag }]))).toBe('NoSuchUpload');
    expect((await one.upload.complete([one.part])).status).toBe(200);
    await system('DELETE', one.stone);
    expect(codeOf(await one.upload.complete([one.part]))).toBe('NoSuchUpload');
  });
});
