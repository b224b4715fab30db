import { createHmac, type KeyObject } from 'node:crypto';
import { equalBytes, publicDigest, takeKey, u16, u32, u64 } from '../bytes.ts';
import { integrityError, type ServiceError } from '../errors.ts';
import type { ObjectPlace } from './context.ts';
import { checksumCodes, readChecksum } from './checksum.ts';
import { parseEnvelope } from './envelope-form.ts';
import {
  BUCKET_ID_LENGTH,
  CHECKSUM,
  CHECKSUM_TYPE,
  DIGEST_LENGTH,
  ENVELOPE_MAX_CHARACTERS,
  FORMAT_VERSION,
  KEY_LENGTH,
  LABEL,
  MAC_LENGTH,
  RECOVERY_LENGTH,
  type Checksum,
  type ChecksumAlgorithm,
  type ChecksumType,
  type Entropy,
} from './format.ts';
import { envelopeMac, lengthPrefixed, pairsDigest, type EnvelopeKeys } from './mac.ts';
import { FieldReader } from './reader.ts';
import { unwrap, wrap, WRAP_OVERHEAD } from './wrap.ts';

const WRAPPED_KEY_LENGTH = KEY_LENGTH + WRAP_OVERHEAD;
const MAX_TEXT = 1024;

const malformed = (): ServiceError => integrityError('upload-record');

/** One upload: where its object will be, and the id that the store gave it. */
export interface UploadName extends Pick<ObjectPlace, 'bucketId' | 'key'> {
  readonly uploadId: string;
}

/** What stands for one upload in the system bucket, and binds every record to it (FORMAT.md section 16). */
export function uploadHash({ bucketId, key, uploadId }: UploadName): Buffer {
  const fields = [LABEL.upload, bucketId, Buffer.from(key, 'utf8'), Buffer.from(uploadId, 'utf8')];
  return publicDigest(lengthPrefixed(fields));
}

/** The checksum that CreateMultipartUpload asked for. */
export interface UploadChecksum {
  readonly algorithm: ChecksumAlgorithm;
  readonly type: ChecksumType;
}

export interface UploadRecord {
  /** For the sweep, which knows the record's hash only. */
  readonly name: UploadName;
  /** The version of the envelope key that made it; Complete uses it again, so that every Complete makes equal bytes. */
  readonly keyVersion: number;
  /** Milliseconds since 1970. */
  readonly created: number;
  readonly checksum: UploadChecksum | undefined;
  readonly envelope: string;
  readonly manifestKey: KeyObject;
  /** 512 bytes; zeros for SSE-C. */
  readonly recovery: Buffer;
}

/** Temporary keys of an upload are made by the envelope key, each under a label of its own. */
export function uploadKey(envelopeKey: KeyObject, label: Buffer, hash: Buffer): KeyObject {
  // As `envelopeMac` makes it, but never as a string on its way.
  return takeKey(
    createHmac('sha256', envelopeKey)
      .update(lengthPrefixed([label, hash]))
      .digest(),
  );
}

function text(value: string): Buffer[] {
  const bytes = Buffer.from(value, 'utf8');
  if (bytes.length > MAX_TEXT) throw malformed();
  return [u16(bytes.length), bytes];
}

function manifestKeyAad(hash: Buffer, objectId: Buffer): Buffer {
  return Buffer.concat([LABEL.uploadManifestKey, hash, objectId]);
}

export interface NewUploadRecord extends Omit<UploadRecord, 'keyVersion' | 'recovery'> {
  readonly objectId: Buffer;
  readonly recovery: Buffer | undefined;
}

export function encodeUploadRecord(record: NewUploadRecord, keys: EnvelopeKeys, entropy: Entropy): Buffer {
  const { version, key } = keys.current();
  const { name, checksum, envelope, objectId } = record;
  const hash = uploadHash(name);
  const manifestKey = record.manifestKey.export();
  const wrapping = uploadKey(key, LABEL.uploadManifestKey, hash);
  const wrapped = wrap(wrapping, manifestKey, manifestKeyAad(hash, objectId), entropy);
  manifestKey.fill(0);
  const codes = checksum === undefined ? [0, 0] : [CHECKSUM[checksum.algorithm].code, CHECKSUM_TYPE[checksum.type]];
  const content = Buffer.concat([
    Buffer.from([FORMAT_VERSION, ...codes, 0]),
    u32(version),
    u64(record.created),
    name.bucketId,
    ...text(name.key),
    ...text(name.uploadId),
    ...text(envelope),
    wrapped,
    record.recovery ?? Buffer.alloc(RECOVERY_LENGTH),
  ]);
  return Buffer.concat([content, envelopeMac(key, LABEL.uploadRecord, [hash, content])]);
}

/** The MAC, over the upload's own hash, is checked before anything else is believed. */
export function decodeUploadRecord(bytes: Buffer, hash: Buffer, keys: EnvelopeKeys): UploadRecord {
  const reader = new FieldReader(bytes, malformed);
  const [version, algorithmCode = 0, typeCode = 0, zero] = reader.take(4);
  const keyVersion = reader.u32();
  const created = Number(reader.take(8).readBigUInt64BE(0));
  if (version !== FORMAT_VERSION || zero !== 0) throw malformed();
  const name = {
    bucketId: Buffer.from(reader.take(BUCKET_ID_LENGTH)),
    key: reader.take(reader.u16()).toString('utf8'),
    uploadId: reader.take(reader.u16()).toString('utf8'),
  };
  const length = reader.u16();
  if (length > ENVELOPE_MAX_CHARACTERS) throw malformed();
  const envelope = reader.take(length).toString('latin1');
  const wrapped = reader.take(WRAPPED_KEY_LENGTH);
  const recovery = Buffer.from(reader.take(RECOVERY_LENGTH));
  const content = reader.since(0);
  const tag = reader.take(MAC_LENGTH);
  reader.end();
  const key = keys.get(keyVersion);
  if (key === undefined || !equalBytes(envelopeMac(key, LABEL.uploadRecord, [hash, content]), tag)) throw malformed();
  if (!equalBytes(uploadHash(name), hash)) throw malformed();
  const aad = manifestKeyAad(hash, parseEnvelope(envelope).fields.objectId);
  const manifestKey = unwrap(uploadKey(key, LABEL.uploadManifestKey, hash), wrapped, aad);
  if (manifestKey?.length !== KEY_LENGTH) throw malformed();
  const checksum = readUploadChecksum(algorithmCode, typeCode);
  return { name, keyVersion, created, checksum, envelope, manifestKey: takeKey(manifestKey), recovery };
}

function readUploadChecksum(algorithmCode: number, typeCode: number): UploadChecksum | undefined {
  if (algorithmCode === 0 && typeCode === 0) return undefined;
  const algorithm = (Object.keys(CHECKSUM) as ChecksumAlgorithm[]).find(
    (name) => CHECKSUM[name].code === algorithmCode,
  );
  const type = (Object.keys(CHECKSUM_TYPE) as ChecksumType[]).find((name) => CHECKSUM_TYPE[name] === typeCode);
  if (algorithm === undefined || type === undefined) throw malformed();
  return { algorithm, type };
}

/** What a client listed at Complete: two lists with one digest are one list. */
export function listDigest(parts: readonly { readonly partNumber: number; readonly etag: string }[]): Buffer {
  const fields = parts.flatMap(({ partNumber, etag }) => [u16(partNumber), Buffer.from(etag, 'utf8')]);
  return pairsDigest(LABEL.uploadList, fields);
}

/** What is left of a completed upload: enough to give the same answer to the same Complete again. */
export interface Tombstone {
  readonly completed: number;
  readonly listDigest: Buffer;
  /** The object's. */
  readonly envelope: string;
  readonly checksum: Checksum | undefined;
  /** The object's, as the store gave it. */
  readonly etag: string;
  /** Empty where the bucket has no versions. */
  readonly versionId: string;
}

export function encodeTombstone(tombstone: Tombstone, hash: Buffer, keys: EnvelopeKeys): Buffer {
  const { version, key } = keys.current();
  const { completed, checksum, envelope, etag, versionId } = tombstone;
  const content = Buffer.concat([
    Buffer.from([FORMAT_VERSION, ...checksumCodes(checksum)]),
    u32(version),
    u64(completed),
    tombstone.listDigest,
    ...text(envelope),
    ...text(etag),
    ...text(versionId),
    checksum?.value ?? Buffer.alloc(0),
  ]);
  return Buffer.concat([content, envelopeMac(key, LABEL.tombstone, [hash, content])]);
}

export function decodeTombstone(bytes: Buffer, hash: Buffer, keys: EnvelopeKeys): Tombstone {
  const bad = (): ServiceError => integrityError('tombstone');
  const reader = new FieldReader(bytes, bad);
  const [version, ...codes] = reader.take(4);
  const key = keys.get(reader.u32());
  const completed = Number(reader.take(8).readBigUInt64BE(0));
  const digest = Buffer.from(reader.take(DIGEST_LENGTH));
  const take = (): string => reader.take(reader.u16()).toString('utf8');
  const [envelope, etag, versionId] = [take(), take(), take()];
  const value = reader.take(codes[2] ?? 0);
  const content = reader.since(0);
  const tag = reader.take(MAC_LENGTH);
  reader.end();
  const right = key !== undefined && equalBytes(envelopeMac(key, LABEL.tombstone, [hash, content]), tag);
  if (!right || version !== FORMAT_VERSION) throw bad();
  return { completed, listDigest: digest, envelope, checksum: readChecksum(codes, value), etag, versionId };
}
