import { ServiceError, type ErrorCode } from '../../errors.ts';
import type { Forward } from '../../s3/operation.ts';
import type { StoreResponse } from '../../store/port.ts';
import { ANSWER_LIMIT, callStore, smallBody } from '../calls.ts';
import type { BucketExchange, Reply } from '../exchange.ts';
import { answerHeaders, forwardedRequest } from '../headers.ts';
import { refuseErrorIn, storeError } from '../store-errors.ts';
import { storePlace } from '../target.ts';
import { contentMd5, XML } from '../xml-body.ts';

/** Bodies of tagging, ACL, lifecycle and the like (AWS's own limits are smaller). */
const BODY_LIMIT = 1024 * 1024;

/** What a 404 without a known code means. */
function missing(op: Forward): ErrorCode {
  if (op.key === undefined) return 'NoSuchBucket';
  return op.versionId === undefined ? 'NoSuchKey' : 'NoSuchVersion';
}

/** Settings of the store's bucket that are true of each object in it, wherever that is mapped. */
const OF_OBJECTS: ReadonlySet<string> = new Set(['GetBucketVersioning', 'GetObjectLockConfiguration']);

/** An operation of the list in s3/rows.ts that moves no object bytes: verified, re-signed, its body's hash our own. */
export async function forward(x: BucketExchange<Forward>): Promise<Reply> {
  const { op, bucket } = x;
  // A setting of the store's bucket would hold for everybody whose bucket is mapped into it.
  if (op.key === undefined && bucket.target.prefix !== '' && !OF_OBJECTS.has(op.name)) {
    throw new ServiceError('NotImplemented', {
      message: 'The bucket is a part of a bucket at the store, which has no such settings of its own.',
      reason: 'mapped-bucket-setting',
    });
  }
  const sent = await smallBody(x, BODY_LIMIT);
  const response = await callStore(x, {
    method: op.row.method,
    ...(op.key === undefined ? { bucket: bucket.target.bucket } : storePlace(bucket, op.key)),
    query: op.query,
    headers: { ...forwardedRequest(x), ...(sent.length === 0 ? {} : contentMd5(sent)) },
    ...(op.row.method === 'GET' || op.row.method === 'HEAD' ? {} : { body: sent }),
  });
  if (response.status >= 300) throw await storeError(response, missing(op));
  const body = await response.collect(ANSWER_LIMIT);
  refuseErrorIn(body);
  return { status: response.status, headers: { ...answerHeaders(x, response.headers), ...typeOf(response) }, body };
}

/** Configurations are XML, policies are JSON: a store does not get to say that its answer is a page. */
function typeOf({ headers }: StoreResponse): Record<string, string> {
  const type = headers['content-type'];
  if (type === undefined || /^(?:application|text)\/(?:xml|json|plain)(?:;|$)/.test(type)) return {};
  return XML;
}
