import { ERRORS, ServiceError, type ErrorCode } from '../errors.ts';
import { parseErrorCode } from '../s3/xml.ts';
import type { StoreHeaders, StoreResponse } from '../store/port.ts';

/** The store's error codes that a client is told; every other one is ours to hide. The store's words never pass. */
const RELAYED: ReadonlySet<string> = new Set<ErrorCode>([
  'BucketAlreadyExists',
  'BucketAlreadyOwnedByYou',
  'BucketNotEmpty',
  'ConditionalRequestConflict',
  'EntityTooLarge',
  'IllegalVersioningConfigurationException',
  'InvalidArgument',
  'InvalidBucketName',
  'InvalidBucketState',
  'InvalidObjectState',
  'InvalidRange',
  'InvalidRequest',
  'InvalidRetentionPeriod',
  'InvalidStorageClass',
  'InvalidTag',
  'InvalidURI',
  'KeyTooLongError',
  'MalformedACLError',
  'MalformedPolicy',
  'MalformedXML',
  'MethodNotAllowed',
  'NoSuchBucket',
  'NoSuchBucketPolicy',
  'NoSuchCORSConfiguration',
  'NoSuchKey',
  'NoSuchLifecycleConfiguration',
  'NoSuchObjectLockConfiguration',
  'NoSuchPublicAccessBlockConfiguration',
  'NoSuchTagSet',
  'NoSuchUpload',
  'NoSuchVersion',
  'NoSuchWebsiteConfiguration',
  'NotImplemented',
  'ObjectLockConfigurationNotFoundError',
  'OperationAborted',
  'OwnershipControlsNotFoundError',
  'PreconditionFailed',
  'ReplicationConfigurationNotFoundError',
  'SlowDown',
  'TooManyBuckets',
]);

/** What a bare status means where there is no body to read a code from (HEAD, 304). */
const BY_STATUS: Readonly<Record<number, ErrorCode>> = {
  304: 'NotModified',
  403: 'AccessDenied',
  404: 'NoSuchKey',
  405: 'MethodNotAllowed',
  409: 'OperationAborted',
  412: 'PreconditionFailed',
  416: 'InvalidRange',
  429: 'SlowDown',
  501: 'NotImplemented',
  503: 'SlowDown',
};

const ERROR_BODY_LIMIT = 64 * 1024;
const NONE: ReadonlyMap<string, ErrorCode> = new Map();

/**
 * Reads the store's refusal and says it in our words. `missing` is what a bare 404 means to this operation; where it is
 * a version that is missing, radosgw says so with NoSuchKey. `own` are codes that this operation reads in its own way.
 */
export async function storeError(
  response: StoreResponse,
  missing: ErrorCode = 'NoSuchKey',
  own: ReadonlyMap<string, ErrorCode> = NONE,
): Promise<ServiceError> {
  const { status } = response;
  const told = await response.collect(ERROR_BODY_LIMIT).then(parseErrorCode, () => undefined);
  const code = told === 'NoSuchKey' && missing === 'NoSuchVersion' ? missing : told;
  const relayed =
    code !== undefined && RELAYED.has(code) && Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : undefined;
  // RFC 9110 section 15.5.13: a condition did not hold, whatever a store calls it (OpenStack Swift: InvalidRequest).
  const known = own.get(code ?? '') ?? (status === 412 ? 'PreconditionFailed' : relayed);
  const bare = status === 404 ? missing : refusesName(status, code) ? 'InvalidRequest' : BY_STATUS[status];
  const headers = markerHeaders(status, response.headers);
  if (known ?? bare) return new ServiceError(known ?? bare ?? 'InternalError', { reason: `store-${status}`, headers });
  return new ServiceError(status >= 500 ? 'ServiceUnavailable' : 'InternalError', { reason: `store-${status}` });
}

/**
 * A write is done when the store says so and nothing else: some begin a 200 before they know the end, and put an Error
 * into its body (AWS says it of Complete and of copies).
 */
export async function assertDone(response: StoreResponse, missing?: ErrorCode): Promise<void> {
  if (response.status !== 200 && response.status !== 204) throw await storeError(response, missing);
  refuseErrorIn(await response.collect(ERROR_BODY_LIMIT));
}

/** Throws what an Error says that stands in the body of a success. */
export function refuseErrorIn(body: Buffer): void {
  const code = errorIn(body);
  if (code === undefined) return;
  const known = RELAYED.has(code) && Object.hasOwn(ERRORS, code);
  throw new ServiceError(known ? (code as ErrorCode) : 'ServiceUnavailable', { reason: 'store-200' });
}

/** Its Code; undefined where the body is anything else. */
export function errorIn(body: Buffer): string | undefined {
  return body.includes('<Error') ? parseErrorCode(body) : undefined;
}

/** What AWS says of a delete marker beside 404 (it is the latest) and 405 (it was named by its version). */
function markerHeaders(status: number, headers: StoreHeaders): Record<string, string> {
  if (headers['x-amz-delete-marker'] !== 'true') return {};
  const { 'last-modified': modified, 'x-amz-version-id': version } = headers;
  return {
    'x-amz-delete-marker': 'true',
    ...(version === undefined ? {} : { 'x-amz-version-id': version }),
    ...(modified === undefined ? {} : { 'Last-Modified': modified }),
    ...(status === 405 ? { Allow: 'DELETE' } : {}),
  };
}

/**
 * Stores whose keys are paths refuse some with codes of their own, or with none. What S3 itself calls a bad request is
 * about our signature or our framing, and never the client's business.
 */
function refusesName(status: number, code: string | undefined): boolean {
  return status === 400 && (code === undefined || !Object.hasOwn(ERRORS, code));
}
