import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { ServiceError } from '../errors.ts';
import { records, type ControlStore, type Json } from './port.ts';
import { RecordCache } from './record-cache.ts';

/**
 * Bucket records: which bucket of the store stands behind a name, and how it is encrypted. They lie here because
 * whoever can write to the object store could otherwise turn a bucket's default off.
 */
const keyReference = z
  .string()
  .min(1)
  .max(2048)
  .regex(/^[\x21-\x7e]+$/);

const bucketSchema = z.strictObject({
  /** base64url of 16 random bytes; never derived from the name, which may be given again. */
  bucketId: z.string().regex(/^[A-Za-z0-9_-]{21}[AQgw]$/),
  /** The name that ARNs in encryption contexts are built from; a replica inherits it with the id. */
  arnName: z.string().min(1).max(255),
  target: z.strictObject({ bucket: z.string().min(1).max(255), prefix: z.string().max(1024) }),
  /** mixed: on its way in, plaintext older than the cut-over is read; leaving: on its way out, any plaintext is. */
  mode: z.enum(['encrypted-only', 'mixed', 'leaving']),
  /** Objects of a mixed bucket that are younger must be encrypted. */
  cutover: z.iso.datetime().optional(),
  encryption: z
    .strictObject({
      algorithm: z.enum(['AES256', 'aws:kms']),
      keyReference: keyReference.optional(),
      bucketKeyEnabled: z.boolean(),
      blocked: z.array(z.literal('SSE-C')).readonly(),
    })
    .refine((e) => e.algorithm === 'aws:kms' || e.keyReference === undefined)
    .optional(),
  /** As PutBucketCors gave them, parsed. */
  cors: z
    .array(
      z.strictObject({
        id: z.string().max(255).optional(),
        origins: z.array(z.string()).readonly(),
        methods: z.array(z.enum(['GET', 'PUT', 'POST', 'DELETE', 'HEAD'])).readonly(),
        headers: z.array(z.string()).readonly(),
        expose: z.array(z.string()).readonly(),
        maxAgeSeconds: z.int().min(0).optional(),
      }),
    )
    .min(1)
    .max(100)
    .readonly()
    .optional(),
  createdAt: z.iso.datetime(),
});

export type BucketRecord = Readonly<z.infer<typeof bucketSchema>>;
export type BucketEncryption = NonNullable<BucketRecord['encryption']>;

export interface NewBucket {
  readonly target: BucketRecord['target'];
  readonly mode: BucketRecord['mode'];
  readonly cutover?: string;
  readonly encryption?: BucketEncryption;
  /** A replica's: the id and name of the bucket that it replicates (format.md: bucket id). */
  readonly inherit?: { readonly bucketId: string; readonly arnName: string };
}

export interface BucketsOptions {
  readonly store: ControlStore;
  readonly clock: () => number;
  readonly freshMs?: number;
  readonly staleMs?: number;
}

/** Bucket names of S3, old ones with upper case and underscores included; no dots alone, no slashes. */
const BUCKET_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{1,127}$/;

export class BucketRecords {
  readonly #store: ControlStore;
  readonly #clock: () => number;
  readonly #cache: RecordCache<BucketRecord>;

  constructor({ store, clock, freshMs = 1_000, staleMs = 300_000 }: BucketsOptions) {
    this.#store = store;
    this.#clock = clock;
    this.#cache = new RecordCache({ store, parse: parseBucket, clock, freshMs, staleMs: () => staleMs });
  }

  /** The record, or undefined where the bucket was not made here or adopted; never a default. */
  async get(bucket: string): Promise<BucketRecord | undefined> {
    if (!BUCKET_NAME.test(bucket)) return undefined;
    return (await this.#cache.get(records.bucket(bucket))).value;
  }

  async list(): Promise<readonly string[]> {
    return (await this.#store.list(records.buckets)).map((name) => name.slice(records.buckets.length));
  }

  /** All records by their bucket ids: a replica's record has the id of another. */
  async byId(): Promise<ReadonlyMap<string, readonly BucketRecord[]>> {
    const found = new Map<string, BucketRecord[]>();
    for (const name of await this.list()) {
      const record = await this.get(name);
      if (record !== undefined) found.set(record.bucketId, [...(found.get(record.bucketId) ?? []), record]);
    }
    return found;
  }

  /** Makes the record, with a new bucket id unless one is inherited. BucketAlreadyOwnedByYou when there is one. */
  async create(bucket: string, settings: NewBucket): Promise<BucketRecord> {
    if (!BUCKET_NAME.test(bucket)) throw new ServiceError('InvalidBucketName');
    const record = parseBucket({
      bucketId: settings.inherit?.bucketId ?? randomBytes(16).toString('base64url'),
      arnName: settings.inherit?.arnName ?? bucket,
      target: settings.target,
      mode: settings.mode,
      ...(settings.cutover === undefined ? {} : { cutover: settings.cutover }),
      ...(settings.encryption === undefined ? {} : { encryption: settings.encryption }),
      createdAt: new Date(this.#clock()).toISOString(),
    });
    const name = records.bucket(bucket);
    const { value, version } = await this.#cache.fresh(name);
    if (value !== undefined) throw new ServiceError('BucketAlreadyOwnedByYou');
    await this.#write(name, record, version);
    return record;
  }

  /**
   * Ends the record and its bucket id: a bucket that is made again under the name gets another one, so that nothing
   * of the old bucket opens in it.
   */
  async retire(bucket: string): Promise<void> {
    const name = records.bucket(bucket);
    const { value, version } = await this.#existing(bucket);
    await this.#write(name, null, version);
    const prefix = `${records.bucketKeys}${value.bucketId}/`;
    for (const key of await this.#store.list(prefix)) {
      await this.#store.compareAndSet(key, null, (await this.#store.get(key)).version);
    }
  }

  /** Applies a change of settings; the bucket's identity stays. */
  async update(
    bucket: string,
    change: (record: BucketRecord) => Omit<BucketRecord, 'bucketId' | 'arnName' | 'createdAt'>,
  ): Promise<BucketRecord> {
    const { value, version } = await this.#existing(bucket);
    const { bucketId, arnName, createdAt } = value;
    const record = parseBucket({ ...change(value), bucketId, arnName, createdAt });
    await this.#write(records.bucket(bucket), record, version);
    return record;
  }

  async #existing(bucket: string): Promise<{ value: BucketRecord; version: number }> {
    if (!BUCKET_NAME.test(bucket)) throw new ServiceError('NoSuchBucket');
    const { value, version } = await this.#cache.fresh(records.bucket(bucket));
    if (value === undefined) throw new ServiceError('NoSuchBucket');
    return { value, version };
  }

  async #write(name: string, record: BucketRecord | null, version: number): Promise<void> {
    try {
      await this.#store.compareAndSet(name, record as Json, version);
    } catch (err) {
      if (err instanceof ServiceError && err.code === 'Conflict') {
        throw new ServiceError('OperationAborted', { reason: err.reason, cause: err });
      }
      throw err;
    } finally {
      this.#cache.forget(name);
    }
  }
}

/** Objects without an envelope are readable where the store says that they are older than this (ms since 1970). */
export function plaintextBefore({ mode, cutover }: BucketRecord): number {
  if (mode === 'leaving') return Infinity;
  return mode === 'mixed' && cutover !== undefined ? Date.parse(cutover) : -Infinity;
}

function parseBucket(value: unknown): BucketRecord {
  const parsed = bucketSchema.safeParse(value);
  if (!parsed.success) {
    throw new ServiceError('ServiceUnavailable', {
      message: 'A bucket record is damaged.',
      reason: 'control-damaged',
      cause: parsed.error,
    });
  }
  return Object.freeze(parsed.data);
}
