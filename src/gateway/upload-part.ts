import { ServiceError } from '../errors.ts';
import { checksumHeader, checksumPlan } from '../s3/checksum.ts';
import { unquote } from '../s3/multipart.ts';
import type { UploadPart } from '../s3/operation.ts';
import type { Checksum } from '../sse/format.ts';
import type { ObjectKey } from '../sse/key.ts';
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
import type { Upload } from './uploads.ts';

/** AWS "multipart upload limits": of plaintext, for every part but the last. */
export const MIN_PART = 5 * 1024 ** 2;

/** The store's highest part number belongs to the tail: never a number under which a client's part could lie. */
export const TAIL_PART = 10_000;

/** Each attempt is sealed under randomness of its own, and acknowledged only when its record has been written. */
export async function uploadPart(x: BucketExchange<UploadPart>): Promise<Reply> {
  const { op, caller, rooms } = x;
  const { uploads, keys } = rooms;
  const length = caller.contentLength;
  if (length > MAX_PUT) throw new ServiceError('EntityTooLarge');
  const sse = partSse(x);
  const upload = await uploads.load(placeOf(x, op.key), op.uploadId, liesAside(op.partNumber, length));
  if (upload === undefined) throw new ServiceError('NoSuchUpload');
  const { envelope, record } = upload;
  const plan = checksumPlan(caller.request.headers, record.checksum?.algorithm);
  const ended = endOfStreams(x, envelope.mode);
  const begun = { mode: envelope.mode, epoch: keys.epoch() };
  const { objectKey } = await openPartKey(x, envelope, sse);
  const { etag, checksum } = await sealPart({ x, ...op, upload, begun, objectKey, plan, length, ended });
  const customer = sse.mode === 'SSE-C' ? sse : undefined;
  const headers = { etag: `"${etag}"`, ...partChecksum(checksum), ...sseAnswer(x, envelope, 'part', customer) };
  return { status: 200, headers };
}

export interface PartJob extends Pick<SealJob, 'plan' | 'length' | 'collected' | 'ended'> {
  readonly x: BucketExchange;
  readonly key: string;
  readonly uploadId: string;
  readonly partNumber: number;
  readonly upload: Upload;
  readonly objectKey: ObjectKey;
  readonly begun: Parameters<typeof assertCommittable>[1];
}

/** Seals one attempt, and writes its record: from then on its ETag names it. */
export async function sealPart(
  job: PartJob,
): Promise<{ readonly etag: string; readonly checksum?: Checksum | undefined }> {
  const { x, upload, objectKey, partNumber, length } = job;
  const { uploads, entropy, clock } = x.rooms;
  const asideId = liesAside(partNumber, length) ? entropy(ASIDE_ID_LENGTH) : undefined;
  const { objectId } = upload.envelope;
  const sealer = new PartSealer({ objectKey, objectId, partNumber, length, entropy });
  const { response, checksum } = await sealBody({
    ...job,
    sealer,
    request: asideId === undefined ? storePart(job) : uploads.asidePlace(upload, asideId),
    headers: () => ({}),
    assertCommittable: () => assertCommittable(x, job.begun),
  });
  await assertDone(response, 'NoSuchUpload');
  const storeEtag = unquote(response.headers.etag ?? '');
  // Without it no Complete could name the part.
  if (storeEtag === '' && asideId === undefined) throw new ServiceError('ServiceUnavailable', { reason: 'store-etag' });
  const etag = await uploads.addPart(upload, {
    partNumber,
    length,
    time: clock().getTime(),
    floeIv: sealer.floeIv,
    headerTag: sealer.headerTag,
    checksum,
    asideId,
    storeEtag,
  });
  return { etag, checksum };
}

/** A short part can only be the last one, and would no longer be the store's last with a manifest behind it. */
function liesAside(partNumber: number, length: number): boolean {
  return length < MIN_PART || partNumber === TAIL_PART;
}

function storePart({ x, key, partNumber, uploadId }: PartJob): SealJob['request'] {
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
