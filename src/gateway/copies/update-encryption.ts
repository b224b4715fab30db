import { ServiceError } from '../../errors.ts';
import { parseObjectEncryption } from '../../s3/copy.ts';
import type { UpdateObjectEncryption } from '../../s3/operation.ts';
import { ENVELOPE_HEADER } from '../../sse/format.ts';
import type { StoreHeaders } from '../../store/port.ts';
import { smallBody } from '../calls.ts';
import { carry } from './carry.ts';
import { hasTags, metadataOf, tagsOf } from './headers.ts';
import { rewrapped } from './copy.ts';
import { reading, readOfSource, type SourceRead } from './source.ts';
import type { BucketExchange, Reply } from '../exchange.ts';
import { assertCommittable, openEnvelope, placeOf, sealingKeys } from '../keys.ts';
import { keepAlive } from '../slow-reply.ts';
import { describe, type Sealed, type Stored } from '../objects/stored.ts';

const BODY_LIMIT = 64 * 1024;
const ATTEMPTS = 3;
const STORAGE_CLASS = 'x-amz-storage-class';

type Update = BucketExchange<UpdateObjectEncryption>;

interface Wanted {
  readonly keyReference: string;
  readonly bucketKeyEnabled: boolean;
}

/**
 * Wraps the object key of what lies here under another KMS key. Whoever writes meanwhile wins: the store takes the new
 * envelope only in the place of the object that was looked at.
 */
export async function updateObjectEncryption(x: Update): Promise<Reply> {
  const { traits } = x.rooms.store;
  const wanted = parseObjectEncryption(await smallBody(x, BODY_LIMIT));
  if (!traits.atomicCopy && !traits.putIfMatch) {
    throw refused('The store behind honours no If-Match: an upload at the same time could be lost.', 'condition-trait');
  }
  const { bucket, key } = x.op;
  const source = readOfSource(x, { bucket, key }, x.bucket);
  return keepAlive(
    reading(source, () => update(x, source, wanted)),
    x,
  );
}

async function update(x: Update, source: SourceRead, wanted: Wanted): Promise<Reply> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const { stored, response } = await describe(source);
    const { headers: found } = response;
    requireCurrent(x, found);
    const copied = await rewrap(x, source, requireManaged(stored), found, wanted);
    if (!('moved' in copied)) return { status: 200, headers: {} };
    const { code, reason } = copied.moved;
    if (code !== 'PreconditionFailed' && reason !== 'object-moved') throw copied.moved;
  }
  // Others keep writing: it is theirs now, and may be updated again.
  throw new ServiceError('OperationAborted', { reason: 'object-moved' });
}

/** Noncurrent, locked and archived objects cannot be replaced by themselves. */
function requireCurrent(x: Update, found: StoreHeaders): void {
  const { versionId } = x.op;
  if (versionId !== undefined && versionId !== (found['x-amz-version-id'] ?? 'null')) {
    throw refused('Only the current version of an object can be updated.', 'update-version');
  }
  const held = found['x-amz-object-lock-mode'] ?? found['x-amz-object-lock-legal-hold'] ?? 'OFF';
  if (held !== 'OFF') throw refused('An object under object lock cannot be updated.', 'update-locked');
  if (found['x-amz-archive-status'] !== undefined || /^(?:GLACIER|DEEP_ARCHIVE)$/.test(found[STORAGE_CLASS] ?? '')) {
    throw refused('An archived object cannot be updated.', 'update-archived');
  }
}

function refused(message: string, reason: string): ServiceError {
  return new ServiceError('NotImplemented', { message, reason });
}

function requireManaged(stored: Stored): Sealed {
  if (stored.kind === 'sealed' && stored.envelope.mode !== 'SSE-C') return stored;
  throw new ServiceError('InvalidRequest', {
    message: 'Only objects that are encrypted with SSE-S3 or SSE-KMS can be updated.',
    reason: 'update-mode',
  });
}

async function rewrap(x: Update, source: SourceRead, stored: Sealed, found: StoreHeaders, wanted: Wanted) {
  const { key } = x.op;
  const { envelope } = stored;
  const { objectKey, checksum } = await openEnvelope(source, envelope, { mode: 'none' });
  const { keyReference, bucketKeyEnabled } = wanted;
  // The client's own pairs stay: policies may rest on them.
  const sse = { mode: 'SSE-KMS', keyReference, context: envelope.context, bucketKey: bucketKeyEnabled } as const;
  const keys = await sealingKeys(x, sse, placeOf(x, key), { objectId: envelope.objectId, objectKey });
  const headers = {
    ...metadataOf(found),
    ...(found[STORAGE_CLASS] === undefined ? {} : { [STORAGE_CLASS]: found[STORAGE_CLASS] }),
    ...(hasTags(found) ? { 'x-amz-tagging': await tagsOf(source) } : {}),
  };
  return carry({
    x,
    key,
    source,
    stored,
    objectKey,
    found,
    headers: { ...headers, [ENVELOPE_HEADER]: rewrapped(x, key, stored, keys, headers, checksum) },
    conditions: { 'if-match': found.etag ?? '' },
    assertCommittable: () => assertCommittable(x, keys),
  });
}
