import { ServiceError } from '../../errors.ts';
import type { EncryptionContext } from '../../sse/context.ts';
import type { KmsRequest } from '../../sse/request.ts';
import { authorizeKey } from '../authorize.ts';
import type { BucketExchange } from '../exchange.ts';
import { openPartKey } from '../keys.ts';
import { partSse, statedSse } from '../sse.ts';
import type { Upload } from './records.ts';

/**
 * Complete needs no SSE header, and AWS documents a customer key only. What a client says all the same must be what the
 * upload was created with: an object that is encrypted in another way than its client believes is an error.
 */
export async function requireUploadSse(x: BucketExchange, upload: Upload): Promise<void> {
  const { envelope } = upload;
  const stated = statedSse(x);
  if (stated.mode === 'none' && stated.bucketKey === undefined) return;
  if (stated.mode === 'SSE-C') {
    await openPartKey(x, envelope, stated);
    return;
  }
  const mode = stated.mode === 'none' ? 'SSE-KMS' : stated.mode;
  if (envelope.mode !== mode) throw otherSse();
  if (stated.mode === 'SSE-S3') return;
  const { bucketKey } = stated;
  if (bucketKey !== undefined && bucketKey !== envelope.bucketKey) throw otherSse();
  if (stated.mode === 'SSE-KMS') await requireKey(x, upload, stated);
}

/** AWS: "you must provide the same headers", where the upload has a checksum. The key itself is not needed. */
export function requireCustomerHeaders(x: BucketExchange, hasChecksum: boolean): void {
  const needed = hasChecksum || x.rooms.settings.compatibility.completeNeedsCustomerKey === 'always';
  if (!needed || partSse(x).mode === 'SSE-C') return;
  throw new ServiceError('InvalidRequest', {
    message: 'The multipart upload was created with a customer key. Its parameters must be provided to complete it.',
    reason: 'sse-c-missing',
  });
}

/** AWS "CompleteMultipartUpload", Permissions: where the upload has a checksum too. The key itself is not needed here. */
export function requireKeyRight(x: BucketExchange, { envelope, record }: Upload): void {
  if (envelope.mode !== 'SSE-KMS' || record.checksum === undefined) return;
  authorizeKey(x, 'kms:Decrypt', envelope.keyId, envelope.effectiveContext);
}

async function requireKey(x: BucketExchange, { envelope }: Upload, stated: KmsRequest): Promise<void> {
  const { keyReference, context } = stated;
  const same = keyReference === undefined || (await isKey(x, keyReference, envelope.keyId));
  if (!same || (context.length > 0 && !sameContext(context, envelope.context))) throw otherSse();
}

/** A key that there is not is another one: names cannot be tried out here. */
async function isKey(x: BucketExchange, reference: string, keyId: string): Promise<boolean> {
  try {
    return (await x.rooms.keys.resolve(reference)) === keyId;
  } catch (err) {
    if (err instanceof ServiceError && err.code.startsWith('KMS.')) return false;
    throw err;
  }
}

/** Both are in canonical order. */
function sameContext(a: EncryptionContext, b: EncryptionContext): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function otherSse(): ServiceError {
  return new ServiceError('InvalidRequest', {
    message: 'The provided encryption parameters did not match the ones used originally.',
    reason: 'sse-other-than-upload',
  });
}
