import { u16, u32, u64 } from '../bytes.ts';
import { integrityError, ServiceError } from '../errors.ts';
import { decodePairs, type EncryptionContext, type ObjectPlace } from './context.ts';
import {
  DIGEST_LENGTH,
  ENVELOPE_MAX_CHARACTERS,
  ENVELOPE_TAG_LENGTH,
  FLAG_BUCKET_KEY,
  FLOE,
  FORMAT_VERSION,
  KEY_LENGTH,
  KMS_KEY_ID,
  MAX_KEY_NAME_LENGTH,
  MAX_WRAPPED_KEY_LENGTH,
  MODE_CODE,
  OBJECT_ID_LENGTH,
  OBJECT_TYPE,
  REALM_ID_LENGTH,
  SIZE,
  type ObjectType,
  type SseMode,
} from './format.ts';
import { FieldReader } from './reader.ts';
import { WRAP_OVERHEAD } from './wrap.ts';

const MULTIPART_LENGTH = Buffer.alloc(8, 0xff);
const LONE_SURROGATE = /\p{Surrogate}/u;

/** What an envelope says and who may say it, apart from keys. */
export interface EnvelopeFields {
  readonly type: ObjectType;
  readonly mode: SseMode;
  /** The data key is the bucket's: always for SSE-S3, never for SSE-C. */
  readonly bucketKey: boolean;
  readonly objectId: Buffer;
  /** T; undefined for multipart. */
  readonly length: number | undefined;
  readonly metadataDigest: Buffer;
  /** FLOE IV and header tag of the one message; undefined for multipart. */
  readonly pin: { readonly floeIv: Buffer; readonly headerTag: Buffer } | undefined;
  /** Empty for SSE-C. */
  readonly keyId: string;
  /** The client's own pairs (SSE-KMS); the ARN and the bucket id are never stored. */
  readonly context: EncryptionContext;
  /** Empty for SSE-C. */
  readonly wrappedDataKey: Buffer;
}

/** The transcript t (FORMAT.md section 9): where the object is, and everything about it that is not a key. */
export function transcript(fields: EnvelopeFields, place: ObjectPlace, digest: Buffer): Buffer {
  const key = Buffer.from(place.key, 'utf8');
  if (key.length > MAX_KEY_NAME_LENGTH) throw new ServiceError('KeyTooLongError');
  // Lone surrogates all become one replacement character in UTF-8: two keys would have one transcript.
  if (LONE_SURROGATE.test(place.key)) throw new ServiceError('InvalidURI', { reason: 'key-not-unicode' });
  if (place.realmId.length !== REALM_ID_LENGTH) throw new RangeError('a realm id has 16 bytes');
  const keyId = Buffer.from(fields.keyId, 'ascii');
  return Buffer.concat([
    Buffer.from([FORMAT_VERSION, OBJECT_TYPE[fields.type], MODE_CODE[fields.mode], flagsOf(fields)]),
    place.realmId,
    place.bucketId,
    u16(key.length),
    key,
    fields.objectId,
    lengthBytes(fields.length),
    u16(keyId.length),
    keyId,
    digest,
    fields.metadataDigest,
    ...(fields.pin === undefined ? [] : [fields.pin.floeIv, fields.pin.headerTag]),
  ]);
}

function flagsOf(fields: EnvelopeFields): number {
  return fields.bucketKey ? FLAG_BUCKET_KEY : 0;
}

function lengthBytes(length: number | undefined): Buffer {
  return length === undefined ? MULTIPART_LENGTH : u64(length);
}

/** The envelope without its tag. */
export function encodeEnvelope(
  fields: EnvelopeFields,
  keyVersion: number,
  pairs: Buffer,
  wrappedObjectKey: Buffer,
): Buffer {
  const keyId = Buffer.from(fields.keyId, 'ascii');
  return Buffer.concat([
    Buffer.from([FORMAT_VERSION, OBJECT_TYPE[fields.type], MODE_CODE[fields.mode], flagsOf(fields)]),
    u32(keyVersion),
    fields.objectId,
    lengthBytes(fields.length),
    fields.metadataDigest,
    ...(fields.pin === undefined ? [] : [fields.pin.floeIv, fields.pin.headerTag]),
    Buffer.from([keyId.length]),
    keyId,
    pairs,
    u16(fields.wrappedDataKey.length),
    fields.wrappedDataKey,
    u16(wrappedObjectKey.length),
    wrappedObjectKey,
  ]);
}

/** The rules that tie the fields together; what breaks them is neither written nor read. */
function isSound(fields: EnvelopeFields): boolean {
  const single = fields.type === 'single';
  const customer = fields.mode === 'SSE-C';
  const wrapped = fields.wrappedDataKey.length;
  return (
    single === (fields.pin !== undefined) &&
    single === (fields.length !== undefined) &&
    (customer ? wrapped === 0 && fields.keyId === '' : wrapped > 0 && KMS_KEY_ID.test(fields.keyId)) &&
    wrapped <= MAX_WRAPPED_KEY_LENGTH &&
    (fields.mode === 'SSE-S3' ? fields.bucketKey : !customer || !fields.bucketKey) &&
    (fields.mode === 'SSE-KMS' || fields.context.length === 0) &&
    fields.metadataDigest.length === DIGEST_LENGTH &&
    fields.objectId.length === OBJECT_ID_LENGTH
  );
}

export function checkFields(fields: EnvelopeFields): void {
  if (!isSound(fields)) throw new RangeError('the fields of the envelope contradict each other');
}

export interface ParsedEnvelope {
  readonly fields: EnvelopeFields;
  readonly keyVersion: number;
  /** The stored pairs as they stand, for the tag. */
  readonly pairs: Buffer;
  readonly wrappedObjectKey: Buffer;
  readonly tag: Buffer;
}

const types = new Map<number, ObjectType>(
  Object.entries(OBJECT_TYPE).map(([name, code]) => [code, name as ObjectType]),
);
const modes = new Map<number, SseMode>(Object.entries(MODE_CODE).map(([name, code]) => [code, name as SseMode]));

/** One opaque failure for every way in which unauthenticated bytes can be wrong. */
const malformed = (): ServiceError => integrityError('envelope-form');

/** Strict and bounded: it runs before anything is authenticated. Exactly the bytes that a writer makes pass. */
export function parseEnvelope(value: string): ParsedEnvelope {
  if (value.length > ENVELOPE_MAX_CHARACTERS) throw malformed();
  const bytes = Buffer.from(value, 'base64url');
  if (bytes.toString('base64url') !== value) throw malformed();
  const reader = new FieldReader(bytes, malformed);
  if (reader.u8() !== FORMAT_VERSION) throw integrityError('envelope-version');
  const type = types.get(reader.u8());
  const mode = modes.get(reader.u8());
  const flags = reader.u8();
  if (type === undefined || mode === undefined || (flags & ~FLAG_BUCKET_KEY) !== 0) throw malformed();
  const keyVersion = reader.u32();
  const objectId = reader.take(OBJECT_ID_LENGTH);
  const length = readLength(reader.take(8), type);
  const metadataDigest = reader.take(DIGEST_LENGTH);
  const pin =
    type === 'single'
      ? { floeIv: reader.take(FLOE.ivLength), headerTag: reader.take(FLOE.headerTagLength) }
      : undefined;
  const keyId = reader.take(reader.u8()).toString('latin1');
  const pairsAt = reader.offset;
  const context = decodePairs(reader, malformed);
  const pairs = reader.since(pairsAt);
  const wrappedDataKey = reader.take(reader.u16());
  const wrappedObjectKey = reader.take(reader.u16());
  const tag = reader.take(ENVELOPE_TAG_LENGTH);
  reader.end();
  const bucketKey = flags !== 0;
  const fields = { type, mode, bucketKey, objectId, length, metadataDigest, pin, keyId, context, wrappedDataKey };
  if (!isSound(fields) || wrappedObjectKey.length < WRAP_OVERHEAD + KEY_LENGTH) throw malformed();
  return { fields, keyVersion, pairs, wrappedObjectKey, tag };
}

function readLength(bytes: Buffer, type: ObjectType): number | undefined {
  if (type === 'multipart') {
    if (!bytes.equals(MULTIPART_LENGTH)) throw malformed();
    return undefined;
  }
  const length = Number(bytes.readBigUInt64BE(0));
  if (length > SIZE.maxPlaintext) throw malformed();
  return length;
}
