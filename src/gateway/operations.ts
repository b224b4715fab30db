import type { BucketRecord } from '../control/buckets.ts';
import { ServiceError } from '../errors.ts';
import type { Operation } from '../s3/operation.ts';
import { getObjectAttributes } from './objects/attributes.ts';
import {
  createBucket,
  deleteBucket,
  getBucketLocation,
  headBucket,
  isEmpty,
  listBuckets,
  newBucket,
  notAdopted,
  refuseMappedTarget,
} from './buckets/buckets.ts';
import { completeMultipartUpload } from './uploads/complete.ts';
import { copyObject } from './copies/copy.ts';
import { uploadPartCopy } from './copies/part.ts';
import { createMultipartUpload } from './uploads/create.ts';
import { deleteObject, deleteObjects } from './objects/delete.ts';
import { deleteBucketCors, getBucketCors, putBucketCors } from './buckets/cors.ts';
import { deleteBucketEncryption, getBucketEncryption, putBucketEncryption } from './buckets/encryption.ts';
import type { BucketExchange, Exchange, Reply } from './exchange.ts';
import { forward } from './buckets/forward.ts';
import { getObject, headObject } from './objects/get.ts';
import { frozen } from './keys.ts';
import { list } from './buckets/list.ts';
import { abortMultipartUpload, listMultipartUploads, listParts } from './uploads/list.ts';
import { postObject } from './objects/post.ts';
import { putObject } from './objects/put.ts';
import { updateObjectEncryption } from './copies/update-encryption.ts';
import { uploadPart } from './uploads/part.ts';

type Of<K extends Operation['kind']> = Extract<Operation, { kind: K }>;

/** Operations that need no record of a bucket, or not yet; they make, remove or ask for records themselves. */
type Unbound = 'ListBuckets' | 'CreateBucket' | 'HeadBucket' | 'DeleteBucket' | 'GetBucketLocation' | 'DeleteObjects';

const unbound: { readonly [K in Unbound]: (x: Exchange<Of<K>>) => Promise<Reply> } = {
  ListBuckets: listBuckets,
  CreateBucket: createBucket,
  HeadBucket: headBucket,
  DeleteBucket: deleteBucket,
  GetBucketLocation: getBucketLocation,
  DeleteObjects: (x) => deleteObjects(x, () => bucketOf(x, x.op.bucket)),
};

/** A missing operation does not compile; one that is on no list never gets here (s3/rows.ts answers 501). */
const bound: { readonly [K in Exclude<Operation['kind'], Unbound>]: (x: BucketExchange<Of<K>>) => Promise<Reply> } = {
  GetBucketEncryption: getBucketEncryption,
  PutBucketEncryption: putBucketEncryption,
  DeleteBucketEncryption: deleteBucketEncryption,
  GetBucketCors: getBucketCors,
  PutBucketCors: putBucketCors,
  DeleteBucketCors: deleteBucketCors,
  ListObjects: list,
  ListObjectsV2: list,
  ListObjectVersions: list,
  PutObject: putObject,
  PostObject: postObject,
  GetObject: getObject,
  HeadObject: headObject,
  GetObjectAttributes: getObjectAttributes,
  CopyObject: (x) => copyObject(x, () => bucketOf(x, x.op.source.bucket)),
  UpdateObjectEncryption: updateObjectEncryption,
  DeleteObject: deleteObject,
  CreateMultipartUpload: createMultipartUpload,
  UploadPart: uploadPart,
  UploadPartCopy: (x) => uploadPartCopy(x, () => bucketOf(x, x.op.source.bucket)),
  CompleteMultipartUpload: completeMultipartUpload,
  AbortMultipartUpload: abortMultipartUpload,
  ListParts: listParts,
  ListMultipartUploads: listMultipartUploads,
  Forward: forward,
};

export async function operate(x: Exchange): Promise<Reply> {
  if (('key' in x.op || x.op.kind === 'DeleteObjects') && x.rooms.keys.frozen()) throw frozen();
  const { op } = x;
  if (isUnbound(op)) return (unbound[op.kind] as (x: Exchange) => Promise<Reply>)(x);
  const bucket = await bucketOf(x, op.bucket);
  return (bound[op.kind] as (x: BucketExchange) => Promise<Reply>)({ ...x, bucket });
}

function isUnbound(op: Operation): op is Of<Unbound> {
  return op.kind in unbound;
}

/**
 * The record that says how a bucket is encrypted. One that has none is adopted as encrypted-only where it is empty;
 * where it is not, an administrator has to say what its objects are, and until then it is refused.
 */
async function bucketOf(x: Exchange, name: string): Promise<BucketRecord> {
  const known = await x.rooms.buckets.get(name);
  return known ?? adoptEmpty(x, name);
}

async function adoptEmpty(x: Exchange, name: string): Promise<BucketRecord> {
  const empty = await isEmpty(x, name);
  if (!empty) throw notAdopted(name);
  await refuseMappedTarget(x, name);
  try {
    return await x.rooms.buckets.create(name, newBucket(x, name));
  } catch (err) {
    const raced =
      err instanceof ServiceError && (err.code === 'BucketAlreadyOwnedByYou' || err.code === 'OperationAborted');
    const record = raced ? await x.rooms.buckets.get(name) : undefined;
    if (record === undefined) throw err;
    return record;
  }
}
