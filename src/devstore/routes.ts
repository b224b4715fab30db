import { ServiceError } from '../errors.ts';
import {
  createBucket,
  deleteBucket,
  deleteObjects,
  getBucketLocation,
  getBucketVersioning,
  headBucket,
  listBuckets,
  listObjects,
  listObjectsV2,
  listObjectVersions,
} from './buckets.ts';
import type { Handler } from './call.ts';
import type { Headers } from './conditions.ts';
import {
  abortMultipartUpload,
  completeMultipartUpload,
  createMultipartUpload,
  listMultipartUploads,
  listParts,
  uploadPart,
  uploadPartCopy,
} from './multipart.ts';
import {
  copyObject,
  deleteObject,
  deleteObjectTagging,
  getObject,
  getObjectTagging,
  headObject,
  putObject,
  putObjectTagging,
} from './object-calls.ts';

type Level = 'service' | 'bucket' | 'object';

interface Route {
  readonly on: `${'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE'} ${Level}`;
  /** Query parameters that make it this operation. */
  readonly when: readonly string[];
  /** Query parameters that it also understands. */
  readonly also: readonly string[];
  /** It is a copy: `x-amz-copy-source` is there. */
  readonly copy?: true;
  readonly handle: Handler;
}

const PAGED = ['prefix', 'delimiter', 'max-keys', 'encoding-type'];
const OVERRIDES = ['cache-control', 'content-disposition', 'content-encoding', 'content-language', 'content-type'];
const READ = ['versionId', ...[...OVERRIDES, 'expires'].map((name) => `response-${name}`)];
const UPLOADS = ['prefix', 'delimiter', 'max-uploads', 'key-marker', 'upload-id-marker', 'encoding-type'];
const V2 = [...PAGED, 'continuation-token', 'start-after', 'fetch-owner'];
const VERSIONS = [...PAGED, 'key-marker', 'version-id-marker'];

/** All that this store does. A request that fits no row, or says more than its row understands, is refused with 501. */
const ROUTES: readonly Route[] = [
  { on: 'GET service', when: [], also: [], handle: listBuckets },
  { on: 'PUT bucket', when: [], also: [], handle: createBucket },
  { on: 'HEAD bucket', when: [], also: [], handle: headBucket },
  { on: 'DELETE bucket', when: [], also: [], handle: deleteBucket },
  { on: 'GET bucket', when: ['location'], also: [], handle: getBucketLocation },
  { on: 'GET bucket', when: ['versioning'], also: [], handle: getBucketVersioning },
  { on: 'GET bucket', when: ['versions'], also: VERSIONS, handle: listObjectVersions },
  { on: 'GET bucket', when: ['uploads'], also: UPLOADS, handle: listMultipartUploads },
  { on: 'GET bucket', when: ['list-type'], also: V2, handle: listObjectsV2 },
  { on: 'GET bucket', when: [], also: [...PAGED, 'marker'], handle: listObjects },
  { on: 'POST bucket', when: ['delete'], also: [], handle: deleteObjects },
  { on: 'PUT object', when: [], also: [], handle: putObject },
  { on: 'PUT object', when: [], also: [], copy: true, handle: copyObject },
  { on: 'PUT object', when: ['partNumber', 'uploadId'], also: [], handle: uploadPart },
  { on: 'PUT object', when: ['partNumber', 'uploadId'], also: [], copy: true, handle: uploadPartCopy },
  { on: 'PUT object', when: ['tagging'], also: ['versionId'], handle: putObjectTagging },
  { on: 'GET object', when: [], also: READ, handle: getObject },
  { on: 'GET object', when: ['tagging'], also: ['versionId'], handle: getObjectTagging },
  {
    on: 'GET object',
    when: ['uploadId'],
    also: ['max-parts', 'part-number-marker', 'encoding-type'],
    handle: listParts,
  },
  { on: 'HEAD object', when: [], also: READ, handle: headObject },
  { on: 'DELETE object', when: [], also: ['versionId'], handle: deleteObject },
  { on: 'DELETE object', when: ['uploadId'], also: [], handle: abortMultipartUpload },
  { on: 'DELETE object', when: ['tagging'], also: ['versionId'], handle: deleteObjectTagging },
  { on: 'POST object', when: ['uploads'], also: [], handle: createMultipartUpload },
  { on: 'POST object', when: ['uploadId'], also: [], handle: completeMultipartUpload },
];

/** `x-amz-` headers that are understood, or that change nothing here. Encryption is not among them, on purpose. */
const AMZ_HEADERS = new Set(
  [
    ...['date', 'content-sha256', 'decoded-content-length', 'trailer', 'user-agent', 'sdk-checksum-algorithm'],
    ...['checksum-mode', 'checksum-algorithm', 'checksum-type', 'storage-class', 'tagging', 'tagging-directive'],
    ...['website-redirect-location'],
    ...['checksum-crc32', 'checksum-crc32c', 'checksum-sha1', 'checksum-sha256'],
    ...['metadata-directive', 'copy-source', 'copy-source-range', 'copy-source-if-match', 'copy-source-if-none-match'],
    ...['copy-source-if-modified-since', 'copy-source-if-unmodified-since'],
  ].map((name) => `x-amz-${name}`),
);

/** Everything here is private; rclone and s3cmd say so with every object. */
function isPrivate(name: string, value: string): boolean {
  return name === 'x-amz-acl' && value === 'private';
}

export interface Target {
  readonly bucket: string;
  readonly key: string;
}

export function findRoute(
  method: string,
  target: Target,
  query: ReadonlyMap<string, string>,
  headers: Headers,
): Handler {
  for (const [name, value] of Object.entries(headers))
    if (
      name.startsWith('x-amz-') &&
      !name.startsWith('x-amz-meta-') &&
      !AMZ_HEADERS.has(name) &&
      !isPrivate(name, value)
    )
      throw new ServiceError('NotImplemented', { message: `The header ${name} is not implemented.` });
  const level: Level = target.bucket === '' ? 'service' : target.key === '' ? 'bucket' : 'object';
  const isCopy = headers['x-amz-copy-source'] !== undefined;
  // `x-id` names the operation for AWS's own logs.
  const names = [...query.keys()].filter((name) => name !== 'x-id');
  const route = ROUTES.find(
    ({ on, when, also, copy = false }) =>
      on === `${method} ${level}` &&
      copy === isCopy &&
      when.every((name) => query.has(name)) &&
      names.every((name) => when.includes(name) || also.includes(name)),
  );
  if (!route) throw new ServiceError('NotImplemented');
  return route.handle;
}
