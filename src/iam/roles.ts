import { KEY_ADMINISTRATION_ACTIONS, SERVER_INFO } from './actions.ts';

const kms = (names: readonly string[]): readonly string[] => names.map((name) => `kms:${name}`);

function role(actions: readonly string[], resources: readonly string[]): object {
  return Object.freeze({
    Version: '2012-10-17',
    Statement: [{ Effect: 'Allow', Action: actions, Resource: resources }],
  });
}

const ALL_KMS = ['arn:aws:kms:*'] as const;

/** Ready-made policies, by the names that identities refer to. */
export const ROLES: Readonly<Record<string, object>> = Object.freeze({
  /** Rules the service and its keys, and cannot use one. */
  KMSAdministrator: role(
    [
      ...kms(KEY_ADMINISTRATION_ACTIONS),
      ...kms([
        'DescribeKey',
        'Configure',
        'ServiceControl',
        'ClearCache',
        'ListBuckets',
        'AdoptBucket',
        'ReleaseBucket',
      ]),
      SERVER_INFO,
    ],
    [...ALL_KMS, 'arn:aws:s3:::*'],
  ),
  /** Start, stop, status, clear-cache. */
  KMSOperator: role([...kms(['ServiceControl', 'ClearCache']), SERVER_INFO], ALL_KMS),
  /** Sees states, keys and policies; changes nothing. */
  KMSAuditor: role(
    [...kms(['DescribeKey', 'GetKeyPolicy', 'ListAliases', 'ListBuckets', 'ListKeys']), SERVER_INFO],
    ALL_KMS,
  ),
  /** Uses keys: what an identity needs beside its rights on objects to write and read with SSE-KMS. */
  KMSUser: role(kms(['Encrypt', 'Decrypt', 'GenerateDataKey*', 'ReEncrypt*', 'DescribeKey']), ['arn:aws:kms:*:key/*']),
  /** Everything on every bucket, and no right on any key. */
  S3FullAccess: role(['s3:*'], ['arn:aws:s3:::*']),
  S3ReadOnlyAccess: role(['s3:Get*', 's3:List*'], ['arn:aws:s3:::*']),
});
