import { u16 } from '../bytes.ts';
import { ServiceError } from '../errors.ts';
import { clientContext, contextDigest, effectiveContext, encodePairs } from './context.ts';
import type { EncryptionContext, ObjectPlace } from './context.ts';
import {
  FLAG_BUCKET_KEY,
  FORMAT_VERSION,
  LABEL,
  MODE_CODE,
  RECOVERY_LENGTH,
  type Entropy,
  type SseMode,
} from './format.ts';
import type { Kek, ObjectKey } from './key.ts';
import { wrapObjectKey } from './wrap.ts';

const NO_BYTES = Buffer.alloc(0);

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

/** The 512 bytes with which an object opens when a backup has lost its metadata (FORMAT.md section 5). */
export function buildRecovery(fields: RecoveryFields, kek: Kek, objectKey: ObjectKey, entropy: Entropy): Buffer {
  const { mode, bucketKey, objectId, place, keyId, wrappedDataKey } = fields;
  const context = clientContext(fields.context, place, bucketKey);
  const digest = contextDigest(effectiveContext(context, place, bucketKey));
  const content = Buffer.concat([
    Buffer.from([FORMAT_VERSION, MODE_CODE[mode], bucketKey ? FLAG_BUCKET_KEY : 0, 0]),
    objectId,
    place.bucketId,
    wrapObjectKey(kek, objectKey, NO_BYTES, recoveryAad(objectId, mode, digest), entropy),
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
