import type { KeyObject } from 'node:crypto';
import { takeKey } from '../bytes.ts';
import { ServiceError } from '../errors.ts';
import { errorCode, readPrivate } from './files.ts';

/** A text file may end in a line break; 64 hex digits and one of them are the longest form. */
const LONGEST = 128;

function unfit(message: string): ServiceError {
  return new ServiceError('ValidationException', { message, reason: 'master-key' });
}

/** A master key as 32 raw bytes, or as their base64 or hex in text. Wipes `bytes`. */
export function parseMasterKey(bytes: Buffer, source: string): KeyObject {
  try {
    return takeKey(decoded(bytes, source));
  } finally {
    bytes.fill(0);
  }
}

function decoded(bytes: Buffer, source: string): Buffer {
  const key = Buffer.allocUnsafeSlow(32);
  if (bytes.byteLength === 32) {
    bytes.copy(key);
    return key;
  }
  // The text is a string for the length of this call: Node's decoders take nothing else. It is 32 bytes' worth, once.
  const text = bytes.byteLength <= LONGEST ? bytes.toString('latin1').trim() : '';
  if (/^[0-9a-fA-F]{64}$/.test(text) && key.write(text, 'hex') === 32) return key;
  if (/^[A-Za-z0-9+/]{43}=?$/.test(text) && key.write(text, 'base64') === 32) return key;
  throw unfit(`${source} must be 32 raw bytes, or their base64 or hex.`);
}

export async function readMasterKey(path: string): Promise<KeyObject> {
  try {
    return parseMasterKey(await readPrivate(path, LONGEST), path);
  } catch (err) {
    if (err instanceof ServiceError) throw err;
    throw unfit(`${path} cannot be read (${errorCode(err) ?? 'unknown'}).`);
  }
}
