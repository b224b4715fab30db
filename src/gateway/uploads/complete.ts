import { ServiceError } from '../../errors.ts';
import { COMPLETE_BODY_LIMIT, formatCompleteUpload, parseCompleteUpload, type ListedPart } from '../../s3/multipart.ts';
import type { CompleteMultipartUpload } from '../../s3/operation.ts';
import { payloadReader } from '../../sigv4/chunked.ts';
import { toClientEtag } from '../../sse/etag.ts';
import { verifyEnvelope, type VerifiedEnvelope } from '../../sse/envelope.ts';
import type { Checksum } from '../../sse/format.ts';
import { listDigest, type Tombstone } from '../../sse/upload-record.ts';
import { collectBody } from '../objects/body.ts';
import { toldChecksum } from '../objects/checksum.ts';
import { completeConditions } from '../conditions.ts';
import type { BucketExchange, Reply } from '../exchange.ts';
import { placeOf } from '../keys.ts';
import { requireCustomerHeaders, requireKeyRight, requireUploadSse } from './complete-sse.ts';
import { partsChecksum, requireListedChecksums, requireStatedChecksum } from './parts-checksum.ts';
import { choose, type Chosen } from './parts-chosen.ts';
import { keepAlive } from '../slow-reply.ts';
import { refuseBlockedUpload, sseAnswer } from '../sse.ts';
import { completeAtStore, readBack, sendTail, type Completed } from './store-complete.ts';
import { manifestOf, sealTail } from './tail.ts';
import { objectUrl } from '../target.ts';
import { pause, type Upload } from './records.ts';
import { XML } from '../xml-body.ts';

/** Pauses before a Complete that met another one is tried again. */
const RACE_MS = [100, 300, 900] as const;

type Completing = BucketExchange<CompleteMultipartUpload>;

/**
 * Needs neither the customer's key nor the KMS: the manifest's key is in the upload's record. It may take long, so that
 * the answer is kept alive; whatever is refused within ten seconds has its own status.
 */
export async function completeMultipartUpload(x: Completing): Promise<Reply> {
  x.body.accept();
  // A checksum in the head speaks of the object, not of this body.
  const { bytes } = await collectBody(x.body.req, payloadReader(x.caller), COMPLETE_BODY_LIMIT);
  const listed = parseCompleteUpload(bytes);
  return keepAlive(complete(x, listed), x);
}

async function complete(x: Completing, listed: readonly ListedPart[]): Promise<Reply> {
  const place = placeOf(x, x.op.key);
  const upload = await x.rooms.uploads.load(place, x.op.uploadId, true);
  if (upload === undefined) return again(x, listed, new ServiceError('NoSuchUpload'));
  try {
    return await completeOpen(x, upload, listed);
  } catch (err) {
    const ended = err instanceof ServiceError && (err.code === 'NoSuchUpload' || err.code === 'InvalidPart');
    if (ended) return again(x, listed, err);
    throw err;
  }
}

/** A client that lost the answer asks again, and two replicas may be asked at once: the same list has the same answer. */
async function again(x: Completing, listed: readonly ListedPart[], err: ServiceError): Promise<Reply> {
  const place = placeOf(x, x.op.key);
  const left = await x.rooms.uploads.tombstone(place, x.op.uploadId);
  if (left === undefined) throw err;
  if (!left.listDigest.equals(listDigest(listed))) throw new ServiceError('NoSuchUpload');
  const envelope = verifyEnvelope(left.envelope, place, x.rooms.envelopeKeys);
  return answer(x, left, { envelope, checksum: left.checksum, parts: listed.length });
}

async function completeOpen(x: Completing, upload: Upload, listed: readonly ListedPart[]): Promise<Reply> {
  const { record, envelope } = upload;
  x.entry.add({ mode: envelope.mode });
  refuseBlockedUpload(x, envelope.mode);
  if (envelope.mode === 'SSE-C') requireCustomerHeaders(x, record.checksum !== undefined);
  else x.rooms.keys.assertServing();
  requireKeyRight(x, upload);
  await requireUploadSse(x, upload);
  const { completed, checksum, parts } = await completeParts(x, upload, listed, (chosen) => {
    requireListedChecksums(record.checksum, listed, chosen);
    const computed = partsChecksum(record.checksum, chosen);
    requireStatedChecksum(x.caller.request.headers, record.checksum, computed, chosen.length);
    return computed;
  });
  return answer(x, completed, { envelope, checksum, parts });
}

/** Makes the object of the listed parts; `checksumOf` gives (and checks) the one that its manifest is to hold. */
export async function completeParts(
  x: Completing,
  upload: Upload,
  listed: readonly ListedPart[],
  checksumOf: (parts: Chosen['parts']) => Checksum | undefined,
): Promise<{ readonly completed: Completed; readonly checksum: Checksum | undefined; readonly parts: number }> {
  const { envelope } = upload;
  const { keys, store } = x.rooms;
  const epoch = keys.epoch();
  const assertRunning = (): void => {
    if (envelope.mode !== 'SSE-C' || keys.frozen()) keys.assertRunning(epoch);
  };
  if (envelope.mode !== 'SSE-C') keys.assertServing();
  const conditions = completeConditions(x.caller.request.headers, store.traits);
  let chosen = await choose(x, upload, listed);
  const checksum = checksumOf(chosen.parts);
  const manifest = manifestOf(chosen.parts, checksum);
  const tail = sealTail(x.rooms.envelopeKeys, upload, manifest);
  let outcome = await commit(x, upload, { chosen, tail, conditions, assertRunning });
  for (const ms of RACE_MS) {
    if (!(outcome instanceof ServiceError)) break;
    // Not all at the same time again.
    await pause(ms * (1 + Math.random()));
    chosen = await choose(x, upload, listed);
    outcome = await commit(x, upload, { chosen, tail, conditions, assertRunning });
  }
  if (outcome instanceof ServiceError) throw outcome;
  const completed = outcome;
  // A first range of what was just written needs no look at its end.
  x.rooms.manifests.set({ envelope, etag: completed.etag }, manifest);
  await finish(x, upload, { listDigest: listDigest(listed), checksum, ...completed });
  return { completed, checksum, parts: chosen.parts.length };
}

interface Commit {
  readonly chosen: Chosen;
  readonly tail: readonly Buffer[];
  readonly conditions: Readonly<Record<string, string>>;
  readonly assertRunning: () => void;
}

/**
 * The last part, the store's Complete, and a look at what it made of it. An error is returned where it may pass: another
 * Complete of the same list, at the same time, sends its last part too, or holds a lock (radosgw answers 500).
 */
async function commit(x: Completing, upload: Upload, work: Commit): Promise<Completed | ServiceError> {
  const { chosen, tail, conditions, assertRunning } = work;
  let told: Completed | undefined;
  let failure = new ServiceError('NoSuchUpload');
  if (!chosen.gone) {
    try {
      const last = await sendTail(x, upload, chosen, tail);
      assertRunning();
      told = await completeAtStore(x, [...chosen.stored, last], conditions);
    } catch (err) {
      // Whoever was first, and whatever became of the answer: what lies under the key tells.
      if (!(err instanceof ServiceError && mayHavePassed(err))) throw err;
      failure = err;
    }
  }
  const length = chosen.parts.reduce((sum, part) => sum + part.length, 0);
  const found = await readBack(x, upload, { tail, length }, told?.versionId);
  if (found.state === 'ours') return { etag: told?.etag || found.etag, versionId: told?.versionId || found.versionId };
  if (told === undefined && failure.code !== 'NoSuchUpload') return failure;
  if (told === undefined) throw new ServiceError('NoSuchUpload');
  // The store took this list, and shows other bytes: another Complete was there as well, or the answer is damaged. Who
  // asks again learns which.
  if (found.state === 'other-list') throw new ServiceError('ServiceUnavailable', { reason: 'store-complete' });
  // Somebody has written over it since. It was there.
  return told;
}

function mayHavePassed(err: ServiceError): boolean {
  return err.code === 'NoSuchUpload' || err.code === 'InvalidPart' || /^store-(?:5|unreachable)/.test(err.reason);
}

/** The upload is over. A record that cannot be removed now harms nobody, and an acknowledged object stays one. */
async function finish(x: Completing, upload: Upload, told: Omit<Tombstone, 'completed' | 'envelope'>): Promise<void> {
  const { uploads } = x.rooms;
  try {
    await uploads.bury(upload, { ...told, envelope: upload.record.envelope });
    await uploads.clear(placeOf(x, x.op.key), x.op.uploadId);
  } catch {
    x.entry.add({ note: 'records of the upload are left' });
  }
}

/** What the answer says of the object beside what the store gave it. */
interface Made {
  readonly envelope: VerifiedEnvelope;
  readonly checksum: Checksum | undefined;
  readonly parts: number;
}

function answer(x: Completing, { etag, versionId }: Completed, { envelope, checksum, parts }: Made): Reply {
  const { bucket, key } = x.op;
  if (versionId !== '') x.entry.add({ versionId });
  return {
    status: 200,
    headers: {
      ...XML,
      ...(versionId === '' ? {} : { 'x-amz-version-id': versionId }),
      ...sseAnswer(x, envelope, 'complete', undefined),
    },
    body: formatCompleteUpload({
      location: objectUrl(x, bucket, key),
      bucket,
      key,
      etag: toClientEtag(etag),
      checksum: toldChecksum(checksum, parts),
    }),
  };
}
