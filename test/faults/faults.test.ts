import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { BUCKETS } from './buckets.ts';
import { KINDS } from './kinds.ts';
import { spread, startLane, type Lane } from './lane.ts';
import { OBJECTS } from './objects.ts';
import { befall, stepsOf, type Sighting } from './run.ts';
import { compareTable, rowsOf, type TableRow } from './table.ts';
import { UPLOADS } from './uploads.ts';

const LANES = 12;
/** What is tried where every try moves megabytes: what another row does not show at a smaller price. */
const HEAVY = /^500$|not done|answer lost|garbage|ETag/;
const store = inject('stores')[0] ?? expect.fail('no store runs');
const rows: TableRow[] = [];
let lanes: readonly Lane[];

beforeAll(async () => {
  lanes = await Promise.all(Array.from({ length: LANES }, () => startLane(store)));
}, 120_000);
afterAll(async () => {
  await Promise.all(lanes.map((lane) => lane.stop()));
});

describe('a store that fails once, at any step', () => {
  it.each([...OBJECTS, ...UPLOADS, ...BUCKETS])(
    'of $name',
    async (operation) => {
      const [first = expect.fail('no lane')] = lanes;
      const steps = await stepsOf(first, operation);
      const jobs = steps.flatMap((step, at) =>
        operation.only?.test(step) === false
          ? []
          : KINDS.filter(({ name }) => operation.heavy !== true || HEAVY.test(name)).map((kind) => ({
              step,
              at,
              kind,
            })),
      );
      const some = operation.heavy === true ? lanes.slice(0, 3) : lanes;
      const sightings: Sighting[] = await spread(some, jobs, (lane, { at, step, kind }) =>
        befall(lane, operation, at, step, kind),
      );
      rows.push(...rowsOf(operation.name, sightings));
      const problems = sightings.flatMap(({ step, kind, problems }) =>
        problems.map((problem) => `${step}, ${kind.name}: ${problem}`),
      );
      expect(problems).toEqual([]);
    },
    120_000,
  );

  it('looks as docs/FAULTS.md says', () => {
    expect(compareTable(rows)).toEqual([]);
  });

  it('holds no connection of a request that is over', async () => {
    await expect.poll(() => lanes.map(({ proxy }) => proxy.open), { timeout: 10_000 }).toEqual(lanes.map(() => 0));
  });
});
