import { equalBytes } from '../bytes.ts';
import { integrityError } from '../errors.ts';
import { verifyFooter } from './footer.ts';
import { FLOE, FOOTER_LENGTH, MIN_PADDING, PART_PREFIX_LENGTH, RECOVERY_LENGTH } from './format.ts';
import { readHeader } from './floe.ts';
import { deriveManifestKey, type ObjectKey } from './key.ts';
import type { EnvelopeKeys } from './mac.ts';
import type { Manifest, ManifestEntry } from './manifest.ts';
import { isPartNumber, partPrefix } from './message.ts';
import { planRange } from './object.ts';
import { MessageOpener } from './open.ts';
import { Field } from './reader.ts';
import { messageLength, multipartSealedSize, plaintextSize, sealedPartLength, segmentCount } from './size.ts';
import { manifestPlace, openTailManifest } from './tail.ts';

interface PartPiece {
  readonly entry: ManifestEntry;
  readonly firstSegment: number;
  readonly lastSegment: number;
  readonly skip: number;
  readonly take: number;
}

/** One run of stored bytes that holds a range of a multipart object. */
export interface PartsPlan {
  /** Inclusive byte offsets in the stored object. */
  readonly sealedStart: number;
  readonly sealedEnd: number;
  readonly pieces: readonly PartPiece[];
}

/** Plans plaintext bytes `start` to `end` (inclusive, within T ≥ 1) over the parts that the manifest lists. */
export function planParts(entries: readonly ManifestEntry[], start: number, end: number): PartsPlan {
  const pieces: PartPiece[] = [];
  let sealedStart = 0;
  let sealedEnd = 0;
  let plain = 0;
  let sealed = 0;
  for (const entry of entries) {
    const from = Math.max(start - plain, 0);
    const to = Math.min(end - plain, entry.length - 1);
    const message = sealed + PART_PREFIX_LENGTH;
    if (from <= to) {
      const plan = planRange(entry.length, from, to);
      if (pieces.length === 0) sealedStart = message + plan.sealedStart;
      sealedEnd = message + plan.sealedEnd;
      pieces.push({ entry, ...plan });
    } else if (pieces.length > 0 && end >= plain) {
      // An empty part inside the range: its message lies between the others and is opened with them.
      pieces.push({ entry, firstSegment: 0, lastSegment: segmentCount(entry.length) - 1, skip: 0, take: 0 });
      sealedEnd = message + messageLength(entry.length) - 1;
    }
    plain += entry.length;
    sealed += sealedPartLength(entry.length);
  }
  if (!(start >= 0 && start <= end && end < plain)) throw new RangeError('a range lies within the plaintext');
  return { sealedStart, sealedEnd, pieces };
}

/** Opens the stored bytes of a `PartsPlan`. Every part's message is pinned by its manifest entry. */
export class PartsOpener {
  readonly #objectKey: ObjectKey;
  readonly #objectId: Buffer;
  readonly #pieces: readonly PartPiece[];
  readonly #prefix = new Field(PART_PREFIX_LENGTH);
  #index = 0;
  #message: MessageOpener | undefined;

  constructor(options: { readonly objectKey: ObjectKey; readonly objectId: Buffer; readonly plan: PartsPlan }) {
    this.#objectKey = options.objectKey;
    this.#objectId = options.objectId;
    this.#pieces = options.plan.pieces;
    const first = this.#pieces[0];
    if (first !== undefined) this.#message = this.#open(first, false);
  }

  update(chunk: Buffer): Buffer[] {
    const out: Buffer[] = [];
    for (let offset = 0; offset < chunk.length;) {
      const piece = this.#pieces[this.#index];
      if (piece === undefined) throw integrityError('message-too-long');
      if (this.#message === undefined) {
        offset = this.#prefix.fill(chunk, offset);
        const prefix = this.#prefix.take();
        if (prefix === undefined) break;
        const { partNumber, length } = piece.entry;
        if (!equalBytes(prefix, partPrefix(partNumber, length))) throw integrityError('part-prefix');
        this.#message = this.#open(piece, true);
      }
      offset = this.#message.consume(chunk, offset, out);
      if (this.#message.complete) {
        this.#message = undefined;
        this.#index += 1;
      }
    }
    return out;
  }

  finish(): void {
    if (this.#index !== this.#pieces.length) throw integrityError('message-too-short');
  }

  #open(piece: PartPiece, expectHeader: boolean): MessageOpener {
    const { partNumber, length, floeIv, headerTag } = piece.entry;
    return new MessageOpener({
      key: this.#objectKey,
      fields: { type: 'part', objectId: this.#objectId, partNumber, length },
      floeIv,
      headerTag,
      expectHeader,
      range: piece,
    });
  }
}

type SeenPart = Pick<ManifestEntry, 'partNumber' | 'length' | 'floeIv' | 'headerTag'>;
type State = 'prefix' | 'header' | 'message' | 'padding' | 'manifest' | 'recovery' | 'footer' | 'end';

/**
 * Opens a multipart object from its first byte to its last in one pass, without having seen its manifest: each part's
 * header authenticates what its prefix says, and the plaintext that completes T is held until manifest and footer have
 * confirmed every part. Until then T, from the stored size, is only what the store says.
 */
export class WholeMultipartOpener {
  readonly length: number;
  readonly #options: { objectKey: ObjectKey; objectId: Buffer; size: number; keys: EnvelopeKeys };
  readonly #prefix = new Field(PART_PREFIX_LENGTH);
  readonly #header = new Field(FLOE.headerLength);
  readonly #footer = new Field(FOOTER_LENGTH);
  #manifest = new Field(0);
  #state: State = 'prefix';
  #skip = 0;
  #message: MessageOpener | undefined;
  #announced = { partNumber: 0, length: 0 };
  #parts: SeenPart[] = [];
  #opened = 0;
  #held: Buffer[] = [];

  constructor(options: { objectKey: ObjectKey; objectId: Buffer; size: number; keys: EnvelopeKeys }) {
    const length = plaintextSize(options.size);
    if (length === undefined || multipartSealedSize(length) !== options.size) throw integrityError('size');
    this.length = length;
    this.#options = options;
  }

  /** Takes the object's bytes; returns verified plaintext, but for the last of it. */
  update(chunk: Buffer): Buffer[] {
    const out: Buffer[] = [];
    for (let at = 0; at < chunk.length;) {
      at = this.#step(chunk, at, out);
      this.#advance();
    }
    return out;
  }

  /** The rest of the plaintext, once the whole object has been confirmed; and its manifest. */
  finish(): { readonly held: readonly Buffer[]; readonly manifest: Manifest } {
    const { objectKey, objectId, size, keys } = this.#options;
    if (this.#state !== 'end') throw integrityError('message-too-short');
    const footer = verifyFooter(this.#footer.bytes, objectId, size, keys);
    if (footer.type !== 'multipart' || footer.parts !== this.#parts.length) throw integrityError('footer-parts');
    const sealed = this.#manifest.bytes;
    const manifest = openTailManifest({ manifestKey: deriveManifestKey(objectKey), objectId, footer, sealed });
    if (footer.length !== this.length || !sameParts(manifest, this.#parts)) throw integrityError('manifest-parts');
    return { held: this.#held, manifest };
  }

  #step(chunk: Buffer, at: number, out: Buffer[]): number {
    switch (this.#state) {
      case 'prefix':
        return this.#prefix.fill(chunk, at);
      case 'header':
        return this.#header.fill(chunk, at);
      case 'manifest':
        return this.#manifest.fill(chunk, at);
      case 'footer':
        return this.#footer.fill(chunk, at);
      case 'message':
        return this.#consume(chunk, at, out);
      case 'padding':
      case 'recovery': {
        const end = Math.min(chunk.length, at + this.#skip);
        if (this.#state === 'padding' && !isZero(chunk.subarray(at, end))) throw integrityError('padding');
        this.#skip -= end - at;
        return end;
      }
      case 'end':
        throw integrityError('message-too-long');
    }
  }

  #consume(chunk: Buffer, at: number, out: Buffer[]): number {
    const pieces: Buffer[] = [];
    const end = this.#message?.consume(chunk, at, pieces) ?? at;
    for (const piece of pieces) this.#opened += piece.length;
    // Everything that this chunk completed, which is at least the last segment.
    (this.#opened === this.length ? this.#held : out).push(...pieces);
    return end;
  }

  /** Moves on when the current field is complete. */
  #advance(): void {
    switch (this.#state) {
      case 'prefix': {
        const prefix = this.#prefix.take();
        if (prefix !== undefined) this.#afterPrefix(prefix);
        return;
      }
      case 'header': {
        const header = this.#header.take();
        if (header !== undefined) this.#beginMessage(header);
        return;
      }
      case 'message':
        if (this.#message?.complete === true) this.#state = 'prefix';
        return;
      case 'padding':
        if (this.#skip === 0) this.#state = 'manifest';
        return;
      case 'manifest':
        if (this.#manifest.full) this.#skipTo('recovery', RECOVERY_LENGTH);
        return;
      case 'recovery':
        if (this.#skip === 0) this.#state = 'footer';
        return;
      case 'footer':
        if (this.#footer.full) this.#state = 'end';
        return;
      case 'end':
    }
  }

  #skipTo(state: 'padding' | 'recovery', bytes: number): void {
    this.#state = state;
    this.#skip = bytes;
  }

  #afterPrefix(prefix: Buffer): void {
    if (isZero(prefix)) {
      this.#beginTail();
      return;
    }
    const partNumber = prefix.readUInt32BE(0);
    const length = Number(prefix.readBigUInt64BE(8));
    const previous = this.#announced.partNumber;
    if (!isPartNumber(partNumber) || partNumber <= previous || prefix.readUInt32BE(4) !== 0) {
      throw integrityError('part-prefix');
    }
    if (length > this.length - this.#opened) throw integrityError('part-prefix');
    this.#announced = { partNumber, length };
    this.#state = 'header';
  }

  #beginMessage(header: Buffer): void {
    const { iv, headerTag } = readHeader(header);
    const { objectKey, objectId } = this.#options;
    this.#message = new MessageOpener({
      key: objectKey,
      fields: { type: 'part', objectId, ...this.#announced },
      floeIv: iv,
      headerTag,
      expectHeader: false,
    });
    this.#parts.push({ ...this.#announced, floeIv: iv, headerTag });
    this.#state = 'message';
  }

  #beginTail(): void {
    const { start, end } = manifestPlace(this.#options.size, this.#parts.length);
    const body = this.#parts.reduce((sum, part) => sum + sealedPartLength(part.length), 0);
    const padding = start - body;
    if (this.#opened !== this.length || padding < MIN_PADDING) throw integrityError('parts');
    this.#manifest = new Field(end - start);
    // The 16 zero bytes that ended the parts were the padding's first.
    this.#skipTo('padding', padding - PART_PREFIX_LENGTH);
    if (this.#skip === 0) this.#state = 'manifest';
  }
}

function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}

function sameParts(manifest: Manifest, seen: readonly SeenPart[]): boolean {
  return (
    manifest.entries.length === seen.length &&
    manifest.entries.every((entry, index) => {
      const part = seen[index];
      return (
        part !== undefined &&
        part.partNumber === entry.partNumber &&
        part.length === entry.length &&
        equalBytes(part.floeIv, entry.floeIv) &&
        equalBytes(part.headerTag, entry.headerTag)
      );
    })
  );
}
