import { ServiceError } from '../../errors.ts';
import { formatListParts, mapUploads, storeUploadsQuery, type ShownPart } from '../../s3/multipart.ts';
import type { AbortMultipartUpload, ListMultipartUploads, ListParts } from '../../s3/operation.ts';
import type { KnownPart } from '../../sse/part-record.ts';
import { ANSWER_LIMIT, callStore, credentials } from '../calls.ts';
import type { BucketExchange, Reply } from '../exchange.ts';
import { placeOf } from '../keys.ts';
import { assertDone, storeError } from '../store-errors.ts';
import { storePlace } from '../target.ts';
import { XML } from '../xml-body.ts';

/** From the records: some stores list parts that were cut off, and none knows plaintext sizes. */
export async function listParts(x: BucketExchange<ListParts>): Promise<Reply> {
  const { op, rooms } = x;
  const upload = await rooms.uploads.load(placeOf(x, op.key), op.uploadId, true);
  if (upload === undefined) throw new ServiceError('NoSuchUpload');
  // By number, then by time: the last attempt of a number stays.
  const latest = new Map((await rooms.uploads.parts(upload)).map((part) => [part.partNumber, part]));
  const after = [...latest.values()].filter(({ partNumber }) => partNumber > op.partNumberMarker);
  const page = after.slice(0, op.maxParts);
  const body = formatListParts(op, page.map(shown), {
    truncated: op.maxParts > 0 && after.length > page.length,
    owner: x.caller.identity.name,
    checksum: upload.record.checksum,
  });
  return { status: 200, headers: XML, body };
}

function shown({ partNumber, time, etag, length, checksum }: KnownPart): ShownPart {
  const told =
    checksum === undefined ? undefined : { algorithm: checksum.algorithm, text: checksum.value.toString('base64') };
  return { partNumber, lastModified: new Date(time).toISOString(), etag, size: length, checksum: told };
}

export async function listMultipartUploads(x: BucketExchange<ListMultipartUploads>): Promise<Reply> {
  const { bucket, prefix } = x.bucket.target;
  const response = await callStore(x, { method: 'GET', bucket, query: storeUploadsQuery(x.op, prefix) });
  if (response.status !== 200) throw await storeError(response, 'NoSuchBucket');
  const body = mapUploads(x.op, await response.collect(ANSWER_LIMIT), prefix, x.caller.identity.name);
  return { status: 200, headers: XML, body };
}

/** Needs no key: it works while the service is stopped. */
export async function abortMultipartUpload(x: BucketExchange<AbortMultipartUpload>): Promise<Reply> {
  const { op, rooms } = x;
  const place = placeOf(x, op.key);
  const known = await rooms.uploads.load(place, op.uploadId, true).catch(() => undefined);
  const request = { ...storePlace(x.bucket, op.key), query: [['uploadId', op.uploadId]] as const, ...credentials(x) };
  const response = await rooms.store.request({ method: 'DELETE', ...request });
  const gone = response.status === 204 || response.status === 200;
  if (!gone && response.status !== 404) throw await storeError(response, 'NoSuchUpload');
  if (gone) await assertDone(response);
  else response.discard();
  // Where the store's own lifecycle was first, what is left is ours to remove.
  if (known === undefined && !gone) throw new ServiceError('NoSuchUpload');
  await rooms.uploads.clear(place, op.uploadId);
  return { status: 204, headers: {} };
}
