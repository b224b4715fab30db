/**
 * Every S3 operation that the gateway knows, one row each. A row decides what happens: `understood` operations have a
 * handler, `forward` ones go to the store re-signed with a small body, `refused` ones are 501 with their reason here.
 * What matches no row is 501 too, so that nothing can touch a sealed object without knowing about seals.
 */
export type Level = 'service' | 'bucket' | 'object';
export type Method = 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE';

export interface OperationRow {
  readonly name: string;
  readonly level: Level;
  readonly method: Method;
  /** Query names that select the row; all must be present. */
  readonly selector: readonly string[];
  /** A request header that selects the row, such as `x-amz-copy-source`. */
  readonly selectorHeader?: string;
  /** Further query names that it takes; any other (except the SDKs' `x-id`) is 501: a request may not be read wrongly. */
  readonly query: readonly string[];
  /** The IAM action; `versionAction` takes its place when a versionId is named. */
  readonly action: string;
  readonly versionAction?: string;
  readonly mode: 'understood' | 'forward' | 'refused';
  /** Why a row is refused. */
  readonly reason?: string;
}

interface Extra {
  readonly query?: readonly string[];
  readonly version?: string;
  readonly header?: string;
}

function row(
  mode: OperationRow['mode'],
  level: Level,
  method: Method,
  name: string,
  selector: readonly string[],
  action: string,
  extra: Extra = {},
): OperationRow {
  return {
    name,
    level,
    method,
    selector,
    query: extra.query ?? [],
    action,
    mode,
    ...(extra.version === undefined ? {} : { versionAction: extra.version }),
    ...(extra.header === undefined ? {} : { selectorHeader: extra.header }),
  };
}

const LIST = ['prefix', 'delimiter', 'max-keys', 'encoding-type'] as const;
export const RESPONSE_OVERRIDES = {
  'response-cache-control': 'cache-control',
  'response-content-disposition': 'content-disposition',
  'response-content-encoding': 'content-encoding',
  'response-content-language': 'content-language',
  'response-content-type': 'content-type',
  'response-expires': 'expires',
} as const;
const READ = ['versionId', 'partNumber', ...Object.keys(RESPONSE_OVERRIDES)];
const READ_ACTION = { query: READ, version: 's3:GetObjectVersion' };
/** minio-js writes its SSE-C options into the URL of a GET too. The headers count; these are taken and not looked at. */
const MINIO_OPTIONS = ['SSECustomerAlgorithm', 'SSECustomerKey', 'SSECustomerKeyMD5'];

const COPY_SOURCE = 'x-amz-copy-source';

const UNDERSTOOD = [
  row('understood', 'service', 'GET', 'ListBuckets', [], 's3:ListAllMyBuckets', {
    query: ['max-buckets', 'continuation-token', 'prefix', 'bucket-region'],
  }),
  row('understood', 'bucket', 'PUT', 'CreateBucket', [], 's3:CreateBucket'),
  row('understood', 'bucket', 'HEAD', 'HeadBucket', [], 's3:ListBucket'),
  row('understood', 'bucket', 'DELETE', 'DeleteBucket', [], 's3:DeleteBucket'),
  row('understood', 'bucket', 'GET', 'GetBucketLocation', ['location'], 's3:GetBucketLocation'),
  row('understood', 'bucket', 'GET', 'GetBucketEncryption', ['encryption'], 's3:GetEncryptionConfiguration'),
  row('understood', 'bucket', 'PUT', 'PutBucketEncryption', ['encryption'], 's3:PutEncryptionConfiguration'),
  // IAM has no action of its own for the deletion (Service Authorization Reference, DeleteBucketEncryption).
  row('understood', 'bucket', 'DELETE', 'DeleteBucketEncryption', ['encryption'], 's3:PutEncryptionConfiguration'),
  row('understood', 'bucket', 'GET', 'GetBucketCors', ['cors'], 's3:GetBucketCORS'),
  row('understood', 'bucket', 'PUT', 'PutBucketCors', ['cors'], 's3:PutBucketCORS'),
  row('understood', 'bucket', 'DELETE', 'DeleteBucketCors', ['cors'], 's3:PutBucketCORS'),
  row('understood', 'bucket', 'GET', 'ListObjects', [], 's3:ListBucket', { query: [...LIST, 'marker'] }),
  row('understood', 'bucket', 'GET', 'ListObjectsV2', ['list-type'], 's3:ListBucket', {
    query: [...LIST, 'continuation-token', 'fetch-owner', 'start-after'],
  }),
  row('understood', 'bucket', 'GET', 'ListObjectVersions', ['versions'], 's3:ListBucketVersions', {
    query: [...LIST, 'key-marker', 'version-id-marker'],
  }),
  row('understood', 'bucket', 'POST', 'DeleteObjects', ['delete'], 's3:DeleteObject'),
  row('understood', 'object', 'PUT', 'PutObject', [], 's3:PutObject'),
  row('understood', 'bucket', 'POST', 'PostObject', [], 's3:PutObject'),
  row('understood', 'object', 'PUT', 'CopyObject', [], 's3:PutObject', { header: COPY_SOURCE }),
  row('understood', 'object', 'PUT', 'UpdateObjectEncryption', ['encryption'], 's3:UpdateObjectEncryption', {
    query: ['versionId'],
  }),
  row('understood', 'object', 'GET', 'GetObject', [], 's3:GetObject', {
    ...READ_ACTION,
    query: [...READ, ...MINIO_OPTIONS],
  }),
  row('understood', 'object', 'HEAD', 'HeadObject', [], 's3:GetObject', READ_ACTION),
  row('understood', 'object', 'GET', 'GetObjectAttributes', ['attributes'], 's3:GetObjectAttributes', {
    query: ['versionId'],
    version: 's3:GetObjectVersionAttributes',
  }),
  row('understood', 'object', 'DELETE', 'DeleteObject', [], 's3:DeleteObject', {
    query: ['versionId'],
    version: 's3:DeleteObjectVersion',
  }),
  row('understood', 'object', 'POST', 'CreateMultipartUpload', ['uploads'], 's3:PutObject'),
  row('understood', 'object', 'PUT', 'UploadPart', ['partNumber', 'uploadId'], 's3:PutObject'),
  row('understood', 'object', 'PUT', 'UploadPartCopy', ['partNumber', 'uploadId'], 's3:PutObject', {
    header: COPY_SOURCE,
  }),
  row('understood', 'object', 'POST', 'CompleteMultipartUpload', ['uploadId'], 's3:PutObject'),
  row('understood', 'object', 'DELETE', 'AbortMultipartUpload', ['uploadId'], 's3:AbortMultipartUpload'),
  row('understood', 'object', 'GET', 'ListParts', ['uploadId'], 's3:ListMultipartUploadParts', {
    query: ['max-parts', 'part-number-marker', 'encoding-type'],
  }),
  row('understood', 'bucket', 'GET', 'ListMultipartUploads', ['uploads'], 's3:ListBucketMultipartUploads', {
    query: ['prefix', 'delimiter', 'encoding-type', 'max-uploads', 'key-marker', 'upload-id-marker'],
  }),
] as const;

/** Get/Put/Delete of one configuration kept by the store; `names` gives the operation of each method. */
function configuration(
  level: Level,
  selector: string,
  names: Partial<Record<Method, readonly [name: string, action: string, version?: string]>>,
): readonly OperationRow[] {
  return Object.entries(names).map(([method, [name, action, version]]) =>
    row('forward', level, method as Method, name, [selector], action, {
      ...(level === 'object' ? { query: ['versionId'] } : {}),
      ...(version === undefined ? {} : { version }),
    }),
  );
}

/**
 * Forwarded: what the store keeps about a bucket or object, and moves no object bytes. Reads of logging, acceleration
 * and replication are here (infrastructure tools read them on every run); writing them is refused below.
 */
const FORWARDED: readonly OperationRow[] = [
  ...configuration('object', 'tagging', {
    GET: ['GetObjectTagging', 's3:GetObjectTagging', 's3:GetObjectVersionTagging'],
    PUT: ['PutObjectTagging', 's3:PutObjectTagging', 's3:PutObjectVersionTagging'],
    DELETE: ['DeleteObjectTagging', 's3:DeleteObjectTagging', 's3:DeleteObjectVersionTagging'],
  }),
  ...configuration('object', 'acl', {
    GET: ['GetObjectAcl', 's3:GetObjectAcl', 's3:GetObjectVersionAcl'],
    PUT: ['PutObjectAcl', 's3:PutObjectAcl', 's3:PutObjectVersionAcl'],
  }),
  ...configuration('object', 'retention', {
    GET: ['GetObjectRetention', 's3:GetObjectRetention'],
    PUT: ['PutObjectRetention', 's3:PutObjectRetention'],
  }),
  ...configuration('object', 'legal-hold', {
    GET: ['GetObjectLegalHold', 's3:GetObjectLegalHold'],
    PUT: ['PutObjectLegalHold', 's3:PutObjectLegalHold'],
  }),
  ...configuration('bucket', 'tagging', {
    GET: ['GetBucketTagging', 's3:GetBucketTagging'],
    PUT: ['PutBucketTagging', 's3:PutBucketTagging'],
    DELETE: ['DeleteBucketTagging', 's3:PutBucketTagging'],
  }),
  ...configuration('bucket', 'acl', {
    GET: ['GetBucketAcl', 's3:GetBucketAcl'],
    PUT: ['PutBucketAcl', 's3:PutBucketAcl'],
  }),
  ...configuration('bucket', 'lifecycle', {
    GET: ['GetBucketLifecycleConfiguration', 's3:GetLifecycleConfiguration'],
    PUT: ['PutBucketLifecycleConfiguration', 's3:PutLifecycleConfiguration'],
    DELETE: ['DeleteBucketLifecycle', 's3:PutLifecycleConfiguration'],
  }),
  ...configuration('bucket', 'versioning', {
    GET: ['GetBucketVersioning', 's3:GetBucketVersioning'],
    PUT: ['PutBucketVersioning', 's3:PutBucketVersioning'],
  }),
  ...configuration('bucket', 'object-lock', {
    GET: ['GetObjectLockConfiguration', 's3:GetBucketObjectLockConfiguration'],
    PUT: ['PutObjectLockConfiguration', 's3:PutBucketObjectLockConfiguration'],
  }),
  ...configuration('bucket', 'notification', {
    GET: ['GetBucketNotificationConfiguration', 's3:GetBucketNotification'],
    PUT: ['PutBucketNotificationConfiguration', 's3:PutBucketNotification'],
  }),
  ...configuration('bucket', 'policy', {
    GET: ['GetBucketPolicy', 's3:GetBucketPolicy'],
    PUT: ['PutBucketPolicy', 's3:PutBucketPolicy'],
    DELETE: ['DeleteBucketPolicy', 's3:DeleteBucketPolicy'],
  }),
  ...configuration('bucket', 'policyStatus', { GET: ['GetBucketPolicyStatus', 's3:GetBucketPolicyStatus'] }),
  ...configuration('bucket', 'website', {
    GET: ['GetBucketWebsite', 's3:GetBucketWebsite'],
    PUT: ['PutBucketWebsite', 's3:PutBucketWebsite'],
    DELETE: ['DeleteBucketWebsite', 's3:DeleteBucketWebsite'],
  }),
  ...configuration('bucket', 'ownershipControls', {
    GET: ['GetBucketOwnershipControls', 's3:GetBucketOwnershipControls'],
    PUT: ['PutBucketOwnershipControls', 's3:PutBucketOwnershipControls'],
    DELETE: ['DeleteBucketOwnershipControls', 's3:PutBucketOwnershipControls'],
  }),
  ...configuration('bucket', 'publicAccessBlock', {
    GET: ['GetPublicAccessBlock', 's3:GetBucketPublicAccessBlock'],
    PUT: ['PutPublicAccessBlock', 's3:PutBucketPublicAccessBlock'],
    DELETE: ['DeletePublicAccessBlock', 's3:PutBucketPublicAccessBlock'],
  }),
  ...configuration('bucket', 'requestPayment', {
    GET: ['GetBucketRequestPayment', 's3:GetBucketRequestPayment'],
    PUT: ['PutBucketRequestPayment', 's3:PutBucketRequestPayment'],
  }),
  ...configuration('bucket', 'logging', { GET: ['GetBucketLogging', 's3:GetBucketLogging'] }),
  ...configuration('bucket', 'accelerate', {
    GET: ['GetBucketAccelerateConfiguration', 's3:GetAccelerateConfiguration'],
  }),
  ...configuration('bucket', 'replication', { GET: ['GetBucketReplication', 's3:GetReplicationConfiguration'] }),
];

function refused(
  reason: string,
  rows: readonly (readonly [Level, Method, string, readonly string[], string, Extra?])[],
): readonly OperationRow[] {
  return rows.map(([level, method, name, selector, action, extra]) => ({
    ...row('refused', level, method, name, selector, action, extra),
    reason,
  }));
}

const REFUSED: readonly OperationRow[] = [
  ...refused('the store would read, answer or restore object bytes, which are sealed', [
    ['object', 'POST', 'SelectObjectContent', ['select', 'select-type'], 's3:GetObject'],
    ['object', 'GET', 'GetObjectTorrent', ['torrent'], 's3:GetObjectTorrent'],
    ['object', 'POST', 'RestoreObject', ['restore'], 's3:RestoreObject', { query: ['versionId'] }],
    ['service', 'POST', 'WriteGetObjectResponse', ['x-amz-write-get-object-response'], 's3:GetObject'],
  ]),
  ...refused('a new name would no longer match the name in the envelope', [
    ['object', 'PUT', 'RenameObject', ['renameObject'], 's3:PutObject'],
  ]),
  ...refused('the store would copy objects, or write reports about sealed sizes, to a bucket that the body names', [
    ['bucket', 'PUT', 'PutBucketReplication', ['replication'], 's3:PutReplicationConfiguration'],
    ['bucket', 'DELETE', 'DeleteBucketReplication', ['replication'], 's3:PutReplicationConfiguration'],
    ['bucket', 'PUT', 'PutBucketLogging', ['logging'], 's3:PutBucketLogging'],
    ...(['GET', 'PUT', 'DELETE'] as const).flatMap((method) =>
      (['inventory', 'analytics', 'metrics', 'intelligent-tiering'] as const).map(
        (selector) =>
          [
            'bucket',
            method,
            `${method}:${selector}`,
            [selector],
            's3:*',
            { query: ['id', 'continuation-token'] },
          ] as const,
      ),
    ),
  ]),
  ...refused('clients would be sent to an endpoint that passes the gateway by', [
    ['bucket', 'PUT', 'PutBucketAccelerateConfiguration', ['accelerate'], 's3:PutAccelerateConfiguration'],
    ['bucket', 'GET', 'CreateSession', ['session'], 's3express:CreateSession'],
  ]),
];

export const OPERATION_ROWS: readonly OperationRow[] = Object.freeze([...UNDERSTOOD, ...FORWARDED, ...REFUSED]);
