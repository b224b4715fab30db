import type { TestProject } from 'vitest/node';
import { startStore } from './start.ts';
import { askedStores, type StoreDetails } from './store.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** The stores of this run: every test file shares them, each in buckets of its own. */
    stores: readonly StoreDetails[];
  }
}

/** Starts the stores that the run asks for, once. One that cannot start fails the run; nothing is skipped. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const outcomes = await Promise.allSettled(askedStores(process.env['TEST_STORES']).map(startStore));
  const running = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? outcome.value : []));
  const teardown = async (): Promise<void> => {
    await Promise.all(running.map((store) => store.stop()));
  };
  const failures = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : []));
  if (failures.length > 0) {
    await teardown();
    throw new AggregateError(failures, `stores of this run: ${failures.map(String).join('\n')}`);
  }
  project.provide(
    'stores',
    running.map(({ name, endpoint, accessKeyId, secretAccessKey, region, dataDirectories }) => {
      return { name, endpoint, accessKeyId, secretAccessKey, region, dataDirectories };
    }),
  );
  return teardown;
}
