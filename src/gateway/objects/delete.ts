import type { BucketRecord } from '../../control/buckets.ts';
import { ERRORS, type ErrorCode } from '../../errors.ts';
import {
  DELETE_BODY_LIMIT,
  formatDeleteRequest,
  formatDeleteResult,
  parseDeleteObjects,
  parseDeleteResult,
  type DeleteEntry,
  type DeleteOutcome,
} from '../../s3/delete-objects.ts';
import { isStoreId } from '../../s3/names.ts';
import type { DeleteObject, DeleteObjects } from '../../s3/operation.ts';
import { toStoreEtag } from '../../sse/etag.ts';
import { mayDelete } from '../authorize.ts';
import { ANSWER_LIMIT, callStore, smallBody } from '../calls.ts';
import { deleteConditions } from '../conditions.ts';
import type { BucketExchange, Exchange, Reply } from '../exchange.ts';
import { forwardedRequest, answerHeaders } from '../headers.ts';
import { assertDone, storeError } from '../store-errors.ts';
import { storePlace } from '../target.ts';
import { versionQuery } from './versions.ts';
import { contentMd5, XML } from '../xml-body.ts';

/** DeleteObject needs no key: it works while the service is stopped. */
export async function deleteObject(x: BucketExchange<DeleteObject>): Promise<Reply> {
  const { versionId } = x.op;
  const response = await callStore(x, {
    method: 'DELETE',
    ...storePlace(x.bucket, x.op.key),
    query: versionQuery(versionId),
    headers: { ...forwardedRequest(x), ...deleteConditions(x.caller.request.headers, x.rooms.store.traits) },
  });
  await assertDone(response, versionId === undefined ? 'NoSuchKey' : 'NoSuchVersion');
  return { status: 204, headers: answerHeaders(x, response.headers) };
}

/**
 * DeleteObjects: each key is a right of its own, and an outcome of its own. The bucket is looked up after the rights:
 * who may delete nothing in it learns nothing of it, and makes no record of it.
 */
export async function deleteObjects(x: Exchange<DeleteObjects>, bucketOf: () => Promise<BucketRecord>): Promise<Reply> {
  const request = parseDeleteObjects(await smallBody(x, DELETE_BODY_LIMIT));
  const outcomes: DeleteOutcome[] = [];
  const wanted: DeleteEntry[] = [];
  for (const entry of request.objects) {
    const refusal = refuseEntry(x, entry);
    if (refusal === undefined) wanted.push(entry);
    else outcomes.push(failure(entry, refusal));
  }
  const denied = outcomes.filter((outcome) => outcome.kind === 'error' && outcome.code === 'AccessDenied').length;
  if (denied > 0) x.entry.add({ note: `denied for ${denied} of ${request.objects.length} objects` });
  if (wanted.length > 0) outcomes.push(...(await deleteAtStore({ ...x, bucket: await bucketOf() }, wanted)));
  return { status: 200, headers: XML, body: formatDeleteResult(outcomes, request.quiet) };
}

function refuseEntry(x: Exchange<DeleteObjects>, entry: DeleteEntry): ErrorCode | undefined {
  if (!mayDelete(x, x.op.bucket, entry.key, entry.versionId)) return 'AccessDenied';
  if (entry.versionId !== undefined && !isStoreId(entry.versionId)) return 'NoSuchVersion';
  // Sizes at the store are sealed ones, and conditions on a batch are honoured by few stores: refuse, do not pass over.
  const conditional = entry.etag !== undefined || entry.size !== undefined || entry.lastModifiedTime !== undefined;
  if (entry.etag !== undefined && toStoreEtag(entry.etag) === undefined) return 'PreconditionFailed';
  return conditional ? 'NotImplemented' : undefined;
}

async function deleteAtStore(
  x: BucketExchange<DeleteObjects>,
  wanted: readonly DeleteEntry[],
): Promise<DeleteOutcome[]> {
  const { bucket, prefix } = x.bucket.target;
  const body = Buffer.from(formatDeleteRequest(wanted.map((entry) => ({ ...entry, key: prefix + entry.key }))));
  const headers = { ...forwardedRequest(x), ...XML, ...contentMd5(body) };
  const response = await callStore(x, { method: 'POST', bucket, query: [['delete', '']], headers, body });
  if (response.status !== 200) throw await storeError(response, 'NoSuchBucket');
  const told = parseDeleteResult(await response.collect(ANSWER_LIMIT));
  const named = (key: string, versionId: string | undefined) => `${versionId ?? ''}\0${key}`;
  const results = new Map(told.map((result) => [named(result.key, result.versionId), result]));
  return wanted.map((entry) => {
    const result = results.get(named(prefix + entry.key, entry.versionId));
    // A key that the store says nothing of is not known to be gone.
    if (result === undefined) return failure(entry, 'InternalError');
    const { errorCode, deleteMarker, deleteMarkerVersionId } = result;
    if (errorCode !== undefined)
      return failure(entry, Object.hasOwn(ERRORS, errorCode) ? (errorCode as ErrorCode) : 'InternalError');
    return {
      kind: 'deleted',
      key: entry.key,
      ...(entry.versionId === undefined ? {} : { versionId: entry.versionId }),
      ...(deleteMarker === undefined ? {} : { deleteMarker }),
      ...(deleteMarkerVersionId === undefined ? {} : { deleteMarkerVersionId }),
    };
  });
}

function failure(entry: DeleteEntry, code: ErrorCode): DeleteOutcome {
  const version = entry.versionId === undefined ? {} : { versionId: entry.versionId };
  return { kind: 'error', key: entry.key, ...version, code, message: ERRORS[code].message };
}
