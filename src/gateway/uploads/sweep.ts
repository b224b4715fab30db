import type { BucketRecord } from '../../control/buckets.ts';
import type { EnvelopeKeys } from '../../sse/mac.ts';
import { decodeUploadRecord, type UploadRecord } from '../../sse/upload-record.ts';
import type { StoreClient } from '../../store/port.ts';
import { COPIES, type SystemObjects } from '../system-objects.ts';
import { storePlace } from '../target.ts';
import { TOMBSTONE_MS, UPLOADS } from './records.ts';

/** Uploads that one run looks at; the next one begins somewhere else. */
const UPLOADS_AT_ONCE = 1000;

type Buckets = ReadonlyMap<string, readonly Pick<BucketRecord, 'target'>[]>;

export interface SweepOptions {
  readonly objects: SystemObjects;
  readonly store: StoreClient;
  readonly keys: EnvelopeKeys;
  /** The buckets that there are, by their ids (base64url). */
  readonly buckets: () => Promise<Buckets>;
  readonly clock: () => Date;
  readonly random?: () => number;
}

export interface Swept {
  readonly examined: number;
  /** Uploads of which the records were removed, tombstones among them. */
  readonly removed: number;
  readonly failed: number;
}

/**
 * Removes what is left in the system bucket of uploads that the store knows no more (aborted by its own lifecycle,
 * completed by a process that died before it had cleaned up), and tombstones that nobody will ask for again. What is
 * younger than a day stays: a client may still ask about it. What the store still knows is an open upload and stays,
 * however old; abandoned ones are the store's lifecycle rule to abort.
 */
export class Sweep {
  readonly #options: SweepOptions;

  constructor(options: SweepOptions) {
    this.#options = options;
  }

  async run(): Promise<Swept> {
    const { objects, buckets, random = Math.random } = this.#options;
    const folders = await objects.folders(UPLOADS);
    const start = folders.length > UPLOADS_AT_ONCE ? Math.floor(random() * folders.length) : 0;
    const some = [...folders.slice(start), ...folders.slice(0, start)].slice(0, UPLOADS_AT_ONCE);
    const known = await buckets();
    const swept = { examined: some.length, removed: 0, failed: 0 };
    await this.#sweepCopies();
    for (const folder of some) {
      try {
        if (await this.#sweepOne(folder, known)) swept.removed += 1;
      } catch {
        // One that cannot be removed does not keep the others from it.
        swept.failed += 1;
      }
    }
    return swept;
  }

  /** Private copies of a process that died before it had removed them. */
  async #sweepCopies(): Promise<void> {
    const { objects, clock } = this.#options;
    const before = clock().getTime() - TOMBSTONE_MS;
    const left: string[] = [];
    await objects.each(COPIES, (key, modified) => {
      if (modified < before) left.push(key);
      return left.length < UPLOADS_AT_ONCE;
    });
    await objects.delete(left);
  }

  async #sweepOne(folder: string, known: Buckets): Promise<boolean> {
    const { objects, clock } = this.#options;
    const before = clock().getTime() - TOMBSTONE_MS;
    const left: string[] = [];
    // Not "younger than": a date that cannot be read is no reason to remove anything.
    const young: string[] = [];
    await objects.each(folder, (key, modified) => {
      (modified < before ? left : young).push(key);
      return young.length === 0;
    });
    if (young.length > 0 || left.length === 0 || (await this.#isOpen(folder, known))) return false;
    // The record first: without it nothing takes a part.
    await objects.delete([`${folder}r`]);
    await objects.delete(left.filter((key) => key !== `${folder}r`));
    return true;
  }

  /** What cannot be said for certain counts as open. */
  async #isOpen(folder: string, known: Buckets): Promise<boolean> {
    const { objects, store } = this.#options;
    const bytes = await objects.get(`${folder}r`);
    if (bytes === undefined) return false;
    const record = this.#decode(bytes, folder);
    if (record === undefined) return true;
    const { bucketId, key, uploadId } = record.name;
    const query = [
      ['uploadId', uploadId],
      ['max-parts', '1'],
    ] as const;
    // None where the bucket was deleted: its id was retired with it.
    for (const bucket of known.get(bucketId.toString('base64url')) ?? []) {
      const response = await store.request({ method: 'GET', ...storePlace(bucket, key), query });
      response.discard();
      if (response.status !== 404) return true;
    }
    return false;
  }

  #decode(bytes: Buffer, folder: string): UploadRecord | undefined {
    const hash = Buffer.from(folder.slice(UPLOADS.length, -1), 'hex');
    try {
      return decodeUploadRecord(bytes, hash, this.#options.keys);
    } catch {
      return undefined;
    }
  }
}
