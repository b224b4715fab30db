import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { codeOf } from '../support/attacker.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { RawUpload, type Listed } from '../support/multipart.ts';
import { s3, xmlTexts, type RawResponse } from '../support/s3-raw.ts';

/**
 * Random uploads in parts against a plain in-memory model: parts in any order, sent again with other bytes and sizes,
 * completed with random lists; then ranges, part numbers and conditions on what came of it.
 */
const MIN_PART = 5 * 1024 ** 2;
const SOURCE = randomBytes(MIN_PART + 300_000);
const bucket = `model-${randomBytes(4).toString('hex')}`;

interface Attempt {
  readonly partNumber: number;
  readonly length: number;
  /** Where in SOURCE its bytes begin. */
  readonly from: number;
  /** A random number: the order in which attempts are sent. */
  readonly turn: number;
  /** Where in the list of its number's attempts a Complete picks; undefined leaves the part out. */
  readonly pick: number | undefined;
}

const length = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: MIN_PART, max: MIN_PART + 140_000 }) },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 140_000 }) },
);
const attempts: fc.Arbitrary<readonly Attempt[]> = fc.array(
  fc.record({
    partNumber: fc.constantFrom(1, 2, 3, 77, 9_999, 10_000),
    length,
    from: fc.integer({ min: 0, max: 150_000 }),
    turn: fc.nat(),
    pick: fc.option(fc.nat(2), { nil: undefined, freq: 6 }),
  }),
  { minLength: 1, maxLength: 5 },
);
/** Positions as fractions of the object, with a few bytes around part ends. */
const position = fc.record({ part: fc.nat(4), near: fc.integer({ min: -70_000, max: 70_000 }) });
type Position = typeof position extends fc.Arbitrary<infer T> ? T : never;
const reads = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('closed' as const), start: position, length: fc.integer({ min: 1, max: MIN_PART }) }),
    fc.record({ kind: fc.constant('open' as const), start: position }),
    fc.record({ kind: fc.constant('suffix' as const), length: fc.integer({ min: 1, max: MIN_PART }) }),
    fc.record({ kind: fc.constant('part' as const), number: fc.integer({ min: 1, max: 4 }) }),
    fc.record({
      kind: fc.constant('condition' as const),
      header: fc.constantFrom('if-match', 'if-none-match', 'if-range'),
      holds: fc.boolean(),
      start: position,
    }),
  ),
  { minLength: 5, maxLength: 8 },
);
type Read = (typeof reads extends fc.Arbitrary<infer T> ? T : never)[number];

const bytesOf = ({ from, length: size }: Attempt): Buffer => SOURCE.subarray(from, from + size);

interface Sent extends Attempt, Listed {
  readonly order: number;
}

/** Put aside: short, or number 10,000. */
const isAside = ({ partNumber, length: size }: Sent): boolean => size < MIN_PART || partNumber === 10_000;

/** The bytes still exist: put aside (short, or number 10,000), or the store's newest part of that number. */
function isThere(part: Sent, sent: readonly Sent[]): boolean {
  if (isAside(part)) return true;
  return !sent.some((other) => other.partNumber === part.partNumber && other.order > part.order && !isAside(other));
}

/** A part lies at the store that is not listed, nor replaced by a shorter attempt at its number's end. */
function leavesOut(list: readonly Sent[], sent: readonly Sent[]): boolean {
  const last = list.at(-1);
  const listed = new Set(list.filter((part) => !isAside(part)).map(({ partNumber }) => partNumber));
  const newest = last !== undefined && !sent.some((o) => o.partNumber === last.partNumber && o.order > last.order);
  if (newest && isAside(last)) listed.add(last.partNumber);
  return sent.some((part) => !isAside(part) && !listed.has(part.partNumber));
}

function expected(list: readonly Sent[], sent: readonly Sent[], completesSubset: boolean): string {
  if (list.length === 0) return '400 MalformedXML';
  if (list.slice(0, -1).some(({ length: size }) => size < MIN_PART)) return '400 EntityTooSmall';
  if (!list.every((part) => isThere(part, sent))) return '400 InvalidPart';
  return completesSubset || !leavesOut(list, sent) ? '200' : '501 NotImplemented';
}

/** One attempt of each number, ascending: what the picks say, or the newest ones that fit together. */
function listOf(sent: readonly Sent[], how: 'picked' | 'newest'): Sent[] {
  const numbers = [...new Set(sent.map(({ partNumber }) => partNumber))].sort((a, b) => a - b);
  const list = numbers.flatMap((number): Sent[] => {
    const own = sent.filter(({ partNumber }) => partNumber === number);
    const newest = own.at(-1);
    if (newest === undefined) return [];
    if (how === 'newest') return [newest];
    return newest.pick === undefined ? [] : [own[newest.pick % own.length] ?? newest];
  });
  return how === 'picked' ? list : list.filter(({ length: size }, i) => size >= MIN_PART || i === list.length - 1);
}

interface Wanted {
  readonly headers?: Record<string, string>;
  readonly query?: Record<string, string>;
  readonly status: number;
  readonly body?: Buffer;
}

class Model {
  readonly #bodies: readonly Buffer[];
  readonly whole: Buffer;
  readonly #etag: string;

  constructor(bodies: readonly Buffer[], etag: string) {
    this.#bodies = bodies;
    this.whole = Buffer.concat(bodies);
    this.#etag = etag;
  }

  #at({ part, near }: Position): number {
    const end = this.#bodies.slice(0, part).reduce((sum, { length: size }) => sum + size, 0);
    return Math.max(0, end + near);
  }

  #range(start: number, end?: number): Pick<Wanted, 'status' | 'body'> {
    if (start >= this.whole.length) return { status: 416 };
    return { status: 206, body: this.whole.subarray(start, end) };
  }

  wanted(read: Read): Wanted {
    switch (read.kind) {
      case 'closed': {
        const start = this.#at(read.start);
        const range = `bytes=${start}-${start + read.length - 1}`;
        return { headers: { range }, ...this.#range(start, start + read.length) };
      }
      case 'open': {
        const start = this.#at(read.start);
        return { headers: { range: `bytes=${start}-` }, ...this.#range(start) };
      }
      case 'suffix': {
        const start = Math.max(0, this.whole.length - read.length);
        return { headers: { range: `bytes=-${read.length}` }, ...this.#range(start) };
      }
      case 'part': {
        const body = this.#bodies[read.number - 1];
        const query = { partNumber: String(read.number) };
        return body === undefined ? { query, status: 416 } : { query, status: 206, body };
      }
      case 'condition':
        return this.#conditional(read.header, read.holds, this.#at(read.start));
    }
  }

  #conditional(header: string, holds: boolean, start: number): Wanted {
    const tag = holds === (header !== 'if-none-match') ? this.#etag : '"0123456789abcdef-7"';
    const headers = { [header]: tag, range: `bytes=${start}-` };
    if (holds) return { headers, ...this.#range(start) };
    if (header === 'if-range') return { headers, status: 200, body: this.whole };
    return { headers, status: header === 'if-match' ? 412 : 304 };
  }
}

/** Twenty seconds of a quiet machine; a busy one makes fewer runs, never a failure of it. */
const RUNS: Readonly<Record<string, number>> = { devstore: 14 };
const TIME_LIMIT = 20_000;

describe.each(inject('stores'))('over $name', (store) => {
  let gateway: TestGateway;
  beforeAll(async () => {
    gateway = await startGateway({ store });
    await s3(gateway.raw, { method: 'PUT', bucket });
  }, 60_000);
  afterAll(() => gateway.stop());

  // The trait of this name (docs/STORES.md).
  const completesSubset = store.name !== 'radosgw';
  const outcome = (answer: RawResponse): string => `${answer.status} ${codeOf(answer)}`.trim();

  async function upload(key: string, plan: readonly Attempt[]): Promise<Model | undefined> {
    const open = await RawUpload.create(gateway.raw, bucket, key);
    const sent: Sent[] = [];
    for (const attempt of [...plan].sort((a, b) => a.turn - b.turn)) {
      sent.push({ ...attempt, ...(await open.part(attempt.partNumber, bytesOf(attempt))), order: sent.length });
    }
    const newest = [...new Map(sent.map((part) => [part.partNumber, part])).values()];
    newest.sort((a, b) => a.partNumber - b.partNumber);
    expect(xmlTexts((await open.list()).text, 'Size').map(Number)).toEqual(newest.map(({ length: size }) => size));
    for (const how of ['picked', 'newest'] as const) {
      const list = listOf(sent, how);
      const answer = await open.complete(list);
      expect(outcome(answer)).toBe(expected(list, sent, completesSubset));
      if (answer.status === 200) {
        const head = await s3(gateway.raw, { method: 'HEAD', bucket, key });
        const model = new Model(list.map(bytesOf), String(head.headers.etag));
        expect(head.headers['content-length']).toBe(String(model.whole.length));
        return model;
      }
    }
    expect((await open.abort()).status).toBe(204);
    expect((await s3(gateway.raw, { method: 'GET', bucket, key })).status).toBe(404);
    return undefined;
  }

  it('agrees with the model', { timeout: 180_000 }, async () => {
    const property = fc.asyncProperty(attempts, reads, fc.boolean(), async (plan, asked, cold) => {
      const key = randomBytes(8).toString('hex');
      const model = await upload(key, plan);
      if (model === undefined) return;
      if (cold) await gateway.restart();
      for (const read of asked) {
        const { status, body, ...request } = model.wanted(read);
        const answer = await s3(gateway.raw, { method: 'GET', bucket, key, ...request });
        expect([read, answer.status]).toEqual([read, status]);
        if (body !== undefined) expect([read, answer.body.equals(body)]).toEqual([read, true]);
      }
      const whole = await s3(gateway.raw, { method: 'GET', bucket, key });
      expect([whole.status, whole.body.equals(model.whole)]).toEqual([200, true]);
      const listed = await s3(gateway.raw, { method: 'GET', bucket, query: { 'list-type': '2', prefix: key } });
      expect(xmlTexts(listed.text, 'Size')).toContain(String(model.whole.length));
      await s3(gateway.raw, { method: 'DELETE', bucket, key });
    });
    await fc.assert(property, { numRuns: RUNS[store.name] ?? 4, interruptAfterTimeLimit: TIME_LIMIT });
  });
});
