import type { Checksum, Entropy } from './format.ts';
import { FLOE, SEALED_SEGMENT_LENGTH, SEGMENT_LENGTH } from './format.ts';
import { deriveManifestKey, type ObjectKey } from './key.ts';
import type { EnvelopeKey } from './mac.ts';
import { partPrefix } from './message.ts';
import { MessageOpener } from './open.ts';
import { MessageSealer } from './seal.ts';
import { messageLength, sealedPartLength, sealedSize, segmentCount } from './size.ts';
import { buildTail } from './tail.ts';

export interface ObjectSealerOptions {
  readonly objectKey: ObjectKey;
  readonly objectId: Buffer;
  /** T: plaintext bytes of the whole object. 0 makes an object without a body. */
  readonly length: number;
  readonly entropy: Entropy;
  /** The current envelope key; it MACs the footer. */
  readonly envelopeKey: EnvelopeKey;
  /** From `buildRecovery`; undefined for SSE-C. */
  readonly recovery: Buffer | undefined;
}

/** Seals the body of a single PUT: message, padding, manifest, recovery copy, footer; exactly F(T) bytes. */
export class ObjectSealer {
  readonly floeIv: Buffer;
  readonly headerTag: Buffer;
  readonly sealedLength: number;
  readonly #options: ObjectSealerOptions;
  readonly #message: MessageSealer;

  constructor(options: ObjectSealerOptions) {
    const { objectKey, objectId, length, entropy } = options;
    this.#options = options;
    this.sealedLength = sealedSize(length);
    this.#message = new MessageSealer(objectKey, { type: 'single', objectId, partNumber: 0, length }, entropy);
    this.floeIv = this.#message.floeIv;
    this.headerTag = this.#message.headerTag;
  }

  /** Sealed bytes that may be sent now: never of the last segment, never of the tail. Throws above T bytes. */
  update(chunk: Buffer): Buffer[] {
    return this.#message.update(chunk);
  }

  /** The last segment and the tail; throws below T bytes. Call it when everything about the payload has verified. */
  finish(checksum?: Checksum): Buffer[] {
    const { objectKey, objectId, length, envelopeKey, recovery } = this.#options;
    const out = this.#message.finish();
    // A zero-byte object is zero bytes at the store; its message exists only as the envelope's commitment.
    if (length === 0) return [];
    out.push(
      ...buildTail({
        manifestKey: deriveManifestKey(objectKey),
        objectId,
        manifest: { type: 'single', length, checksum, entries: [] },
        recovery,
        envelopeKey,
        bodyLength: messageLength(length),
      }),
    );
    return out;
  }
}

export interface PartSealerOptions {
  readonly objectKey: ObjectKey;
  readonly objectId: Buffer;
  readonly partNumber: number;
  readonly length: number;
  readonly entropy: Entropy;
}

/** Seals one part of a multipart upload, each attempt under fresh randomness: prefix and message. */
export class PartSealer {
  readonly floeIv: Buffer;
  readonly headerTag: Buffer;
  readonly sealedLength: number;
  readonly #message: MessageSealer;

  constructor(options: PartSealerOptions) {
    const { objectKey, objectId, partNumber, length, entropy } = options;
    const fields = { type: 'part', objectId, partNumber, length } as const;
    this.#message = new MessageSealer(objectKey, fields, entropy, partPrefix(partNumber, length));
    this.sealedLength = sealedPartLength(length);
    this.floeIv = this.#message.floeIv;
    this.headerTag = this.#message.headerTag;
  }

  update(chunk: Buffer): Buffer[] {
    return this.#message.update(chunk);
  }

  finish(): Buffer[] {
    return this.#message.finish();
  }
}

/** What a range of a message takes from the store, and what of the opened segments answers it. */
export interface RangePlan {
  /** Inclusive byte offsets; of the stored object where the message is its first. */
  readonly sealedStart: number;
  readonly sealedEnd: number;
  readonly firstSegment: number;
  readonly lastSegment: number;
  /** Plaintext bytes of the first segment before the range. */
  readonly skip: number;
  /** Plaintext bytes of the range. */
  readonly take: number;
}

/** Plans plaintext bytes `start` to `end` (inclusive, within T ≥ 1). Nothing but their segments is read, no header. */
export function planRange(length: number, start: number, end: number): RangePlan {
  if (!(start >= 0 && start <= end && end < length)) throw new RangeError('a range lies within the plaintext');
  const firstSegment = Math.floor(start / SEGMENT_LENGTH);
  const lastSegment = Math.floor(end / SEGMENT_LENGTH);
  const after =
    lastSegment === segmentCount(length) - 1
      ? messageLength(length)
      : FLOE.headerLength + (lastSegment + 1) * SEALED_SEGMENT_LENGTH;
  return {
    sealedStart: FLOE.headerLength + firstSegment * SEALED_SEGMENT_LENGTH,
    sealedEnd: after - 1,
    firstSegment,
    lastSegment,
    skip: start - firstSegment * SEGMENT_LENGTH,
    take: end - start + 1,
  };
}

/** What an authenticated place (envelope, manifest entry) says of a message. */
export interface MessagePin {
  readonly length: number;
  readonly floeIv: Buffer;
  readonly headerTag: Buffer;
}

/**
 * Opens the body of a single object: all of it as the store sends it (the tail behind the message is counted and
 * left aside; it carries no plaintext), or the bytes of `range.sealedStart`–`range.sealedEnd` only.
 */
export function openSingle(options: {
  readonly objectKey: ObjectKey;
  readonly objectId: Buffer;
  /** From the verified envelope. */
  readonly pin: MessagePin;
  readonly range?: RangePlan | undefined;
}): MessageOpener {
  const { objectKey, objectId, pin, range } = options;
  const { length } = pin;
  const message = length === 0 ? 0 : messageLength(length);
  return new MessageOpener({
    key: objectKey,
    fields: { type: 'single', objectId, partNumber: 0, length },
    floeIv: pin.floeIv,
    headerTag: pin.headerTag,
    expectHeader: range === undefined,
    range,
    tailLength: range === undefined ? sealedSize(length) - message : 0,
  });
}
