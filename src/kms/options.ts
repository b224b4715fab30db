import type { ControlStore } from '../control/port.ts';
import type { Backends } from './candidate.ts';
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
  readonly proofMs?: number;
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
