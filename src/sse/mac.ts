import type { KeyObject } from 'node:crypto';
import { publicDigest, publicMac } from '../bytes.ts';

/** One version of the envelope key, an HMAC key of the service that no tenant has. */
export interface EnvelopeKey {
  /** From 1. */
  readonly version: number;
  readonly key: KeyObject;
}

/** All versions: old ones are kept for ever. */
export interface EnvelopeKeys {
  current(): EnvelopeKey;
  get(version: number): KeyObject | undefined;
}

/** `lp`: a field with its length before it, so that a sequence of fields has one reading. One buffer, for speed. */
export function lengthPrefixed(fields: readonly Buffer[]): Buffer {
  let length = 0;
  for (const field of fields) length += 4 + field.length;
  const out = Buffer.allocUnsafe(length);
  let at = 0;
  for (const field of fields) {
    at = out.writeUInt32BE(field.length, at);
    at += field.copy(out, at);
  }
  return out;
}

/** The digests of FORMAT.md sections 7 and 8: a label, a number, and that many pairs of fields. */
export function pairsDigest(label: Buffer, fields: readonly Buffer[]): Buffer {
  const count = Buffer.allocUnsafe(4);
  count.writeUInt32BE(fields.length / 2, 0);
  const head = lengthPrefixed([label]);
  return publicDigest(Buffer.concat([head, count, lengthPrefixed(fields)]));
}

/** MAC(v, label, fields …) of FORMAT.md section 2. */
export function envelopeMac(key: KeyObject, label: Buffer, fields: readonly Buffer[]): Buffer {
  return publicMac('sha256', key, lengthPrefixed([label, ...fields]));
}
