import { ServiceError } from '../errors.ts';
import { checksumHeader, checksumPlan } from '../s3/checksum.ts';
import { unquote } from '../s3/multipart.ts';
import type { UploadPart } from '../s3/operation.ts';
import type { Checksum } from '../sse/format.ts';
import { PartSealer } from '../sse/object.ts';
import { ASIDE_ID_LENGTH } from '../sse/part-record.ts';
import { credentials } from './calls.ts';
import type { BucketExchange, Reply } from './exchange.ts';
import { assertCommittable, endOfStreams, openPartKey, placeOf } from './keys.ts';
import { MAX_PUT } from './put.ts';
import { sealBody, type SealJob } from './seal-body.ts';
import { partSse, sseAnswer } from './sse.ts';
import { assertDone } from './store-errors.ts';
import { storePlace } from './target.ts';

/** AWS "multipart upload limits": of plaintext, for every part but the last. */
export const MIN_PART = 5 * 1024 ** 2;

/** The store's highest part number belongs to the tail: never a number under which a client's part could lie. */
export const TAIL_PART = 10_000;

/** Each attempt is sealed under randomness of its own, and acknowledged only when its record has been written. */
export async function uploadPart(x: BucketExchange<UploadPart>): Promise<Reply> {
  const { op, caller, rooms } = x;
  const { uploads, entropy, keys } = rooms;
  const length = caller.contentLength;
  if (length > MAX_PUT) throw new ServiceError('EntityTooLarge');
  const sse = partSse(x);
  // A short part can only be the last one, and would no longer be the store's last with a manifest behind it.
  const asideId = length < MIN_PART || op.partNumber === TAIL_PART ? entropy(ASIDE_ID_LENGTH) : undefined;
  const upload = await uploads.load(placeOf(x, op.key), op.uploadId, asideId !== undefined);
  if (upload === undefined) throw new ServiceError('NoSuchUpload');
  const { envelope, record } = upload;
  const plan = checksumPlan(caller.request.headers, record.checksum?.algorithm);
  const ended = endOfStreams(x, envelope.mode);
  const begun = { mode: envelope.mode, epoch: keys.epoch() };
  const objectKey = (await openPartKey(x, envelope, sse)).objectKey;
  const { objectId } = envelope;
  const sealer = new PartSealer({ objectKey, objectId, partNumber: op.partNumber, length, entropy });
  const { response, checksum } = await sealBody({
    x,
    plan,
    sealer,
    length,
    request: asideId === undefined ? storePart(x) : uploads.asidePlace(upload, asideId),
    headers: () => ({}),
    assertCommittable: () => assertCommittable(x, begun),
    ended,
  });
  await assertDone(response, 'NoSuchUpload');
  const storeEtag = unquote(response.headers.etag ?? '');
  // Without it no Complete could name the part.
  if (storeEtag === '' && asideId === undefined) throw new ServiceError('ServiceUnavailable', { reason: 'store-etag' });
  const etag = await uploads.addPart(upload, {
    partNumber: op.partNumber,
    length,
    time: rooms.clock().getTime(),
    floeIv: sealer.floeIv,
    headerTag: sealer.headerTag,
    checksum,
    asideId,
    storeEtag,
  });
  const customer = sse.mode === 'SSE-C' ? sse : undefined;
  const headers = { etag: `"${etag}"`, ...partChecksum(checksum), ...sseAnswer(x, envelope, 'part', customer) };
  return { status: 200, headers };
}

function storePart(x: BucketExchange<UploadPart>): SealJob['request'] {
  const { key, partNumber, uploadId } = x.op;
  const query = [
    ['partNumber', String(partNumber)],
    ['uploadId', uploadId],
  ] as const;
  return { ...storePlace(x.bucket, key), query, ...credentials(x) };
}

/** A part has no parts: its checksum has no type. */
function partChecksum(checksum: Checksum | undefined): Record<string, string> {
  if (checksum === undefined) return {};
  return { [checksumHeader(checksum.algorithm)]: checksum.value.toString('base64') };
}
