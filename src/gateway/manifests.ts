import { LRUCache } from 'lru-cache';
import type { Manifest } from '../sse/manifest.ts';

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

/**
 * Manifests of multipart objects that were read, so that a range costs one request to the store. They are found by the
 * tag of the envelope, which names one very upload: what the store says of itself decides nothing. The place only
 * suggests which manifest it may be; the envelope of the answer confirms it.
 */
export class Manifests {
  readonly #manifests = new LRUCache<string, Manifest>({
    maxSize: MAX_BYTES,
    sizeCalculation: ({ entries }) => ENTRY_BYTES * (1 + entries.length),
  });
  readonly #tags = new LRUCache<string, string>({ max: MAX_NAMES });

  get(tag: Buffer): Manifest | undefined {
    return this.#manifests.get(tag.toString('base64'));
  }

  set(tag: Buffer, manifest: Manifest): void {
    this.#manifests.set(tag.toString('base64'), manifest);
  }

  /** A multipart object with this envelope was seen here. */
  saw(place: ReadPlace, tag: Buffer): void {
    this.#tags.set(nameOf(place), tag.toString('base64'));
  }

  /** Something else is here now. */
  forget(place: ReadPlace): void {
    this.#tags.delete(nameOf(place));
  }

  /** What was seen here last: nothing, a multipart object, or one whose manifest is known. */
  guess(place: ReadPlace): { readonly manifest: Manifest | undefined } | undefined {
    const tag = this.#tags.get(nameOf(place));
    return tag === undefined ? undefined : { manifest: this.#manifests.get(tag) };
  }
}

function nameOf({ bucketId, key, versionId = '' }: ReadPlace): string {
  return `${bucketId}\0${versionId}\0${key}`;
}
