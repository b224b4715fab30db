import { ServiceError } from '../errors.ts';
import { checksumPlan, type ChecksumPlan } from '../s3/checksum.ts';
import type { PutObject } from '../s3/operation.ts';
import { payloadReader } from '../sigv4/chunked.ts';
import { sealEnvelope } from '../sse/envelope.ts';
import { toClientEtag } from '../sse/etag.ts';
import { ENVELOPE_HEADER, type Checksum } from '../sse/format.ts';
import { metadataDigest } from '../sse/metadata.ts';
import { ObjectSealer } from '../sse/object.ts';
import { buildRecovery } from '../sse/recovery.ts';
import type { StoreHeaders, StoreResponse, StoreUpload } from '../store/port.ts';
import { collectBody, pumpBody } from './body.ts';
import { credentials } from './calls.ts';
import { asChecksum, checksumHeaders } from './checksum.ts';
import { writeConditions } from './conditions.ts';
import type { BucketExchange, Reply } from './exchange.ts';
import { objectHeaders, refuseSlash } from './headers.ts';
import { assertCommittable, endOfStreams, placeOf, sealingKeys, type SealingKeys } from './keys.ts';
import { sseAnswer, writeSse } from './sse.ts';
import { storeError } from './store-errors.ts';
import { storePlace } from './target.ts';

/** 5 GiB less 8 MiB: the sealed object must fit into the store's own limit for one PUT (docs/FORMAT.md section 4). */
const MAX_PUT = 5 * 1024 ** 3 - 8 * 1024 ** 2;

/** Up to here a body is collected, verified and sealed as one buffer. */
const SMALL = 128 * 1024;

interface PutJob {
  readonly x: BucketExchange<PutObject>;
  readonly keys: SealingKeys;
  readonly plan: ChecksumPlan;
  /** What the store keeps beside the body, and what the metadata digest covers. */
  readonly headers: StoreHeaders;
  readonly conditions: StoreHeaders;
  /** T, plaintext bytes. */
  readonly length: number;
  readonly ended: AbortSignal;
}

interface Stored {
  readonly response: StoreResponse;
  readonly checksum: Checksum | undefined;
}

/** PutObject: nothing reaches the store's commit before everything about the payload has been verified. */
export async function putObject(x: BucketExchange<PutObject>): Promise<Reply> {
  const { op, caller, rooms } = x;
  const length = caller.contentLength;
  if (length > MAX_PUT) throw new ServiceError('EntityTooLarge');
  const sse = writeSse(x);
  const plan = checksumPlan(caller.request.headers);
  const headers = objectHeaders(x);
  refuseSlash(x, op.key, length);
  const conditions = writeConditions(caller.request.headers, rooms.store.traits);
  const ended = endOfStreams(x, sse.mode);
  const keys = await sealingKeys(x, sse, placeOf(x, op.key));
  const job = { x, keys, plan, headers, conditions, length, ended };
  const { response, checksum } = await (length <= SMALL ? putSmall(job) : putStreamed(job));
  if (response.status !== 200) throw await storeError(response, 'NoSuchBucket');
  response.discard();
  const { etag = '', 'x-amz-version-id': version } = response.headers;
  if (version !== undefined) x.entry.add({ versionId: version });
  return {
    status: 200,
    headers: {
      etag: toClientEtag(etag),
      ...(version === undefined ? {} : { 'x-amz-version-id': version }),
      ...checksumHeaders(checksum),
      ...sseAnswer(rooms.keys, keys, 'write', sse.mode === 'SSE-C' ? sse : undefined),
    },
  };
}

/** Verified whole, sealed whole, sent with its hash: one request, one buffer. */
async function putSmall(job: PutJob): Promise<Stored> {
  const { x, plan, keys } = job;
  x.body.accept();
  const { bytes, trailers } = await collectBody(x.body.req, payloadReader(x.caller), SMALL, job.ended);
  if (bytes.length !== job.length) throw new ServiceError('IncompleteBody', { reason: 'length' });
  plan.update(bytes);
  const checksum = asChecksum(plan.verify(trailers));
  const sealer = sealerOf(job);
  const sealed = [...sealer.update(bytes), ...sealer.finish()];
  const headers = { ...job.headers, ...job.conditions, ...envelopeHeader(job, sealer, checksum) };
  assertCommittable(x, keys);
  const place = storePlace(x.bucket, x.op.key);
  const body = Buffer.concat(sealed);
  const response = await x.rooms.store.request({ method: 'PUT', ...place, headers, body, ...credentials(x) });
  return { response, checksum };
}

/** Sealed while it passes. A failure anywhere destroys the connection to the store before its end. */
async function putStreamed(job: PutJob): Promise<Stored> {
  const { x, plan, keys } = job;
  const { store } = x.rooms;
  const sealer = sealerOf(job);
  const headers = { ...job.headers, ...job.conditions, ...envelopeHeader(job, sealer, asChecksum(plan.declared)) };
  const request = { ...storePlace(x.bucket, x.op.key), headers, signal: x.signal, ...credentials(x) };
  const upload = store.upload(request, sealer.sealedLength);
  const write = (payload: Buffer): boolean => {
    plan.update(payload);
    return sendAll(upload, sealer.update(payload));
  };
  x.body.accept();
  try {
    const sink = { write, drained: () => upload.drained(), keepsNothing: true };
    const body = pumpBody(x.body.req, payloadReader(x.caller), sink, job.ended);
    const trailers = await beforeAnswer(upload, body);
    const checksum = asChecksum(plan.verify(trailers));
    assertCommittable(x, keys);
    sendAll(upload, sealer.finish(checksum));
    upload.end();
    return { response: await upload.response, checksum };
  } catch (err) {
    upload.destroy();
    throw err;
  }
}

/** The store may refuse before the body has gone (its quota, its policy): its answer then ends the upload. */
async function beforeAnswer<T>(upload: StoreUpload, body: Promise<T>): Promise<T> {
  let complete = false;
  const refused = upload.response.then(async (response): Promise<never> => {
    // After the body it is the answer that the caller waits for, and not ours to read.
    if (complete) return new Promise<never>(() => undefined);
    throw await storeError(response, 'NoSuchBucket');
  });
  refused.catch(() => undefined);
  body.catch(() => undefined);
  const result = await Promise.race([body, refused]);
  complete = true;
  return result;
}

function sendAll(upload: StoreUpload, buffers: readonly Buffer[]): boolean {
  let more = true;
  for (const buffer of buffers) more = upload.write(buffer);
  return more;
}

function sealerOf({ x, keys, length }: PutJob): ObjectSealer {
  const { entropy, envelopeKeys } = x.rooms;
  const place = placeOf(x, x.op.key);
  const { mode, objectKey, objectId, kek } = keys;
  const recovery = mode === 'SSE-C' ? undefined : buildRecovery({ ...keys, mode, place }, kek, objectKey, entropy);
  return new ObjectSealer({ objectKey, objectId, length, entropy, envelopeKey: envelopeKeys.current(), recovery });
}

function envelopeHeader(job: PutJob, sealer: ObjectSealer, checksum: Checksum | undefined): StoreHeaders {
  const { x, keys, length } = job;
  const { entropy, envelopeKeys } = x.rooms;
  const value = sealEnvelope({
    ...keys,
    type: 'single',
    length,
    metadataDigest: metadataDigest(job.headers),
    pin: { floeIv: sealer.floeIv, headerTag: sealer.headerTag },
    place: placeOf(x, x.op.key),
    keys: envelopeKeys,
    checksum,
    entropy,
  });
  return { [ENVELOPE_HEADER]: value };
}
