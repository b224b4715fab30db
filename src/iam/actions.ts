/**
 * Every action that a policy may name, as AWS spells it where it has one (Service Authorization Reference). What is not
 * here is refused when a policy is loaded: a misspelled Deny would otherwise deny nothing.
 */
const S3_ACTIONS = [
  'AbortMultipartUpload',
  'BypassGovernanceRetention',
  'CreateBucket',
  'DeleteBucket',
  'DeleteBucketPolicy',
  'DeleteBucketWebsite',
  'DeleteObject',
  'DeleteObjectTagging',
  'DeleteObjectVersion',
  'DeleteObjectVersionTagging',
  'GetAccelerateConfiguration',
  'GetBucketAcl',
  'GetBucketCORS',
  'GetBucketLocation',
  'GetBucketLogging',
  'GetBucketNotification',
  'GetBucketObjectLockConfiguration',
  'GetBucketOwnershipControls',
  'GetBucketPolicy',
  'GetBucketPolicyStatus',
  'GetBucketPublicAccessBlock',
  'GetBucketRequestPayment',
  'GetBucketTagging',
  'GetBucketVersioning',
  'GetBucketWebsite',
  'GetEncryptionConfiguration',
  'GetLifecycleConfiguration',
  'GetObject',
  'GetObjectAcl',
  'GetObjectAttributes',
  'GetObjectLegalHold',
  'GetObjectRetention',
  'GetObjectTagging',
  'GetObjectTorrent',
  'GetObjectVersion',
  'GetObjectVersionAcl',
  'GetObjectVersionAttributes',
  'GetObjectVersionTagging',
  'GetReplicationConfiguration',
  'ListAllMyBuckets',
  'ListBucket',
  'ListBucketMultipartUploads',
  'ListBucketVersions',
  'ListMultipartUploadParts',
  'PutAccelerateConfiguration',
  'PutBucketAcl',
  'PutBucketCORS',
  'PutBucketLogging',
  'PutBucketNotification',
  'PutBucketObjectLockConfiguration',
  'PutBucketOwnershipControls',
  'PutBucketPolicy',
  'PutBucketPublicAccessBlock',
  'PutBucketRequestPayment',
  'PutBucketTagging',
  'PutBucketVersioning',
  'PutBucketWebsite',
  'PutEncryptionConfiguration',
  'PutLifecycleConfiguration',
  'PutObject',
  'PutObjectAcl',
  'PutObjectLegalHold',
  'PutObjectRetention',
  'PutObjectTagging',
  'PutObjectVersionAcl',
  'PutObjectVersionTagging',
  'PutReplicationConfiguration',
  'RestoreObject',
  'UpdateObjectEncryption',
] as const;

/** Use of a key, and rule over keys: disjoint, so that a key policy can keep users and administrators apart. */
export const KEY_USE_ACTIONS = [
  'Decrypt',
  'DescribeKey',
  'Encrypt',
  'GenerateDataKey',
  'GenerateDataKeyWithoutPlaintext',
  'ReEncryptFrom',
  'ReEncryptTo',
] as const;

export const KEY_ADMINISTRATION_ACTIONS = [
  'CancelKeyDeletion',
  'CreateAlias',
  'CreateKey',
  'DeleteAlias',
  'DisableKey',
  'EnableKey',
  'GetKeyPolicy',
  'ListAliases',
  'ListKeys',
  'PutKeyPolicy',
  'Rewrap',
  'RotateKey',
  'ScheduleKeyDeletion',
  'TagResource',
  'UntagResource',
  'UpdateAlias',
  'UpdateKeyDescription',
] as const;

/**
 * The service itself (docs/ADMIN.md). AdoptBucket and ReleaseBucket decide what may be plaintext, on `arn:aws:s3:::name`:
 * that is rule over encryption and not use of objects, so they are no `s3:` actions, and `s3:*` does not allow them.
 */
export const SERVICE_ACTIONS = [
  'AdoptBucket',
  'ClearCache',
  'Configure',
  'ListBuckets',
  'ReleaseBucket',
  'ServiceControl',
] as const;

/** Reading the service's state; RustFS's name for it is accepted too. */
export const SERVER_INFO = 'admin:ServerInfo';
const ALIASES: Readonly<Record<string, string>> = { serverinfoadminaction: SERVER_INFO.toLowerCase() };

const qualified = (service: string, names: readonly string[]): readonly string[] =>
  names.map((name) => `${service}:${name}`.toLowerCase());

export const KNOWN_ACTIONS: ReadonlySet<string> = new Set([
  ...qualified('s3', S3_ACTIONS),
  ...qualified('kms', KEY_USE_ACTIONS),
  ...qualified('kms', KEY_ADMINISTRATION_ACTIONS),
  ...qualified('kms', SERVICE_ACTIONS),
  SERVER_INFO.toLowerCase(),
]);

export const KEY_USE: ReadonlySet<string> = new Set(qualified('kms', KEY_USE_ACTIONS));
export const KEY_ADMINISTRATION: ReadonlySet<string> = new Set(qualified('kms', KEY_ADMINISTRATION_ACTIONS));

/** Actions compare without case; an alias becomes the name that requests ask for. */
export function canonicalAction(action: string): string {
  const lower = action.toLowerCase();
  return ALIASES[lower] ?? lower;
}
