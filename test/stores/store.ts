import type { RawStore } from '../support/s3-raw.ts';

export const STORE_NAMES = ['devstore', 'seaweedfs', 'versitygw', 'radosgw', 'minio', 'swift'] as const;
export type StoreName = (typeof STORE_NAMES)[number];

/** A store that runs, as the tests see it (plain data: it crosses from the global set-up to the workers). */
export interface StoreDetails extends RawStore {
  readonly name: StoreName;
  /** Where its files lie, to be searched for what must not be in them. Empty: it keeps everything in memory. */
  readonly dataDirectories: readonly string[];
}

export interface RunningStore extends StoreDetails {
  stop(): Promise<void>;
}

/** The stores of this run: `TEST_STORES`, or the two that need neither root nor a Go toolchain. */
export function askedStores(setting: string | undefined): readonly StoreName[] {
  const names = (setting ?? 'devstore,seaweedfs').split(',').map((name) => name.trim());
  return names.map((name) => {
    const known = STORE_NAMES.find((candidate) => candidate === name);
    if (known === undefined) throw new Error(`TEST_STORES: "${name}" is none of ${STORE_NAMES.join(', ')}`);
    return known;
  });
}
