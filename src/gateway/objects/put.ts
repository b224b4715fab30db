import { ServiceError } from '../../errors.ts';
import { checksumPlan } from '../../s3/checksum.ts';
import { asksForLock, assertDigest } from '../../s3/object-lock.ts';
import type { PostObject, PutObject } from '../../s3/operation.ts';
import { toClientEtag } from '../../sse/etag.ts';
import { ENVELOPE_HEADER } from '../../sse/format.ts';
import { MIDWAY } from '../../store/faults.ts';
import { credentials } from '../calls.ts';
import { checksumHeaders } from './checksum.ts';
import { brokenOffBy, writeConditions } from '../conditions.ts';
import type { BucketExchange, Reply } from '../exchange.ts';
import { lockRefusal, objectHeaders, refuseSlash } from '../headers.ts';
import { assertCommittable, endOfStreams, placeOf, sealingKeys } from '../keys.ts';
import { sealBody } from './seal-body.ts';
import { objectEnvelope, objectSealer } from './seal-object.ts';
import { sseAnswer, writeSse } from '../sse.ts';
import { assertDone } from '../store-errors.ts';
import { storePlace } from '../target.ts';

/** 5 GiB less 8 MiB: what is sealed must fit into the store's own limit for one PUT (docs/FORMAT.md section 4). */
export const MAX_PUT = 5 * 1024 ** 3 - 8 * 1024 ** 2;

type Putting = BucketExchange<PutObject | PostObject>;

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
  const locked = asksForLock(headers);
  if (locked) assertDigest(caller.request.headers);
  refuseSlash(x, op.key, length);
  const conditions = writeConditions(caller.request.headers, rooms.store.traits);
  const ended = endOfStreams(x, sse.mode);
  const keys = await sealingKeys(x, sse, placeOf(x, op.key));
  const object = { x, key: op.key, keys, length };
  const sealer = objectSealer(object);
  const sealed = sealBody({
    x,
    plan,
    sealer,
    length,
    collected,
    request: { ...storePlace(x.bucket, op.key), ...credentials(x) },
    headers: (known) => ({
      ...headers,
      ...conditions,
      [ENVELOPE_HEADER]: objectEnvelope(object, sealer, headers, known),
    }),
    assertCommittable: () => assertCommittable(x, keys),
    ended,
    digested: locked,
  });
  const { response, checksum } = await sealed.catch((err: unknown) => whyBrokenOff(x, conditions, err));
  try {
    await assertDone(response, 'NoSuchBucket');
  } catch (err) {
    throw locked ? lockRefusal(err) : err;
  }
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

async function whyBrokenOff(x: Putting, conditions: Readonly<Record<string, string>>, err: unknown): Promise<never> {
  const isOpen = err instanceof ServiceError && err.reason === MIDWAY && Object.keys(conditions).length > 0;
  throw (isOpen ? await brokenOffBy(x, x.op.key, conditions) : undefined) ?? err;
}
