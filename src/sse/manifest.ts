import type { KeyObject } from 'node:crypto';
import { publicMac } from '../bytes.ts';
import { integrityError } from '../errors.ts';
import { checksumCodes, readChecksum } from './checksum.ts';
import {
  CHECKSUM_FIELD_LENGTH,
  FLOE,
  FORMAT_VERSION,
  MANIFEST_ENTRY_LENGTH,
  MANIFEST_HEAD_LENGTH,
  OBJECT_TYPE,
  SIZE,
  type Checksum,
  type Entropy,
  type ObjectType,
} from './format.ts';
import { readHeader } from './floe.ts';
import { deriveManifestIvKey } from './key.ts';
import { isPartNumber, messageAad, type MessageFields } from './message.ts';
import { MessageOpener } from './open.ts';
import { MessageSealer } from './seal.ts';
import { manifestMessageLength } from './size.ts';

/** One part as the manifest pins it. */
export interface ManifestEntry {
  readonly partNumber: number;
  /** Plaintext bytes. */
  readonly length: number;
  /** FLOE IV and header tag of the very attempt that was acknowledged. */
  readonly floeIv: Buffer;
  readonly headerTag: Buffer;
  /** Of the part's plaintext; its type is always FULL_OBJECT (a part has no parts). */
  readonly checksum?: Checksum | undefined;
}

export interface Manifest {
  readonly type: ObjectType;
  /** T. */
  readonly length: number;
  readonly checksum?: Checksum | undefined;
  /** Ascending by number; none for a single object. */
  readonly entries: readonly ManifestEntry[];
}

/** Head and entries (FORMAT.md section 5). */
export function encodeManifest(manifest: Manifest): Buffer {
  const { entries } = manifest;
  const out = Buffer.alloc(MANIFEST_HEAD_LENGTH + MANIFEST_ENTRY_LENGTH * entries.length);
  out.set([FORMAT_VERSION, OBJECT_TYPE[manifest.type], ...checksumCodes(manifest.checksum)], 0);
  out.writeBigUInt64BE(BigInt(manifest.length), 8);
  out.writeUInt32BE(entries.length, 16);
  manifest.checksum?.value.copy(out, 24);
  entries.forEach((entry, index) => {
    const at = MANIFEST_HEAD_LENGTH + MANIFEST_ENTRY_LENGTH * index;
    const [algorithm, , length] = checksumCodes(entry.checksum);
    out.writeUInt16BE(entry.partNumber, at);
    out[at + 4] = algorithm;
    out[at + 5] = length;
    out.writeBigUInt64BE(BigInt(entry.length), at + 8);
    entry.floeIv.copy(out, at + 16);
    entry.headerTag.copy(out, at + 48);
    entry.checksum?.value.copy(out, at + 80);
  });
  checkManifest(manifest);
  return out;
}

/** The strict inverse. It has been authenticated before, so a failure here is a defect or another version. */
export function decodeManifest(bytes: Buffer): Manifest {
  const count = bytes.readUInt32BE(16);
  const head = bytes.subarray(0, MANIFEST_HEAD_LENGTH);
  const type = head[1] === OBJECT_TYPE.single ? 'single' : head[1] === OBJECT_TYPE.multipart ? 'multipart' : undefined;
  if (head[0] !== FORMAT_VERSION || type === undefined) throw integrityError('manifest-version');
  if (bytes.length !== MANIFEST_HEAD_LENGTH + MANIFEST_ENTRY_LENGTH * count) throw integrityError('manifest-length');
  if (!isZero(head, 5, 8) || !isZero(head, 20, 24) || !isZero(head, 88, MANIFEST_HEAD_LENGTH)) {
    throw integrityError('manifest-form');
  }
  const manifest = {
    type,
    length: readLength(head, 8),
    checksum: readChecksum([...head.subarray(2, 5)], head.subarray(24, 24 + CHECKSUM_FIELD_LENGTH)),
    entries: Array.from({ length: count }, (_, index) => {
      const at = MANIFEST_HEAD_LENGTH + MANIFEST_ENTRY_LENGTH * index;
      return decodeEntry(bytes.subarray(at, at + MANIFEST_ENTRY_LENGTH));
    }),
  } as const;
  checkManifest(manifest);
  return manifest;
}

function decodeEntry(entry: Buffer): ManifestEntry {
  const [algorithm = 0, length = 0] = entry.subarray(4, 6);
  // Flags (2 bytes): value 1 is reserved for parts copied from elsewhere, which version 1 does not write.
  if (!isZero(entry, 2, 4) || !isZero(entry, 6, 8) || !isZero(entry, 144, MANIFEST_ENTRY_LENGTH)) {
    throw integrityError('manifest-entry');
  }
  return {
    partNumber: entry.readUInt16BE(0),
    length: readLength(entry, 8),
    floeIv: Buffer.from(entry.subarray(16, 48)),
    headerTag: Buffer.from(entry.subarray(48, 80)),
    checksum: readChecksum([algorithm, algorithm === 0 ? 0 : 1, length], entry.subarray(80, 144)),
  };
}

function checkManifest({ type, length, entries }: Manifest): void {
  if (type === 'single' ? entries.length !== 0 : entries.length < 1 || entries.length > SIZE.maxParts) {
    throw integrityError('manifest-parts');
  }
  let total = 0;
  let previous = 0;
  for (const entry of entries) {
    if (!isPartNumber(entry.partNumber) || entry.partNumber <= previous) throw integrityError('manifest-order');
    if (entry.floeIv.length !== FLOE.ivLength || entry.headerTag.length !== FLOE.headerTagLength) {
      throw integrityError('manifest-entry');
    }
    previous = entry.partNumber;
    total += entry.length;
  }
  if (type === 'multipart' && total !== length) throw integrityError('manifest-sum');
}

function isZero(bytes: Buffer, start: number, end: number): boolean {
  return bytes.subarray(start, end).every((byte) => byte === 0);
}

function readLength(bytes: Buffer, offset: number): number {
  const length = Number(bytes.readBigUInt64BE(offset));
  if (length > SIZE.maxPlaintext) throw integrityError('manifest-form');
  return length;
}

function manifestFields(objectId: Buffer, length: number): MessageFields {
  return { type: 'manifest', objectId, partNumber: 0, length };
}

/** The manifest's IVs, a PRF of its content (FORMAT.md section 6): equal manifests make equal bytes. */
function manifestIvs(manifestKey: KeyObject, aad: Buffer, plaintext: Buffer): Entropy {
  const x = publicMac('sha384', deriveManifestIvKey(manifestKey), Buffer.concat([aad, plaintext]));
  let segment = 0;
  return (bytes) => {
    if (bytes === FLOE.ivLength) return Buffer.from(x.subarray(0, FLOE.ivLength));
    const iv = Buffer.from(x.subarray(FLOE.ivLength, FLOE.ivLength + FLOE.segmentIvLength));
    // At most 24 segments (10,000 entries), so the low 32 bits of u64(segment) are all of it.
    iv.writeUInt32BE((iv.readUInt32BE(8) ^ segment) >>> 0, 8);
    segment += 1;
    return iv;
  };
}

/** Seals a manifest, deterministically. */
export function sealManifest(manifestKey: KeyObject, objectId: Buffer, manifest: Manifest): Buffer {
  const plaintext = encodeManifest(manifest);
  const fields = manifestFields(objectId, plaintext.length);
  const sealer = new MessageSealer(manifestKey, fields, manifestIvs(manifestKey, messageAad(fields), plaintext));
  return Buffer.concat([...sealer.update(plaintext), ...sealer.finish()]);
}

/** Opens a manifest message of `parts` entries. */
export function openManifest(manifestKey: KeyObject, objectId: Buffer, parts: number, sealed: Buffer): Manifest {
  if (sealed.length !== manifestMessageLength(parts)) throw integrityError('manifest-length');
  const { iv, headerTag } = readHeader(sealed.subarray(0, FLOE.headerLength));
  const length = MANIFEST_HEAD_LENGTH + MANIFEST_ENTRY_LENGTH * parts;
  const opener = new MessageOpener({
    key: manifestKey,
    fields: manifestFields(objectId, length),
    floeIv: iv,
    headerTag,
    expectHeader: true,
  });
  const plaintext = Buffer.concat(opener.update(sealed));
  opener.finish();
  return decodeManifest(plaintext);
}
