import { createCipheriv, createDecipheriv, type CipherGCM, type DecipherGCM, type KeyObject } from 'node:crypto';
import { equalBytes, u32, u64 } from '../bytes.ts';
import { integrityError } from '../errors.ts';
import { FLOE, ROTATION_MASK, SEALED_SEGMENT_LENGTH } from './format.ts';
import { expandKey, expandPublic } from './key.ts';

/** FLOE is parametrised here only so that its known answers run; every object uses OBJECT_PARAMETERS. */
export interface FloeParameters {
  /** ENC_SEG_LEN. */
  readonly segmentLength: number;
  /** AEAD_ROTATION_MASK: 2^mask segments under one key. */
  readonly rotationMask: number;
}

export const OBJECT_PARAMETERS: FloeParameters = {
  segmentLength: SEALED_SEGMENT_LENGTH,
  rotationMask: ROTATION_MASK,
};

const HEADER_TAG = Buffer.from('HEADER_TAG:', 'ascii');
const MESSAGE_KEY = Buffer.from('MESSAGE_KEY:', 'ascii');
const DEK = Buffer.from('DEK:', 'ascii');
const AUTH_TAG = { authTagLength: FLOE.segmentTagLength } as const;

/** PARAM_ENCODE. */
export function encodeParameters(parameters: FloeParameters): Buffer {
  return Buffer.concat([Buffer.from([FLOE.aeadId, FLOE.kdfId]), u32(parameters.segmentLength), u32(FLOE.ivLength)]);
}

const OBJECT_PARAMETER_BYTES = encodeParameters(OBJECT_PARAMETERS);

/** The keyed state of one FLOE message (c2sp.org/FLOE, random access form): header tag, message key, segment keys. */
export class FloeMessage {
  readonly iv: Buffer;
  readonly headerTag: Buffer;
  readonly #context: Buffer;
  readonly #aad: Buffer;
  readonly #messageKey: KeyObject;
  readonly #epochLength: number;
  #epoch = -1;
  #segmentKey: KeyObject | undefined;
  readonly #segmentAad = Buffer.alloc(9);

  constructor(key: KeyObject, aad: Buffer, iv: Buffer, parameters: FloeParameters = OBJECT_PARAMETERS) {
    if (iv.length !== FLOE.ivLength) throw new RangeError('a FLOE IV has 32 bytes');
    const encoded = parameters === OBJECT_PARAMETERS ? OBJECT_PARAMETER_BYTES : encodeParameters(parameters);
    this.iv = iv;
    this.#context = Buffer.concat([encoded, iv]);
    this.#aad = aad;
    this.#epochLength = 2 ** parameters.rotationMask;
    this.headerTag = expandPublic(key, [this.#context, HEADER_TAG, aad], FLOE.headerTagLength);
    this.#messageKey = expandKey(key, [this.#context, MESSAGE_KEY, aad], FLOE.messageKeyLength);
  }

  get header(): Buffer {
    return Buffer.concat([this.#context, this.headerTag]);
  }

  /** The header's commitment to key, IV and AAD; the caller's tag is what an authenticated place says. */
  verifyHeaderTag(tag: Buffer): void {
    if (!equalBytes(tag, this.headerTag)) throw integrityError('header-tag');
  }

  cipher(position: number, final: boolean, iv: Buffer): CipherGCM {
    const cipher = createCipheriv('aes-256-gcm', this.#keyOf(position), iv, AUTH_TAG);
    return cipher.setAAD(this.#aadOf(position, final));
  }

  decipher(position: number, final: boolean, iv: Buffer): DecipherGCM {
    const decipher = createDecipheriv('aes-256-gcm', this.#keyOf(position), iv, AUTH_TAG);
    return decipher.setAAD(this.#aadOf(position, final));
  }

  #aadOf(position: number, final: boolean): Buffer {
    // Positions stay far below 2^40 (AEAD_MAX_SEGMENTS); the reused buffer is consumed by setAAD at once.
    this.#segmentAad.writeUInt32BE(Math.floor(position / 2 ** 32), 0);
    this.#segmentAad.writeUInt32BE(position % 2 ** 32, 4);
    this.#segmentAad[8] = final ? 1 : 0;
    return this.#segmentAad;
  }

  #keyOf(position: number): KeyObject {
    const epoch = position - (position % this.#epochLength);
    if (this.#segmentKey === undefined || epoch !== this.#epoch) {
      const info = [this.#context, DEK, u64(epoch), this.#aad];
      this.#segmentKey = expandKey(this.#messageKey, info, FLOE.segmentKeyLength);
      this.#epoch = epoch;
    }
    return this.#segmentKey;
  }
}

/** Length field and IV at the head of a segment. */
export function segmentPrefix(plaintextLength: number, final: boolean, iv: Buffer): Buffer {
  const prefix = Buffer.allocUnsafe(FLOE.segmentPrefixLength);
  prefix.writeUInt32BE(final ? plaintextLength + FLOE.segmentOverhead : FLOE.nonFinalLength, 0);
  iv.copy(prefix, 4);
  return prefix;
}

/** Refuses a segment whose length field is not the one that its place demands. Returns its IV. */
export function readSegmentPrefix(prefix: Buffer, plaintextLength: number, final: boolean): Buffer {
  const expected = final ? plaintextLength + FLOE.segmentOverhead : FLOE.nonFinalLength;
  if (prefix.readUInt32BE(0) !== expected) throw integrityError('segment-length');
  return prefix.subarray(4, FLOE.segmentPrefixLength);
}

/** Parses a header against the parameters in force. */
export function readHeader(
  header: Buffer,
  parameters: FloeParameters = OBJECT_PARAMETERS,
): { readonly iv: Buffer; readonly headerTag: Buffer } {
  const encoded = parameters === OBJECT_PARAMETERS ? OBJECT_PARAMETER_BYTES : encodeParameters(parameters);
  const { parametersLength, ivLength, headerLength } = FLOE;
  if (header.length !== headerLength || !equalBytes(header.subarray(0, parametersLength), encoded)) {
    throw integrityError('header-parameters');
  }
  return {
    iv: Buffer.from(header.subarray(parametersLength, parametersLength + ivLength)),
    headerTag: Buffer.from(header.subarray(parametersLength + ivLength)),
  };
}
