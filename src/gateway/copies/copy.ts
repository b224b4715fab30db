import type { BucketRecord } from '../../control/buckets.ts';
import { ServiceError } from '../../errors.ts';
import { formatCopyResult } from '../../s3/copy.ts';
import { quote } from '../../s3/multipart.ts';
import { asksForLock, assertLock } from '../../s3/object-lock.ts';
import type { CopyObject } from '../../s3/operation.ts';
import { toClientEtag } from '../../sse/etag.ts';
import { sealEnvelope } from '../../sse/envelope.ts';
import { ENVELOPE_HEADER, type Checksum } from '../../sse/format.ts';
import { metadataDigest } from '../../sse/metadata.ts';
import { SSE_HEADERS } from '../../sse/request.ts';
import type { StoreHeaders } from '../../store/port.ts';
import { smallBody } from '../calls.ts';
import { carry } from './carry.ts';
import { toldChecksum } from '../objects/checksum.ts';
import { writeConditions } from '../conditions.ts';
import { copyHeaders } from './headers.ts';
import type { CopyJob, Made } from './job.ts';
import { reading, readOfSource } from './source.ts';
import type { BucketExchange, Reply } from '../exchange.ts';
import { lockRefusal, refuseSlash } from '../headers.ts';
import { assertCommittable, openEnvelope, placeOf, sealingKeys, type SealingKeys } from '../keys.ts';
import { knownManifest } from '../objects/read-parts.ts';
import { resealObject } from './reseal.ts';
import { keepAlive } from '../slow-reply.ts';
import { sourceSse, sseAnswer, writeSse } from '../sse.ts';
import type { Copied } from './store-copy.ts';
import { describe, type Sealed, type Stored } from '../objects/stored.ts';
import { XML } from '../xml-body.ts';

/** Sources that move under a copy are looked at again this often. */
const ATTEMPTS = 5;

/** It may take long, so that the answer is kept alive; what is refused in time has a status of its own. */
export async function copyObject(x: BucketExchange<CopyObject>, bucketOf: () => Promise<BucketRecord>): Promise<Reply> {
  const asked = { sse: writeSse(x), sourceSse: sourceSse(x) };
  const conditions = writeConditions(x.caller.request.headers, x.rooms.store.traits);
  assertLock(x.caller.request.headers);
  await smallBody(x, 0);
  const source = readOfSource(x, x.op.source, await bucketOf());
  const job = { x, source, conditions, ...asked };
  return keepAlive(
    reading(source, () => copy(job)).catch((err: unknown) => {
      throw asksForLock(x.caller.request.headers) ? lockRefusal(err) : err;
    }),
    x,
  );
}

async function copy(job: CopyJob): Promise<Reply> {
  const { x, source } = job;
  let failure: ServiceError | undefined;
  let etag: string | undefined;
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const { stored, response } = await describe(source);
    const { headers: found } = response;
    // The store refused the copy, and not because the source is another one now.
    if (failure !== undefined && found.etag === etag && !isOwnPin(failure, job)) throw failure;
    etag = found.etag;
    refuseUnchanged(x, stored);
    refuseSlash(x, x.op.key, stored.length);
    const made = await attemptOf(job, stored, found);
    if (!('moved' in made.copied)) return answer(job, made, made.copied);
    failure = made.copied.moved;
  }
  throw new ServiceError('ServiceUnavailable', { reason: 'object-moved', headers: { 'Retry-After': '1' } });
}

/** The refusal of a condition that the client did not make: the source was another one, if only for a moment. */
function isOwnPin({ code }: ServiceError, { conditions }: CopyJob): boolean {
  return code === 'PreconditionFailed' && Object.keys(conditions).length === 0;
}

/** AWS, CopyObject: a copy onto itself has to change something, or is a mistake. */
function refuseUnchanged(x: BucketExchange<CopyObject>, stored: Stored): void {
  const { source, bucket, key, replaceMetadata } = x.op;
  const onto = source.bucket === bucket && source.key === key && source.versionId === undefined;
  const { headers } = x.caller.request;
  const changes = [...SSE_HEADERS, 'x-amz-storage-class', 'x-amz-website-redirect-location'];
  const changed = replaceMetadata || changes.some((name) => headers[name] !== undefined);
  // A default that was set for the bucket is a change of the encryption attributes, as is any where there was none.
  if (!onto || changed || x.bucket.encryption !== undefined || stored.kind === 'plain') return;
  throw new ServiceError('InvalidRequest', {
    message:
      "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.",
    reason: 'copy-unchanged',
  });
}

/**
 * Sealed to sealed the object key gets another wrap, and no data moves. What becomes SSE-C from a managed mode is sealed
 * anew: its owner learns the object key, which must not be another object's (docs/FORMAT.md section 13).
 */
async function attemptOf(job: CopyJob, stored: Stored, found: StoreHeaders): Promise<Made> {
  const { x, source, sse } = job;
  if (stored.kind === 'plain' || (sse.mode === 'SSE-C' && stored.envelope.mode !== 'SSE-C')) {
    return resealObject(job);
  }
  const { objectKey, checksum } = await openEnvelope(source, stored.envelope, job.sourceSse);
  if (x.op.checksum !== undefined && !(checksum?.algorithm === x.op.checksum && checksum.type === 'FULL_OBJECT')) {
    return resealObject(job);
  }
  const { objectId } = stored.envelope;
  const headers = await copyHeaders(x, source, found, stored.length);
  const keys = await sealingKeys(x, sse, placeOf(x, x.op.key), { objectId, objectKey });
  const envelope = rewrapped(x, x.op.key, stored, keys, headers, checksum);
  const copied = await carry({
    x,
    key: x.op.key,
    source,
    stored,
    objectKey,
    found,
    headers: { ...headers, [ENVELOPE_HEADER]: envelope },
    conditions: job.conditions,
    assertCommittable: () => assertCommittable(x, keys),
  });
  const manifest = stored.envelope.type === 'multipart' ? knownManifest(source, stored) : undefined;
  return { keys, checksum: manifest?.checksum ?? checksum, parts: manifest?.entries.length, found, copied };
}

/** The envelope of the same body, with the object key wrapped for its new place. */
export function rewrapped(
  x: BucketExchange,
  key: string,
  { envelope }: Sealed,
  keys: SealingKeys,
  headers: StoreHeaders,
  checksum: Checksum | undefined,
): string {
  const { entropy, envelopeKeys } = x.rooms;
  const { type, length, pin } = envelope;
  const place = placeOf(x, key);
  const digest = metadataDigest(headers);
  return sealEnvelope({
    ...keys,
    type,
    length,
    pin,
    metadataDigest: digest,
    place,
    keys: envelopeKeys,
    checksum,
    entropy,
  });
}

function answer({ x, sse }: CopyJob, { keys, checksum, parts = 0, found }: Made, copied: Copied): Reply {
  const { etag, versionId, lastModified } = copied;
  const sourceVersion = found['x-amz-version-id'];
  if (versionId !== undefined) x.entry.add({ versionId });
  return {
    status: 200,
    headers: {
      ...XML,
      ...(versionId === undefined ? {} : { 'x-amz-version-id': versionId }),
      ...(sourceVersion === undefined ? {} : { 'x-amz-copy-source-version-id': sourceVersion }),
      ...sseAnswer(x, keys, 'write', sse.mode === 'SSE-C' ? sse : undefined),
    },
    body: formatCopyResult('CopyObjectResult', {
      etag: toClientEtag(quote(etag)),
      lastModified: lastModified ?? x.rooms.clock().toISOString(),
      checksum: toldChecksum(checksum, parts),
    }),
  };
}
