import type { CipherGCM, KeyObject } from 'node:crypto';
import { ServiceError } from '../errors.ts';
import { FLOE, SEGMENT_LENGTH, type Entropy } from './format.ts';
import { FloeMessage, segmentPrefix } from './floe.ts';
import { messageAad, type MessageFields } from './message.ts';
import { segmentCount } from './size.ts';

/**
 * Seals one message of a length known beforehand, a fragment in, sealed fragments out: one cipher per segment, nothing
 * assembled. What `update` returns may go to the store at once; the last segment is kept until `finish`, so that
 * nothing is complete at the store before everything about the payload has been verified.
 */
export class MessageSealer {
  readonly floeIv: Buffer;
  readonly headerTag: Buffer;
  readonly #floe: FloeMessage;
  readonly #entropy: Entropy;
  readonly #length: number;
  readonly #lastSegment: number;
  #held: Buffer[] = [];
  #lead: Buffer | undefined;
  #cipher: CipherGCM | undefined;
  #segment = 0;
  #taken = 0;
  #finished = false;

  constructor(key: KeyObject, fields: MessageFields, entropy: Entropy, lead?: Buffer) {
    this.#floe = new FloeMessage(key, messageAad(fields), entropy(FLOE.ivLength));
    this.floeIv = this.#floe.iv;
    this.headerTag = this.#floe.headerTag;
    this.#entropy = entropy;
    this.#length = fields.length;
    this.#lastSegment = segmentCount(fields.length) - 1;
    this.#lead = lead === undefined ? this.#floe.header : Buffer.concat([lead, this.#floe.header]);
  }

  /** Takes plaintext (read at once, not kept) and returns sealed bytes that the caller owns. */
  update(chunk: Buffer): Buffer[] {
    if (this.#finished) throw new Error('the message is finished');
    if (this.#taken + chunk.length > this.#length) {
      throw new ServiceError('IncompleteBody', { reason: 'body-longer-than-declared' });
    }
    const out: Buffer[] = [];
    for (let offset = 0; offset < chunk.length;) {
      const cipher = this.#cipher ?? this.#open(out);
      const last = this.#segment === this.#lastSegment;
      const room = last ? chunk.length : (this.#segment + 1) * SEGMENT_LENGTH - this.#taken;
      const end = Math.min(chunk.length, offset + room);
      const piece = offset === 0 && end === chunk.length ? chunk : chunk.subarray(offset, end);
      (last ? this.#held : out).push(cipher.update(piece));
      this.#taken += piece.length;
      offset = end;
      if (!last && piece.length === room) this.#close(cipher);
    }
    return out;
  }

  /** The last segment, and whatever else is still kept. */
  finish(): Buffer[] {
    if (this.#finished) throw new Error('the message is finished');
    if (this.#taken !== this.#length) {
      throw new ServiceError('IncompleteBody', { reason: 'body-shorter-than-declared' });
    }
    const out: Buffer[] = [];
    const cipher = this.#cipher ?? this.#open(out);
    cipher.final();
    out.push(...this.#held, cipher.getAuthTag());
    this.#held = [];
    this.#finished = true;
    return out;
  }

  #open(out: Buffer[]): CipherGCM {
    const final = this.#segment === this.#lastSegment;
    const iv = this.#entropy(FLOE.segmentIvLength);
    const prefix = segmentPrefix(this.#length - this.#taken, final, iv);
    if (final) {
      if (this.#lead !== undefined) out.push(this.#lead);
      this.#held.push(prefix);
    } else {
      // One small buffer (tag before, prefix after) instead of two for every segment.
      out.push(this.#lead === undefined ? prefix : Buffer.concat([this.#lead, prefix]));
    }
    this.#lead = undefined;
    this.#cipher = this.#floe.cipher(this.#segment, final, iv);
    return this.#cipher;
  }

  #close(cipher: CipherGCM): void {
    cipher.final();
    this.#lead = cipher.getAuthTag();
    this.#cipher = undefined;
    this.#segment += 1;
  }
}
