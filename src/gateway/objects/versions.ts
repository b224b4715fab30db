import { ServiceError } from '../../errors.ts';
import { LISTING_LIMIT, parseListing } from '../../s3/listing.ts';
import { callStore } from '../calls.ts';
import type { BucketExchange } from '../exchange.ts';
import { storePlace } from '../target.ts';

/** What is asked for by a version id: an operation on one object. */
type OnVersion = BucketExchange & { readonly op: { readonly key: string; readonly versionId?: string } };

/** The query that names the version, for the store. */
export function versionQuery(versionId: string | undefined): readonly (readonly [string, string])[] {
  return versionId === undefined ? [] : [['versionId', versionId]];
}

/**
 * A version that the store does not find. AWS answers 405 when it is a delete marker; radosgw and SeaweedFS answer as
 * for one that never was, and only their listing tells.
 */
export async function missingVersion(x: OnVersion, missing: ServiceError): Promise<ServiceError> {
  const { bucket, key } = storePlace(x.bucket, x.op.key);
  const query = [
    ['versions', ''],
    ['encoding-type', 'url'],
    ['prefix', key],
  ] as const;
  const response = await callStore(x, { method: 'GET', bucket, query });
  if (response.status !== 200) {
    response.discard();
    return missing;
  }
  const { entries } = parseListing('ListObjectVersions', await response.collect(LISTING_LIMIT));
  const found = entries.find((entry) => entry.key === key && entry.versionId === x.op.versionId);
  if (found?.kind !== 'delete-marker') return missing;
  return new ServiceError('MethodNotAllowed', {
    reason: missing.reason,
    headers: {
      Allow: 'DELETE',
      'x-amz-delete-marker': 'true',
      'Last-Modified': new Date(found.lastModified).toUTCString(),
    },
  });
}
