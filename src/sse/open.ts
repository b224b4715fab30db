import type { DecipherGCM, KeyObject } from 'node:crypto';
import { equalBytes } from '../bytes.ts';
import { integrityError } from '../errors.ts';
import { FLOE, SEGMENT_LENGTH } from './format.ts';
import { FloeMessage, readSegmentPrefix } from './floe.ts';
import { messageAad, type MessageFields } from './message.ts';
import { Field } from './reader.ts';
import { segmentCount } from './size.ts';

export interface MessageOpenerOptions {
  readonly key: KeyObject;
  readonly fields: MessageFields;
  /** From an authenticated place: the envelope, the manifest, or (manifest message) the header itself. */
  readonly floeIv: Buffer;
  readonly headerTag: Buffer;
  /** True when the bytes begin with the message's header; false when they begin with a segment. */
  readonly expectHeader: boolean;
  readonly range?:
    | { readonly firstSegment: number; readonly lastSegment: number; readonly skip: number; readonly take: number }
    | undefined;
  /** Bytes behind the message that are accepted and left aside. */
  readonly tailLength?: number;
}

type State = 'header' | 'prefix' | 'ciphertext' | 'tag' | 'done';

/**
 * Opens one message, whole or a run of its segments, a fragment in. A segment's plaintext is held until its tag has
 * verified; the number of segments, their lengths and the final flag come from the authenticated length.
 * Any mismatch throws an integrity error, and the opener gives nothing more.
 */
export class MessageOpener {
  readonly #floe: FloeMessage;
  readonly #length: number;
  readonly #finalSegment: number;
  readonly #lastSegment: number;
  readonly #header: Field;
  readonly #prefix = new Field(FLOE.segmentPrefixLength);
  readonly #tag = new Field(FLOE.segmentTagLength);
  #state: State;
  #segment: number;
  #remaining = 0;
  #decipher: DecipherGCM | undefined;
  #pending: Buffer[] = [];
  #skip: number;
  #take: number;
  #tailRemaining: number;
  #failed = false;

  constructor(options: MessageOpenerOptions) {
    const { fields, range } = options;
    this.#floe = new FloeMessage(options.key, messageAad(fields), options.floeIv);
    this.#floe.verifyHeaderTag(options.headerTag);
    this.#length = fields.length;
    this.#finalSegment = segmentCount(fields.length) - 1;
    this.#segment = range?.firstSegment ?? 0;
    this.#lastSegment = range?.lastSegment ?? this.#finalSegment;
    this.#skip = range?.skip ?? 0;
    this.#take = range?.take ?? fields.length;
    this.#tailRemaining = options.tailLength ?? 0;
    this.#header = new Field(FLOE.headerLength);
    // A single object of zero bytes has no message at the store: its header tag, just checked, is all there is.
    const empty = fields.type === 'single' && fields.length === 0;
    this.#state = empty ? 'done' : options.expectHeader ? 'header' : 'prefix';
  }

  /** True when the message (not the tail behind it) is complete. */
  get complete(): boolean {
    return this.#state === 'done';
  }

  /** Takes sealed bytes and returns verified plaintext. Throws on bytes beyond the message and its tail. */
  update(chunk: Buffer): Buffer[] {
    const out: Buffer[] = [];
    const rest = chunk.length - this.consume(chunk, 0, out);
    if (rest > this.#tailRemaining) this.#fail('message-too-long');
    this.#tailRemaining -= rest;
    return out;
  }

  /** Throws unless every byte that was to come has come. */
  finish(): void {
    if (this.#failed || this.#state !== 'done' || this.#tailRemaining > 0) this.#fail('message-too-short');
  }

  /** Takes what belongs to the message, from `offset`; returns the offset of the first byte that does not. */
  consume(chunk: Buffer, offset: number, out: Buffer[]): number {
    if (this.#failed) this.#fail('message-failed');
    try {
      while (offset < chunk.length && this.#state !== 'done') offset = this.#step(chunk, offset, out);
    } catch (err) {
      this.#failed = true;
      this.#pending = [];
      throw err;
    }
    return offset;
  }

  #fail(reason: string): never {
    this.#failed = true;
    this.#pending = [];
    throw integrityError(reason);
  }

  #step(chunk: Buffer, offset: number, out: Buffer[]): number {
    switch (this.#state) {
      case 'header': {
        const next = this.#header.fill(chunk, offset);
        const header = this.#header.take();
        if (header !== undefined) {
          if (!equalBytes(header, this.#floe.header)) throw integrityError('header');
          this.#state = 'prefix';
        }
        return next;
      }
      case 'prefix': {
        const next = this.#prefix.fill(chunk, offset);
        const prefix = this.#prefix.take();
        if (prefix !== undefined) this.#beginSegment(prefix);
        return next;
      }
      case 'ciphertext': {
        const end = Math.min(chunk.length, offset + this.#remaining);
        const piece = offset === 0 && end === chunk.length ? chunk : chunk.subarray(offset, end);
        this.#pending.push(this.#current().update(piece));
        this.#remaining -= end - offset;
        if (this.#remaining === 0) this.#state = 'tag';
        return end;
      }
      case 'tag': {
        const next = this.#tag.fill(chunk, offset);
        const tag = this.#tag.take();
        if (tag !== undefined) this.#endSegment(tag, out);
        return next;
      }
      case 'done':
        return offset;
    }
  }

  #beginSegment(prefix: Buffer): void {
    const final = this.#segment === this.#finalSegment;
    const length = final ? this.#length - this.#segment * SEGMENT_LENGTH : SEGMENT_LENGTH;
    const iv = readSegmentPrefix(prefix, length, final);
    this.#decipher = this.#floe.decipher(this.#segment, final, iv);
    this.#remaining = length;
    this.#state = length === 0 ? 'tag' : 'ciphertext';
  }

  #current(): DecipherGCM {
    if (this.#decipher === undefined) throw new Error('no segment is open');
    return this.#decipher;
  }

  #endSegment(tag: Buffer, out: Buffer[]): void {
    const decipher = this.#current().setAuthTag(tag);
    try {
      decipher.final();
    } catch (cause) {
      throw integrityError('segment-tag', cause);
    }
    this.#decipher = undefined;
    for (const piece of this.#pending) this.#emit(piece, out);
    this.#pending = [];
    this.#state = this.#segment === this.#lastSegment ? 'done' : 'prefix';
    this.#segment += 1;
  }

  #emit(piece: Buffer, out: Buffer[]): void {
    const start = Math.min(this.#skip, piece.length);
    const end = Math.min(piece.length, start + this.#take);
    this.#skip -= start;
    this.#take -= end - start;
    if (end > start) out.push(start === 0 && end === piece.length ? piece : piece.subarray(start, end));
  }
}
