import { ERRORS, ServiceError, type ErrorCode } from '../errors.ts';
import { parseErrorCode } from '../s3/xml.ts';
import type { StoreResponse } from '../store/port.ts';

/** The store's error codes that a client is told; every other one is ours to hide. The store's words never pass. */
const RELAYED: ReadonlySet<string> = new Set<ErrorCode>([
  'BucketAlreadyExists',
  'BucketAlreadyOwnedByYou',
  'BucketNotEmpty',
  'ConditionalRequestConflict',
  'EntityTooLarge',
  'InvalidBucketName',
  'InvalidBucketState',
  'InvalidObjectState',
  'InvalidRange',
  'InvalidRequest',
  'InvalidURI',
  'KeyTooLongError',
  'MalformedXML',
  'MethodNotAllowed',
  'NoSuchBucket',
  'NoSuchKey',
  'NoSuchUpload',
  'NoSuchVersion',
  'NotImplemented',
  'OperationAborted',
  'PreconditionFailed',
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

/** Reads the store's refusal and says it in our words. `missing` is what a bare 404 means to this operation. */
export async function storeError(response: StoreResponse, missing: ErrorCode = 'NoSuchKey'): Promise<ServiceError> {
  const { status } = response;
  const code = await response.collect(ERROR_BODY_LIMIT).then(parseErrorCode, () => undefined);
  const known =
    code !== undefined && RELAYED.has(code) && Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : undefined;
  const bare = status === 404 ? missing : refusesName(status, code) ? 'InvalidRequest' : BY_STATUS[status];
  const headers = response.headers['x-amz-delete-marker'] === 'true' ? { 'x-amz-delete-marker': 'true' } : {};
  if (known ?? bare) return new ServiceError(known ?? bare ?? 'InternalError', { reason: `store-${status}`, headers });
  return new ServiceError(status >= 500 ? 'ServiceUnavailable' : 'InternalError', { reason: `store-${status}` });
}

/**
 * Stores whose keys are paths refuse some with codes of their own, or with none. What S3 itself calls a bad request is
 * about our signature or our framing, and never the client's business.
 */
function refusesName(status: number, code: string | undefined): boolean {
  return status === 400 && (code === undefined || !Object.hasOwn(ERRORS, code));
}
