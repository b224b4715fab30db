import type { ControlStore } from '../control/port.ts';
import type { Backends } from './candidate.ts';
import type { Gate } from './gate.ts';
import type { KeyRecords } from './key-records.ts';
import type { LocalState } from './local-state.ts';
import type { KmsLog, KmsMetrics } from './ports.ts';
import type { ArnScope } from './references.ts';

/** What the key service is built of; everything that reaches outside is given here. */
export interface KeyServiceOptions extends ArnScope {
  readonly control: ControlStore;
  readonly backends: Backends;
  /** Milliseconds since the epoch. */
  readonly clock: () => number;
  /** Absolute path of the local stop marker, outside the control store's directory. */
  readonly markerFile: string;
  readonly metrics: KmsMetrics;
  readonly log?: KmsLog;
  /** Allows `http` and `skip_tls_verify` towards the KMS. No API call can switch it on. */
  readonly development?: boolean;
  /** The bytes of an environment variable that the configuration names; solely the receiver's, who wipes them. */
  readonly environment?: (name: string) => Buffer | undefined;
  /** In [0, 1), for jitter. */
  readonly random?: () => number;
  /** Calls at the KMS at a time, and how many may wait. */
  readonly concurrency?: number;
  readonly queue?: number;
  readonly probeMs?: number;
  /** First wait of the background retries; they back off to 30 s. */
  readonly retryMs?: number;
  readonly recordFreshMs?: number;
  readonly controlTimeoutMs?: number;
  /** How long opening waits for the service to come up, before it goes on in the background. */
  readonly comeUpMs?: number;
  /** What a proof of a configuration may take in all; its calls have the backend's own timeouts within. */
  readonly proofMs?: number;
}

/** The options with every default in its place. */
export type CompleteOptions = Readonly<Required<KeyServiceOptions>>;

export function frozenOptions(given: KeyServiceOptions): CompleteOptions {
  return Object.freeze({
    log: () => undefined,
    development: false,
    environment: () => undefined,
    random: Math.random,
    concurrency: 32,
    queue: 1000,
    probeMs: 30_000,
    retryMs: 1_000,
    recordFreshMs: 1_000,
    controlTimeoutMs: 5_000,
    proofMs: 45_000,
    comeUpMs: 60_000,
    ...given,
  });
}

/** What the service is put together from, once. */
export interface ServiceParts {
  readonly options: CompleteOptions;
  readonly gate: Gate;
  readonly records: KeyRecords;
  readonly local: LocalState;
  /** Sets how long a last reading of the control store serves (`control_stale_seconds`). */
  readonly setStale: (seconds: number) => void;
}

/** For those who do not measure. */
export const noKmsMetrics: KmsMetrics = Object.freeze({
  cacheHit: () => undefined,
  cacheMiss: () => undefined,
  cacheLoad: () => undefined,
  cacheEvicted: () => undefined,
  cacheStaleHit: () => undefined,
  cacheSize: () => undefined,
  backendCall: () => undefined,
  queued: () => undefined,
});
