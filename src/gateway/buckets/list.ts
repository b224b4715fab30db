import { plaintextBefore } from '../../control/buckets.ts';
import { formatListing } from '../../s3/format-listing.ts';
import {
  LISTING_LIMIT,
  parseListing,
  storeListQuery,
  type ListedEntry,
  type Listing,
  type ListOperation,
} from '../../s3/listing.ts';
import { toClientEtag } from '../../sse/etag.ts';
import { ENVELOPE_HEADER } from '../../sse/format.ts';
import { plaintextSize } from '../../sse/size.ts';
import { callStore } from '../calls.ts';
import type { BucketExchange, Reply } from '../exchange.ts';
import { storeError } from '../store-errors.ts';
import { versionQuery } from '../objects/versions.ts';
import { openToken, sealToken } from './list-token.ts';
import { XML } from '../xml-body.ts';

/** HEADs at a time that tell sealed objects from plaintext ones in a mixed bucket. */
const PROBES_AT_ONCE = 16;

/**
 * The three listings. Sizes are inverted from the store's own `Size` (docs/FORMAT.md section 4), ETags follow from the
 * store's: no request per key. Only a mixed bucket, while it is being migrated, has to ask about its older objects.
 */
export async function list(x: BucketExchange<ListOperation>): Promise<Reply> {
  const { bucket, prefix } = x.bucket.target;
  const response = await callStore(x, { method: 'GET', bucket, query: storeListQuery(asked(x), prefix) });
  if (response.status !== 200) throw await storeError(response, 'NoSuchBucket');
  const listing = told(x, parseListing(x.op.kind, await response.collect(LISTING_LIMIT), prefix));
  const before = plaintextBefore(x.bucket);
  const plain = before === -Infinity ? undefined : await plaintextEntries(x, listing, before);
  const body = formatListing(x.op, listing, {
    bucket: x.op.bucket,
    plaintextSize: (sealed, entry) => (plain?.has(entry) === true ? sealed : plaintextSize(sealed)),
    clientEtag: (etag) => toClientEtag(etag),
  });
  return { status: 200, headers: XML, body };
}

/** The operation with the store's own token, where the client has it sealed. */
function asked(x: BucketExchange<ListOperation>): ListOperation {
  const { op, bucket } = x;
  if (op.kind !== 'ListObjectsV2' || op.continuationToken === undefined || bucket.target.prefix === '') return op;
  return { ...op, continuationToken: openToken(x, op.continuationToken) };
}

function told(x: BucketExchange<ListOperation>, listing: Listing): Listing {
  const { nextContinuationToken: next } = listing;
  if (next === undefined || x.bucket.target.prefix === '') return listing;
  return { ...listing, nextContinuationToken: sealToken(x, next) };
}

/** Entries that have no envelope, of a bucket that may hold some: their size fits no sealed object, or HEAD shows it. */
async function plaintextEntries(
  x: BucketExchange<ListOperation>,
  listing: Listing,
  before: number,
): Promise<ReadonlySet<ListedEntry>> {
  const plain = new Set<ListedEntry>();
  const doubtful: ListedEntry[] = [];
  for (const entry of listing.entries) {
    if (entry.kind === 'delete-marker' || !(Date.parse(entry.lastModified) < before)) continue;
    if (plaintextSize(entry.size) === undefined) plain.add(entry);
    else doubtful.push(entry);
  }
  for (let i = 0; i < doubtful.length; i += PROBES_AT_ONCE) {
    await Promise.all(
      doubtful.slice(i, i + PROBES_AT_ONCE).map(async (entry) => {
        if (!(await isSealed(x, entry))) plain.add(entry);
      }),
    );
  }
  return plain;
}

async function isSealed(x: BucketExchange<ListOperation>, entry: ListedEntry): Promise<boolean> {
  const { bucket, prefix } = x.bucket.target;
  const response = await callStore(x, {
    method: 'HEAD',
    bucket,
    key: prefix + entry.key,
    query: versionQuery(entry.versionId),
  });
  response.discard();
  return response.headers[ENVELOPE_HEADER] !== undefined;
}
