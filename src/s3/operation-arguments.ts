import { ServiceError } from '../errors.ts';
import { namedAlgorithm } from './checksum.ts';
import { parseCopyRange } from './copy.ts';
import { assertKey, assertNewBucketName, isStoreId, parseCopySource } from './names.ts';
import { parseAttributes } from './object-attributes.ts';
import type { GetObject, ListParameters, Understood } from './operation.ts';
import { formAnswer } from './post-object.ts';
import { parseRange } from './range.ts';
import { RESPONSE_OVERRIDES, type OperationRow } from './rows.ts';

export interface Arguments {
  readonly row: OperationRow;
  readonly bucket: string;
  readonly key: string;
  readonly query: ReadonlyMap<string, string>;
  readonly headers: Readonly<Record<string, string>>;
  readonly form: ReadonlyMap<string, string> | undefined;
}

/** The parsed fields of an understood operation. */
export function parseArguments(kind: Understood['kind'], args: Arguments): Understood {
  return PARSERS[kind](args);
}

/** One parser a kind: an operation without one does not compile. */
const PARSERS: { readonly [K in Understood['kind']]: (args: Arguments) => Extract<Understood, { kind: K }> } = {
  ListBuckets: ({ row, query }) => ({
    kind: 'ListBuckets',
    row,
    ...optional('prefix', query.get('prefix')),
    ...optional('continuationToken', query.get('continuation-token')),
    ...optional('bucketRegion', query.get('bucket-region')),
    ...optional('maxBuckets', integer(query, 'max-buckets', 1, 10_000)),
  }),
  CreateBucket: ({ row, bucket }) => {
    assertNewBucketName(bucket);
    return { kind: 'CreateBucket', row, bucket };
  },
  HeadBucket: ({ row, bucket }) => ({ kind: 'HeadBucket', row, bucket }),
  DeleteBucket: ({ row, bucket }) => ({ kind: 'DeleteBucket', row, bucket }),
  GetBucketLocation: ({ row, bucket }) => ({ kind: 'GetBucketLocation', row, bucket }),
  GetBucketEncryption: ({ row, bucket }) => ({ kind: 'GetBucketEncryption', row, bucket }),
  PutBucketEncryption: ({ row, bucket }) => ({ kind: 'PutBucketEncryption', row, bucket }),
  DeleteBucketEncryption: ({ row, bucket }) => ({ kind: 'DeleteBucketEncryption', row, bucket }),
  GetBucketCors: ({ row, bucket }) => ({ kind: 'GetBucketCors', row, bucket }),
  PutBucketCors: ({ row, bucket }) => ({ kind: 'PutBucketCors', row, bucket }),
  DeleteBucketCors: ({ row, bucket }) => ({ kind: 'DeleteBucketCors', row, bucket }),
  ListObjects: (args) => ({ kind: 'ListObjects', ...listing(args), marker: args.query.get('marker') ?? '' }),
  ListObjectsV2: (args) => {
    const { query } = args;
    if (query.get('list-type') !== '2') throw invalid('list-type', 'Invalid list type');
    if (query.get('continuation-token') === '') {
      throw invalid('continuation-token', 'The continuation token provided is incorrect');
    }
    return {
      kind: 'ListObjectsV2',
      ...listing(args),
      ...optional('continuationToken', query.get('continuation-token')),
      ...optional('startAfter', query.get('start-after')),
      fetchOwner: query.get('fetch-owner')?.toLowerCase() === 'true',
    };
  },
  ListObjectVersions: (args) => {
    const { query } = args;
    const keyMarker = query.get('key-marker') ?? '';
    const versionIdMarker = query.get('version-id-marker');
    if (versionIdMarker !== undefined && keyMarker === '') {
      throw invalid('version-id-marker', 'A version-id marker cannot be specified without a key marker.');
    }
    return {
      kind: 'ListObjectVersions',
      ...listing(args),
      keyMarker,
      ...optional('versionIdMarker', versionIdMarker),
    };
  },
  PutObject: ({ row, bucket, key }) => ({ kind: 'PutObject', row, bucket, key }),
  PostObject: ({ row, bucket, form }) => {
    if (form === undefined) {
      throw new ServiceError('PreconditionFailed', {
        message: 'Bucket POST must be of the enclosure-type multipart/form-data',
        reason: 'no-form',
      });
    }
    const key = form.get('key') ?? '';
    if (key === '') throw invalid('key', "Bucket POST must contain a field named 'key'.");
    assertKey(key);
    return { kind: 'PostObject', row, bucket, key, ...formAnswer(form) };
  },
  CopyObject: ({ row, bucket, key, headers }) => {
    const algorithm = headers['x-amz-checksum-algorithm'];
    return {
      kind: 'CopyObject',
      row,
      bucket,
      key,
      source: parseCopySource(headers['x-amz-copy-source'] ?? ''),
      replaceMetadata: replaces(headers, 'x-amz-metadata-directive'),
      replaceTags: replaces(headers, 'x-amz-tagging-directive'),
      ...optional('checksum', algorithm === undefined ? undefined : namedAlgorithm(algorithm)),
    };
  },
  UpdateObjectEncryption: ({ row, bucket, key, query }) => ({
    kind: 'UpdateObjectEncryption',
    row,
    bucket,
    key,
    ...parseVersion(query),
  }),
  GetObject: (args) => ({ kind: 'GetObject', ...read(args) }),
  HeadObject: (args) => ({ kind: 'HeadObject', ...read(args) }),
  GetObjectAttributes: ({ row, bucket, key, query, headers }) => ({
    kind: 'GetObjectAttributes',
    row,
    bucket,
    key,
    ...parseVersion(query),
    attributes: parseAttributes(headers['x-amz-object-attributes']),
    maxParts: Math.min(1000, wholeNumber(headers['x-amz-max-parts'], 'x-amz-max-parts', 0, 2_147_483_647) ?? 1000),
    partNumberMarker:
      wholeNumber(headers['x-amz-part-number-marker'], 'x-amz-part-number-marker', 0, 2_147_483_647) ?? 0,
  }),
  DeleteObject: ({ row, bucket, key, query }) => ({ kind: 'DeleteObject', row, bucket, key, ...parseVersion(query) }),
  DeleteObjects: ({ row, bucket }) => ({ kind: 'DeleteObjects', row, bucket }),
  CreateMultipartUpload: ({ row, bucket, key }) => ({ kind: 'CreateMultipartUpload', row, bucket, key }),
  UploadPart: (args) => ({ kind: 'UploadPart', ...upload(args), partNumber: partNumberOf(args) }),
  UploadPartCopy: (args) => ({
    kind: 'UploadPartCopy',
    ...upload(args),
    partNumber: partNumberOf(args),
    source: parseCopySource(args.headers['x-amz-copy-source'] ?? ''),
    ...optional('range', parseCopyRange(args.headers['x-amz-copy-source-range'])),
  }),
  CompleteMultipartUpload: (args) => ({ kind: 'CompleteMultipartUpload', ...upload(args) }),
  AbortMultipartUpload: (args) => ({ kind: 'AbortMultipartUpload', ...upload(args) }),
  ListParts: (args) => ({
    kind: 'ListParts',
    ...upload(args),
    maxParts: pageSize(args.query, 'max-parts'),
    partNumberMarker: integer(args.query, 'part-number-marker', 0, 2_147_483_647) ?? 0,
    ...encoding(args.query),
  }),
  ListMultipartUploads: ({ row, bucket, query }) => ({
    kind: 'ListMultipartUploads',
    row,
    bucket,
    prefix: query.get('prefix') ?? '',
    delimiter: query.get('delimiter') ?? '',
    maxUploads: pageSize(query, 'max-uploads'),
    keyMarker: query.get('key-marker') ?? '',
    uploadIdMarker: query.get('upload-id-marker') ?? '',
    ...encoding(query),
  }),
};

function upload({ row, bucket, key, query }: Arguments): {
  readonly row: OperationRow;
  readonly bucket: string;
  readonly key: string;
  readonly uploadId: string;
} {
  const uploadId = query.get('uploadId') ?? '';
  if (!isStoreId(uploadId)) throw new ServiceError('NoSuchUpload');
  return { row, bucket, key, uploadId };
}

function partNumberOf({ query }: Arguments): number {
  const partNumber = integer(query, 'partNumber', 1, 10_000);
  if (partNumber === undefined) throw invalid('partNumber', 'Part number must be an integer between 1 and 10000');
  return partNumber;
}

function replaces(headers: Arguments['headers'], name: string): boolean {
  const directive = headers[name];
  if (directive === undefined || directive === 'COPY') return false;
  if (directive === 'REPLACE') return true;
  throw invalid(name, `Unknown directive of ${name}.`);
}

function pageSize(query: ReadonlyMap<string, string>, name: string): number {
  return Math.min(1000, integer(query, name, 0, 2_147_483_647) ?? 1000);
}

function encoding(query: ReadonlyMap<string, string>): { readonly encodingType?: 'url' } {
  const encodingType = query.get('encoding-type') ?? '';
  if (encodingType !== '' && encodingType !== 'url') {
    throw invalid('encoding-type', 'Invalid Encoding Method specified in Request');
  }
  return encodingType === 'url' ? { encodingType } : {};
}

function listing({ row, bucket, query }: Arguments): ListParameters {
  return {
    row,
    bucket,
    prefix: query.get('prefix') ?? '',
    delimiter: query.get('delimiter') ?? '',
    maxKeys: pageSize(query, 'max-keys'),
    ...encoding(query),
  };
}

function read({ row, bucket, key, query, headers }: Arguments): Omit<GetObject, 'kind'> {
  const partNumber = integer(query, 'partNumber', 1, 10_000);
  if (partNumber !== undefined && headers.range !== undefined) {
    throw new ServiceError('InvalidRequest', {
      message: 'Cannot specify both Range header and partNumber query parameter',
    });
  }
  const overrides: Record<string, string> = {};
  for (const [name, header] of Object.entries(RESPONSE_OVERRIDES)) {
    const value = query.get(name);
    if (value === undefined) continue;
    // What a header cannot hold would split the answer's head (RFC 9110 section 5.5).
    if (!/^[\t\x20-\x7e\x80-\xff]*$/.test(value)) {
      throw invalid(name, 'Header value cannot be represented using ISO-8859-1.');
    }
    overrides[header] = value;
  }
  return {
    row,
    bucket,
    key,
    ...parseVersion(query),
    ...optional('partNumber', partNumber),
    ...optional('range', parseRange(headers.range)),
    overrides,
    checksumMode: headers['x-amz-checksum-mode']?.toUpperCase() === 'ENABLED',
  };
}

export function parseVersion(query: ReadonlyMap<string, string>): { readonly versionId?: string } {
  const versionId = query.get('versionId');
  if (versionId === undefined) return {};
  if (versionId === '') throw invalid('versionId', 'Version id cannot be the empty string');
  if (!isStoreId(versionId)) throw invalid('versionId', 'Invalid version id specified');
  return { versionId };
}

function integer(query: ReadonlyMap<string, string>, name: string, min: number, max: number): number | undefined {
  return wholeNumber(query.get(name), name, min, max);
}

function wholeNumber(text: string | undefined, name: string, min: number, max: number): number | undefined {
  if (text === undefined || text === '') return undefined;
  const value = /^\d{1,10}$/.test(text) ? Number(text) : NaN;
  if (!(value >= min && value <= max)) {
    throw invalid(name, `Argument ${name} must be an integer between ${min} and ${max}`);
  }
  return value;
}

function optional<K extends string, V>(name: K, value: V | undefined): { readonly [N in K]?: V } {
  return value === undefined ? {} : ({ [name]: value } as { readonly [N in K]?: V });
}

function invalid(name: string, message: string): ServiceError {
  return new ServiceError('InvalidArgument', { message, reason: `argument:${name}` });
}
