import { ServiceError } from '../../errors.ts';
import { checksumHeader, checksumPlan } from '../../s3/checksum.ts';
import { unquote } from '../../s3/multipart.ts';
import type { UploadPart } from '../../s3/operation.ts';
import type { Checksum } from '../../sse/format.ts';
import type { ObjectKey } from '../../sse/key.ts';
import { PartSealer } from '../../sse/object.ts';
import { ASIDE_ID_LENGTH } from '../../sse/part-record.ts';
import { credentials } from '../calls.ts';
import type { BucketExchange, Reply } from '../exchange.ts';
import { assertCommittable, endOfStreams, openPartKey, placeOf } from '../keys.ts';
import { MAX_PUT } from '../objects/put.ts';
import { sealBody, type SealedBody, type SealJob } from '../objects/seal-body.ts';
import { partSse, sseAnswer } from '../sse.ts';
import { assertDone } from '../store-errors.ts';
import { storePlace } from '../target.ts';
import type { Upload } from './records.ts';

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

/** Where an attempt goes, and under what. */
export interface Part extends Pick<SealJob, 'length'> {
  readonly x: BucketExchange;
  readonly key: string;
  readonly uploadId: string;
  readonly partNumber: number;
  readonly upload: Upload;
  readonly objectKey: ObjectKey;
  readonly begun: Parameters<typeof assertCommittable>[1];
}

export interface PartJob extends Part, Pick<SealJob, 'plan' | 'collected' | 'ended'> {}

/** One attempt: fresh randomness, and where its bytes go. */
export interface PartAttempt extends Pick<SealJob, 'request' | 'assertCommittable'> {
  readonly sealer: PartSealer;
  readonly asideId: Buffer | undefined;
}

export interface Acknowledged {
  readonly etag: string;
  readonly time: Date;
  readonly checksum: Checksum | undefined;
}

/** Seals one attempt, and writes its record: from then on its ETag names it. */
export async function sealPart(job: PartJob): Promise<Acknowledged> {
  const attempt = attemptOf(job);
  return acknowledge(job, attempt, await sealBody({ ...job, ...attempt, headers: () => ({}) }));
}

export function attemptOf(part: Part): PartAttempt {
  const { x, upload, objectKey, partNumber, length } = part;
  const { uploads, entropy } = x.rooms;
  const asideId = liesAside(partNumber, length) ? entropy(ASIDE_ID_LENGTH) : undefined;
  const { objectId } = upload.envelope;
  return {
    asideId,
    sealer: new PartSealer({ objectKey, objectId, partNumber, length, entropy }),
    request: asideId === undefined ? storePart(part) : uploads.asidePlace(upload, asideId),
    assertCommittable: () => assertCommittable(x, part.begun),
  };
}

export async function acknowledge(part: Part, attempt: PartAttempt, sealed: SealedBody): Promise<Acknowledged> {
  const { x, upload, partNumber, length } = part;
  const { asideId, sealer } = attempt;
  const { response, checksum } = sealed;
  await assertDone(response, 'NoSuchUpload');
  const storeEtag = unquote(response.headers.etag ?? '');
  // Without it no Complete could name the part.
  if (storeEtag === '' && asideId === undefined) throw new ServiceError('ServiceUnavailable', { reason: 'store-etag' });
  const time = x.rooms.clock();
  const { floeIv, headerTag } = sealer;
  const record = { partNumber, length, time: time.getTime(), floeIv, headerTag, checksum, asideId, storeEtag };
  return { etag: await x.rooms.uploads.addPart(upload, record), time, checksum };
}

/** A short part can only be the last one, and would no longer be the store's last with a manifest behind it. */
export function liesAside(partNumber: number, length: number): boolean {
  return length < MIN_PART || partNumber === TAIL_PART;
}

function storePart({ x, key, partNumber, uploadId }: Part): SealJob['request'] {
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
