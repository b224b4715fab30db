import { createCipheriv, createDecipheriv, type KeyObject } from 'node:crypto';
import { GCM_NONCE_LENGTH, GCM_TAG_LENGTH, type Entropy } from './format.ts';
import type { Kek, ObjectKey } from './key.ts';

const OPTIONS = { authTagLength: GCM_TAG_LENGTH } as const;
export const WRAP_OVERHEAD = GCM_NONCE_LENGTH + GCM_TAG_LENGTH;

/** AES-256-GCM with a random nonce: `nonce ‖ ciphertext ‖ tag`. */
export function wrap(key: KeyObject, plaintext: Buffer, aad: Buffer, entropy: Entropy): Buffer {
  const nonce = entropy(GCM_NONCE_LENGTH);
  const cipher = createCipheriv('aes-256-gcm', key, nonce, OPTIONS).setAAD(aad);
  return Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

/** The plaintext (solely the caller's, to be wiped), or undefined when the tag is not right. */
export function unwrap(key: KeyObject, wrapped: Buffer, aad: Buffer): Buffer | undefined {
  if (wrapped.length < WRAP_OVERHEAD) return undefined;
  const tagAt = wrapped.length - GCM_TAG_LENGTH;
  const decipher = createDecipheriv('aes-256-gcm', key, wrapped.subarray(0, GCM_NONCE_LENGTH), OPTIONS);
  decipher.setAAD(aad).setAuthTag(wrapped.subarray(tagAt));
  const plaintext = decipher.update(wrapped.subarray(GCM_NONCE_LENGTH, tagAt));
  try {
    decipher.final();
    return plaintext;
  } catch {
    plaintext.fill(0);
    return undefined;
  }
}

/** Wraps an object key with fields behind it. The bytes in between are in memory of their own, and zeroed. */
export function wrapObjectKey(kek: Kek, key: ObjectKey, fields: Buffer, aad: Buffer, entropy: Entropy): Buffer {
  const raw = key.export();
  const plaintext = Buffer.alloc(raw.length + fields.length);
  raw.copy(plaintext);
  fields.copy(plaintext, raw.length);
  raw.fill(0);
  const wrapped = wrap(kek, plaintext, aad, entropy);
  plaintext.fill(0);
  return wrapped;
}
