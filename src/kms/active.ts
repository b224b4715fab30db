import { asServiceError, ServiceError } from '../errors.ts';
import type { ControlStore } from '../control/port.ts';
import { BucketKeys } from './bucket-keys.ts';
import { DataKeyCache } from './cache.ts';
import { namedKeys } from './candidate.ts';
import type { KmsConfig } from './config-schema.ts';
import type { Gate } from './gate.ts';
import { Inventory } from './inventory.ts';
import type { KeyRecord, KeyRecords } from './key-records.ts';
import type { BucketKeyScope, DataKey, KeyInUse, KmsBackend, KmsLog, KmsMetrics } from './ports.ts';
import { probe, type Health } from './probe.ts';

/** A proven configuration in force: what the service hands the data plane to while it is Running. */
export interface ActiveOptions {
  readonly config: KmsConfig;
  readonly backend: KmsBackend;
  /** Of the service record; bucket keys of another generation are not used. */
  readonly generation: number;
  readonly gate: Gate;
  readonly records: KeyRecords;
  readonly store: ControlStore;
  readonly clock: () => number;
  readonly random: () => number;
  readonly metrics: KmsMetrics;
  readonly probeMs: number;
  readonly log: KmsLog;
}

/** Probe results that say: this KMS is not, or no longer, the one that the objects are under. */
const STOPS_WRAPS: ReadonlySet<string> = new Set(['kms-canary', 'kms-version-behind', 'key-unfit']);

export class Active {
  readonly config: KmsConfig;
  readonly backend: KmsBackend;
  readonly inventory: Inventory;
  readonly #options: ActiveOptions;
  readonly #cache: DataKeyCache;
  readonly #bucketKeys: BucketKeys;
  readonly #counts = { hits: 0, misses: 0, loads: 0, evictions: 0, staleHits: 0 };
  readonly #prober: NodeJS.Timeout;
  #probing: Promise<Health> | undefined;
  #health: Health | undefined;
  #closed = false;

  constructor(options: ActiveOptions) {
    const { config, backend, gate, records, clock } = options;
    this.#options = options;
    this.config = config;
    this.backend = backend;
    this.inventory = new Inventory(records, backend, gate, clock);
    this.#cache = new DataKeyCache({
      enabled: config.enable_cache,
      maxKeys: config.max_cached_keys,
      ttlMs: config.cache_ttl_seconds * 1000,
      staleMs: config.cache_stale_seconds * 1000,
      gate,
      clock,
      random: options.random,
      metrics: counting(options.metrics, this.#counts),
    });
    this.#bucketKeys = new BucketKeys({
      store: options.store,
      clock,
      seconds: config.bucket_key_seconds,
      generate: (keyId, context) => this.#make(keyId, context, true),
      epoch: () => gate.epoch,
    });
    this.#prober = setInterval(() => void this.checkHealth(), options.probeMs);
    this.#prober.unref();
  }

  get health(): Health | undefined {
    return this.#health;
  }

  cacheFigures(): Readonly<Record<string, number | boolean>> {
    return { enabled: this.config.enable_cache, size: this.#cache.size, ...this.#counts };
  }

  async generate(keyId: string, context: Buffer, scope?: BucketKeyScope): Promise<KeyInUse> {
    const record = await this.inventory.forWrap(keyId);
    this.#assertWraps(keyId);
    if (scope === undefined) this.#assertNotServiceKey(keyId);
    else {
      const bucketKey = await this.#bucketKeys.current({
        bucketId: scope.bucketId,
        keyId,
        context,
        keyVersion: record.latestVersion,
        keyGeneration: record.generation,
        serviceGeneration: this.#options.generation,
      });
      if (bucketKey !== undefined) {
        const { wrapped, version, key } = bucketKey;
        if (key !== undefined) return { key, wrapped, keyId, version, cacheHit: false };
        return this.unwrap(keyId, wrapped, context);
      }
    }
    const { key, wrapped, version } = await this.#make(keyId, context, false);
    return { key, wrapped, keyId, version, cacheHit: false };
  }

  async unwrap(keyId: string, wrapped: Buffer, context: Buffer): Promise<KeyInUse> {
    await this.#options.records.usable(keyId);
    const version = this.backend.wrappedVersion(wrapped);
    const { key, hit } = await this.#cache.unwrap({ keyId, wrapped, context }, (signal) =>
      this.backend.unwrap(keyId, wrapped, context, signal),
    );
    return { key, wrapped, keyId, version, cacheHit: hit };
  }

  /** A new data key, after the version that made it was compared with the recorded one. */
  async #make(keyId: string, context: Buffer, keep: boolean): Promise<DataKey> {
    const { gate, records } = this.#options;
    const epoch = gate.epoch;
    const made = await gate.run('generate', (signal) => this.backend.generateDataKey(keyId, context, signal));
    await this.inventory.seen(keyId, made.version, await records.usable(keyId));
    if (keep) this.#cache.keep({ keyId, wrapped: made.wrapped, context }, made.key, epoch);
    return made;
  }

  #assertWraps(keyId: string): void {
    const failed = this.#health?.keys.find((key) => key.keyId === keyId && !key.ok);
    if (failed?.reason !== undefined && STOPS_WRAPS.has(failed.reason)) {
      throw new ServiceError('ServiceUnavailable', { reason: failed.reason, headers: { 'Retry-After': '30' } });
    }
  }

  /** SSE-S3 always uses bucket keys: its key, where it is one of its own, makes no key for a single object. */
  #assertNotServiceKey(keyId: string): void {
    if (keyId === this.config.sse_s3_key_id && keyId !== this.config.default_key_id) {
      throw new ServiceError('InvalidRequest', { message: 'The key is reserved for SSE-S3.', reason: 'sse-s3-key' });
    }
  }

  /** Takes the named keys into the inventory. A failure is repeated by the next probe. */
  async adoptNamed(): Promise<void> {
    for (const keyId of namedKeys(this.config)) {
      if ((await this.#options.records.find(keyId)) === undefined) await this.inventory.adopt(keyId);
    }
  }

  /** Drops keys, bucket keys and everything under way, and begins a new epoch. */
  purge(): number {
    this.#bucketKeys.forget();
    this.#options.records.forget();
    return this.#cache.purge();
  }

  /** One probe, shared by whoever asks while it runs. */
  checkHealth(): Promise<Health> {
    this.#probing ??= this.#probe().finally(() => (this.#probing = undefined));
    return this.#probing;
  }

  async #probe(): Promise<Health> {
    const { clock, log, records } = this.#options;
    const before = this.#health?.ok;
    const controller = new AbortController();
    const timer = setTimeout(() => controller.abort(), this.config.timeout_seconds * 3_000);
    timer.unref();
    let health: Health;
    try {
      await this.adoptNamed();
      const keys = new Map<string, KeyRecord | undefined>();
      for (const keyId of namedKeys(this.config)) keys.set(keyId, await records.find(keyId));
      health = await probe(this.backend, keys, clock, controller.signal);
      await this.#raiseSeen(health, keys);
    } catch (err) {
      const { reason } = asServiceError(err);
      health = { ok: false, checkedAt: new Date(clock()).toISOString(), reason, keys: this.#health?.keys ?? [] };
    } finally {
      clearTimeout(timer);
    }
    if (this.#closed) return health;
    this.#health = health;
    if (before !== health.ok) log('kms-health', { ok: health.ok, reason: healthReason(health) ?? '' });
    return health;
  }

  /** A version that was made at the KMS by others is recorded, and gets its canary. */
  async #raiseSeen(health: Health, keys: ReadonlyMap<string, KeyRecord | undefined>): Promise<void> {
    for (const { keyId, version } of health.keys) {
      const known = keys.get(keyId)?.latestVersion;
      if (version !== undefined && known !== undefined && version > known) await this.inventory.raise(keyId);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#prober);
    this.#bucketKeys.forget();
    this.#cache.close();
    await this.backend.close();
  }
}

export function healthReason(health: Health): string | undefined {
  return health.reason ?? health.keys.find((key) => !key.ok)?.reason;
}

type Counts = Record<'hits' | 'misses' | 'loads' | 'evictions' | 'staleHits', number>;

/** The figures of `GET /kms/status`, beside the metrics. */
function counting(metrics: KmsMetrics, counts: Counts): KmsMetrics {
  const count = (name: keyof Counts, by: number, report: () => void) => {
    counts[name] += by;
    report();
  };
  return {
    cacheHit: () => count('hits', 1, () => metrics.cacheHit()),
    cacheMiss: () => count('misses', 1, () => metrics.cacheMiss()),
    cacheLoad: () => count('loads', 1, () => metrics.cacheLoad()),
    cacheEvicted: (number) => count('evictions', number, () => metrics.cacheEvicted(number)),
    cacheStaleHit: () => count('staleHits', 1, () => metrics.cacheStaleHit()),
    cacheSize: (size) => metrics.cacheSize(size),
    backendCall: (operation, outcome, seconds) => metrics.backendCall(operation, outcome, seconds),
    queued: (depth) => metrics.queued(depth),
  };
}
