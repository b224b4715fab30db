import { ServiceError } from '../errors.ts';
import { COMPLETE_BODY_LIMIT, formatCompleteUpload, parseCompleteUpload, type ListedPart } from '../s3/multipart.ts';
import type { CompleteMultipartUpload } from '../s3/operation.ts';
import { payloadReader } from '../sigv4/chunked.ts';
import { toClientEtag } from '../sse/etag.ts';
import type { Checksum } from '../sse/format.ts';
import { listDigest } from '../sse/upload-record.ts';
import { collectBody } from './body.ts';
import { checksumText } from './checksum.ts';
import { completeConditions } from './conditions.ts';
import type { BucketExchange, Reply } from './exchange.ts';
import { placeOf } from './keys.ts';
import { partsChecksum, requireStatedChecksum } from './parts-checksum.ts';
import { choose, type Chosen } from './parts-chosen.ts';
import { keepAlive } from './slow-reply.ts';
import { partSse, sseAnswer } from './sse.ts';
import { completeAtStore, readBack, sendTail, type Completed } from './store-complete.ts';
import { sealTail } from './tail.ts';
import { pause, type Upload } from './uploads.ts';
import { XML } from './xml-body.ts';

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
  const left = await x.rooms.uploads.tombstone(placeOf(x, x.op.key), x.op.uploadId);
  if (left === undefined) throw err;
  if (!left.listDigest.equals(listDigest(listed))) throw new ServiceError('NoSuchUpload');
  return answer(x, { etag: left.etag, versionId: left.versionId }, undefined, undefined);
}

async function completeOpen(x: Completing, upload: Upload, listed: readonly ListedPart[]): Promise<Reply> {
  const { envelope, record } = upload;
  const { keys, store } = x.rooms;
  x.entry.add({ mode: envelope.mode });
  const epoch = keys.epoch();
  const assertRunning = (): void => {
    if (envelope.mode !== 'SSE-C' || keys.frozen()) keys.assertRunning(epoch);
  };
  if (envelope.mode !== 'SSE-C') keys.assertServing();
  else requireCustomerHeaders(x, record.checksum !== undefined);
  const conditions = completeConditions(x.caller.request.headers, store.traits);
  let chosen = await choose(x, upload, listed);
  const checksum = partsChecksum(record.checksum, chosen.parts);
  requireStatedChecksum(x.caller.request.headers, record.checksum, checksum, chosen.parts.length);
  const tail = sealTail(x.rooms.envelopeKeys, upload, chosen.parts, checksum);
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
  await finish(x, upload, listed, completed);
  return answer(x, completed, upload, checksumOf(checksum, chosen));
}

/** AWS: "you must provide the same headers", where the upload has a checksum. The key itself is not needed here. */
function requireCustomerHeaders(x: Completing, hasChecksum: boolean): void {
  const needed = hasChecksum || x.rooms.settings.compatibility.completeNeedsCustomerKey === 'always';
  if (!needed || partSse(x).mode === 'SSE-C') return;
  throw new ServiceError('InvalidRequest', {
    message: 'The multipart upload was created with a customer key. Its parameters must be provided to complete it.',
    reason: 'sse-c-missing',
  });
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
      const last = await sendTail(x, upload, chosen.aside, tail);
      assertRunning();
      told = await completeAtStore(x, [...chosen.stored, last], conditions);
    } catch (err) {
      // Whoever was first, and whatever became of the answer: what lies under the key tells.
      if (!(err instanceof ServiceError && mayHavePassed(err))) throw err;
      failure = err;
    }
  }
  const found = await readBack(x, upload, tail, told?.versionId);
  if (found.state === 'ours') return { etag: told?.etag || found.etag, versionId: told?.versionId || found.versionId };
  if (told === undefined && failure.code !== 'NoSuchUpload') return failure;
  if (told === undefined || found.state === 'other-list') throw new ServiceError('NoSuchUpload');
  // Somebody has written over it since. It was there.
  return told;
}

function mayHavePassed(err: ServiceError): boolean {
  return err.code === 'NoSuchUpload' || err.code === 'InvalidPart' || /^store-(?:5|unreachable)/.test(err.reason);
}

/** The upload is over. A record that cannot be removed now harms nobody, and an acknowledged object stays one. */
async function finish(x: Completing, upload: Upload, listed: readonly ListedPart[], told: Completed): Promise<void> {
  const { uploads } = x.rooms;
  const { objectId } = upload.envelope;
  try {
    await uploads.bury(upload, { objectId, listDigest: listDigest(listed), ...told });
    await uploads.clear(placeOf(x, x.op.key), x.op.uploadId);
  } catch {
    x.entry.add({ note: 'records of the upload are left' });
  }
}

function checksumOf(checksum: Checksum | undefined, chosen: Chosen): { checksum: Checksum; parts: number } | undefined {
  return checksum === undefined ? undefined : { checksum, parts: chosen.parts.length };
}

function answer(
  x: Completing,
  { etag, versionId }: Completed,
  upload: Upload | undefined,
  known: { readonly checksum: Checksum; readonly parts: number } | undefined,
): Reply {
  const { bucket, key } = x.op;
  if (versionId !== '') x.entry.add({ versionId });
  const host = x.caller.request.headers.host ?? '';
  const path = encodeURIComponent(key).replaceAll('%2F', '/');
  const checksum =
    known === undefined
      ? undefined
      : {
          algorithm: known.checksum.algorithm,
          text: checksumText(known.checksum, known.parts),
          type: known.checksum.type,
        };
  return {
    status: 200,
    headers: {
      ...XML,
      ...(versionId === '' ? {} : { 'x-amz-version-id': versionId }),
      ...(upload === undefined ? {} : sseAnswer(x, upload.envelope, 'complete', undefined)),
    },
    body: formatCompleteUpload({
      location: `${x.secure ? 'https' : 'http'}://${host}/${bucket}/${path}`,
      bucket,
      key,
      etag: toClientEtag(etag),
      checksum,
    }),
  };
}
