import type { ErrorCode } from '../errors.ts';

/** Where AWS S3 and Ceph's s3-tests expect different answers (docs/CONFIGURATION.md, "Compatibility"). */
export interface Compatibility {
  /** A read with another customer key than the object's. */
  readonly wrongCustomerKey: ErrorCode;
  /** A request for `aws:kms` may leave the key to the default one. */
  readonly kmsWithoutKeyId: boolean;
  /** GetBucketEncryption of a bucket that was never set answers what is done there: AES256. */
  readonly encryptionWhenNeverSet: boolean;
  /** CompleteMultipartUpload of an SSE-C upload has to bring the customer's headers. */
  readonly completeNeedsCustomerKey: 'with-checksum' | 'always';
  /** How answers name a KMS key. */
  readonly keyName: 'arn' | 'id';
}

/** SSE-C over plain HTTP is in neither: only `development.allowInsecureSseC` lets customer keys go unencrypted. */
export const COMPATIBILITY: Readonly<Record<'aws' | 'ceph', Compatibility>> = Object.freeze({
  aws: {
    wrongCustomerKey: 'AccessDenied',
    kmsWithoutKeyId: true,
    encryptionWhenNeverSet: true,
    completeNeedsCustomerKey: 'with-checksum',
    keyName: 'arn',
  },
  ceph: {
    wrongCustomerKey: 'InvalidArgument',
    kmsWithoutKeyId: false,
    encryptionWhenNeverSet: false,
    completeNeedsCustomerKey: 'always',
    keyName: 'id',
  },
});
