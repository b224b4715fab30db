import type { ListObjects, ListObjectsV2, ListObjectVersions } from './operation.ts';
import { childOf, readStoreXml, textOf, type XmlElement } from './xml.ts';

export type ListOperation = ListObjects | ListObjectsV2 | ListObjectVersions;

export interface ListedEntry {
  readonly kind: 'object' | 'version' | 'delete-marker';
  /** The client's name of the key: decoded, without the prefix that the bucket is mapped to. */
  readonly key: string;
  readonly lastModified: string;
  /** The store's: quotes included, as it wrote it. Empty for a delete marker. */
  readonly etag: string;
  /** The store's, of the sealed object. */
  readonly size: number;
  readonly storageClass: string;
  readonly owner?: { readonly id: string; readonly displayName?: string };
  readonly versionId?: string;
  readonly isLatest?: boolean;
}

/** What the store listed, decoded, in its order. */
export interface Listing {
  readonly entries: readonly ListedEntry[];
  readonly commonPrefixes: readonly string[];
  readonly isTruncated: boolean;
  readonly nextMarker?: string;
  readonly nextContinuationToken?: string;
  readonly nextKeyMarker?: string;
  readonly nextVersionIdMarker?: string;
}

const ROOT = {
  ListObjects: 'ListBucketResult',
  ListObjectsV2: 'ListBucketResult',
  ListObjectVersions: 'ListVersionsResult',
} as const;
const ENTRY: Readonly<Record<string, ListedEntry['kind']>> = {
  Contents: 'object',
  Version: 'version',
  DeleteMarker: 'delete-marker',
};

/** 1,000 entries with keys of 1,024 bytes, each of them as `%XX`, and markup. */
export const LISTING_LIMIT = 8 * 1024 * 1024;

/**
 * The query towards the store. `encoding-type=url` always: keys that XML cannot hold arrive whole. `storePrefix` is
 * the prefix of the store's bucket that the client's bucket is mapped to, or ''.
 */
export function storeListQuery(op: ListOperation, storePrefix = ''): readonly (readonly [string, string])[] {
  const query: (readonly [string, string])[] = [
    ['encoding-type', 'url'],
    ['max-keys', String(op.maxKeys)],
  ];
  const key = (name: string, value: string | undefined): void => {
    if (value !== undefined && value !== '') query.push([name, storePrefix + value]);
  };
  if (storePrefix + op.prefix !== '') query.push(['prefix', storePrefix + op.prefix]);
  if (op.delimiter !== '') query.push(['delimiter', op.delimiter]);
  switch (op.kind) {
    case 'ListObjects':
      key('marker', op.marker);
      break;
    case 'ListObjectsV2':
      query.push(['list-type', '2']);
      key('start-after', op.startAfter);
      if (op.continuationToken !== undefined) query.push(['continuation-token', op.continuationToken]);
      if (op.fetchOwner) query.push(['fetch-owner', 'true']);
      break;
    case 'ListObjectVersions':
      query.push(['versions', '']);
      key('key-marker', op.keyMarker);
      if (op.versionIdMarker) query.push(['version-id-marker', op.versionIdMarker]);
  }
  return query;
}

/** Reads the store's answer. Anything that is not a whole listing is an InternalError (reason `store-xml`). */
export function parseListing(kind: ListOperation['kind'], body: Uint8Array, storePrefix = ''): Listing {
  return readStoreXml(body, ROOT[kind], (root) => readListing(root, storePrefix));
}

function readListing(root: XmlElement, storePrefix: string): Listing {
  // A store that does not know the parameter does not repeat it either, and has sent its keys as they are.
  const encoded = textOf(root, 'EncodingType') === 'url';
  const name = (text: string): string => (encoded ? decodeName(text) : text);
  const within = (text: string): boolean => text.startsWith(storePrefix);
  const strip = (text: string): string => text.slice(storePrefix.length);

  const entries: ListedEntry[] = [];
  const commonPrefixes: string[] = [];
  for (const child of root.children) {
    const kind = ENTRY[child.name];
    if (kind !== undefined) {
      const entry = readEntry(kind, child, name);
      // What is named as the prefix itself (a console's folder) has no name here.
      if (within(entry.key) && entry.key !== storePrefix)
        entries.push(storePrefix === '' ? entry : { ...entry, key: strip(entry.key) });
    } else if (child.name === 'CommonPrefixes') {
      for (const { name: field, text } of child.children) {
        const prefix = name(text);
        if (field === 'Prefix' && within(prefix)) commonPrefixes.push(strip(prefix));
      }
    }
  }
  const marker = (field: string): string | undefined => {
    const text = textOf(root, field) ?? '';
    const value = name(text);
    return text === '' || !within(value) ? undefined : strip(value);
  };
  const plain = (field: string): string | undefined => textOf(root, field) || undefined;
  return compact({
    entries,
    commonPrefixes,
    isTruncated: textOf(root, 'IsTruncated') === 'true',
    nextMarker: marker('NextMarker'),
    nextContinuationToken: plain('NextContinuationToken'),
    nextKeyMarker: marker('NextKeyMarker'),
    nextVersionIdMarker: plain('NextVersionIdMarker'),
  });
}

function readEntry(kind: ListedEntry['kind'], element: XmlElement, name: (text: string) => string): ListedEntry {
  const key = textOf(element, 'Key');
  if (key === undefined) throw new TypeError('a listed entry has no key');
  const size = kind === 'delete-marker' ? '0' : (textOf(element, 'Size') ?? '');
  if (!/^\d{1,16}$/.test(size)) throw new TypeError('a listed size is no number');
  const owner = childOf(element, 'Owner');
  const latest = textOf(element, 'IsLatest');
  return compact({
    kind,
    key: name(key),
    lastModified: textOf(element, 'LastModified') ?? '',
    etag: textOf(element, 'ETag') ?? '',
    size: Number(size),
    storageClass: textOf(element, 'StorageClass') || 'STANDARD',
    owner:
      owner === undefined
        ? undefined
        : compact({ id: textOf(owner, 'ID') ?? '', displayName: textOf(owner, 'DisplayName') }),
    versionId: textOf(element, 'VersionId'),
    isLatest: latest === undefined ? undefined : latest === 'true',
  });
}

/**
 * S3's `encoding-type=url`: a form encoding, so `+` is a space and a plus is %2B; radosgw writes %20 and encodes `/`
 * too. Bytes that are no UTF-8 (no S3 key is) become U+FFFD rather than hide the other 999 keys.
 */
function decodeName(text: string): string {
  if (!/[%+]/.test(text)) return text;
  const spaced = text.replaceAll('+', ' ');
  try {
    return decodeURIComponent(spaced);
  } catch {
    return Buffer.from(unescapeBytes(spaced), 'latin1').toString('utf8');
  }
}

function unescapeBytes(text: string): string {
  const octets = Buffer.from(text, 'utf8').toString('latin1');
  return octets.replace(/%([\da-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
}

type Compact<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>;
};

/** Without the fields that are undefined: absent, as exactOptionalPropertyTypes wants them. */
function compact<T extends object>(fields: T): Compact<T> {
  const record = fields as Record<string, unknown>;
  for (const name of Object.keys(record)) if (record[name] === undefined) Reflect.deleteProperty(record, name);
  return fields;
}
