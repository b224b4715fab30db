import { equalBytes } from '../../bytes.ts';
import { integrityError, ServiceError, type ErrorCode } from '../../errors.ts';
import { formatStoreComplete, parseCompleteResult, quote, unquote } from '../../s3/multipart.ts';
import type { CompleteMultipartUpload } from '../../s3/operation.ts';
import { verifyEnvelope } from '../../sse/envelope.ts';
import { readHeader } from '../../sse/floe.ts';
import { ENVELOPE_HEADER, FLOE, PART_PREFIX_LENGTH } from '../../sse/format.ts';
import { partPrefix } from '../../sse/message.ts';
import { Field } from '../../sse/reader.ts';
import { multipartSealedSize, sealedPartLength } from '../../sse/size.ts';
import type { StoreRequest, StoreResponse, StoreUpload } from '../../store/port.ts';
import { ANSWER_LIMIT, credentials } from '../calls.ts';
import type { BucketExchange } from '../exchange.ts';
import { placeOf } from '../keys.ts';
import type { Chosen } from './parts-chosen.ts';
import { assertDone, storeError } from '../store-errors.ts';
import { totalSize } from '../objects/stored.ts';
import { pumpInto } from '../objects/stream.ts';
import { storePlace } from '../target.ts';
import type { Upload } from './records.ts';
import { XML } from '../xml-body.ts';

type Completing = BucketExchange<CompleteMultipartUpload>;

export interface Completed {
  /** The object's at the store, in quotes; empty where it gave none. */
  readonly etag: string;
  /** Empty where there are no versions. */
  readonly versionId: string;
}

interface LastPart {
  readonly partNumber: number;
  readonly etag: string;
}

/** No signal of the client's: what is being committed is committed, whoever waits for it. */
function atKey(x: Completing, query: StoreRequest['query'] = []): Omit<StoreRequest, 'method'> {
  return { ...storePlace(x.bucket, x.op.key), query, ...credentials(x) };
}

/** The store's last part: the part that was put aside, if there is one, and the tail. */
export async function sendTail(
  x: Completing,
  upload: Upload,
  { aside, tailNumber }: Pick<Chosen, 'aside' | 'tailNumber'>,
  tail: readonly Buffer[],
): Promise<LastPart> {
  const request = atKey(x, [
    ['partNumber', String(tailNumber)],
    ['uploadId', x.op.uploadId],
  ]);
  const response =
    aside === undefined
      ? await x.rooms.store.request({ ...request, method: 'PUT', body: Buffer.concat(tail) })
      : await sendAside(x, upload, aside, tail, request);
  await assertDone(response, 'NoSuchUpload');
  const etag = unquote(response.headers.etag ?? '');
  if (etag === '') throw new ServiceError('ServiceUnavailable', { reason: 'store-etag' });
  return { partNumber: tailNumber, etag };
}

async function sendAside(
  x: Completing,
  upload: Upload,
  aside: NonNullable<Chosen['aside']>,
  tail: readonly Buffer[],
  request: Omit<StoreRequest, 'method'>,
): Promise<StoreResponse> {
  const length = sealedPartLength(aside.length);
  const source = await x.rooms.uploads.readAside(upload, aside.asideId);
  if (source.headers['content-length'] !== String(length)) {
    source.discard();
    throw integrityError('part-aside');
  }
  const total = tail.reduce((sum, bytes) => sum + bytes.length, length);
  const target = x.rooms.store.upload(request, total);
  try {
    await pass(source, target, aside);
    // Copies, because what is written is freed, and the tail may have to be sent once more.
    for (const bytes of tail) target.write(Buffer.from(bytes));
    target.end();
    return await target.response;
  } catch (err) {
    target.destroy();
    throw err;
  }
}

/** Nothing of it can be opened here; but it begins as the record says, or it is not the attempt that was acknowledged. */
async function pass(source: StoreResponse, target: StoreUpload, aside: NonNullable<Chosen['aside']>): Promise<void> {
  const head = new Field(PART_PREFIX_LENGTH + FLOE.headerLength);
  const write = (chunk: Buffer): boolean => {
    if (!head.full) head.fill(chunk, 0);
    // The store's buffer may be part of a larger one: what is given away is our own.
    return target.write(Buffer.from(chunk));
  };
  await pumpInto(source, { write, drained: () => target.drained() });
  const prefix = head.bytes.subarray(0, PART_PREFIX_LENGTH);
  const { iv, headerTag } = readHeader(head.bytes.subarray(PART_PREFIX_LENGTH));
  const right =
    equalBytes(prefix, partPrefix(aside.partNumber, aside.length)) &&
    equalBytes(iv, aside.floeIv) &&
    equalBytes(headerTag, aside.headerTag);
  if (!right) throw integrityError('part-aside');
}

/** The store's own Complete. Some answer 200 and then an error in the body. */
export async function completeAtStore(
  x: Completing,
  parts: readonly LastPart[],
  conditions: Readonly<Record<string, string>>,
): Promise<Completed> {
  const body = Buffer.from(formatStoreComplete(parts));
  const request = atKey(x, [['uploadId', x.op.uploadId]]);
  const headers = { ...XML, ...conditions };
  const response = await x.rooms.store.request({ ...request, method: 'POST', headers, body });
  if (response.status !== 200) throw await storeError(response, 'NoSuchUpload', CHANGED);
  const result = parseCompleteResult(await response.collect(ANSWER_LIMIT));
  if ('code' in result) throw errorInBody(result.code);
  return { etag: quote(result.etag), versionId: response.headers['x-amz-version-id'] ?? '' };
}

/** Part sizes and ETags are ours to judge, and were judged: what the store means is that a part has changed since. */
const CHANGED: ReadonlyMap<string, ErrorCode> = new Map([
  ['InvalidPart', 'InvalidPart'],
  ['InvalidPartOrder', 'InvalidPart'],
  ['EntityTooSmall', 'InvalidPart'],
]);

function errorInBody(code: string): ServiceError {
  if (code === 'NoSuchUpload' || code === 'PreconditionFailed') return new ServiceError(code);
  const changed = CHANGED.get(code);
  if (changed !== undefined) return new ServiceError(changed);
  return new ServiceError('ServiceUnavailable', { reason: 'store-complete' });
}

export type Found =
  | ({ readonly state: 'ours' } & Completed)
  /** Of this upload, by another list. */
  | { readonly state: 'other-list' }
  /** Another object, or none. */
  | { readonly state: 'superseded' };

/**
 * What lies under the key after Complete: manifest, recovery copy and footer must be the very bytes that were sent, and
 * the object of the very size that its `length` of plaintext has.
 */
export async function readBack(
  x: Completing,
  upload: Upload,
  { tail, length }: { readonly tail: readonly Buffer[]; readonly length: number },
  versionId = '',
): Promise<Found> {
  const expected = Buffer.concat(tail.slice(1));
  const query: StoreRequest['query'] = versionId === '' ? [] : [['versionId', versionId]];
  const headers = { range: `bytes=-${expected.length}` };
  const response = await x.rooms.store.request({ ...atKey(x, query), method: 'GET', headers });
  if (response.status === 404 || response.status === 405 || response.status === 416) {
    response.discard();
    return { state: 'superseded' };
  }
  if (response.status !== 206 && response.status !== 200) throw await storeError(response);
  const envelope = response.headers[ENVELOPE_HEADER];
  if (envelope === undefined || !isOf(x, upload, envelope)) {
    response.discard();
    return { state: 'superseded' };
  }
  const whole = totalSize(response) === multipartSealedSize(length);
  const found = await response.collect(expected.length);
  if (!whole || !equalBytes(found, expected)) return { state: 'other-list' };
  const { etag = '', 'x-amz-version-id': version = '' } = response.headers;
  return { state: 'ours', etag: quote(etag), versionId: version };
}

function isOf(x: Completing, upload: Upload, envelope: string): boolean {
  try {
    const { objectId } = verifyEnvelope(envelope, placeOf(x, x.op.key), x.rooms.envelopeKeys);
    return equalBytes(objectId, upload.envelope.objectId);
  } catch {
    return false;
  }
}
