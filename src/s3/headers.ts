import { ServiceError } from '../errors.ts';
import type { OperationRow } from './rows.ts';

/**
 * Which headers pass, both ways: lists of what may, so that what nobody thought of stays behind. Never to the store:
 * SSE and SSE-C headers (a tagging call that carries a customer key would hand it over), checksums, the client's
 * session token, `x-amz-sdk-*`, `x-minio-*`, headers named in Connection. Never to the client: the store's SSE and
 * checksum headers, its region and name, the envelope. Conditions, ranges, ETags and lengths are the gateway's own
 * business: it translates them.
 */
type Headers = Readonly<Record<string, string>>;

export const USER_METADATA = 'x-amz-meta-';

/** 2 KB for all user metadata at AWS, MinIO, versitygw and CloudServer, of which the envelope may take 896. */
const METADATA_LIMIT = 2048;
const ENVELOPE_RESERVE = 896;

const COMMON = ['x-amz-expected-bucket-owner', 'x-amz-request-payer'] as const;
const GRANTS = [
  'x-amz-acl',
  'x-amz-grant-full-control',
  'x-amz-grant-read',
  'x-amz-grant-read-acp',
  'x-amz-grant-write',
  'x-amz-grant-write-acp',
] as const;
const CONTENT = [
  'cache-control',
  'content-disposition',
  'content-encoding',
  'content-language',
  'content-type',
  'expires',
] as const;
const LOCK = ['x-amz-object-lock-mode', 'x-amz-object-lock-retain-until-date', 'x-amz-object-lock-legal-hold'] as const;
const REMOVAL = ['x-amz-bypass-governance-retention', 'x-amz-mfa'] as const;

const WRITE = [
  ...CONTENT,
  ...GRANTS,
  ...LOCK,
  'x-amz-storage-class',
  'x-amz-tagging',
  'x-amz-website-redirect-location',
] as const;

/** Per operation, beside COMMON. A forwarded operation that is not here sends its Content-Type only. */
const REQUEST: Readonly<Record<string, readonly string[]>> = {
  PutObject: WRITE,
  PostObject: WRITE,
  CopyObject: WRITE,
  CreateMultipartUpload: WRITE,
  CreateBucket: [...GRANTS, 'x-amz-bucket-object-lock-enabled', 'x-amz-object-ownership'],
  DeleteObject: REMOVAL,
  DeleteObjects: REMOVAL,
  PutObjectAcl: ['content-type', ...GRANTS],
  PutBucketAcl: ['content-type', ...GRANTS],
  PutObjectRetention: ['content-type', 'x-amz-bypass-governance-retention'],
  PutBucketVersioning: ['content-type', 'x-amz-mfa'],
  PutObjectLockConfiguration: ['content-type', 'x-amz-bucket-object-lock-token'],
  PutBucketPolicy: ['content-type', 'x-amz-confirm-remove-self-bucket-access'],
  PutBucketNotificationConfiguration: ['content-type', 'x-amz-skip-destination-validation'],
  PutBucketLifecycleConfiguration: ['content-type', 'x-amz-transition-default-minimum-object-size'],
};
const FORWARD_REQUEST = ['content-type'] as const;
const KEEPS_METADATA: ReadonlySet<string> = new Set(['PutObject', 'PostObject', 'CopyObject', 'CreateMultipartUpload']);

const VERSION = ['x-amz-version-id', 'x-amz-delete-marker', 'x-amz-request-charged'] as const;
const READ_RESPONSE = [
  ...CONTENT,
  ...VERSION,
  ...LOCK,
  'accept-ranges',
  'last-modified',
  'x-amz-archive-status',
  'x-amz-expiration',
  'x-amz-missing-meta',
  'x-amz-replication-status',
  'x-amz-restore',
  'x-amz-storage-class',
  'x-amz-tagging-count',
  'x-amz-website-redirect-location',
] as const;
const RESPONSE: Readonly<Record<string, readonly string[]>> = {
  GetObject: READ_RESPONSE,
  HeadObject: READ_RESPONSE,
  PutObject: [...VERSION, 'x-amz-expiration'],
};
const OTHER_RESPONSE = [...VERSION, 'content-type', 'x-amz-transition-default-minimum-object-size'] as const;

/** Set once: names are looked up for every header of every request. */
const REQUEST_SETS = new Map(Object.entries(REQUEST).map(([name, list]) => [name, new Set([...COMMON, ...list])]));
const FORWARD_SET: ReadonlySet<string> = new Set([...COMMON, ...FORWARD_REQUEST]);
const COMMON_SET: ReadonlySet<string> = new Set(COMMON);
const RESPONSE_SETS = new Map(Object.entries(RESPONSE).map(([name, list]) => [name, new Set(list)]));
const OTHER_RESPONSE_SET: ReadonlySet<string> = new Set(OTHER_RESPONSE);

/**
 * The client's headers that go to the store with this operation. `envelopeHeader` is ours alone: a client that sets it
 * is refused. User metadata beyond what the envelope leaves of the stores' limit is MetadataTooLarge.
 */
export function requestHeadersFor(row: OperationRow, headers: Headers, envelopeHeader: string): Record<string, string> {
  const allowed = REQUEST_SETS.get(row.name) ?? (row.mode === 'forward' ? FORWARD_SET : COMMON_SET);
  const metadata = KEEPS_METADATA.has(row.name);
  const hop = connectionNames(headers);
  const out: Record<string, string> = {};
  for (const name of Object.keys(headers)) {
    if (!allowed.has(name) && !(metadata && isUserMetadata(name, envelopeHeader))) continue;
    // Connection need not be signed: passed over, it would let the holder of a presigned URL strike out what was.
    if (hop.has(name)) throw new ServiceError('InvalidRequest', { message: `Connection may not name ${name}.` });
    out[name] = headers[name] ?? '';
  }
  if (metadata) {
    assertMetadataSize(out, envelopeHeader);
    setContentEncoding(out);
  }
  return out;
}

/**
 * The store's headers that go to the client. None of the lists holds a header of one hop, and what the store's
 * Connection names counts for nothing: it could take verified metadata (Content-Disposition) out of the answer.
 */
export function responseHeadersFor(
  row: OperationRow,
  headers: Headers,
  envelopeHeader: string,
): Record<string, string> {
  const allowed = RESPONSE_SETS.get(row.name) ?? OTHER_RESPONSE_SET;
  const metadata = row.name === 'GetObject' || row.name === 'HeadObject';
  const out: Record<string, string> = {};
  for (const name of Object.keys(headers)) {
    if (!allowed.has(name) && !(metadata && name.startsWith(USER_METADATA) && name !== envelopeHeader)) continue;
    out[name] = headers[name] ?? '';
  }
  return out;
}

function isUserMetadata(name: string, envelopeHeader: string): boolean {
  if (!name.startsWith(USER_METADATA)) return false;
  if (name !== envelopeHeader) return true;
  throw new ServiceError('InvalidArgument', {
    message: `The metadata name ${envelopeHeader.slice(USER_METADATA.length)} is reserved.`,
    reason: 'reserved-metadata',
  });
}

/** Names and values as AWS counts them: without the prefix, in bytes (Node's header strings hold one byte a character). */
export function assertMetadataSize(headers: Headers, envelopeHeader: string): void {
  let size = 0;
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith(USER_METADATA)) size += name.length - USER_METADATA.length + value.length;
  }
  const reserved = ENVELOPE_RESERVE + envelopeHeader.length - USER_METADATA.length;
  if (size > METADATA_LIMIT - reserved) throw new ServiceError('MetadataTooLarge');
}

/** `aws-chunked` is the framing of this request, not of the object; every other coding is the client's own. */
function setContentEncoding(out: Record<string, string>): void {
  const value = out['content-encoding'];
  if (value === undefined || !/aws-chunked/i.test(value)) return;
  const codings = value.split(',').map((coding) => coding.trim());
  const kept = codings.filter((coding) => coding !== '' && coding.toLowerCase() !== 'aws-chunked');
  if (kept.length > 0) out['content-encoding'] = kept.join(', ');
  else delete out['content-encoding'];
}

/** RFC 9110 section 7.6.1: what Connection names is for this hop only. */
const NO_NAMES: ReadonlySet<string> = new Set();

function connectionNames(headers: Headers): ReadonlySet<string> {
  const { connection } = headers;
  if (connection === undefined) return NO_NAMES;
  return new Set(connection.split(',').map((name) => name.trim().toLowerCase()));
}
