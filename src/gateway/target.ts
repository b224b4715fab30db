import type { BucketRecord } from '../control/buckets.ts';

/** Where a client's key lies at the store: the record may map the bucket to another one, and to a prefix in it. */
export function storePlace(
  bucket: Pick<BucketRecord, 'target'>,
  key: string,
): { readonly bucket: string; readonly key: string } {
  return { bucket: bucket.target.bucket, key: bucket.target.prefix + key };
}
