import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { BUCKETS } from './buckets.ts';
import { KINDS } from './kinds.ts';
import { spread, startLane, type Lane } from './lane.ts';
import { OBJECTS } from './operations.ts';
import { befall, stepsOf, type Sighting } from './run.ts';

const LANES = 12;
const store = inject('stores')[0] ?? expect.fail('no store runs');
let lanes: readonly Lane[];

beforeAll(async () => {
  lanes = await Promise.all(Array.from({ length: LANES }, () => startLane(store)));
}, 120_000);
afterAll(async () => {
  await Promise.all(lanes.map((lane) => lane.stop()));
});

describe('a store that fails once, at any step', () => {
  it.each([...OBJECTS, ...BUCKETS])(
    'of $name',
    async (operation) => {
      const [first = expect.fail('no lane')] = lanes;
      const steps = await stepsOf(first, operation);
      const jobs = steps.flatMap((step, at) =>
        operation.only?.test(step) === false ? [] : KINDS.map((kind) => ({ step, at, kind })),
      );
      const sightings: Sighting[] = await spread(lanes, jobs, (lane, { at, step, kind }) =>
        befall(lane, operation, at, step, kind),
      );
      console.log(operation.name, steps.join(' | '), sightings.length);
      const problems = sightings.flatMap(({ step, kind, problems }) =>
        problems.map((problem) => `${step}, ${kind.name}: ${problem}`),
      );
      expect(problems).toEqual([]);
    },
    120_000,
  );

  it('holds no connection of a request that is over', async () => {
    await expect.poll(() => lanes.map(({ proxy }) => proxy.open), { timeout: 10_000 }).toEqual(lanes.map(() => 0));
  });
});
