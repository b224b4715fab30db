import type { NewBucket } from '../control/buckets.ts';
import { ServiceError } from '../errors.ts';
import {
  assertLocationConstraint,
  formatBucketList,
  formatCreateBucket,
  formatLocation,
  parseBucketList,
  parseCreateBucket,
} from '../s3/buckets.ts';
import type { CreateBucket, DeleteBucket, GetBucketLocation, HeadBucket, ListBuckets } from '../s3/operation.ts';
import { requestHeadersFor } from '../s3/headers.ts';
import { readStoreXml } from '../s3/xml.ts';
import { ENVELOPE_HEADER } from '../sse/format.ts';
import { ANSWER_LIMIT, callStore, smallBody } from './calls.ts';
import type { Exchange, Reply } from './exchange.ts';
import { assertDone, storeError } from './store-errors.ts';
import { XML } from './xml-body.ts';

const CREATE_BODY_LIMIT = 64 * 1024;

/** The store's buckets but the system bucket, under the names that clients know them by. */
export async function listBuckets(x: Exchange<ListBuckets>): Promise<Reply> {
  const response = await callStore(x, { method: 'GET' });
  if (response.status !== 200) throw await storeError(response);
  const all = parseBucketList(await response.collect(ANSWER_LIMIT));
  const { prefix = '', maxBuckets = 10_000, continuationToken = '', bucketRegion } = x.op;
  const after = Buffer.from(continuationToken, 'base64url').toString('utf8');
  const { region, systemBucket } = x.rooms.settings;
  const matching = all.buckets.filter(
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

/** The bucket at the store, then its record: a new id, so that nothing of an earlier bucket opens in it. */
export async function createBucket(x: Exchange<CreateBucket>): Promise<Reply> {
  const { settings, buckets } = x.rooms;
  const request = parseCreateBucket(await smallBody(x, CREATE_BODY_LIMIT));
  assertLocationConstraint(request.locationConstraint, settings.region);
  const record = await buckets.get(x.op.bucket);
  if (record !== undefined) {
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
  // It is not this client's alone: others are mapped into it.
  if (record !== undefined && record.target.prefix !== '') {
    throw new ServiceError('NotImplemented', {
      message: 'The bucket is a part of a bucket at the store, which is not deleted from here.',
      reason: 'mapped-bucket-setting',
    });
  }
  if (!(await isEmpty(x, bucket))) throw new ServiceError('BucketNotEmpty');
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
  const { buckets } = x.rooms;
  const records = await Promise.all((await buckets.list()).map((known) => buckets.get(known)));
  if (records.some((record) => record?.target.bucket === name)) {
    throw new ServiceError('InvalidBucketState', {
      message: 'Other buckets are mapped into this bucket of the store.',
      reason: 'bucket-mapped',
    });
  }
}

async function standsAtStore(x: Exchange, bucket: string): Promise<boolean> {
  const response = await callStore(x, { method: 'HEAD', bucket });
  if (response.status !== 200 && response.status !== 404) throw await storeError(response);
  response.discard();
  return response.status === 200;
}

async function exists(x: Exchange, name: string): Promise<void> {
  const record = await x.rooms.buckets.get(name);
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
export async function isEmpty(x: Exchange, bucket: string): Promise<boolean> {
  const list = (query: readonly (readonly [string, string])[]) => callStore(x, { method: 'GET', bucket, query });
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
