import {
  FLOE,
  MANIFEST_ENTRY_LENGTH,
  MANIFEST_HEAD_LENGTH,
  PART_PREFIX_LENGTH,
  SEGMENT_LENGTH,
  SIZE,
} from './format.ts';

/** Segments of a message: never none, and an empty final segment only where there is nothing else. */
export function segmentCount(length: number): number {
  return Math.max(1, Math.ceil(length / SEGMENT_LENGTH));
}

/** M(length): sealed length of one FLOE message. */
export function messageLength(length: number): number {
  return FLOE.headerLength + length + FLOE.segmentOverhead * segmentCount(length);
}

/** A part in the object: prefix and message. */
export function sealedPartLength(length: number): number {
  return PART_PREFIX_LENGTH + messageLength(length);
}

export function manifestMessageLength(parts: number): number {
  return messageLength(MANIFEST_HEAD_LENGTH + MANIFEST_ENTRY_LENGTH * parts);
}

/** G(T): the size of a multipart object. */
export function multipartSealedSize(plaintext: number): number {
  if (!Number.isSafeInteger(plaintext) || plaintext < 0 || plaintext > SIZE.maxPlaintext) {
    throw new RangeError('a plaintext size is between 0 and 10,000 parts of 5 GiB');
  }
  const parts = Math.min(SIZE.maxParts, 1 + Math.floor(plaintext / SIZE.partUnit));
  return plaintext + FLOE.segmentOverhead * segmentCount(plaintext) + SIZE.fixed + SIZE.perPart * parts;
}

/** F(T): the size of a single object, and of every object that is not an empty multipart upload. */
export function sealedSize(plaintext: number): number {
  return plaintext === 0 ? 0 : multipartSealedSize(plaintext);
}

/**
 * The plaintext size behind a store's `Size`, or undefined where no sealed object has that size. Unauthenticated: good
 * for listings, and to be confirmed by envelope or manifest everywhere else.
 */
export function plaintextSize(sealed: number): number | undefined {
  if (sealed === 0 || sealed === SIZE.emptyMultipart) return 0;
  if (!Number.isSafeInteger(sealed) || sealed < SIZE.emptyMultipart) return undefined;
  // F is strictly increasing and F(T) > T, so the answer lies in 1..sealed: bisect.
  let low = 1;
  let high = Math.min(sealed, SIZE.maxPlaintext);
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (multipartSealedSize(middle) < sealed) low = middle + 1;
    else high = middle;
  }
  return multipartSealedSize(low) === sealed ? low : undefined;
}
