import type { KeyObject } from 'node:crypto';
import type { BucketRecord } from '../control/buckets.ts';
import { ServiceError } from '../errors.ts';
import { contextDigest, effectiveContext, type EncryptionContext, type ObjectPlace } from '../sse/context.ts';
import { openObjectKey, type OpenedEnvelope, type VerifiedEnvelope } from '../sse/envelope.ts';
import type { SseMode } from '../sse/format.ts';
import { deriveKek, newObjectId, newObjectKey, type Kek, type ObjectKey } from '../sse/key.ts';
import { requireReadMode, type EffectiveSse, type SseReadRequest } from '../sse/request.ts';
import { authorizeKey, authorizeReference } from './authorize.ts';
import type { BucketExchange } from './exchange.ts';

/** Everything that seals one object: fresh for every attempt, never used twice. */
export interface SealingKeys {
  readonly mode: SseMode;
  readonly kek: Kek;
  readonly objectKey: ObjectKey;
  readonly objectId: Buffer;
  /** Empty for SSE-C. */
  readonly keyId: string;
  readonly wrappedDataKey: Buffer;
  readonly bucketKey: boolean;
  /** The client's own pairs. */
  readonly context: EncryptionContext;
  /** The epoch of the key service in which the key was taken; the commit compares it. */
  readonly epoch: number;
}

const NOTHING = Buffer.alloc(0);

export function placeOf(x: BucketExchange, key: string): ObjectPlace {
  const { bucket, rooms } = x;
  return {
    realmId: rooms.realmId,
    bucketId: idOf(bucket),
    bucketName: bucket.arnName,
    key,
  };
}

/** Decoded once for each reading of a record: a request asks three times. */
const ids = new WeakMap<BucketRecord, Buffer>();

function idOf(bucket: BucketRecord): Buffer {
  let id = ids.get(bucket);
  if (id === undefined) ids.set(bucket, (id = Buffer.from(bucket.bucketId, 'base64url')));
  return id;
}

/**
 * Takes a key for a write: policy, then the audit record of intent, then the key service. In this order. `object` is
 * the one whose key is to be wrapped for another place or under another key, instead of a fresh one.
 */
export async function sealingKeys(
  x: BucketExchange,
  sse: EffectiveSse,
  place: ObjectPlace,
  object?: Pick<SealingKeys, 'objectId' | 'objectKey'>,
): Promise<SealingKeys> {
  const { entropy, keys } = x.rooms;
  const { objectId, objectKey } = object ?? { objectId: newObjectId(entropy), objectKey: newObjectKey(entropy) };
  const fresh = { objectId, objectKey, epoch: keys.epoch() };
  x.entry.add({ mode: sse.mode });
  if (sse.mode === 'SSE-C') {
    x.entry.intend();
    const own = { mode: sse.mode, kek: deriveKek(sse.key, objectId, 'SSE-C') };
    return { ...fresh, ...own, keyId: '', wrappedDataKey: NOTHING, bucketKey: false, context: [] };
  }
  keys.assertRunning(fresh.epoch);
  const context = sse.mode === 'SSE-S3' ? [] : sse.context;
  // A client's own pairs bind the data key to them: such an object gets a data key of its own, never the bucket's.
  const bucketKey = sse.mode === 'SSE-S3' || (sse.bucketKey && context.length === 0);
  const effective = effectiveContext(context, place, bucketKey);
  const digest = contextDigest(effective);
  const keyId = sse.mode === 'SSE-S3' ? keys.sseS3KeyId() : await usableKey(x, sse.keyReference, effective);
  x.entry.add({ keyId, contextDigest: digest.toString('hex') });
  if (sse.mode === 'SSE-KMS') authorizeKey(x, 'kms:GenerateDataKey', keyId, effective);
  x.entry.intend();
  const scope = bucketKey ? { bucketId: x.bucket.bucketId } : undefined;
  const use = await keys.generate(keyId, digest, scope);
  x.entry.add({ keyVersion: use.version, cacheHit: use.cacheHit });
  const kek = deriveKek(use.key, objectId, sse.mode);
  return { ...fresh, mode: sse.mode, kek, keyId: use.keyId, wrappedDataKey: use.wrapped, bucketKey, context };
}

/**
 * The key that a write names. Whether it is unknown, disabled or pending deletion is told only to who may use a key of
 * that name: to everybody else every name is AccessDenied, so that names cannot be tried out.
 */
async function usableKey(
  x: BucketExchange,
  reference: string | undefined,
  context: EncryptionContext,
): Promise<string> {
  try {
    return await x.rooms.keys.resolve(reference);
  } catch (err) {
    const aboutKey = err instanceof ServiceError && err.code.startsWith('KMS.');
    if (aboutKey && reference !== undefined) authorizeReference(x, 'kms:GenerateDataKey', reference, context);
    throw err;
  }
}

/**
 * The key that a bucket's default is to name: one that there is, and that the caller may use. Whoever may not is told
 * the same of every name, or a default that is taken would tell names that there are.
 */
export async function requireDefaultKey(x: BucketExchange, reference: string | undefined): Promise<void> {
  const context = effectiveContext([], placeOf(x, ''), true);
  const keyId = await usableKey(x, reference, context);
  if (reference !== undefined) authorizeKey(x, 'kms:GenerateDataKey', keyId, context);
}

/** Opens a verified envelope for a read: the mode's rules, policy, the intent, then the key service. */
export async function openEnvelope(
  x: BucketExchange,
  envelope: VerifiedEnvelope,
  sse: SseReadRequest,
): Promise<OpenedEnvelope> {
  x.entry.add({ mode: envelope.mode });
  requireReadMode(sse, envelope.mode);
  if (sse.mode === 'SSE-C') x.entry.intend();
  const secret = sse.mode === 'SSE-C' ? sse.key : await unwrapDataKey(x, envelope);
  try {
    return openObjectKey(envelope, deriveKek(secret, envelope.objectId, envelope.mode));
  } catch (err) {
    if (!(err instanceof ServiceError && err.reason === 'customer-key')) throw err;
    throw new ServiceError(x.rooms.settings.compatibility.wrongCustomerKey, { reason: err.reason });
  }
}

/** AWS answers a customer key that is not the upload's with InvalidRequest, where a read is AccessDenied. */
export async function openPartKey(
  x: BucketExchange,
  envelope: VerifiedEnvelope,
  sse: SseReadRequest,
): Promise<OpenedEnvelope> {
  try {
    return await openEnvelope(x, envelope, sse);
  } catch (err) {
    if (!(err instanceof ServiceError && err.reason === 'customer-key')) throw err;
    throw new ServiceError('InvalidRequest', {
      message: 'The provided encryption parameters did not match the ones used originally.',
      reason: 'customer-key',
    });
  }
}

async function unwrapDataKey(x: BucketExchange, envelope: VerifiedEnvelope): Promise<KeyObject> {
  const { keys } = x.rooms;
  const { keyId, contextDigest: digest } = envelope;
  keys.assertRunning(keys.epoch());
  x.entry.add({ keyId, contextDigest: digest.toString('hex') });
  if (envelope.mode === 'SSE-KMS') authorizeKey(x, 'kms:Decrypt', keyId, envelope.effectiveContext);
  x.entry.intend();
  const use = await keys.unwrap(keyId, envelope.wrappedDataKey, digest);
  x.entry.add({ keyVersion: use.version, cacheHit: use.cacheHit });
  return use.key;
}

/** The last look before a commit: nothing that was begun before a stop is committed after it. */
export function assertCommittable(x: BucketExchange, keys: Pick<SealingKeys, 'mode' | 'epoch'>): void {
  const service = x.rooms.keys;
  // What SSE-C began may end in a drain too.
  if (keys.mode !== 'SSE-C' || service.frozen()) service.assertRunning(keys.epoch);
}

/**
 * Aborts when a stop ends streams like this one: managed ones, or all. Taken before the key is, so that a stop in
 * between is not missed.
 */
export function endOfStreams(x: BucketExchange, mode: EffectiveSse['mode'] | 'none'): AbortSignal {
  const { keys } = x.rooms;
  return mode === 'SSE-C' || mode === 'none' ? keys.freezing : keys.stopping;
}

export function frozen(): ServiceError {
  return new ServiceError('ServiceUnavailable', { reason: 'kms-stopped', headers: { 'Retry-After': '30' } });
}
