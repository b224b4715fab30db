import { ServiceError } from '../errors.ts';
import type { ChecksumAlgorithm } from './checksum.ts';
import { encodeName } from './format-listing.ts';
import { isStoreId } from './names.ts';
import type { ListMultipartUploads, ListParts } from './operation.ts';
import { badAnswer, childrenOf, document, element, parseXml, readStoreXml, textOf, type XmlElement } from './xml.ts';

/** S3 "CompleteMultipartUpload": at most 10,000 parts, each with an ETag and a checksum. */
const MAX_PARTS = 10_000;
export const COMPLETE_BODY_LIMIT = 4 * 1024 * 1024;

const CHECKSUMS = {
  CRC32: 'ChecksumCRC32',
  CRC32C: 'ChecksumCRC32C',
  CRC64NVME: 'ChecksumCRC64NVME',
  SHA1: 'ChecksumSHA1',
  SHA256: 'ChecksumSHA256',
} as const satisfies Record<ChecksumAlgorithm, string>;
const ALGORITHMS = Object.keys(CHECKSUMS) as ChecksumAlgorithm[];

export interface ListedPart {
  readonly partNumber: number;
  /** Without quotes. */
  readonly etag: string;
  /** Base64, by algorithm. */
  readonly checksums: Readonly<Partial<Record<ChecksumAlgorithm, string>>>;
}

export function unquote(etag: string): string {
  return etag.trim().replace(/^"(.*)"$/, '$1');
}

/** In quotes, as AWS gives every ETag; some stores leave them out in XML (radosgw). An empty one stays empty. */
export function quote(etag: string): string {
  const bare = unquote(etag);
  return bare === '' ? '' : `"${bare}"`;
}

/** The client's list: ascending, never empty. */
export function parseCompleteUpload(body: Uint8Array): readonly ListedPart[] {
  if (body.length === 0) throw new ServiceError('MalformedXML');
  const parts = childrenOf(parseXml(body, 'CompleteMultipartUpload'), 'Part').map(readPart);
  if (parts.length === 0 || parts.length > MAX_PARTS) throw new ServiceError('MalformedXML');
  if (parts.some(({ partNumber }, i) => partNumber <= (parts[i - 1]?.partNumber ?? 0))) {
    throw new ServiceError('InvalidPartOrder');
  }
  return parts;
}

function readPart(part: XmlElement): ListedPart {
  const number = textOf(part, 'PartNumber')?.trim() ?? '';
  const etag = textOf(part, 'ETag');
  if (!/^\d{1,9}$/.test(number) || etag === undefined) throw new ServiceError('MalformedXML');
  if (Number(number) < 1 || Number(number) > MAX_PARTS) {
    throw new ServiceError('InvalidArgument', {
      message: 'Part number must be an integer between 1 and 10000, inclusive',
      reason: 'argument:partNumber',
    });
  }
  const checksums: Partial<Record<ChecksumAlgorithm, string>> = {};
  for (const algorithm of ALGORITHMS) {
    const value = textOf(part, CHECKSUMS[algorithm]);
    if (value !== undefined && value !== '') checksums[algorithm] = value;
  }
  return { partNumber: Number(number), etag: unquote(etag), checksums };
}

export function formatInitiateUpload(bucket: string, key: string, uploadId: string): string {
  return document('InitiateMultipartUploadResult', [
    element('Bucket', bucket),
    element('Key', key),
    element('UploadId', uploadId),
  ]);
}

/** A checksum of plaintext in an answer's body. */
export interface ToldChecksum {
  readonly algorithm: ChecksumAlgorithm;
  /** Base64, with the number of parts behind it where it is composite. */
  readonly text: string;
  readonly type?: string;
}

export function formatCompleteUpload(result: {
  readonly location: string;
  readonly bucket: string;
  readonly key: string;
  readonly etag: string;
  readonly checksum: ToldChecksum | undefined;
}): string {
  return document('CompleteMultipartUploadResult', [
    element('Location', result.location),
    element('Bucket', result.bucket),
    element('Key', result.key),
    element('ETag', result.etag),
    ...told(result.checksum),
  ]);
}

export function told(checksum: ToldChecksum | undefined): readonly string[] {
  if (checksum === undefined) return [];
  return [element(CHECKSUMS[checksum.algorithm], checksum.text), element('ChecksumType', checksum.type)];
}

/** The body of the store's Complete; its ETags as the store gave them. */
export function formatStoreComplete(parts: readonly Pick<ListedPart, 'partNumber' | 'etag'>[]): string {
  return document(
    'CompleteMultipartUpload',
    parts.map(({ partNumber, etag }) =>
      element('Part', [element('PartNumber', partNumber), element('ETag', `"${etag}"`)]),
    ),
  );
}

/** The upload id that the store gave. */
export function parseInitiateUpload(body: Uint8Array): string {
  const id = readStoreXml(body, 'InitiateMultipartUploadResult', (root) => textOf(root, 'UploadId'));
  if (id === undefined || !isStoreId(id)) throw badAnswer();
  return id;
}

/** The store's answer to Complete: its ETag (empty at some stores), or the code of an error inside a 200. */
export function parseCompleteResult(body: Uint8Array): { readonly etag: string } | { readonly code: string } {
  const root = readStoreXml(body, undefined, (element) => element);
  if (root.name === 'Error') return { code: textOf(root, 'Code') ?? '' };
  if (root.name !== 'CompleteMultipartUploadResult') throw badAnswer();
  return { etag: textOf(root, 'ETag') ?? '' };
}

export interface StorePart {
  readonly partNumber: number;
  /** Without quotes. */
  readonly etag: string;
  readonly size: number;
}

export interface StoreParts {
  readonly parts: readonly StorePart[];
  /** Where the next page begins; undefined on the last one. */
  readonly next: number | undefined;
}

export function parseStoreParts(body: Uint8Array): StoreParts {
  return readStoreXml(body, 'ListPartsResult', (root) => {
    const parts = childrenOf(root, 'Part').map((part) => ({
      partNumber: Number(textOf(part, 'PartNumber')),
      etag: unquote(textOf(part, 'ETag') ?? ''),
      size: Number(textOf(part, 'Size')),
    }));
    const truncated = textOf(root, 'IsTruncated') === 'true';
    const next = Number(textOf(root, 'NextPartNumberMarker') ?? parts.at(-1)?.partNumber);
    return { parts, next: truncated && next > 0 ? next : undefined };
  });
}

/** One part as ListParts shows it. */
export interface ShownPart {
  readonly partNumber: number;
  readonly lastModified: string;
  /** Without quotes. */
  readonly etag: string;
  readonly size: number;
  readonly checksum: ToldChecksum | undefined;
}

export function formatListParts(
  op: ListParts,
  page: readonly ShownPart[],
  view: {
    readonly truncated: boolean;
    readonly owner: string;
    readonly checksum: { readonly algorithm: ChecksumAlgorithm; readonly type: string } | undefined;
  },
): string {
  const owner = [element('ID', view.owner), element('DisplayName', view.owner)];
  return document('ListPartsResult', [
    element('Bucket', op.bucket),
    element('Key', op.encodingType === 'url' ? encodeName(op.key) : op.key),
    element('UploadId', op.uploadId),
    element('EncodingType', op.encodingType),
    element('PartNumberMarker', op.partNumberMarker),
    element('NextPartNumberMarker', page.at(-1)?.partNumber ?? 0),
    element('MaxParts', op.maxParts),
    element('IsTruncated', view.truncated),
    ...page.map(({ partNumber, lastModified, etag, size, checksum }) =>
      element('Part', [
        element('PartNumber', partNumber),
        element('LastModified', lastModified),
        element('ETag', `"${etag}"`),
        element('Size', size),
        ...told(checksum),
      ]),
    ),
    element('Initiator', owner),
    element('Owner', owner),
    element('StorageClass', 'STANDARD'),
    element('ChecksumAlgorithm', view.checksum?.algorithm),
    element('ChecksumType', view.checksum?.type),
  ]);
}

/**
 * The query of the store's own ListMultipartUploads; names as the bucket is mapped. Without `encoding-type`: radosgw
 * encodes and does not say so, SeaweedFS says so and does not encode. As they are all stores give names that can be read.
 */
export function storeUploadsQuery(
  op: ListMultipartUploads,
  storePrefix: string,
): readonly (readonly [string, string])[] {
  const query: (readonly [string, string])[] = [
    ['uploads', ''],
    ['max-uploads', String(op.maxUploads)],
  ];
  if (storePrefix + op.prefix !== '') query.push(['prefix', storePrefix + op.prefix]);
  if (op.delimiter !== '') query.push(['delimiter', op.delimiter]);
  if (op.keyMarker !== '') query.push(['key-marker', storePrefix + op.keyMarker]);
  if (op.keyMarker !== '' && op.uploadIdMarker !== '') query.push(['upload-id-marker', op.uploadIdMarker]);
  return query;
}

/** The store's list of open uploads in the client's terms: names without the mapped prefix, encoded as asked. */
export function mapUploads(op: ListMultipartUploads, body: Uint8Array, storePrefix: string, owner: string): string {
  return readStoreXml(body, 'ListMultipartUploadsResult', (root) => {
    const encode = (name: string): string => (op.encodingType === 'url' ? encodeName(name) : name);
    const client = (name = ''): string | undefined => {
      const own = name.length > storePrefix.length && name.startsWith(storePrefix);
      return own ? encode(name.slice(storePrefix.length)) : undefined;
    };
    const who = [element('ID', owner), element('DisplayName', owner)];
    const truncated = op.maxUploads > 0 && textOf(root, 'IsTruncated') === 'true';
    const uploads = op.maxUploads === 0 ? [] : childrenOf(root, 'Upload');
    const last = uploads.at(-1);
    // Nothing of a neighbour, whatever the store lists.
    const shown = uploads.filter((upload) => client(textOf(upload, 'Key')) !== undefined);
    const groups = childrenOf(root, 'CommonPrefixes').map((group) => client(textOf(group, 'Prefix')));
    const marker = (name: string, field: string): string | undefined =>
      truncated ? textOf(root, name) || (last === undefined ? undefined : textOf(last, field)) : undefined;
    return document('ListMultipartUploadsResult', [
      element('Bucket', op.bucket),
      element('KeyMarker', encode(op.keyMarker)),
      element('UploadIdMarker', op.uploadIdMarker),
      element('NextKeyMarker', client(marker('NextKeyMarker', 'Key'))),
      element('NextUploadIdMarker', marker('NextUploadIdMarker', 'UploadId')),
      element('Prefix', encode(op.prefix)),
      op.delimiter === '' ? '' : element('Delimiter', encode(op.delimiter)),
      element('EncodingType', op.encodingType),
      element('MaxUploads', op.maxUploads),
      element('IsTruncated', truncated),
      ...shown.map((upload) =>
        element('Upload', [
          element('Key', client(textOf(upload, 'Key'))),
          element('UploadId', textOf(upload, 'UploadId')),
          element('Initiator', who),
          element('Owner', who),
          element('StorageClass', textOf(upload, 'StorageClass') || 'STANDARD'),
          element('Initiated', textOf(upload, 'Initiated')),
        ]),
      ),
      ...groups.flatMap((group) => (group === undefined ? [] : element('CommonPrefixes', [element('Prefix', group)]))),
    ]);
  });
}
