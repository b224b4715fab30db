import type { BucketRecord } from '../../control/buckets.ts';
import type { NewBucket } from '../../control/buckets.ts';
import { ServiceError } from '../../errors.ts';
import {
  assertLocationConstraint,
  formatBucketList,
  formatCreateBucket,
  formatLocation,
  parseBucketList,
  parseCreateBucket,
  type BucketEntry,
} from '../../s3/buckets.ts';
import type { CreateBucket, DeleteBucket, GetBucketLocation, HeadBucket, ListBuckets } from '../../s3/operation.ts';
import { requestHeadersFor } from '../../s3/headers.ts';
import { readStoreXml } from '../../s3/xml.ts';
import { ENVELOPE_HEADER } from '../../sse/format.ts';
import { ANSWER_LIMIT, callStore, smallBody } from '../calls.ts';
import type { Exchange, Reply } from '../exchange.ts';
import { assertDone, storeError } from '../store-errors.ts';
import { XML } from '../xml-body.ts';

const CREATE_BODY_LIMIT = 64 * 1024;

/** The store's buckets but the system bucket, under the names that clients know them by. */
export async function listBuckets(x: Exchange<ListBuckets>): Promise<Reply> {
  const response = await callStore(x, { method: 'GET' });
  if (response.status !== 200) throw await storeError(response);
  const all = parseBucketList(await response.collect(ANSWER_LIMIT));
  const { prefix = '', maxBuckets = 10_000, continuationToken = '', bucketRegion } = x.op;
  const after = Buffer.from(continuationToken, 'base64url').toString('utf8');
  const { region, systemBucket } = x.rooms.settings;
  const matching = (await clientNames(x, all.buckets)).filter(
    ({ name }) =>
      name !== systemBucket &&
      name.startsWith(prefix) &&
      name > after &&
      (bucketRegion === undefined || bucketRegion === region),
  );
  const buckets = matching.slice(0, maxBuckets);
  const last = matching.length > buckets.length ? buckets.at(-1)?.name : undefined;
  const token = last === undefined ? {} : { continuationToken: Buffer.from(last, 'utf8').toString('base64url') };
  const owner = { id: x.caller.identity.name, displayName: x.caller.identity.name };
  return { status: 200, headers: XML, body: formatBucketList({ owner, buckets, ...token }, x.op.prefix) };
}

/** A bucket that is mapped shows under its own name; the one that it lies in only if it is a bucket of ours, too. */
async function clientNames(x: Exchange, stored: readonly BucketEntry[]): Promise<BucketEntry[]> {
  const known = await allRecords(x);
  const names = new Set(known.map(({ name }) => name));
  const mapped = known.filter(({ name, record }) => record.target.bucket !== name);
  const targets = new Set(mapped.map(({ record }) => record.target.bucket));
  const atStore = new Set(stored.map(({ name }) => name));
  const shown = stored.filter(({ name }) => names.has(name) || !targets.has(name));
  const own = new Set(shown.map(({ name }) => name));
  const more = mapped.filter(({ name, record }) => atStore.has(record.target.bucket) && !own.has(name));
  const entries = more.map(({ name, record }) => ({ name, creationDate: record.createdAt }));
  return [...shown, ...entries].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The bucket at the store, then its record: a new id, so that nothing of an earlier bucket opens in it. */
export async function createBucket(x: Exchange<CreateBucket>): Promise<Reply> {
  const { settings, buckets } = x.rooms;
  const request = parseCreateBucket(await smallBody(x, CREATE_BODY_LIMIT));
  assertLocationConstraint(request.locationConstraint, settings.region);
  const record = await buckets.get(x.op.bucket);
  if (record !== undefined) {
    // A mapping is an administrator's, and stays his.
    if (record.target.bucket !== x.op.bucket) throw new ServiceError('BucketAlreadyOwnedByYou');
    if (await standsAtStore(x, record.target.bucket)) throw new ServiceError('BucketAlreadyOwnedByYou');
    // Deleted behind our back: what comes under this name is another bucket.
    await buckets.retire(x.op.bucket);
  }
  const body = Buffer.from(formatCreateBucket(settings.storeRegion));
  const headers = requestHeadersFor(x.op.row, x.caller.request.headers, ENVELOPE_HEADER);
  await refuseMappedTarget(x, x.op.bucket);
  const response = await callStore(x, { method: 'PUT', bucket: x.op.bucket, headers, body });
  await assertDone(response, 'NoSuchBucket');
  // Some stores answer 200 for a bucket that is there already: it is adopted like any other, or not at all.
  if (!(await isEmpty(x, x.op.bucket))) throw notAdopted(x.op.bucket);
  await buckets.create(x.op.bucket, newBucket(x, x.op.bucket));
  return { status: 200, headers: { location: `/${x.op.bucket}` } };
}

/** The settings of a bucket that is empty: everything in it will be sealed. */
export function newBucket(x: Exchange, bucket: string): NewBucket {
  const blocked = x.rooms.settings.blockedEncryptionTypes;
  const encryption = { algorithm: 'AES256', bucketKeyEnabled: false, blocked } as const;
  const record = { target: { bucket, prefix: '' }, mode: 'encrypted-only' } as const;
  return blocked.length === 0 ? record : { ...record, encryption };
}

export async function headBucket(x: Exchange<HeadBucket>): Promise<Reply> {
  await exists(x, x.op.bucket);
  return { status: 200, headers: { 'x-amz-bucket-region': x.rooms.settings.region } };
}

export async function getBucketLocation(x: Exchange<GetBucketLocation>): Promise<Reply> {
  await exists(x, x.op.bucket);
  return { status: 200, headers: XML, body: formatLocation(x.rooms.settings.region) };
}

/** Some stores delete a bucket with everything in it: what holds anything is refused here first. */
export async function deleteBucket(x: Exchange<DeleteBucket>): Promise<Reply> {
  const record = await x.rooms.buckets.get(x.op.bucket);
  const bucket = record?.target.bucket ?? x.op.bucket;
  const prefix = record?.target.prefix ?? '';
  if (record === undefined) await refuseMappedTarget(x, bucket);
  if (!(await isEmpty(x, bucket, prefix))) throw new ServiceError('BucketNotEmpty');
  if (prefix !== '') {
    // The bucket at the store is not this client's alone: what ends is the mapping.
    await x.rooms.buckets.retire(x.op.bucket);
    return { status: 204, headers: {} };
  }
  const response = await callStore(x, { method: 'DELETE', bucket });
  await assertDone(response, 'NoSuchBucket');
  if (record !== undefined) await x.rooms.buckets.retire(x.op.bucket);
  return { status: 204, headers: {} };
}

/**
 * A bucket of the store into which other buckets are mapped is no bucket of its own: as a whole it would give its owner
 * theirs.
 */
export async function refuseMappedTarget(x: Exchange, name: string): Promise<void> {
  if (await isMappedTarget(x, name)) {
    throw new ServiceError('InvalidBucketState', {
      message: 'Other buckets are mapped into this bucket of the store.',
      reason: 'bucket-mapped',
    });
  }
}

async function isMappedTarget(x: Exchange, bucket: string): Promise<boolean> {
  return (await allRecords(x)).some(({ record }) => record.target.bucket === bucket);
}

async function allRecords(x: Exchange): Promise<{ readonly name: string; readonly record: BucketRecord }[]> {
  const { buckets } = x.rooms;
  const all = await Promise.all(
    (await buckets.list()).map(async (name) => ({ name, record: await buckets.get(name) })),
  );
  return all.flatMap(({ name, record }) => (record === undefined ? [] : [{ name, record }]));
}

async function standsAtStore(x: Exchange, bucket: string): Promise<boolean> {
  const response = await callStore(x, { method: 'HEAD', bucket });
  if (response.status !== 200 && response.status !== 404) throw await storeError(response);
  response.discard();
  return response.status === 200;
}

async function exists(x: Exchange, name: string): Promise<void> {
  const record = await x.rooms.buckets.get(name);
  // Others lie in it; by its own name it is nobody's.
  if (record === undefined && (await isMappedTarget(x, name))) throw new ServiceError('NoSuchBucket');
  const response = await callStore(x, { method: 'HEAD', bucket: record?.target.bucket ?? name });
  if (response.status !== 200) throw await storeError(response, 'NoSuchBucket');
  response.discard();
}

export function notAdopted(bucket: string): ServiceError {
  return new ServiceError('InvalidBucketState', {
    message: `The bucket holds objects that were not written here. An administrator can adopt it: POST /kms/buckets/${bucket}/adopt.`,
    reason: 'bucket-not-adopted',
  });
}

/** True when the store lists neither an object nor an older version nor a delete marker. Throws NoSuchBucket. */
export async function isEmpty(x: Exchange, bucket: string, prefix = ''): Promise<boolean> {
  const within = prefix === '' ? [] : [['prefix', prefix] as const];
  const list = (query: readonly (readonly [string, string])[]) =>
    callStore(x, { method: 'GET', bucket, query: [...query, ...within] });
  const objects = await list([
    ['list-type', '2'],
    ['max-keys', '1'],
  ]);
  if (objects.status !== 200) throw await storeError(objects, 'NoSuchBucket');
  if (holds(await objects.collect(ANSWER_LIMIT), 'ListBucketResult', ['Contents', 'CommonPrefixes'])) return false;
  const versions = await list([
    ['versions', ''],
    ['max-keys', '1'],
  ]);
  if (versions.status === 429 || (versions.status >= 500 && versions.status !== 501)) throw await storeError(versions);
  // A store without versions has none to hide.
  if (versions.status !== 200) {
    versions.discard();
    return true;
  }
  return !holds(await versions.collect(ANSWER_LIMIT), 'ListVersionsResult', ['Version', 'DeleteMarker']);
}

/** Anything else than this listing holds nothing that could be told, which is not nothing. */
function holds(listing: Buffer, rootName: string, names: readonly string[]): boolean {
  return readStoreXml(listing, rootName, (root) => root.children.some(({ name }) => names.includes(name)));
}
