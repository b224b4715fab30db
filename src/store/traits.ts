import type { StoreTraits } from './port.ts';
import {
  probeCompleteIfNoneMatch,
  probeCopySourceIfMatch,
  probeCopyTags,
  probeDeleteIfMatch,
  probeOctets,
  probePathsApart,
  probePutIfMatch,
  probePutIfNoneMatch,
  probeRedirect,
  probeShortBody,
  probeSlashBody,
  probeSlashMetadata,
  probeSubset,
  probeTrailers,
  type Probe,
} from './trait-probes.ts';

export type TraitName = keyof StoreTraits;

export interface TraitRow {
  readonly name: TraitName;
  /** What holds while nothing is known. */
  readonly careful: false;
  /** What the gateway does when the trait is missing. */
  readonly missing: string;
  readonly probe: Probe;
}

/** One row per trait. Each is true for what AWS S3 does; a missing one makes the gateway do more, or refuse. */
export const TRAITS: readonly TraitRow[] = [
  {
    name: 'refusesShortBody',
    careful: false,
    missing: 'bodies are framed so that their end is part of the message: a CRC32 trailer, else signed chunks',
    probe: probeShortBody,
  },
  {
    name: 'acceptsTrailers',
    careful: false,
    missing: 'bodies that need framing go as signed chunks (STREAMING-AWS4-HMAC-SHA256-PAYLOAD)',
    probe: probeTrailers,
  },
  {
    name: 'putIfMatch',
    careful: false,
    missing: 'a PUT with If-Match is 501, never passed over in silence',
    probe: probePutIfMatch,
  },
  {
    name: 'putIfNoneMatch',
    careful: false,
    missing: 'a PUT with If-None-Match is 501, never passed over in silence',
    probe: probePutIfNoneMatch,
  },
  {
    name: 'completeIfNoneMatch',
    careful: false,
    missing: 'a CompleteMultipartUpload with If-None-Match is 501, never passed over in silence',
    probe: probeCompleteIfNoneMatch,
  },
  {
    name: 'completesSubset',
    careful: false,
    missing: 'a CompleteMultipartUpload that leaves out a part which the store holds is 501; the upload stays open',
    probe: probeSubset,
  },
  {
    name: 'deleteIfMatch',
    careful: false,
    missing: 'a DELETE with If-Match is 501, never passed over in silence',
    probe: probeDeleteIfMatch,
  },
  {
    name: 'keepsSlashBody',
    careful: false,
    missing: 'a body under a key that ends in / is refused',
    probe: probeSlashBody,
  },
  {
    name: 'keepsSlashMetadata',
    careful: false,
    missing:
      'a key that ends in / is refused, unless the operator has pinned the trait to false: bare markers are then readable',
    probe: probeSlashMetadata,
  },
  {
    name: 'copySourceIfMatch',
    careful: false,
    missing: 'copies go through a private key of the system bucket, where they are looked at, or through the gateway',
    probe: probeCopySourceIfMatch,
  },
  {
    name: 'copyTags',
    careful: false,
    missing: 'an object with tags is copied through the gateway, as it lies at the store',
    probe: probeCopyTags,
  },
  {
    name: 'atomicCopy',
    careful: false,
    missing:
      'a copy of an object onto itself goes through the system bucket, one with a condition or a lock through the gateway',
    // No probe can show what two requests at once do not do (versitygw and SeaweedFS pass every single one).
    probe: () => Promise.resolve(false),
  },
  {
    name: 'keepsRedirect',
    careful: false,
    missing: 'an upload with x-amz-website-redirect-location is refused: without it the object would not verify',
    probe: probeRedirect,
  },
  {
    name: 'keepsOctets',
    careful: false,
    missing: 'an upload with octets beyond ASCII in its user metadata is refused: changed, the object would not verify',
    probe: probeOctets,
  },
  {
    name: 'keepsPathsApart',
    careful: false,
    missing: 'a key with an empty, `.` or `..` segment is refused: it would reach an object past its policies',
    probe: probePathsApart,
  },
];

/** Builds traits of one value per row, so that a new trait cannot be forgotten. */
export function traitsOf(value: (row: TraitRow) => boolean): StoreTraits {
  return Object.freeze(Object.fromEntries(TRAITS.map((row) => [row.name, value(row)]))) as unknown as StoreTraits;
}

export const CAREFUL_TRAITS: StoreTraits = traitsOf((row) => row.careful);
