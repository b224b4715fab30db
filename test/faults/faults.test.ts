import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { StoreName } from '../stores/store.ts';
import { s3, xmlTexts } from '../support/s3-raw.ts';
import { BUCKETS } from './buckets.ts';
import { COPIES } from './copies.ts';
import { KINDS } from './kinds.ts';
import { spread, startLane, type Lane } from './lane.ts';
import { OBJECTS } from './objects.ts';
import type { FaultedOperation } from './operation.ts';
import { befall, stepsOf, type Sighting } from './run.ts';
import { compareTable, rowsOf, type TableRow } from './table.ts';
import { UPLOADS } from './uploads.ts';

/** What is tried where every try moves megabytes: what another row does not show at a smaller price. */
const HEAVY = /^500$|not done|answer lost|garbage|ETag/;
const ALL = [...OBJECTS, ...UPLOADS, ...COPIES, ...BUCKETS];

interface Extent {
  readonly lanes: number;
  readonly operations: RegExp;
  readonly kinds: RegExp;
}

/** All of it where a store costs nothing, a sample on a real one, and nothing that the others would show again. */
const EXTENTS: Partial<Readonly<Record<StoreName, Extent>>> = {
  devstore: { lanes: 12, operations: /./, kinds: /./ },
  seaweedfs: {
    lanes: 4,
    operations:
      /^(?:PutObject, (?:small|streamed)|DeleteObject|CopyObject(?:, onto itself)?|UpdateObjectEncryption|UploadPart, put aside|CompleteMultipartUpload, put aside|CreateBucket)$/,
    kinds: /^(?:reset|500|200 with an error, not done|answer lost|done, and 500|short body)$/,
  },
};
const stores = inject('stores').flatMap((store) => {
  const extent = EXTENTS[store.name];
  return extent === undefined ? [] : { name: store.name, store, extent };
});

describe.each(stores)('$name, failing once, at any step', ({ name: storeName, store, extent }) => {
  const rows: TableRow[] = [];
  let lanes: readonly Lane[];
  const operations = ALL.filter(({ name }) => extent.operations.test(name));
  const sightings = new Map<FaultedOperation, Sighting[]>();

  /** All at once, every operation in turn: some of them wait while others work. */
  beforeAll(async () => {
    lanes = await Promise.all(Array.from({ length: extent.lanes }, () => startLane(store)));
    const jobs = await spread(lanes, operations, async (lane, operation) =>
      (await stepsOf(lane, operation)).flatMap((step, at) =>
        operation.only?.test(step) === false ? [] : kindsOf(operation).map((kind) => ({ operation, step, at, kind })),
      ),
    );
    const longest = Math.max(...jobs.map(({ length }) => length));
    const inTurn = Array.from({ length: longest }, (_, i) => jobs.flatMap((list) => list[i] ?? [])).flat();
    await spread(lanes, inTurn, async (lane, { operation, at, step, kind }) => {
      const seen = await befall(lane, operation, at, step, kind);
      sightings.set(operation, [...(sightings.get(operation) ?? []), seen]);
    });
  }, 900_000);
  afterAll(async () => {
    await Promise.all(lanes.map((lane) => lane.stop()));
  });

  const kindsOf = ({ heavy }: FaultedOperation) =>
    KINDS.filter(({ name }) => extent.kinds.test(name) && (heavy !== true || HEAVY.test(name)));

  it.each(operations)('of $name', (operation) => {
    const seen = sightings.get(operation) ?? [];
    rows.push(...rowsOf(operation.name, seen));
    expect(seen.some(({ told }) => told !== undefined)).toBe(true);
    const problems = seen.flatMap(({ step, kind, problems: found }) =>
      found.map((problem) => `${step}, ${kind.name}: ${problem}`),
    );
    expect(problems).toEqual([]);
  });

  it('holds no connection of a request that is over', async () => {
    await expect.poll(() => lanes.map(({ proxy }) => proxy.open), { timeout: 10_000 }).toEqual(lanes.map(() => 0));
  });

  if (storeName === 'devstore') {
    it('what ends behind the first white space is told in the body of the 200', () => {
      expect([...sightings.values()].flat().map(({ told }) => told)).toContain('200: ServiceUnavailable');
    });

    it('a private copy stays only where its removal failed', async () => {
      const failed = [...sightings.values()].flat().filter(({ step, told }) => step === 'DELETE private copy' && told);
      const left = await Promise.all(
        lanes.map(async ({ proxy, systemBucket }) => {
          const listed = await s3(proxy.store, { method: 'GET', bucket: systemBucket, query: { prefix: 'copies/' } });
          return xmlTexts(listed.text, 'Key').length;
        }),
      );
      const sum = left.reduce((all, one) => all + one);
      expect([sum > 0, sum <= failed.length]).toEqual([true, true]);
    });

    it('looks as docs/FAULTS.md says', () => expect(compareTable(rows)).toEqual([]));
  }
});
