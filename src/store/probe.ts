import { setTimeout as delay } from 'node:timers/promises';
import type { StoreClient, StoreTraits } from './port.ts';
import { ShortBodyKept, type ProbeBench } from './trait-probes.ts';
import { CAREFUL_TRAITS, TRAITS, type TraitName } from './traits.ts';

export type Finding = boolean | 'unknown';
export type Findings = Readonly<Record<TraitName, Finding>>;

export interface ProbeOptions {
  /** A client of the service's own credentials with these traits. The probe closes what it made. */
  readonly client: (traits: StoreTraits) => StoreClient;
  readonly systemBucket: string;
  /** Unpredictable and unique for this run; two replicas may probe at once. */
  readonly run: string;
  /** Traits that need not be tried. */
  readonly skip?: ReadonlySet<TraitName>;
}

/**
 * Tries the store on objects of its own in the system bucket: some forty small requests, about two seconds. Whatever
 * could not be found out is `unknown`, which counts as missing.
 */
export async function probeTraits(options: ProbeOptions): Promise<Findings> {
  const clients = new Map<string, StoreClient>();
  const keys = new Set<string>();
  const bench = (turn: string): ProbeBench => ({
    bucket: options.systemBucket,
    key: (name) => {
      const key = `probe/${options.run}${turn}/${name}`;
      keys.add(key);
      return key;
    },
    client: (traits) => {
      const id = JSON.stringify(traits);
      const client = clients.get(id) ?? options.client({ ...CAREFUL_TRAITS, ...traits });
      clients.set(id, client);
      return client;
    },
    pause: (ms) => delay(ms, undefined),
  });
  const found = await Promise.all(
    TRAITS.map(async ({ name, probe }): Promise<[TraitName, Finding]> => {
      if (options.skip?.has(name) === true) return [name, 'unknown'];
      try {
        // What is found is kept: a store that failed once must not lack a trait for good.
        return [name, (await probe(bench(''))) || (await probe(bench('-again')))];
      } catch (err) {
        return [name, err instanceof ShortBodyKept ? false : 'unknown'];
      }
    }),
  );
  await cleanUp(bench('').client({}), options.systemBucket, keys);
  await Promise.all([...clients.values()].map((client) => client.close()));
  return Object.freeze(Object.fromEntries(found)) as unknown as Findings;
}

async function cleanUp(client: StoreClient, bucket: string, keys: ReadonlySet<string>): Promise<void> {
  for (const key of keys) {
    try {
      (await client.request({ method: 'DELETE', bucket, key })).discard();
    } catch {
      // What stays behind is a few bytes under `probe/`, which the sweep of the system bucket takes.
    }
  }
}
