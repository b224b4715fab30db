import { ServiceError } from '../errors.ts';
import { checksumPlan } from '../s3/checksum.ts';
import type { PostObject, PutObject } from '../s3/operation.ts';
import { sealEnvelope } from '../sse/envelope.ts';
import { toClientEtag } from '../sse/etag.ts';
import { ENVELOPE_HEADER, type Checksum } from '../sse/format.ts';
import { metadataDigest } from '../sse/metadata.ts';
import { ObjectSealer } from '../sse/object.ts';
import { buildRecovery } from '../sse/recovery.ts';
import type { StoreHeaders } from '../store/port.ts';
import { credentials } from './calls.ts';
import { checksumHeaders } from './checksum.ts';
import { writeConditions } from './conditions.ts';
import type { BucketExchange, Reply } from './exchange.ts';
import { objectHeaders, refuseSlash } from './headers.ts';
import { assertCommittable, endOfStreams, placeOf, sealingKeys, type SealingKeys } from './keys.ts';
import { sealBody } from './seal-body.ts';
import { sseAnswer, writeSse } from './sse.ts';
import { assertDone } from './store-errors.ts';
import { storePlace } from './target.ts';

/** 5 GiB less 8 MiB: what is sealed must fit into the store's own limit for one PUT (docs/FORMAT.md section 4). */
export const MAX_PUT = 5 * 1024 ** 3 - 8 * 1024 ** 2;

type Putting = BucketExchange<PutObject | PostObject>;

interface PutJob {
  readonly x: Putting;
  readonly keys: SealingKeys;
  /** What the store keeps beside the body, and what the metadata digest covers. */
  readonly headers: StoreHeaders;
  /** T, plaintext bytes. */
  readonly length: number;
}

/** PutObject: nothing reaches the store's commit before everything about the payload has been verified. */
export function putObject(x: BucketExchange<PutObject>): Promise<Reply> {
  return putSealed(x, x.caller.contentLength);
}

/** One request to the store for one object; `collected` is the body where it is here already. */
export async function putSealed(x: Putting, length: number, collected?: Buffer): Promise<Reply> {
  const { op, caller, rooms } = x;
  if (length > MAX_PUT) throw new ServiceError('EntityTooLarge');
  const sse = writeSse(x);
  const plan = checksumPlan(caller.request.headers);
  const headers = objectHeaders(x, op.key, length);
  refuseSlash(x, op.key, length);
  const conditions = writeConditions(caller.request.headers, rooms.store.traits);
  const ended = endOfStreams(x, sse.mode);
  const keys = await sealingKeys(x, sse, placeOf(x, op.key));
  const job = { x, keys, headers, length };
  const sealer = sealerOf(job);
  const { response, checksum } = await sealBody({
    x,
    plan,
    sealer,
    length,
    collected,
    request: { ...storePlace(x.bucket, op.key), ...credentials(x) },
    headers: (known) => ({ ...headers, ...conditions, ...envelopeHeader(job, sealer, known) }),
    assertCommittable: () => assertCommittable(x, keys),
    ended,
  });
  await assertDone(response, 'NoSuchBucket');
  const { etag = '', 'x-amz-version-id': version } = response.headers;
  if (version !== undefined) x.entry.add({ versionId: version });
  return {
    status: 200,
    headers: {
      ...(etag === '' ? {} : { etag: toClientEtag(etag) }),
      ...(version === undefined ? {} : { 'x-amz-version-id': version }),
      ...checksumHeaders(checksum),
      ...sseAnswer(x, keys, 'write', sse.mode === 'SSE-C' ? sse : undefined),
    },
  };
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
