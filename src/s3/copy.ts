import { ServiceError } from '../errors.ts';
import { told, type ToldChecksum } from './multipart.ts';
import { childOf, childrenOf, document, element, parseXml, textOf } from './xml.ts';

/** `x-amz-copy-source-range`: both ends, nothing else (UploadPartCopy). */
export function parseCopyRange(header: string | undefined): { first: number; last: number } | undefined {
  if (header === undefined) return undefined;
  const [, first = '', last = ''] = /^bytes=(\d{1,15})-(\d{1,15})$/.exec(header) ?? [];
  if (last !== '' && Number(first) <= Number(last)) return { first: Number(first), last: Number(last) };
  throw new ServiceError('InvalidArgument', {
    message:
      'The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy',
    reason: 'copy-range',
  });
}

/** A range of which a part lies outside of the source is no range of it: nothing is cut short in silence. */
export function rangeOutside(size: number): ServiceError {
  return new ServiceError('InvalidArgument', {
    message: `Range specified is not valid for source object of size: ${size}`,
    reason: 'copy-range',
  });
}

export interface CopyResult {
  readonly etag: string;
  readonly lastModified: string;
  readonly checksum: ToldChecksum | undefined;
}

export function formatCopyResult(root: 'CopyObjectResult' | 'CopyPartResult', result: CopyResult): string {
  return document(root, [
    element('LastModified', result.lastModified),
    element('ETag', result.etag),
    ...told(result.checksum),
  ]);
}

/** What the store says that it made. */
export interface StoreCopy {
  readonly etag: string;
  readonly lastModified: string | undefined;
}

export function parseStoreCopy(body: Uint8Array): StoreCopy {
  try {
    const root = parseXml(body);
    if (root.name !== 'CopyObjectResult' && root.name !== 'CopyPartResult') throw new ServiceError('MalformedXML');
    return { etag: textOf(root, 'ETag') ?? '', lastModified: textOf(root, 'LastModified') };
  } catch (cause) {
    throw new ServiceError('ServiceUnavailable', { reason: 'store-copy', cause });
  }
}

export type Tag = readonly [key: string, value: string];

/** The body of the store's GetObjectTagging. */
export function parseTags(body: Uint8Array): readonly Tag[] {
  try {
    const set = childOf(parseXml(body, 'Tagging'), 'TagSet');
    const tags = set === undefined ? [] : childrenOf(set, 'Tag');
    return tags.map((tag) => [textOf(tag, 'Key') ?? '', textOf(tag, 'Value') ?? '']);
  } catch (cause) {
    throw new ServiceError('InternalError', { reason: 'store-tagging', cause });
  }
}

/** The body of UpdateObjectEncryption: the one target that AWS knows is SSE-KMS. */
export function parseObjectEncryption(body: Uint8Array): {
  readonly keyReference: string;
  readonly bucketKeyEnabled: boolean;
} {
  const root = parseXml(body, 'ObjectEncryption');
  const kms = childOf(root, 'SSE-KMS');
  const keyReference = kms === undefined ? undefined : textOf(kms, 'KMSKeyArn');
  const bucketKey = kms === undefined ? undefined : textOf(kms, 'BucketKeyEnabled');
  const flag = bucketKey?.trim().toLowerCase() ?? 'false';
  if (root.children.length !== 1 || keyReference === undefined || !/^(?:true|false)$/.test(flag)) {
    throw new ServiceError('MalformedXML');
  }
  // AWS takes the whole ARN here: no alias and no bare id.
  if (!/^arn:[\x21-\x7e]{1,2044}$/.test(keyReference)) {
    throw new ServiceError('InvalidArgument', {
      message: 'KMSKeyArn must be the ARN of a KMS key.',
      reason: 'sse-key-id',
    });
  }
  return { keyReference, bucketKeyEnabled: flag === 'true' };
}
