import { createHmac, type KeyObject } from 'node:crypto';
import { u32 } from '../bytes.ts';

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

/** `lp`: a field with its length before it, so that a sequence of fields has one reading. */
export function lengthPrefixed(fields: readonly Buffer[]): Buffer {
  return Buffer.concat(fields.flatMap((field) => [u32(field.length), field]));
}

/** MAC(v, label, fields …) of FORMAT.md section 2. */
export function envelopeMac(key: KeyObject, label: Buffer, fields: readonly Buffer[]): Buffer {
  return createHmac('sha256', key)
    .update(lengthPrefixed([label, ...fields]))
    .digest();
}
