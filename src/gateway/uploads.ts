import { setTimeout as delay } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import { ServiceError } from '../errors.ts';
import { formatDeleteRequest } from '../s3/delete-objects.ts';
import { LISTING_LIMIT, parseListing } from '../s3/listing.ts';
import type { ObjectPlace } from '../sse/context.ts';
import { verifyEnvelope, type VerifiedEnvelope } from '../sse/envelope.ts';
import type { Entropy } from '../sse/format.ts';
import type { EnvelopeKeys } from '../sse/mac.ts';
import { openPartRecord, sealPartRecord, type KnownPart, type PartRecord } from '../sse/part-record.ts';
import {
  decodeTombstone,
  decodeUploadRecord,
  encodeTombstone,
  encodeUploadRecord,
  uploadHash,
  type NewUploadRecord,
  type Tombstone,
  type UploadRecord,
} from '../sse/upload-record.ts';
import type { StoreClient, StoreRequest, StoreResponse } from '../store/port.ts';
import { contentMd5, XML } from './xml-body.ts';

const RECORD_LIMIT = 16 * 1024;
const CACHED_UPLOADS = 1000;
const DELETE_AT_ONCE = 1000;
/** AWS gives a retried Complete its answer for as long as clients plausibly ask. */
const TOMBSTONE_MS = 24 * 60 * 60 * 1000;

/** An open upload, as its record says. */
export interface Upload {
  readonly hash: Buffer;
  readonly record: UploadRecord;
  readonly envelope: VerifiedEnvelope;
}

export interface UploadsOptions {
  readonly store: StoreClient;
  readonly systemBucket: string;
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
  async create(place: ObjectPlace, uploadId: string, record: NewUploadRecord): Promise<void> {
    const { keys, entropy } = this.#options;
    const hash = uploadHash(place, uploadId);
    await this.#put(`${rootOf(hash)}/r`, encodeUploadRecord(record, hash, keys, entropy));
  }

  /**
   * The upload; undefined where there is none (any more). `fresh` asks the store: without it, an upload that another
   * replica has ended may still be found, and the store has to refuse what is done with it.
   */
  async load(place: ObjectPlace, uploadId: string, fresh: boolean): Promise<Upload | undefined> {
    const { keys } = this.#options;
    const hash = uploadHash(place, uploadId);
    const id = hash.toString('hex');
    const known = fresh ? undefined : this.#cache.get(id);
    if (known !== undefined) return known;
    const bytes = await this.#get(`${rootOf(hash)}/r`);
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
    await this.#put(`${rootOf(upload.hash)}/p/${name}`, Buffer.alloc(0));
    return etag;
  }

  /** Every acknowledged attempt, by number. What does not open was not written here, and counts for nothing. */
  async parts(upload: Upload): Promise<KnownPart[]> {
    const prefix = `${rootOf(upload.hash)}/p/`;
    const identity = this.#identity(upload);
    const known = (await this.#list(prefix)).flatMap((key) => openPartRecord(key.slice(prefix.length), identity) ?? []);
    return known.sort((a, b) => a.partNumber - b.partNumber || a.time - b.time);
  }

  #identity({ hash, envelope }: Upload): { hash: Buffer; objectId: Buffer; keys: EnvelopeKeys } {
    return { hash, objectId: envelope.objectId, keys: this.#options.keys };
  }

  /** Where the bytes of a part lie that was put aside. */
  asidePlace(upload: Upload, asideId: Buffer): { readonly bucket: string; readonly key: string } {
    return { bucket: this.#options.systemBucket, key: `${rootOf(upload.hash)}/a/${asideId.toString('hex')}` };
  }

  async readAside(upload: Upload, asideId: Buffer): Promise<StoreResponse> {
    const response = await this.#options.store.request({ method: 'GET', ...this.asidePlace(upload, asideId) });
    if (response.status === 200) return response;
    response.discard();
    throw unusable(response);
  }

  async bury(upload: Upload, tombstone: Omit<Tombstone, 'completed'>): Promise<void> {
    const completed = this.#options.clock().getTime();
    const bytes = encodeTombstone({ ...tombstone, completed }, upload.hash, this.#options.keys);
    await this.#put(`${rootOf(upload.hash)}/t`, bytes);
  }

  /** What is left of an upload that was completed not long ago. */
  async tombstone(place: ObjectPlace, uploadId: string): Promise<Tombstone | undefined> {
    const hash = uploadHash(place, uploadId);
    const bytes = await this.#get(`${rootOf(hash)}/t`);
    if (bytes === undefined) return undefined;
    const found = decodeTombstone(bytes, hash, this.#options.keys);
    return this.#options.clock().getTime() - found.completed > TOMBSTONE_MS ? undefined : found;
  }

  /** Removes record, part records and parts put aside. What cannot be removed now is no harm: nothing reads it. */
  async clear(place: ObjectPlace, uploadId: string): Promise<void> {
    const root = rootOf(uploadHash(place, uploadId));
    this.#cache.delete(root.slice(ROOT.length));
    await this.#delete([`${root}/r`]);
    const rest = await this.#list(`${root}/`);
    await this.#delete(rest.filter((key) => key !== `${root}/t`));
  }

  /** Removes tombstones that nobody will ask for any more. Returns how many. */
  async sweep(): Promise<number> {
    const before = this.#options.clock().getTime() - TOMBSTONE_MS;
    const old: string[] = [];
    await this.#pages(ROOT, (key, modified) => {
      if (key.endsWith('/t') && modified < before) old.push(key);
    });
    await this.#delete(old);
    return old.length;
  }

  #request(request: Omit<StoreRequest, 'bucket'>): Promise<StoreResponse> {
    return this.#options.store.request({ ...request, bucket: this.#options.systemBucket });
  }

  async #put(key: string, body: Buffer): Promise<void> {
    const response = await this.#request({ method: 'PUT', key, body });
    response.discard();
    if (response.status !== 200) throw unusable(response);
  }

  async #get(key: string): Promise<Buffer | undefined> {
    const response = await this.#request({ method: 'GET', key });
    if (response.status === 200) return response.collect(RECORD_LIMIT);
    response.discard();
    if (response.status === 404) return undefined;
    throw unusable(response);
  }

  async #list(prefix: string): Promise<string[]> {
    const keys: string[] = [];
    await this.#pages(prefix, (key) => keys.push(key));
    return keys;
  }

  async #pages(prefix: string, each: (key: string, modified: number) => void): Promise<void> {
    let token: string | undefined;
    do {
      const query: [string, string][] = [
        ['list-type', '2'],
        ['encoding-type', 'url'],
        ['max-keys', '1000'],
        ['prefix', prefix],
      ];
      if (token !== undefined) query.push(['continuation-token', token]);
      const response = await this.#request({ method: 'GET', query });
      if (response.status !== 200) {
        response.discard();
        throw unusable(response);
      }
      const page = parseListing('ListObjectsV2', await response.collect(LISTING_LIMIT));
      for (const { key, lastModified } of page.entries) each(key, Date.parse(lastModified));
      token = page.isTruncated ? page.nextContinuationToken : undefined;
    } while (token !== undefined);
  }

  async #delete(keys: readonly string[]): Promise<void> {
    for (let i = 0; i < keys.length; i += DELETE_AT_ONCE) {
      const body = Buffer.from(formatDeleteRequest(keys.slice(i, i + DELETE_AT_ONCE).map((key) => ({ key }))));
      const headers = { ...XML, ...contentMd5(body) };
      const response = await this.#request({ method: 'POST', query: [['delete', '']], headers, body });
      response.discard();
      if (response.status !== 200) throw unusable(response);
    }
  }
}

const ROOT = 'uploads/';

function rootOf(hash: Buffer): string {
  return ROOT + hash.toString('hex');
}

function unusable(response: StoreResponse): ServiceError {
  return new ServiceError('ServiceUnavailable', { reason: `system-bucket-${response.status}` });
}

/** Pauses before a listing is read again: some stores list with a delay. */
export const LIST_AGAIN_MS = [100, 300, 900] as const;

export function pause(ms: number): Promise<void> {
  return delay(ms);
}
