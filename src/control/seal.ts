import { createCipheriv, createDecipheriv, hkdfSync, randomBytes, type KeyObject } from 'node:crypto';
import { takeKey } from '../bytes.ts';

/** AES-256-GCM over a small secret: nonce (12) ‖ ciphertext ‖ tag (16). What it is bound to is the AAD. */

const NONCE = 12;
const TAG = 16;

/** A key of one purpose under the master key, which itself encrypts nothing. */
export function deriveSealKey(master: KeyObject, purpose: string): KeyObject {
  return takeKey(Buffer.from(hkdfSync('sha256', master, new Uint8Array(0), `express-s3-sse/1/${purpose}`, 32)));
}

export function seal(key: KeyObject, plaintext: Uint8Array, aad: Uint8Array): Buffer {
  const nonce = randomBytes(NONCE);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(aad);
  return Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

/** The plaintext, or undefined when the bytes are not what was sealed under this key and AAD. */
export function open(key: KeyObject, sealed: Uint8Array, aad: Uint8Array): Buffer | undefined {
  if (sealed.byteLength < NONCE + TAG) return undefined;
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, NONCE), { authTagLength: TAG }).setAAD(aad);
  decipher.setAuthTag(sealed.subarray(-TAG));
  const first = decipher.update(sealed.subarray(NONCE, -TAG));
  try {
    return Buffer.concat([first, decipher.final()]);
  } catch {
    return undefined;
  } finally {
    first.fill(0);
  }
}
