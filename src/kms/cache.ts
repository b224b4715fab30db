import { hash, type KeyObject } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { asServiceError, type ServiceError } from '../errors.ts';
import { lengthPrefixed } from '../sse/mac.ts';
import { purged, type Gate } from './gate.ts';
import type { KmsMetrics } from './ports.ts';

/**
 * The unwrap cache (kms.md section 2). It keeps KeyObjects of unwrapped data keys for a bounded time, and is asked
 * only after policy and key state were. The hard TTL, `ttl + stale`, is the longest time for which a revocation at
 * the KMS can go unnoticed; jitter only shortens it.
 */
export interface CacheOptions {
  readonly enabled: boolean;
  readonly maxKeys: number;
  readonly ttlMs: number;
  /** How long after its TTL an entry may still serve while the KMS cannot be reached. */
  readonly staleMs: number;
  readonly gate: Gate;
  readonly clock: () => number;
  /** In [0, 1): spreads expiry, so that entries made together are not loaded again together. */
  readonly random: () => number;
  readonly metrics: KmsMetrics;
}

/** What identifies an unwrap. Its digest is the cache's key: no wrapped key is held, and none can be confused. */
export interface UnwrapId {
  readonly keyId: string;
  readonly wrapped: Buffer;
  readonly context: Buffer;
}

interface Entry {
  readonly key: KeyObject;
  readonly keyId: string;
  readonly freshUntil: number;
  readonly hardUntil: number;
}

interface Refusal {
  readonly error: ServiceError;
  readonly keyId: string;
}

const NEGATIVE_MS = 10_000;
const NEGATIVE_MAX = 1_000;
const JITTER = 0.1;

/** A denial or a loss, which asking again does not change; as opposed to an outage. */
function isPermanent(err: ServiceError): boolean {
  return err.code !== 'ServiceUnavailable' && err.code !== 'SlowDown' && err.reason !== 'unexpected';
}

/** Timeout, 5xx, sealed, 429. A failed login or a full queue of our own is not "the KMS is unreachable". */
function isUnreachable(err: ServiceError): boolean {
  if (err.code === 'SlowDown') return err.reason !== 'kms-queue';
  return err.code === 'ServiceUnavailable' && err.reason === 'kms-unavailable';
}

/** One wrapped key is lost or tampered with; every other permanent error speaks of the KMS key as a whole. */
function concernsOneEntry(err: ServiceError): boolean {
  return err.reason.startsWith('integrity:');
}

function digest({ keyId, wrapped, context }: UnwrapId): string {
  return hash('sha256', lengthPrefixed([Buffer.from(keyId), wrapped, context]), 'base64');
}

export class DataKeyCache {
  readonly #options: CacheOptions;
  readonly #entries: LRUCache<string, Entry>;
  readonly #refusals: LRUCache<string, Refusal>;
  readonly #loads = new Map<string, { readonly promise: Promise<KeyObject>; readonly epoch: number }>();
  readonly #sweeper: NodeJS.Timeout;

  constructor(options: CacheOptions) {
    this.#options = options;
    const perf = { now: options.clock };
    this.#entries = new LRUCache<string, Entry>({
      max: options.maxKeys,
      ttl: options.ttlMs + options.staleMs,
      ttlResolution: 0,
      perf,
      dispose: (_entry, _id, reason) => {
        if (reason === 'evict') options.metrics.cacheEvicted(1);
      },
    });
    this.#refusals = new LRUCache<string, Refusal>({ max: NEGATIVE_MAX, ttl: NEGATIVE_MS, ttlResolution: 0, perf });
    // lru-cache lets go of an expired entry only when it is touched; a key in memory must go by itself.
    const every = Math.min(5_000, Math.max(250, (options.ttlMs + options.staleMs) / 4));
    this.#sweeper = setInterval(() => this.sweep(), every);
    this.#sweeper.unref();
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Removes what has expired. */
  sweep(): void {
    this.#entries.purgeStale();
    this.#refusals.purgeStale();
    this.#report();
  }

  /** The unwrapped key: from the cache, from a load under way, or by `load`, which gets a signal of its own. */
  async unwrap(
    id: UnwrapId,
    load: (signal: AbortSignal) => Promise<KeyObject>,
  ): Promise<{ readonly key: KeyObject; readonly hit: boolean }> {
    const { enabled, gate, clock, metrics } = this.#options;
    if (!enabled) return { key: await gate.run('unwrap', load), hit: false };
    const at = digest(id);
    const entry = this.#entries.get(at);
    if (entry !== undefined && clock() < entry.freshUntil) {
      metrics.cacheHit();
      return { key: entry.key, hit: true };
    }
    metrics.cacheMiss();
    const refusal = this.#refusals.get(at);
    if (refusal !== undefined) throw refusal.error;
    try {
      return { key: await this.#loaded(at, id, load), hit: false };
    } catch (err) {
      const stale = this.#stale(at, entry, asServiceError(err));
      if (stale === undefined) throw err;
      metrics.cacheStaleHit();
      return { key: stale, hit: true };
    }
  }

  /** Keeps a data key whose plaintext is known because it was just made (bucket keys); `epoch` is when that began. */
  keep(id: UnwrapId, key: KeyObject, epoch: number): void {
    const { enabled, gate, clock, ttlMs, staleMs, random } = this.#options;
    if (!enabled || epoch !== gate.epoch) return;
    const fresh = ttlMs * (1 - JITTER * random());
    const freshUntil = clock() + fresh;
    const entry = { key, keyId: id.keyId, freshUntil, hardUntil: freshUntil + staleMs };
    this.#entries.set(digest(id), entry, { ttl: Math.max(1, Math.floor(fresh + staleMs)) });
    this.#report();
  }

  /** Drops everything, loads under way included. Returns how many keys there were. */
  purge(): number {
    const dropped = this.#entries.size;
    this.#options.gate.purge();
    this.#loads.clear();
    this.#entries.clear();
    this.#refusals.clear();
    this.#report();
    return dropped;
  }

  /** Drops what was unwrapped under one KMS key. */
  purgeKey(keyId: string): void {
    for (const [at, entry] of this.#entries.entries()) if (entry.keyId === keyId) this.#entries.delete(at);
    for (const [at, refusal] of this.#refusals.entries()) if (refusal.keyId === keyId) this.#refusals.delete(at);
    this.#report();
  }

  close(): void {
    clearInterval(this.#sweeper);
    this.#entries.clear();
    this.#refusals.clear();
    this.#loads.clear();
  }

  /** Single flight: callers of one epoch share a load, and none of them can abort it for the others. */
  #loaded(at: string, id: UnwrapId, load: (signal: AbortSignal) => Promise<KeyObject>): Promise<KeyObject> {
    const { gate, metrics } = this.#options;
    const epoch = gate.epoch;
    const flying = this.#loads.get(at);
    if (flying?.epoch === epoch) return flying.promise;
    metrics.cacheLoad();
    const promise = this.#load(at, id, load, epoch).finally(() => {
      if (this.#loads.get(at)?.promise === promise) this.#loads.delete(at);
    });
    this.#loads.set(at, { promise, epoch });
    return promise;
  }

  async #load(
    at: string,
    id: UnwrapId,
    load: (signal: AbortSignal) => Promise<KeyObject>,
    epoch: number,
  ): Promise<KeyObject> {
    const { gate } = this.#options;
    try {
      const key = await gate.run('unwrap', load);
      if (epoch !== gate.epoch) throw purged();
      this.keep(id, key, epoch);
      return key;
    } catch (err) {
      const failure = asServiceError(err);
      if (epoch === gate.epoch && isPermanent(failure)) this.#refuse(at, id.keyId, failure);
      throw err;
    }
  }

  #refuse(at: string, keyId: string, error: ServiceError): void {
    if (concernsOneEntry(error)) this.#entries.delete(at);
    else this.purgeKey(keyId);
    this.#refusals.set(at, { error, keyId });
  }

  /** The expired entry, if it may serve: the KMS is unreachable, and nothing has purged the entry since. */
  #stale(at: string, entry: Entry | undefined, err: ServiceError): KeyObject | undefined {
    if (entry === undefined || !isUnreachable(err) || this.#options.clock() >= entry.hardUntil) return undefined;
    return this.#entries.peek(at) === entry ? entry.key : undefined;
  }

  #report(): void {
    this.#options.metrics.cacheSize(this.#entries.size);
  }
}
