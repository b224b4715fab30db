import { setTimeout as delay } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import type { ObjectPlace } from '../../sse/context.ts';
import { verifyEnvelope, type VerifiedEnvelope } from '../../sse/envelope.ts';
import type { Entropy } from '../../sse/format.ts';
import type { EnvelopeKeys } from '../../sse/mac.ts';
import { openPartRecord, sealPartRecord, type KnownPart, type PartRecord } from '../../sse/part-record.ts';
import {
  decodeTombstone,
  decodeUploadRecord,
  encodeTombstone,
  encodeUploadRecord,
  uploadHash,
  type NewUploadRecord,
  type Tombstone,
  type UploadRecord,
} from '../../sse/upload-record.ts';
import type { StoreResponse } from '../../store/port.ts';
import { unusable, type SystemObjects } from '../system-objects.ts';

const CACHED_UPLOADS = 1000;
/** Where they lie in the system bucket. */
export const UPLOADS = 'uploads/';
/** AWS gives a retried Complete its answer for as long as clients plausibly ask. */
export const TOMBSTONE_MS = 24 * 60 * 60 * 1000;

/** An open upload, as its record says. */
export interface Upload {
  readonly hash: Buffer;
  readonly record: UploadRecord;
  readonly envelope: VerifiedEnvelope;
}

export interface UploadsOptions {
  readonly objects: SystemObjects;
  readonly keys: EnvelopeKeys;
  readonly entropy: Entropy;
  readonly clock: () => Date;
}

/**
 * What uploads in parts keep in the system bucket (docs/FORMAT.md section 16), always with the service's own
 * credentials. Nothing there is trusted; an upload's record never changes, so that one that was read stays good.
 */
export class Uploads {
  readonly #options: UploadsOptions;
  readonly #cache = new LRUCache<string, Upload>({ max: CACHED_UPLOADS });

  constructor(options: UploadsOptions) {
    this.#options = options;
  }

  /** After the store's Create: from now on the upload takes parts. */
  async create(record: NewUploadRecord): Promise<void> {
    const { objects, keys, entropy } = this.#options;
    await objects.put(`${rootOf(uploadHash(record.name))}/r`, encodeUploadRecord(record, keys, entropy));
  }

  /**
   * The upload; undefined where there is none (any more). `fresh` asks the store: without it, an upload that another
   * replica has ended may still be found, and the store has to refuse what is done with it.
   */
  async load(place: ObjectPlace, uploadId: string, fresh: boolean): Promise<Upload | undefined> {
    const { keys } = this.#options;
    const hash = uploadHash({ ...place, uploadId });
    const id = hash.toString('hex');
    const known = fresh ? undefined : this.#cache.get(id);
    if (known !== undefined) return known;
    const bytes = await this.#options.objects.get(`${rootOf(hash)}/r`);
    if (bytes === undefined) {
      this.#cache.delete(id);
      return undefined;
    }
    const record = decodeUploadRecord(bytes, hash, keys);
    const upload = { hash, record, envelope: verifyEnvelope(record.envelope, place, keys) };
    this.#cache.set(id, upload);
    return upload;
  }

  /** Acknowledges an attempt of a part; returns the ETag by which the client will name it. */
  async addPart(upload: Upload, part: PartRecord): Promise<string> {
    const { name, etag } = sealPartRecord(part, this.#identity(upload), this.#options.entropy);
    await this.#options.objects.put(`${rootOf(upload.hash)}/p/${name}`, Buffer.alloc(0));
    return etag;
  }

  /** Every acknowledged attempt, by number. What does not open was not written here, and counts for nothing. */
  async parts(upload: Upload): Promise<KnownPart[]> {
    const prefix = `${rootOf(upload.hash)}/p/`;
    const identity = this.#identity(upload);
    const known = (await this.#options.objects.list(prefix)).flatMap(
      (key) => openPartRecord(key.slice(prefix.length), identity) ?? [],
    );
    return known.sort((a, b) => a.partNumber - b.partNumber || a.time - b.time);
  }

  #identity({ hash, envelope }: Upload): { hash: Buffer; objectId: Buffer; keys: EnvelopeKeys } {
    return { hash, objectId: envelope.objectId, keys: this.#options.keys };
  }

  /** Where the bytes of a part lie that was put aside. */
  asidePlace(upload: Upload, asideId: Buffer): { readonly bucket: string; readonly key: string } {
    return { bucket: this.#options.objects.bucket, key: `${rootOf(upload.hash)}/a/${asideId.toString('hex')}` };
  }

  async readAside(upload: Upload, asideId: Buffer): Promise<StoreResponse> {
    const response = await this.#options.objects.request({ ...this.asidePlace(upload, asideId), method: 'GET' });
    if (response.status === 200) return response;
    response.discard();
    throw unusable(response);
  }

  async bury(upload: Upload, tombstone: Omit<Tombstone, 'completed'>): Promise<void> {
    const completed = this.#options.clock().getTime();
    const bytes = encodeTombstone({ ...tombstone, completed }, upload.hash, this.#options.keys);
    await this.#options.objects.put(`${rootOf(upload.hash)}/t`, bytes);
  }

  /** What is left of an upload that was completed not long ago. */
  async tombstone(place: ObjectPlace, uploadId: string): Promise<Tombstone | undefined> {
    const hash = uploadHash({ ...place, uploadId });
    const bytes = await this.#options.objects.get(`${rootOf(hash)}/t`);
    if (bytes === undefined) return undefined;
    const found = decodeTombstone(bytes, hash, this.#options.keys);
    return this.#options.clock().getTime() - found.completed > TOMBSTONE_MS ? undefined : found;
  }

  /** Removes record, part records and parts put aside. What cannot be removed now is no harm: nothing reads it. */
  async clear(place: ObjectPlace, uploadId: string): Promise<void> {
    const root = rootOf(uploadHash({ ...place, uploadId }));
    this.#cache.delete(root.slice(UPLOADS.length));
    await this.#options.objects.delete([`${root}/r`]);
    const rest = await this.#options.objects.list(`${root}/`);
    await this.#options.objects.delete(rest.filter((key) => key !== `${root}/t`));
  }
}

function rootOf(hash: Buffer): string {
  return UPLOADS + hash.toString('hex');
}

/** Pauses before a listing is read again: some stores list with a delay. */
export const LIST_AGAIN_MS = [100, 300, 900] as const;

export function pause(ms: number): Promise<void> {
  return delay(ms);
}
