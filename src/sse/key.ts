import { createHmac, createSecretKey, type KeyObject } from 'node:crypto';
import { publicMac, takeKey } from '../bytes.ts';
import { KEY_LENGTH, LABEL, MODE_CODE, OBJECT_ID_LENGTH, type Entropy, type SseMode } from './format.ts';

declare const kek: unique symbol;
declare const objectKey: unique symbol;
/** Key-encryption key of one object and one mode. */
export type Kek = KeyObject & { readonly [kek]: true };
/** The key that seals one object. */
export type ObjectKey = KeyObject & { readonly [objectKey]: true };

const ONE = Buffer.from([1]);

/**
 * HKDF-Expand (RFC 5869) with SHA-384, first block only, which is all that the format needs. By HMAC with a KeyObject:
 * `hkdfSync` costs several times as much. The result is solely the caller's.
 */
export function expand(prk: KeyObject, info: readonly Buffer[], length: number): Buffer {
  const block = createHmac('sha384', prk)
    .update(Buffer.concat([...info, ONE]))
    .digest();
  return firstOf(block, length);
}

/** The same for what is stored in the clear (a header tag). */
export function expandPublic(prk: KeyObject, info: readonly Buffer[], length: number): Buffer {
  return firstOf(publicMac('sha384', prk, Buffer.concat([...info, ONE])), length);
}

function firstOf(block: Buffer, length: number): Buffer {
  if (length > block.length) throw new RangeError('one block of HKDF-Expand holds 48 bytes');
  return block.subarray(0, length);
}

/** `expand` into a KeyObject; the bytes in between are zeroed. */
export function expandKey(prk: KeyObject, info: readonly Buffer[], length: number): KeyObject {
  return takeKey(expand(prk, info, length));
}

/** HKDF-Extract (RFC 5869) with SHA-384; the salt is public, and a KeyObject only because HMAC is faster with one. */
function extract(salt: Buffer, key: KeyObject): KeyObject {
  const ikm = key.export();
  const prk = createHmac('sha384', createSecretKey(salt)).update(ikm).digest();
  ikm.fill(0);
  return takeKey(prk);
}

export function newObjectKey(entropy: Entropy): ObjectKey {
  return takeKey(entropy(KEY_LENGTH)) as ObjectKey;
}

export function newObjectId(entropy: Entropy): Buffer {
  return entropy(OBJECT_ID_LENGTH);
}

/** Takes the bytes of an unwrapped object key, and zeroes them. */
export function takeObjectKey(bytes: Buffer): ObjectKey {
  return takeKey(bytes) as ObjectKey;
}

/** The object's KEK from its data key (SSE-S3, SSE-KMS) or the customer key (SSE-C); the mode separates the domains. */
export function deriveKek(key: KeyObject, objectId: Buffer, mode: SseMode): Kek {
  const prk = extract(objectId, key);
  return expandKey(prk, [LABEL.kek, Buffer.from([MODE_CODE[mode]])], KEY_LENGTH) as Kek;
}

/** The manifest has a key of its own, so that CompleteMultipartUpload needs neither customer key nor KMS. */
export function deriveManifestKey(key: ObjectKey): KeyObject {
  return expandKey(key, [LABEL.manifest], KEY_LENGTH);
}

/** The key from which the manifest's IVs come (FORMAT.md section 6). */
export function deriveManifestIvKey(manifestKey: KeyObject): KeyObject {
  return expandKey(manifestKey, [LABEL.manifestIv], KEY_LENGTH);
}
