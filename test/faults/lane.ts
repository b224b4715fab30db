import { randomBytes } from 'node:crypto';
import { expect } from 'vitest';
import { traitsOf, type TraitName } from '../../src/store/traits.ts';
import { Site } from '../stores/site.ts';
import type { StoreDetails } from '../stores/store.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';

/** A gateway of its own behind a proxy of its own, so that several faults can be looked at side by side. */
export interface Lane {
  readonly gateway: TestGateway;
  readonly proxy: FaultProxy;
  readonly site: Site;
  readonly systemBucket: string;
  key(name: string): string;
  /** What was made under this name before, or is made now: what no case changes is made once. */
  shared<T>(name: string, make: () => Promise<T>): Promise<T>;
  stop(): Promise<void>;
}

/**
 * What each store lacks, so that nothing has to be probed; `atomicCopy`, which no probe finds: copies take the ways here
 * that they take wherever nobody has pinned it.
 */
const LACKS: Partial<Record<StoreDetails['name'], readonly string[]>> = {
  devstore: ['atomicCopy'],
  seaweedfs: ['atomicCopy', 'keepsSlashBody', 'keepsSlashMetadata', 'keepsPathsApart'],
};

/** Long enough for a machine that does other things too, short enough for hundreds of silences. */
const WAITING_SECONDS = 2;

/** `more` is what this lane's gateway is to miss beside. */
export async function startLane(store: StoreDetails, more: readonly TraitName[] = []): Promise<Lane> {
  const proxy = await FaultProxy.start(store);
  const lacks: readonly string[] = [...(LACKS[store.name] ?? []), ...more];
  const traits = traitsOf(({ name }) => !lacks.includes(name));
  const waiting = { connectSeconds: 2, idleSeconds: WAITING_SECONDS, longSeconds: WAITING_SECONDS };
  const config = {
    development: { allowInsecureSseC: true },
    // Shorter than a silence: what ends behind one is told in the body of a 200.
    data: { slowReplySeconds: 1 },
    store: { traits, largestCopy: 5 * 1024 ** 2, ...waiting },
  };
  const gateway = await startGateway({ store: proxy.store, config });
  const site = new Site(gateway.raw, `faults-${randomBytes(6).toString('hex')}`);
  expect((await site.send('PUT', undefined)).status).toBe(200);
  let keys = 0;
  const shared = new Map<string, Promise<unknown>>();
  return {
    gateway,
    proxy,
    site,
    systemBucket: gateway.systemBucket,
    key: (name) => `${name}-${(keys += 1)}`,
    shared<T>(name: string, make: () => Promise<T>) {
      const made = (shared.get(name) as Promise<T> | undefined) ?? make();
      shared.set(name, made);
      return made;
    },
    async stop() {
      await gateway.stop();
      await proxy.stop();
    },
  };
}

/** Runs every job on whichever lane is free. */
export async function spread<T, R>(
  lanes: readonly Lane[],
  jobs: readonly T[],
  work: (lane: Lane, job: T) => Promise<R>,
) {
  const left = jobs.map((job, at) => ({ job, at }));
  const results: R[] = new Array<R>(jobs.length);
  await Promise.all(
    lanes.map(async (lane) => {
      for (let next = left.shift(); next !== undefined; next = left.shift()) {
        results[next.at] = await work(lane, next.job);
      }
    }),
  );
  return results;
}
