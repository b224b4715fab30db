import type { KeyObject } from 'node:crypto';
import { integrityError } from '../errors.ts';
import { formatFooter, type Footer } from './footer.ts';
import { FOOTER_LENGTH, MIN_PADDING, RECOVERY_LENGTH } from './format.ts';
import type { EnvelopeKey } from './mac.ts';
import { openManifest, sealManifest, type Manifest } from './manifest.ts';
import { manifestMessageLength, multipartSealedSize, sealedPartLength } from './size.ts';

export interface TailOptions {
  readonly manifestKey: KeyObject;
  readonly objectId: Buffer;
  readonly manifest: Manifest;
  /** 512 bytes; undefined writes zeros (SSE-C). */
  readonly recovery: Buffer | undefined;
  readonly envelopeKey: EnvelopeKey;
  /** Bytes of the object before the tail: the message, or all parts with their prefixes. */
  readonly bodyLength: number;
}

/** Everything behind the plaintext messages: padding, manifest, recovery copy, footer. */
export function buildTail(options: TailOptions): Buffer[] {
  const { manifestKey, objectId, manifest, envelopeKey, bodyLength } = options;
  const recovery = options.recovery ?? Buffer.alloc(RECOVERY_LENGTH);
  if (recovery.length !== RECOVERY_LENGTH) throw new RangeError('a recovery copy has 512 bytes');
  const size = multipartSealedSize(manifest.length);
  const parts = manifest.entries.length;
  const padding = paddingLength(size, bodyLength, parts);
  if (padding < MIN_PADDING) throw new RangeError('the parts do not fit into the canonical size');
  const footer = formatFooter({ type: manifest.type, parts, length: manifest.length }, objectId, size, envelopeKey);
  return [Buffer.alloc(padding), sealManifest(manifestKey, objectId, manifest), recovery, footer];
}

/** Sealed bytes of the parts that a manifest lists: CompleteMultipartUpload's `bodyLength`. */
export function partsLength(entries: Manifest['entries']): number {
  return entries.reduce((sum, entry) => sum + sealedPartLength(entry.length), 0);
}

export function paddingLength(size: number, bodyLength: number, parts: number): number {
  return size - bodyLength - manifestMessageLength(parts) - RECOVERY_LENGTH - FOOTER_LENGTH;
}

/** Byte offsets (end exclusive) of the manifest message in an object of `size` bytes with `parts` entries. */
export function manifestPlace(size: number, parts: number): { readonly start: number; readonly end: number } {
  const end = size - FOOTER_LENGTH - RECOVERY_LENGTH;
  return { start: end - manifestMessageLength(parts), end };
}

/** Opens the manifest of an object whose footer has verified, and holds the one against the other. */
export function openTailManifest(options: {
  readonly manifestKey: KeyObject;
  readonly objectId: Buffer;
  readonly footer: Footer;
  /** The bytes at `manifestPlace`. */
  readonly sealed: Buffer;
}): Manifest {
  const { footer } = options;
  const manifest = openManifest(options.manifestKey, options.objectId, footer.parts, options.sealed);
  if (manifest.type !== footer.type || manifest.length !== footer.length) throw integrityError('manifest-footer');
  if (footer.type === 'multipart') {
    const size = multipartSealedSize(footer.length);
    if (paddingLength(size, partsLength(manifest.entries), footer.parts) < MIN_PADDING) {
      throw integrityError('manifest-size');
    }
  }
  return manifest;
}
