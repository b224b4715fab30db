import type { KeyObject } from 'node:crypto';

/** A key id as the inventory knows it: without mount, prefix or ARN. Anything else never reaches a backend. */
export const KEY_ID = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;

/** A data key as a backend makes it. The plaintext never was a string and is held as a KeyObject only. */
export interface DataKey {
  /** 32 bytes. */
  readonly key: KeyObject;
  /** Opaque to everybody but the backend; ASCII or raw bytes, at most 400. */
  readonly wrapped: Buffer;
  /** Version of the KMS key that wrapped it, from 1. */
  readonly version: number;
}

export interface BackendKey {
  readonly keyId: string;
  readonly latestVersion: number;
  readonly minDecryptionVersion: number;
  readonly createdAt?: string;
}

/** What a backend can do beyond the two calls of the data path; a missing one is answered with 501. */
export interface BackendCapabilities {
  readonly createKey: boolean;
  readonly rotateKey: boolean;
  readonly rewrap: boolean;
  readonly listKeys: boolean;
}

/**
 * A KMS backend. Errors: ServiceError `KMS.NotFoundException` (no such key), `InternalError` with reason
 * `integrity:kms-unwrap` (wrong context, tampered or lost version: permanent, never an outage), `AccessDenied` with
 * reason `kms-denied` (the KMS refused us), `SlowDown` (throttled), `ServiceUnavailable` with reason
 * `kms-unavailable` (timeout, sealed, unreachable; the only ones that a soft-expired cache entry may cover).
 * `context` is the 32-byte context digest and is cryptographically bound: unwrap with another one must fail.
 * Every call honours `signal` and a total timeout of its own, retries included.
 */
export interface KmsBackend {
  readonly kind: string;
  readonly capabilities: BackendCapabilities;
  generateDataKey(keyId: string, context: Buffer, signal?: AbortSignal): Promise<DataKey>;
  unwrap(keyId: string, wrapped: Buffer, context: Buffer, signal?: AbortSignal): Promise<KeyObject>;
  /** The KMS key version that wrapped these bytes, read from their form alone. */
  wrappedVersion(wrapped: Buffer): number;
  /** Refuses (ServiceError ValidationException, reason `key-unfit`) a key that is exportable, not context-bound … */
  describeKey(keyId: string, signal?: AbortSignal): Promise<BackendKey>;
  listKeys?(signal?: AbortSignal): Promise<readonly string[]>;
  createKey?(keyId: string, signal?: AbortSignal): Promise<BackendKey>;
  rotateKey?(keyId: string, signal?: AbortSignal): Promise<BackendKey>;
  rewrap?(keyId: string, wrapped: Buffer, context: Buffer, signal?: AbortSignal): Promise<Buffer>;
  /** Cheap reachability and credential check, for health and configure. Throws what the data path would. */
  check(signal?: AbortSignal): Promise<void>;
  /** Drops connections, timers, tokens. */
  close(): Promise<void>;
}

/** A data key in use, with what the audit record and the envelope need to say of it. */
export interface KeyInUse {
  readonly key: KeyObject;
  readonly wrapped: Buffer;
  readonly keyId: string;
  readonly version: number;
  readonly cacheHit: boolean;
}

/** A bucket whose bucket key (AWS "S3 Bucket Keys") is asked for. */
export interface BucketKeyScope {
  /** base64url of the 16-byte bucket id. */
  readonly bucketId: string;
}

/**
 * What the data plane asks of the key service. Throws ServiceUnavailable with Retry-After while it is not Running,
 * and the errors of KmsBackend and of the key's state (`KMS.DisabledException`, `KMS.KMSInvalidStateException`).
 */
export interface KeyService {
  /** Resolves a key id, key ARN, alias name or alias ARN to a usable key id; undefined means the default key. */
  resolve(reference: string | undefined): Promise<string>;
  /** The SSE-S3 service key's id. */
  readonly sseS3KeyId: () => string;
  /** The full ARN with which answers name a key. */
  arn(keyId: string): string;
  /** A new data key, or the current bucket key of the scope. `context` is the digest of the context it is bound to. */
  generate(keyId: string, context: Buffer, bucketKey?: BucketKeyScope): Promise<KeyInUse>;
  /** Unwraps through the cache. `keyId` and `wrapped` must come from an envelope whose tag has verified. */
  unwrap(keyId: string, wrapped: Buffer, context: Buffer): Promise<KeyInUse>;
  /**
   * The epoch of the service: a number that stop, reconfigure, rotate and purge change. A commit that used a key
   * compares the epoch that it began in with `assertRunning`, which throws 503 when the service was stopped since.
   */
  epoch(): number;
  assertRunning(epoch: number): void;
  /** Throws 503 unless something new may begin: in a drain it may not, even where it needs no key. */
  assertServing(): void;
  /** Aborts when the service is stopped in `abort` mode (or a drain's limit has passed). */
  readonly stopping: AbortSignal;
  /** As `stopping`, but only for a stop of scope `all`: it ends SSE-C and plaintext streams too. */
  readonly freezing: AbortSignal;
}

export type ServiceState = 'NotConfigured' | 'Stopped' | 'Starting' | 'Running' | 'Stopping' | 'Error';

/** What `/kms/stop` may be told (kms:ServiceControl). */
export interface StopRequest {
  readonly reason: string;
  /** The administrator's principal. */
  readonly by: string;
  /** `drain`: streams in flight may finish for `drainSeconds`; `abort`: they end at once. */
  readonly streams: 'drain' | 'abort';
  readonly drainSeconds: number;
  /** `managed`: SSE-S3 and SSE-KMS; `all`: every object operation. */
  readonly scope: 'managed' | 'all';
}

/** What a stop or start achieved: `durable` is false while the control store has not taken it (kms/stop is then 503). */
export interface Applied {
  readonly state: ServiceState;
  readonly applied: 'local' | 'cluster';
  readonly durable: boolean;
  readonly generation: number;
}

/** The administrator's side of the key service; the admin face adds nothing but HTTP, policy and audit. */
export interface ServiceControl {
  readonly state: () => ServiceState;
  /** States, backend, health, cache figures, generation, stop reason: JSON without secrets. */
  status(): Promise<Readonly<Record<string, unknown>>>;
  /** The configuration in force, secrets shown as `{"set": true|false}` only. */
  config(): Readonly<Record<string, unknown>>;
  /** Validates, builds and proves the candidate, persists, swaps. A failure leaves the running service as it was. */
  configure(body: unknown, by: string): Promise<Applied>;
  reconfigure(body: unknown, by: string): Promise<Applied>;
  start(by: string): Promise<Applied>;
  stop(request: StopRequest): Promise<Applied>;
  clearCache(by: string): Promise<{ readonly dropped: number }>;
  /** True while a stop of scope `all` holds. */
  readonly frozen: () => boolean;
  close(): Promise<void>;
}

/** What the factory of a backend is given beside its section of the configuration. */
export interface BackendDeps {
  /** Milliseconds since the epoch. */
  readonly clock: () => number;
  /** The bytes of an environment variable, read by config.ts; solely the receiver's, who wipes them. */
  readonly environment: (name: string) => Buffer | undefined;
  readonly development: boolean;
  readonly log?: KmsLog;
}

/** Events and classes only; never a message from outside, never a secret. */
export type KmsLog = (event: string, fields?: Readonly<Record<string, string | number | boolean>>) => void;

/** Counters of the key service; prom-client stands behind them in metrics.ts. */
export interface KmsMetrics {
  cacheHit(): void;
  cacheMiss(): void;
  cacheLoad(): void;
  cacheEvicted(count: number): void;
  cacheStaleHit(): void;
  cacheSize(size: number): void;
  /** `outcome` is `success` or a ServiceError's code. */
  backendCall(operation: string, outcome: string, seconds: number): void;
  /** Calls that wait for their turn at the KMS. */
  queued(depth: number): void;
}

export type KeyState = 'Enabled' | 'Disabled' | 'PendingDeletion';

export interface KeyDescription {
  readonly keyId: string;
  readonly arn: string;
  readonly state: KeyState;
  readonly latestVersion: number;
  readonly createdAt: string;
  readonly deletionDate?: string;
  readonly description?: string;
}

/** Administration of keys; each change ends bucket keys and purges what was cached under the key. */
export interface KeyAdministration {
  listKeys(): Promise<readonly KeyDescription[]>;
  describeKey(reference: string): Promise<KeyDescription>;
  createKey(keyId: string, description?: string): Promise<KeyDescription>;
  rotateKey(reference: string): Promise<KeyDescription>;
  enableKey(reference: string): Promise<KeyDescription>;
  disableKey(reference: string): Promise<KeyDescription>;
  scheduleDeletion(reference: string, days: number): Promise<KeyDescription>;
  cancelDeletion(reference: string): Promise<KeyDescription>;
}
