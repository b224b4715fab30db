import { ServiceError } from '../errors.ts';
import type { ChecksumAlgorithm } from './checksum.ts';
import { document, element } from './xml.ts';

const ATTRIBUTES = ['ETag', 'Checksum', 'ObjectParts', 'StorageClass', 'ObjectSize'] as const;
export type ObjectAttribute = (typeof ATTRIBUTES)[number];

/** `x-amz-object-attributes`: one of them at least. */
export function parseAttributes(header: string | undefined): ReadonlySet<ObjectAttribute> {
  const names = (header ?? '').split(',').map((name) => name.trim());
  const wanted = names.filter((name) => name !== '');
  if (wanted.length === 0) {
    throw new ServiceError('InvalidRequest', {
      message:
        'The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty',
      reason: 'attributes-missing',
    });
  }
  const known = (name: string): name is ObjectAttribute => ATTRIBUTES.some((attribute) => attribute === name);
  if (!wanted.every(known)) {
    throw new ServiceError('InvalidArgument', {
      message: 'Invalid attribute name specified.',
      reason: 'attributes-unknown',
    });
  }
  return new Set(wanted);
}

/** A checksum in base64, without the `-N` that headers put behind a digest of digests (as AWS gives it here). */
export interface ShownChecksum {
  readonly algorithm: ChecksumAlgorithm;
  readonly value: string;
}

export interface AttributePart {
  readonly partNumber: number;
  readonly size: number;
  readonly checksum: ShownChecksum | undefined;
}

/** What is known of the object; undefined is what it has not. */
export interface ObjectAttributes {
  /** Without quotes. */
  readonly etag: string;
  readonly checksum: (ShownChecksum & { readonly type: string }) | undefined;
  /** Of an object in parts: all of them, in order. */
  readonly parts: readonly AttributePart[] | undefined;
  readonly storageClass: string;
  readonly size: number;
}

export interface AttributesAsked {
  readonly attributes: ReadonlySet<ObjectAttribute>;
  readonly maxParts: number;
  readonly partNumberMarker: number;
}

/** The body of GetObjectAttributes, with what was asked for only. */
export function formatAttributes(asked: AttributesAsked, found: ObjectAttributes): string {
  const { attributes } = asked;
  const { checksum, parts } = found;
  return document('GetObjectAttributesResponse', [
    attributes.has('ETag') ? element('ETag', found.etag) : '',
    attributes.has('Checksum') && checksum !== undefined
      ? element('Checksum', [...shown(checksum), element('ChecksumType', checksum.type)])
      : '',
    attributes.has('ObjectParts') && parts !== undefined ? element('ObjectParts', page(asked, parts)) : '',
    attributes.has('StorageClass') ? element('StorageClass', found.storageClass) : '',
    attributes.has('ObjectSize') ? element('ObjectSize', found.size) : '',
  ]);
}

/** Sizes are told for uploads without checksums too: the manifest has them, as Ceph's does. */
function page({ maxParts, partNumberMarker }: AttributesAsked, parts: readonly AttributePart[]): readonly string[] {
  const after = parts.filter(({ partNumber }) => partNumber > partNumberMarker);
  const listed = after.slice(0, maxParts);
  return [
    element('PartsCount', parts.length),
    element('PartNumberMarker', partNumberMarker),
    element('NextPartNumberMarker', listed.at(-1)?.partNumber ?? partNumberMarker),
    element('MaxParts', maxParts),
    element('IsTruncated', listed.length < after.length),
    ...listed.map(({ partNumber, size, checksum }) =>
      element('Part', [...shown(checksum), element('PartNumber', partNumber), element('Size', size)]),
    ),
  ];
}

function shown(checksum: ShownChecksum | undefined): readonly string[] {
  return checksum === undefined ? [] : [element(`Checksum${checksum.algorithm}`, checksum.value)];
}
