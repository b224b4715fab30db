import type { KeyObject } from 'node:crypto';
import { takeKey } from '../bytes.ts';

/**
 * Takes a key out of a JSON answer without a string ever holding it: JSON.parse would leave the base64 on the heap
 * until some garbage collection, where nothing can wipe it. The field is read from the bytes and blanked in them, so
 * that the rest can be parsed as usual.
 */
export const KEY_BYTES = 32;
const KEY_CHARACTERS = 44;
const BLANK = 0x41; // 'A'

/** The field's key, or undefined if the answer has not exactly one such field of 32 bytes in canonical base64. */
export function takeSecretField(json: Buffer, field: string): KeyObject | undefined {
  const start = valueStart(json, field);
  if (start === undefined) return undefined;
  const end = json.indexOf(0x22, start);
  if (end < 0) return undefined;
  const key = Buffer.allocUnsafeSlow(KEY_BYTES);
  const complete = end - start === KEY_CHARACTERS && decodeKey(json, start, key);
  json.fill(BLANK, start, end);
  if (complete) return takeKey(key);
  key.fill(0);
  return undefined;
}

/**
 * A quote inside a JSON string is escaped, so `"plaintext"` with bare quotes is a whole string; followed by a colon it
 * is a member's name. Two of them are one too many.
 */
function valueStart(json: Buffer, field: string): number | undefined {
  const name = Buffer.from(`"${field}"`, 'latin1');
  let found: number | undefined;
  for (let at = json.indexOf(name); at >= 0; at = json.indexOf(name, at + 1)) {
    const colon = skipSpace(json, at + name.length);
    if (json[at - 1] === 0x5c || json[colon] !== 0x3a) continue;
    const quote = skipSpace(json, colon + 1);
    if (json[quote] !== 0x22 || found !== undefined) return undefined;
    found = quote + 1;
  }
  return found;
}

function skipSpace(json: Buffer, at: number): number {
  let next = at;
  while (json[next] === 0x20 || json[next] === 0x0a || json[next] === 0x0d || json[next] === 0x09) next++;
  return next;
}

/** 44 base64 characters (RFC 4648 section 4, one `=`) to 32 bytes; false unless canonical. */
function decodeKey(json: Buffer, start: number, out: Buffer): boolean {
  if (json[start + KEY_CHARACTERS - 1] !== 0x3d) return false;
  let bits = 0;
  let held = 0;
  let written = 0;
  for (let i = 0; i < KEY_CHARACTERS - 1; i++) {
    const value = sextet(json[start + i] ?? 0);
    if (value < 0) return false;
    bits = (bits << 6) | value;
    held += 6;
    if (held >= 8) {
      held -= 8;
      out[written++] = (bits >> held) & 0xff;
      bits &= (1 << held) - 1;
    }
  }
  return written === KEY_BYTES && bits === 0;
}

function sextet(code: number): number {
  if (code >= 0x41 && code <= 0x5a) return code - 0x41;
  if (code >= 0x61 && code <= 0x7a) return code - 0x61 + 26;
  if (code >= 0x30 && code <= 0x39) return code - 0x30 + 52;
  if (code === 0x2b) return 62;
  return code === 0x2f ? 63 : -1;
}
