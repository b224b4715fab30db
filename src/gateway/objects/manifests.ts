import { LRUCache } from 'lru-cache';
import type { VerifiedEnvelope } from '../../sse/envelope.ts';
import type { ObjectType } from '../../sse/format.ts';
import type { Manifest } from '../../sse/manifest.ts';

const MAX_BYTES = 32 * 1024 ** 2;
const MAX_NAMES = 10_000;
/** An entry's buffers and objects in memory, roughly. */
const ENTRY_BYTES = 512;

/** Where a read looks. */
export interface ReadPlace {
  readonly bucketId: string;
  readonly key: string;
  readonly versionId?: string | undefined;
}

/** What tells one stored object from every other; of one upload that was completed twice, too. */
export interface Identity {
  readonly envelope: Pick<VerifiedEnvelope, 'type' | 'tag'>;
  /** The store's. */
  readonly etag: string;
}

/** What an object may be. */
export interface Guess {
  readonly type: ObjectType;
  readonly manifest?: Manifest | undefined;
}

/**
 * Manifests of multipart objects that were read, so that a range costs one request to the store. They are found by the
 * tag of the envelope, which names one very upload, and its ETag, because two lists of parts can be completed at once: a
 * store that lies about it gets asked again, and no more. The place only suggests which manifest it may be; the answer
 * confirms it.
 */
export class Manifests {
  readonly #manifests = new LRUCache<string, Manifest>({
    maxSize: MAX_BYTES,
    sizeCalculation: ({ entries }) => ENTRY_BYTES * (1 + entries.length),
  });
  /** By name: which one; empty for an object that is not in parts. */
  readonly #seen = new LRUCache<string, string>({ max: MAX_NAMES });

  get(object: Identity): Manifest | undefined {
    return this.#manifests.get(idOf(object));
  }

  set(object: Identity, manifest: Manifest): void {
    this.#manifests.set(idOf(object), manifest);
  }

  /** This object was seen here. */
  saw(place: ReadPlace, object: Identity): void {
    this.#seen.set(nameOf(place), object.envelope.type === 'single' ? '' : idOf(object));
  }

  /** What was seen here last; something else may be here now. */
  guess(place: ReadPlace): Guess | undefined {
    const id = this.#seen.get(nameOf(place));
    if (id === undefined) return undefined;
    return id === '' ? { type: 'single' } : { type: 'multipart', manifest: this.#manifests.get(id) };
  }
}

function idOf({ envelope, etag }: Identity): string {
  return `${envelope.tag.toString('base64')}${etag}`;
}

function nameOf({ bucketId, key, versionId = '' }: ReadPlace): string {
  return `${bucketId}\0${versionId}\0${key}`;
}
