import { createSecretKey } from 'node:crypto';
import type { Entropy } from '../../src/sse/format.ts';
import { FloeMessage, segmentPrefix } from '../../src/sse/floe.ts';
import { deriveManifestKey, type ObjectKey } from '../../src/sse/key.ts';
import type { ManifestEntry } from '../../src/sse/manifest.ts';
import { messageAad, partPrefix } from '../../src/sse/message.ts';
import { PartSealer } from '../../src/sse/object.ts';
import { messageLength, multipartSealedSize, sealedPartLength, segmentCount } from '../../src/sse/size.ts';
import { buildTail, partsLength } from '../../src/sse/tail.ts';
import { bytes, ENVELOPE_KEYS, seededEntropy } from './fixture.ts';

const SEGMENT = 65536;

export interface SealedPart {
  readonly entry: ManifestEntry;
  readonly sealed: Buffer;
}

export interface MultipartKeys {
  readonly objectKey: ObjectKey;
  readonly objectId: Buffer;
}

export function multipartKeys(seed = 'upload'): MultipartKeys {
  return {
    objectKey: createSecretKey(bytes(32, `${seed} key`)) as ObjectKey,
    objectId: bytes(32, `${seed} id`),
  };
}

/** Seals one part the way that UploadPart does. */
export function sealPart(keys: MultipartKeys, partNumber: number, plaintext: Buffer, entropy: Entropy): SealedPart {
  const sealer = new PartSealer({ ...keys, partNumber, length: plaintext.length, entropy });
  const sealed = Buffer.concat([...sealer.update(plaintext), ...sealer.finish()]);
  const { floeIv, headerTag } = sealer;
  return { entry: { partNumber, length: plaintext.length, floeIv, headerTag }, sealed };
}

export function tailOf(
  keys: MultipartKeys,
  entries: readonly ManifestEntry[],
  length?: number,
  recovery?: Buffer,
): Buffer {
  return Buffer.concat(
    buildTail({
      manifestKey: deriveManifestKey(keys.objectKey),
      objectId: keys.objectId,
      manifest: {
        type: 'multipart',
        length: length ?? entries.reduce((sum, entry) => sum + entry.length, 0),
        entries,
      },
      recovery,
      envelopeKey: ENVELOPE_KEYS.current(),
      bodyLength: partsLength(entries),
    }),
  );
}

/** A whole multipart object of real bytes. */
export function completeParts(keys: MultipartKeys, parts: readonly SealedPart[]): Buffer {
  return Buffer.concat([
    ...parts.map((part) => part.sealed),
    tailOf(
      keys,
      parts.map((part) => part.entry),
    ),
  ]);
}

/**
 * A multipart object of any size whose sealed bytes are made when they are read: segment i of part p has plaintext
 * `pattern(p, i)`, so that objects of 10,000 parts can be opened again on a small machine.
 */
export class VirtualMultipart {
  readonly entries: readonly ManifestEntry[];
  readonly size: number;
  readonly length: number;
  readonly tail: Buffer;
  readonly #keys: MultipartKeys;
  readonly #lengths: readonly number[];

  constructor(keys: MultipartKeys, lengths: readonly number[], recovery?: Buffer) {
    this.#keys = keys;
    this.#lengths = lengths;
    this.entries = lengths.map((length, index) => {
      const message = this.#message(index);
      return { partNumber: index + 1, length, floeIv: message.iv, headerTag: message.headerTag };
    });
    this.length = lengths.reduce((sum, length) => sum + length, 0);
    this.size = multipartSealedSize(this.length);
    this.tail = tailOf(keys, this.entries, this.length, recovery);
  }

  #message(index: number): FloeMessage {
    const fields = {
      type: 'part' as const,
      objectId: this.#keys.objectId,
      partNumber: index + 1,
      length: this.#lengths[index] ?? 0,
    };
    return new FloeMessage(this.#keys.objectKey, messageAad(fields), seededEntropy(`iv ${index}`)(32));
  }

  plainSegment(index: number, segment: number): Buffer {
    const length = Math.min(SEGMENT, (this.#lengths[index] ?? 0) - segment * SEGMENT);
    return Buffer.alloc(length, `part ${index} segment ${segment};`);
  }

  /** Plaintext bytes `start` to `end`, inclusive. */
  plain(start: number, end: number): Buffer {
    return this.#collect(start, end, this.#lengths, (index, from, to) => {
      const first = Math.floor(from / SEGMENT);
      const out: Buffer[] = [];
      for (let segment = first; segment * SEGMENT <= to; segment += 1) out.push(this.plainSegment(index, segment));
      return Buffer.concat(out).subarray(from - first * SEGMENT, to + 1 - first * SEGMENT);
    });
  }

  /** Stored bytes `start` to `end`, inclusive. */
  read(start: number, end: number): Buffer {
    const body = this.size - this.tail.length;
    const sealed = this.#lengths.map((length) => sealedPartLength(length));
    const parts = this.#collect(start, Math.min(end, body - 1), sealed, (index, from, to) =>
      this.#sealedPart(index, from, to),
    );
    return Buffer.concat([parts, this.tail.subarray(Math.max(0, start - body), Math.max(0, end + 1 - body))]);
  }

  #sealedPart(index: number, from: number, to: number): Buffer {
    const message = this.#message(index);
    const length = this.#lengths[index] ?? 0;
    const head = Buffer.concat([partPrefix(index + 1, length), message.header]);
    const total = 16 + messageLength(length);
    const out: Buffer[] = [];
    let at = 0;
    const piece = (size: number, make: () => Buffer): void => {
      if (at + size > from && at <= to) out.push(make().subarray(Math.max(0, from - at), Math.min(size, to + 1 - at)));
      at += size;
    };
    piece(head.length, () => head);
    const skipped = Math.max(0, Math.floor((from - at) / (SEGMENT + 32)));
    at += skipped * (SEGMENT + 32);
    for (let segment = skipped; segment < segmentCount(length) && at <= to; segment += 1) {
      const plaintext = this.plainSegment(index, segment);
      piece(plaintext.length + 32, () => this.#seal(message, index, segment, plaintext));
    }
    if (at > total) throw new Error('the simulation is wrong');
    return Buffer.concat(out);
  }

  #seal(message: FloeMessage, index: number, segment: number, plaintext: Buffer): Buffer {
    const final = segment === segmentCount(this.#lengths[index] ?? 0) - 1;
    const iv = seededEntropy(`iv ${index} ${segment}`)(12);
    const cipher = message.cipher(segment, final, iv);
    return Buffer.concat([
      segmentPrefix(plaintext.length, final, iv),
      cipher.update(plaintext),
      cipher.final(),
      cipher.getAuthTag(),
    ]);
  }

  #collect(
    start: number,
    end: number,
    lengths: readonly number[],
    make: (index: number, from: number, to: number) => Buffer,
  ): Buffer {
    const out: Buffer[] = [];
    let at = 0;
    for (const [index, length] of lengths.entries()) {
      if (at > end) break;
      const from = Math.max(0, start - at);
      const to = Math.min(length - 1, end - at);
      if (from <= to) out.push(make(index, from, to));
      at += length;
    }
    return Buffer.concat(out);
  }
}
