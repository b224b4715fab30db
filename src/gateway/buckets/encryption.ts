import { ServiceError } from '../../errors.ts';
import {
  DEFAULT_BUCKET_ENCRYPTION,
  formatBucketEncryption,
  parseBucketEncryption,
} from '../../s3/bucket-encryption.ts';
import type { DeleteBucketEncryption, GetBucketEncryption, PutBucketEncryption } from '../../s3/operation.ts';
import { smallBody } from '../calls.ts';
import type { BucketExchange, Reply } from '../exchange.ts';
import { requireDefaultKey } from '../keys.ts';
import { XML } from '../xml-body.ts';

const BODY_LIMIT = 64 * 1024;

/** A bucket's default lives in the control store: whoever writes to the object store could turn it off there. */
export async function putBucketEncryption(x: BucketExchange<PutBucketEncryption>): Promise<Reply> {
  const { algorithm, keyReference, bucketKeyEnabled, blocked } = parseBucketEncryption(await smallBody(x, BODY_LIMIT));
  if (algorithm === 'aws:kms:dsse') {
    throw new ServiceError('NotImplemented', { message: 'Dual-layer encryption (aws:kms:dsse) is not implemented.' });
  }
  // A default that names no usable key would refuse every upload later: refuse it now.
  if (algorithm === 'aws:kms') await requireDefaultKey(x, keyReference);
  const encryption = { algorithm, bucketKeyEnabled, blocked, ...(keyReference === undefined ? {} : { keyReference }) };
  await x.rooms.buckets.update(x.op.bucket, (record) => ({ ...record, encryption }));
  return { status: 200, headers: {} };
}

/** Never set is SSE-S3 (AWS since 2023). The key is given back as it was put. */
export function getBucketEncryption(x: BucketExchange<GetBucketEncryption>): Promise<Reply> {
  const { encryption } = x.bucket;
  if (encryption === undefined && !x.rooms.settings.compatibility.encryptionWhenNeverSet) {
    throw new ServiceError('ServerSideEncryptionConfigurationNotFoundError');
  }
  const { keyReference, ...rest } = encryption ?? DEFAULT_BUCKET_ENCRYPTION;
  const body = formatBucketEncryption({ ...rest, ...(keyReference === undefined ? {} : { keyReference }) });
  return Promise.resolve({ status: 200, headers: XML, body });
}

export async function deleteBucketEncryption(x: BucketExchange<DeleteBucketEncryption>): Promise<Reply> {
  await x.rooms.buckets.update(x.op.bucket, ({ encryption, ...rest }) => {
    // What is blocked is not a default, and stays.
    const blocked = encryption?.blocked ?? [];
    return blocked.length === 0
      ? rest
      : { ...rest, encryption: { algorithm: 'AES256', bucketKeyEnabled: false, blocked } };
  });
  return { status: 204, headers: {} };
}
