import type { BucketRecord } from '../control/buckets.ts';
import { bucketOfHost } from '../s3/names.ts';
import { encodeKey } from '../sigv4/encode.ts';
import type { Exchange } from './exchange.ts';

/** Where a client's key lies at the store: the record may map the bucket to another one, and to a prefix in it. */
export function storePlace(
  bucket: Pick<BucketRecord, 'target'>,
  key: string,
): { readonly bucket: string; readonly key: string } {
  return { bucket: bucket.target.bucket, key: bucket.target.prefix + key };
}

/** Where the client finds the object, by the host and in the style in which it asked. */
export function objectUrl(x: Exchange, bucket: string, key: string): string {
  const { host = '' } = x.caller.request.headers;
  const hosted = bucketOfHost(host, x.rooms.settings.baseHosts) !== undefined;
  return `${x.secure ? 'https' : 'http'}://${host}${x.mount}/${hosted ? '' : `${bucket}/`}${encodeKey(key)}`;
}
