import type { KeyObject } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { z } from 'zod';
import { equalBytes } from '../bytes.ts';
import { records, type ControlStore } from '../control/port.ts';
import { ServiceError } from '../errors.ts';
import { purged } from './gate.ts';
import type { DataKey } from './ports.ts';

/**
 * Bucket keys (AWS "S3 Bucket Keys"): one data key per bucket and KMS key, for `bucket_key_seconds`. Its wrapped form
 * lies in the control store, so that replicas and restarts share it; its plaintext lives in the unwrap cache only.
 */
const bucketKeySchema = z.strictObject({
  wrapped: z.base64().max(600),
  /** The context digest that it is bound to. */
  context: z.base64().length(44),
  version: z.int().positive(),
  createdAt: z.int(),
  /** Of the key record: rotating and disabling end the bucket key. */
  keyGeneration: z.int().positive(),
  /** Of the service record: stop, start and reconfigure end it. */
  serviceGeneration: z.int().nonnegative(),
});
type BucketKeyRecord = z.infer<typeof bucketKeySchema>;

/** What a bucket key must fit to be used for a new object. */
export interface BucketKeyRequest {
  readonly bucketId: string;
  readonly keyId: string;
  readonly context: Buffer;
  readonly keyVersion: number;
  readonly keyGeneration: number;
  readonly serviceGeneration: number;
}

export interface BucketKeysOptions {
  readonly store: ControlStore;
  readonly clock: () => number;
  readonly seconds: number;
  /** Asks the KMS for a data key, and keeps the plaintext in the unwrap cache. */
  readonly generate: (keyId: string, context: Buffer) => Promise<DataKey>;
  readonly epoch: () => number;
  readonly max?: number;
}

export interface BucketKey {
  readonly wrapped: Buffer;
  readonly version: number;
  /** The plaintext, when it was made by this very call. */
  readonly key?: KeyObject;
}

/** How far ahead another node's clock may be: a record from further in the future is not trusted to expire. */
const CLOCK_SKEW_MS = 300_000;
const ATTEMPTS = 4;

export class BucketKeys {
  readonly #options: BucketKeysOptions;
  readonly #known: LRUCache<string, BucketKeyRecord>;
  readonly #flights = new Map<string, Promise<BucketKey | undefined>>();

  constructor(options: BucketKeysOptions) {
    this.#options = options;
    this.#known = new LRUCache({ max: options.max ?? 10_000 });
  }

  /**
   * The bucket key to use; undefined when the bucket has one that is bound to another context, which the caller then
   * does without: a data key is never wrapped under a second context (docs/FORMAT.md).
   */
  async current(request: BucketKeyRequest): Promise<BucketKey | undefined> {
    const name = records.bucketKey(request.bucketId, request.keyId);
    const known = this.#known.get(name);
    if (known !== undefined && this.#fits(known, request)) return bound(known, request);
    // Requests of one epoch and generation share the making of a key.
    const scope = [request.keyGeneration, request.serviceGeneration, this.#options.epoch()].join('|');
    const flight = `${name}|${scope}|${request.context.toString('base64')}`;
    let making = this.#flights.get(flight);
    if (making === undefined) {
      making = this.#settle(name, request).finally(() => this.#flights.delete(flight));
      this.#flights.set(flight, making);
    }
    return making;
  }

  /** Forgets what was read; the records stay, and end by their generation. */
  forget(): void {
    this.#known.clear();
    this.#flights.clear();
  }

  #fits(record: BucketKeyRecord, request: BucketKeyRequest): boolean {
    const age = this.#options.clock() - record.createdAt;
    return (
      age < this.#options.seconds * 1000 &&
      age > -CLOCK_SKEW_MS &&
      record.version === request.keyVersion &&
      record.keyGeneration === request.keyGeneration &&
      record.serviceGeneration === request.serviceGeneration
    );
  }

  /** Reads the shared key, or makes one; the loser of a race uses the winner's. */
  async #settle(name: string, request: BucketKeyRequest): Promise<BucketKey | undefined> {
    const { store, generate, clock, epoch } = this.#options;
    const began = epoch();
    for (let attempt = 1; ; attempt++) {
      const { value, version } = await store.get(name);
      const found = bucketKeySchema.safeParse(value);
      if (found.success && this.#fits(found.data, request)) {
        this.#remember(name, found.data, began);
        return bound(found.data, request);
      }
      const made = await generate(request.keyId, request.context);
      const record: BucketKeyRecord = {
        wrapped: made.wrapped.toString('base64'),
        context: request.context.toString('base64'),
        version: made.version,
        createdAt: clock(),
        keyGeneration: request.keyGeneration,
        serviceGeneration: request.serviceGeneration,
      };
      try {
        await store.compareAndSet(name, record, version);
        this.#remember(name, record, began);
        return { wrapped: made.wrapped, version: made.version, key: made.key };
      } catch (err) {
        if (!(err instanceof ServiceError && err.code === 'Conflict') || attempt >= ATTEMPTS) throw err;
      }
    }
  }

  #remember(name: string, record: BucketKeyRecord, began: number): void {
    if (began !== this.#options.epoch()) throw purged();
    this.#known.set(name, record);
  }
}

function bound(record: BucketKeyRecord, request: BucketKeyRequest): BucketKey | undefined {
  if (!equalBytes(Buffer.from(record.context, 'base64'), request.context)) return undefined;
  return { wrapped: Buffer.from(record.wrapped, 'base64'), version: record.version };
}
