import type { ListedEntry, Listing, ListOperation } from './listing.ts';
import { document, element } from './xml.ts';

/** How the store's terms become the client's. Injected, because sizes and ETags belong to the sealed format. */
export interface ListingView {
  /** The client's name of the bucket. */
  readonly bucket: string;
  /** Plaintext size behind a sealed one, or undefined where no sealed object has that size. */
  readonly plaintextSize: (sealed: number, entry: ListedEntry) => number | undefined;
  readonly clientEtag: (etag: string, entry: ListedEntry) => string;
}

/**
 * The listing as the client asked for it. A size that inverts to nothing is shown as the store has it: the entry
 * stays visible (somebody has to delete it), and its GET is refused.
 */
export function formatListing(op: ListOperation, listing: Listing, view: ListingView): string {
  const encode = op.encodingType === 'url' ? encodeName : (name: string): string => name;
  // max-keys=0 asks whether the bucket is there; stores that read it as 1000 are not followed.
  const shown: Listing = op.maxKeys === 0 ? { entries: [], commonPrefixes: [], isTruncated: false } : listing;
  const head = [
    element('Name', view.bucket),
    element('Prefix', encode(op.prefix)),
    ...paging(op, shown, encode),
    element('MaxKeys', op.maxKeys),
    op.delimiter === '' ? '' : element('Delimiter', encode(op.delimiter)),
    element('EncodingType', op.encodingType),
    element('IsTruncated', shown.isTruncated),
  ];
  const entries = shown.entries.map((entry) => formatEntry(op, entry, view, encode));
  const prefixes = shown.commonPrefixes.map((prefix) => element('CommonPrefixes', [element('Prefix', encode(prefix))]));
  const root = op.kind === 'ListObjectVersions' ? 'ListVersionsResult' : 'ListBucketResult';
  return document(root, [...head, ...entries, ...prefixes]);
}

function paging(op: ListOperation, listing: Listing, encode: (name: string) => string): readonly string[] {
  const encoded = (name: string, value: string | undefined): string =>
    element(name, value === undefined ? undefined : encode(value));
  const more = listing.isTruncated;
  switch (op.kind) {
    case 'ListObjects':
      return [
        encoded('Marker', op.marker),
        // AWS gives it with a delimiter only; without one clients go on from the last key.
        encoded('NextMarker', more && op.delimiter !== '' ? (listing.nextMarker ?? lastName(listing)) : undefined),
      ];
    case 'ListObjectsV2':
      return [
        element('NextContinuationToken', more ? listing.nextContinuationToken : undefined),
        element('ContinuationToken', op.continuationToken),
        encoded('StartAfter', op.startAfter),
        element('KeyCount', listing.entries.length + listing.commonPrefixes.length),
      ];
    case 'ListObjectVersions':
      return [
        encoded('KeyMarker', op.keyMarker),
        element('VersionIdMarker', op.versionIdMarker ?? ''),
        encoded('NextKeyMarker', more ? listing.nextKeyMarker : undefined),
        element('NextVersionIdMarker', more ? listing.nextVersionIdMarker : undefined),
      ];
  }
}

/** Where a page ended, in UTF-8 order, for a store that does not say. */
function lastName(listing: Listing): string | undefined {
  const names = [listing.entries.at(-1)?.key, listing.commonPrefixes.at(-1)].filter((name) => name !== undefined);
  return names.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))).at(-1);
}

function formatEntry(
  op: ListOperation,
  entry: ListedEntry,
  view: ListingView,
  encode: (name: string) => string,
): string {
  const isMarker = entry.kind === 'delete-marker';
  const withOwner = op.kind !== 'ListObjectsV2' || op.fetchOwner;
  const owner = withOwner ? entry.owner : undefined;
  const name = { object: 'Contents', version: 'Version', 'delete-marker': 'DeleteMarker' }[entry.kind];
  return element(name, [
    element('Key', encode(entry.key)),
    element('VersionId', entry.versionId),
    element('IsLatest', entry.isLatest),
    element('LastModified', entry.lastModified),
    element('ETag', isMarker ? undefined : view.clientEtag(entry.etag, entry)),
    element('Size', isMarker ? undefined : (view.plaintextSize(entry.size, entry) ?? entry.size)),
    element('StorageClass', isMarker ? undefined : entry.storageClass),
    owner === undefined ? '' : element('Owner', [element('ID', owner.id), element('DisplayName', owner.displayName)]),
  ]);
}

const NEEDS_ENCODING = /[^A-Za-z0-9\-_.*/]/;

/** As AWS writes `encoding-type=url`: `/` and `*` stay, a space is `+`, everything else but `-_.` is %XX. */
export function encodeName(name: string): string {
  if (!NEEDS_ENCODING.test(name)) return name;
  return encodeURIComponent(name)
    .replace(/[!'()~]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)
    .replaceAll('%2F', '/')
    .replaceAll('%20', '+');
}
