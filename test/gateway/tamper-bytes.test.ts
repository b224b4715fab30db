import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { manifestMessageLength, messageLength, sealedSize } from '../../src/sse/size.ts';
import { Attacker, expectRefused, flipped, type Loot } from '../support/attacker.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { MODES } from '../support/modes.ts';
import { s3, type RawRequest, type RawResponse } from '../support/s3-raw.ts';

/** Three segments, the last one short; and an object of one. */
const T = 150_000;
const SMALL = 1000;
const HEADER = 74;
const SEGMENT = 65_536 + 32;
const SEALED = sealedSize(T);
const TAIL = manifestMessageLength(0) + 512 + 64;

/** Reads of an object of three segments, by the segments that they touch. */
const READS: Readonly<Record<string, { readonly range?: string; readonly from: number; readonly to: number }>> = {
  whole: { from: 0, to: T },
  'first segment': { range: 'bytes=5-14', from: 5, to: 15 },
  'middle segment': { range: 'bytes=70000-70009', from: 70_000, to: 70_010 },
  'last segment': { range: 'bytes=149990-', from: 149_990, to: T },
  'across all': { range: 'bytes=65535-131072', from: 65_535, to: 131_073 },
  suffix: { range: 'bytes=-10', from: T - 10, to: T },
};
const ALL = Object.keys(READS);

/**
 * A bit turned over at an offset of the stored object, and the reads that must fail. A read that is not named may
 * succeed, with the right bytes: a range authenticates its own segments, and what stands behind the message carries no
 * plaintext of a single object (docs/FORMAT.md; SECURITY.md, "What is not guaranteed").
 */
const FLIPS: readonly (readonly [place: string, offset: number, refused: readonly string[]])[] = [
  ['header: parameters', 0, ['whole']],
  ['header: IV', 20, ['whole']],
  ['header: tag', 60, ['whole']],
  ['first segment: length', HEADER, ['whole', 'first segment', 'across all']],
  ['first segment: IV', HEADER + 8, ['whole', 'first segment', 'across all']],
  ['first segment: bytes', HEADER + 16, ['whole', 'first segment', 'across all']],
  ['first segment: tag', HEADER + SEGMENT - 1, ['whole', 'first segment', 'across all']],
  ['middle segment: bytes', HEADER + SEGMENT + 3000, ['whole', 'middle segment', 'across all']],
  ['last segment: length', HEADER + 2 * SEGMENT + 3, ['whole', 'last segment', 'across all', 'suffix']],
  ['last segment: tag', messageLength(T) - 1, ['whole', 'last segment', 'across all', 'suffix']],
  ['padding', messageLength(T) + 1, []],
  ['manifest', SEALED - TAIL + 10, []],
  ['recovery copy', SEALED - 64 - 512 + 3, []],
  ['footer', SEALED - 10, []],
];

/** Segments moved about: each is a valid segment of this very object, in a place that is not its own. */
const MOVES: readonly (readonly [string, (body: Buffer) => Buffer, refused: readonly string[]])[] = [
  ['first and middle exchanged', (b) => spliced(b, [1, 0, 2]), ALL.filter((n) => !/last|suffix/.test(n))],
  ['middle sent twice', (b) => spliced(b, [0, 1, 1]), ['whole', 'last segment', 'across all', 'suffix']],
  ['first in place of the middle', (b) => spliced(b, [0, 0, 2]), ['whole', 'middle segment', 'across all']],
];

/** Bodies of a size that is not F(T), or of another object of the same size: nothing may be read, HEAD included. */
const LENGTHS: readonly (readonly [string, (body: Buffer) => Buffer])[] = [
  ['a byte less', (b) => b.subarray(0, -1)],
  ['a segment less', (b) => Buffer.concat([b.subarray(0, HEADER + SEGMENT), b.subarray(HEADER + 2 * SEGMENT)])],
  ['the tail less', (b) => b.subarray(0, messageLength(T))],
  ['nothing left', () => Buffer.alloc(0)],
  ['a byte more', (b) => Buffer.concat([b, Buffer.alloc(1)])],
  ['as long as T + 1 would be', (b) => Buffer.concat([b, Buffer.alloc(sealedSize(T + 1) - SEALED)])],
  ['twice', (b) => Buffer.concat([b, b])],
];

function spliced(body: Buffer, order: readonly number[]): Buffer {
  const at = (index: number): number => HEADER + index * SEGMENT;
  const segments = [0, 1, 2].map((i) => body.subarray(at(i), i === 2 ? messageLength(T) : at(i + 1)));
  const [first, middle, last] = order.map((i) => segments[i] ?? Buffer.alloc(0));
  const moved = Buffer.concat([first ?? '', middle ?? '', last ?? ''].map((piece) => Buffer.from(piece)));
  // The object keeps its size: what a longer segment pushes out at the end is cut, as a careful attacker would.
  return Buffer.concat([body.subarray(0, HEADER), moved, body.subarray(messageLength(T))]).subarray(0, body.length);
}

describe.each(inject('stores'))('bytes changed at $name', (store) => {
  const bucket = `tamper-bytes-${randomBytes(4).toString('hex')}`;
  const attacker = new Attacker(store);
  const plaintext = randomBytes(T);
  let gateway: TestGateway;
  beforeAll(async () => {
    gateway = await startGateway({ store, tls: true });
    expect((await s3(gateway.raw, { method: 'PUT', bucket })).status).toBe(200);
  });
  afterAll(() => gateway.stop());

  describe.each(MODES)('$name', ({ name, write, read }) => {
    const key = `three-${name}`;
    const small = `one-${name}`;
    let loot: Loot;
    let smallLoot: Loot;
    beforeAll(async () => {
      for (const [where, body] of [
        [key, plaintext],
        [small, plaintext.subarray(0, SMALL)],
        [`other-${name}`, randomBytes(T)],
      ] as const) {
        const { status } = await s3(gateway.raw, { method: 'PUT', bucket, key: where, headers: write, body });
        expect(status).toBe(200);
      }
      loot = await attacker.take(bucket, key);
      smallLoot = await attacker.take(bucket, small);
      expect([loot.body.length, smallLoot.body.length]).toEqual([SEALED, sealedSize(SMALL)]);
    });

    const ask = (method: RawRequest['method'], where: string, range?: string): Promise<RawResponse> =>
      s3(gateway.raw, { method, bucket, key: where, headers: { ...read, ...(range === undefined ? {} : { range }) } });

    /** Every read: those named are refused, each other one gives its bytes and nothing else. */
    async function expectReads(refused: readonly string[]): Promise<void> {
      const answers = await Promise.all(
        ALL.map(async (title) => [title, await ask('GET', key, READS[title]?.range)] as const),
      );
      expectRefused(
        gateway,
        answers.filter(([title]) => refused.includes(title)),
      );
      for (const [title, { status, body, complete }] of answers.filter(([other]) => !refused.includes(other))) {
        const { from = 0, to = 0, range } = READS[title] ?? {};
        expect(`${title} ${status} ${complete}`).toBe(`${title} ${range === undefined ? 200 : 206} true`);
        expect(body.equals(plaintext.subarray(from, to))).toBe(true);
      }
    }

    it('nothing is refused while nothing is changed', () => expectReads([]));

    it.each(FLIPS)('a bit of the %s', async (_place, offset, refused) => {
      await attacker.plant(bucket, key, { ...loot, body: flipped(loot.body, offset) });
      await expectReads(refused);
      // HEAD reads no segment: what it says comes from the envelope, and is right.
      const head = await ask('HEAD', key);
      expect([head.status, head.headers['content-length']]).toEqual([200, String(T)]);
    });

    it.each(MOVES)('segments: %s', async (_title, move, refused) => {
      await attacker.plant(bucket, key, { ...loot, body: move(loot.body) });
      await expectReads(refused);
    });

    it("another object's body of the same length and mode", async () => {
      const { body } = await attacker.take(bucket, `other-${name}`);
      await attacker.plant(bucket, key, { ...loot, body });
      await expectReads(ALL);
    });

    it.each(LENGTHS)('the body: %s', async (_title, change) => {
      await attacker.plant(bucket, key, { ...loot, body: change(loot.body) });
      await expectReads(ALL);
      expectRefused(gateway, [['HEAD', await ask('HEAD', key)]]);
    });

    it('an object of one segment is refused with 500 before its first byte, wherever its message is changed', async () => {
      const places = [0, 20, 60, HEADER, HEADER + 8, HEADER + 16, HEADER + 500, messageLength(SMALL) - 1];
      for (const offset of places) {
        await attacker.plant(bucket, small, { ...smallLoot, body: flipped(smallLoot.body, offset) });
        const answer = await ask('GET', small);
        expect(answer.complete).toBe(true);
        expectRefused(gateway, [[`offset ${offset}`, answer]]);
      }
    });

    it('a body put under the name of an object of zero bytes', async () => {
      const empty = `empty-${name}`;
      await s3(gateway.raw, { method: 'PUT', bucket, key: empty, headers: write, body: '' });
      const { headers } = await attacker.take(bucket, empty);
      expect(await ask('GET', empty)).toMatchObject({ status: 200, text: '' });
      await attacker.plant(bucket, empty, { headers, body: smallLoot.body });
      expectRefused(gateway, [
        ['GET', await ask('GET', empty)],
        ['range', await ask('GET', empty, 'bytes=0-9')],
        ['HEAD', await ask('HEAD', empty)],
      ]);
    });
  });

  it('the other objects of the bucket are what they were', async () => {
    const body = randomBytes(SMALL);
    await s3(gateway.raw, { method: 'PUT', bucket, key: 'untouched', body });
    const answer = await s3(gateway.raw, { method: 'GET', bucket, key: 'untouched' });
    expect(answer.body.equals(body)).toBe(true);
  });
});
