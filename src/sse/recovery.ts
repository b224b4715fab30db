import { createHash } from 'node:crypto';
import { equalBytes, u16 } from '../bytes.ts';
import { integrityError, ServiceError } from '../errors.ts';
import { clientContext, contextDigest, decodePairs, effectiveContext, encodePairs } from './context.ts';
import type { EncryptionContext, ObjectPlace } from './context.ts';
import {
  BUCKET_ID_LENGTH,
  DIGEST_LENGTH,
  FLAG_BUCKET_KEY,
  FORMAT_VERSION,
  KEY_LENGTH,
  KMS_KEY_ID,
  LABEL,
  MAX_WRAPPED_KEY_LENGTH,
  MODE_CODE,
  OBJECT_ID_LENGTH,
  RECOVERY_LENGTH,
  type Entropy,
  type SseMode,
} from './format.ts';
import { takeObjectKey, type Kek, type ObjectKey } from './key.ts';
import { lengthPrefixed } from './mac.ts';
import { FieldReader } from './reader.ts';
import { unwrap, WRAP_OVERHEAD, wrapObjectKey } from './wrap.ts';

const WRAPPED_LENGTH = WRAP_OVERHEAD + KEY_LENGTH + DIGEST_LENGTH;

/** What the recovery copy keeps beside the object key. SSE-C has none: its copy is zeros. */
export interface RecoveryFields {
  readonly mode: Exclude<SseMode, 'SSE-C'>;
  readonly bucketKey: boolean;
  readonly objectId: Buffer;
  readonly place: ObjectPlace;
  readonly keyId: string;
  readonly wrappedDataKey: Buffer;
  /** The client's own pairs. */
  readonly context: EncryptionContext;
}

function recoveryAad(objectId: Buffer, mode: SseMode, digest: Buffer): Buffer {
  return Buffer.concat([LABEL.recover, objectId, Buffer.from([MODE_CODE[mode]]), digest]);
}

/** Under which name the object was written: sealed with its key, so that a rescue can tell an exchange from a rename. */
function nameDigest(key: string): Buffer {
  return createHash('sha256')
    .update(lengthPrefixed([LABEL.recoverName, Buffer.from(key, 'utf8')]))
    .digest();
}

/** The 512 bytes with which an object opens when a backup has lost its metadata (FORMAT.md section 5). */
export function buildRecovery(fields: RecoveryFields, kek: Kek, objectKey: ObjectKey, entropy: Entropy): Buffer {
  const { mode, bucketKey, objectId, place, keyId, wrappedDataKey } = fields;
  const context = clientContext(fields.context, place, bucketKey);
  const digest = contextDigest(effectiveContext(context, place, bucketKey));
  const content = Buffer.concat([
    Buffer.from([FORMAT_VERSION, MODE_CODE[mode], bucketKey ? FLAG_BUCKET_KEY : 0, 0]),
    objectId,
    place.bucketId,
    wrapObjectKey(kek, objectKey, nameDigest(place.key), recoveryAad(objectId, mode, digest), entropy),
    Buffer.from([keyId.length]),
    Buffer.from(keyId, 'ascii'),
    u16(wrappedDataKey.length),
    wrappedDataKey,
    encodePairs(context),
  ]);
  if (content.length > RECOVERY_LENGTH) {
    if (context.length === 0) throw new ServiceError('InternalError', { reason: 'recovery-too-large' });
    const message = 'The encryption context is too large to be kept with the object.';
    throw new ServiceError('InvalidArgument', { message, reason: 'context-too-large' });
  }
  const out = Buffer.alloc(RECOVERY_LENGTH);
  content.copy(out);
  return out;
}

/** What a recovery copy says; unauthenticated until `openRecovery` has its KEK. */
export interface RecoveryCopy extends Omit<RecoveryFields, 'place'> {
  readonly bucketId: Buffer;
  readonly wrappedObjectKey: Buffer;
}

const malformed = (): ServiceError => integrityError('recovery-form');

/** Parses the 512 bytes; undefined for the zeros of SSE-C. */
export function parseRecovery(bytes: Buffer): RecoveryCopy | undefined {
  if (bytes.length !== RECOVERY_LENGTH) throw malformed();
  if (bytes.every((byte) => byte === 0)) return undefined;
  const reader = new FieldReader(bytes, malformed);
  const [version, modeCode, flags, zero] = reader.take(4);
  const mode = modeCode === MODE_CODE['SSE-S3'] ? 'SSE-S3' : modeCode === MODE_CODE['SSE-KMS'] ? 'SSE-KMS' : undefined;
  if (version !== FORMAT_VERSION || mode === undefined || zero !== 0) throw malformed();
  if (flags !== 0 && flags !== FLAG_BUCKET_KEY) throw malformed();
  const objectId = reader.take(OBJECT_ID_LENGTH);
  const bucketId = reader.take(BUCKET_ID_LENGTH);
  const wrappedObjectKey = reader.take(WRAPPED_LENGTH);
  const keyId = reader.take(reader.u8()).toString('latin1');
  const wrappedDataKey = reader.take(reader.u16());
  const context = decodePairs(reader, malformed);
  const rest = reader.take(RECOVERY_LENGTH - reader.offset);
  if (!KMS_KEY_ID.test(keyId) || wrappedDataKey.length === 0 || wrappedDataKey.length > MAX_WRAPPED_KEY_LENGTH) {
    throw malformed();
  }
  if (rest.some((byte) => byte !== 0)) throw malformed();
  return { mode, bucketKey: flags !== 0, objectId, bucketId, wrappedObjectKey, keyId, wrappedDataKey, context };
}

/** What a recovery copy gives back. */
export interface Recovered {
  readonly objectKey: ObjectKey;
  /** The object was written under the name that the operator says; false after a copy or a rename, or an exchange. */
  readonly named: boolean;
}

/** The object key out of a recovery copy, for the offline `recover`; `place` is the operator's word. */
export function openRecovery(copy: RecoveryCopy, place: ObjectPlace, kek: Kek): Recovered {
  const { mode, objectId, bucketId, context, bucketKey } = copy;
  const digest = contextDigest(effectiveContext(context, { ...place, bucketId }, bucketKey));
  const plaintext = unwrap(kek, copy.wrappedObjectKey, recoveryAad(objectId, mode, digest));
  if (plaintext === undefined) throw integrityError('recovery');
  const named = equalBytes(plaintext.subarray(KEY_LENGTH), nameDigest(place.key));
  return { objectKey: takeObjectKey(plaintext.subarray(0, KEY_LENGTH)), named };
}
