import { ServiceError } from '../errors.ts';
import { collect, isoTime, nameEncoder, numberOf, queryOf, xmlReply, type Call, type Handler } from './call.ts';
import { quote } from './conditions.ts';
import { listPage, type ListPage, type ListRequest } from './listing.ts';
import type { ObjectRecord } from './objects.ts';
import { parseXml, type Node } from './xml.ts';

/** AWS, "bucket naming rules": what is also safe as a folder's name. */
const BUCKET_NAME = /^(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
const PAGE = 1000;

export const listBuckets: Handler = ({ disk, owner }) =>
  xmlReply('ListAllMyBucketsResult', {
    Owner: { ID: owner, DisplayName: owner },
    Buckets: {
      Bucket: [...disk.buckets.values()]
        .sort((a, b) => (a.name < b.name ? -1 : 1))
        .map(({ name, created }) => ({ Name: name, CreationDate: isoTime(created) })),
    },
  });

export const createBucket: Handler = async ({ disk, bucket, body, region, now }) => {
  if (!BUCKET_NAME.test(bucket)) throw new ServiceError('InvalidBucketName');
  const xml = await collect(body, 64 * 1024);
  if (xml.length > 0) {
    const constraint = parseXml(xml, 'CreateBucketConfiguration').optionalText('LocationConstraint') ?? region;
    if (constraint !== region) throw new ServiceError('IllegalLocationConstraintException');
  }
  await disk.createBucket(bucket, now());
  return { status: 200, headers: { location: `/${bucket}` } };
};

export const headBucket: Handler = ({ disk, bucket, region }) => {
  disk.bucket(bucket);
  return { status: 200, headers: { 'x-amz-bucket-region': region } };
};

export const deleteBucket: Handler = async ({ disk, bucket }) => {
  await disk.deleteBucket(bucket);
  return { status: 204 };
};

export const getBucketLocation: Handler = ({ disk, bucket, region }) => {
  disk.bucket(bucket);
  // AWS answers an empty constraint for us-east-1.
  return xmlReply('LocationConstraint', region === 'us-east-1' ? '' : region);
};

/** Never enabled here: the same empty answer as a bucket of AWS on which versioning was never set. */
export const getBucketVersioning: Handler = ({ disk, bucket }) => {
  disk.bucket(bucket);
  return xmlReply('VersioningConfiguration', '');
};

export const listObjects: Handler = (call) => {
  const { page, limit, encode } = list(call, queryOf(call, 'marker'));
  const hasNext = page.truncated && queryOf(call, 'delimiter') !== '';
  return xmlReply('ListBucketResult', {
    ...listHead(call, limit, encode),
    Marker: encode(queryOf(call, 'marker')),
    IsTruncated: page.truncated,
    NextMarker: hasNext ? encode(page.last) : undefined,
    Contents: contents(page, encode, call.owner),
    CommonPrefixes: prefixes(page, encode),
  });
};

export const listObjectsV2: Handler = (call) => {
  if (queryOf(call, 'list-type') !== '2') throw new ServiceError('InvalidArgument');
  const token = call.request.query.get('continuation-token');
  const startAfter = call.request.query.get('start-after');
  const after = token === undefined ? (startAfter ?? '') : parseToken(token);
  const { page, limit, encode } = list(call, after);
  return xmlReply('ListBucketResult', {
    ...listHead(call, limit, encode),
    StartAfter: startAfter === undefined ? undefined : encode(startAfter),
    ContinuationToken: token,
    KeyCount: page.items.length,
    IsTruncated: page.truncated,
    NextContinuationToken: page.truncated ? formatToken(page.last) : undefined,
    Contents: contents(page, encode, queryOf(call, 'fetch-owner') === 'true' ? call.owner : undefined),
    CommonPrefixes: prefixes(page, encode),
  });
};

/** Without versioning each object has the one version `null`. */
export const listObjectVersions: Handler = (call) => {
  const marker = queryOf(call, 'key-marker');
  const { page, limit, encode } = list(call, marker);
  const versions = contents(page, encode, call.owner).map((item) => ({ ...item, VersionId: 'null', IsLatest: true }));
  return xmlReply('ListVersionsResult', {
    ...listHead(call, limit, encode),
    KeyMarker: encode(marker),
    VersionIdMarker: queryOf(call, 'version-id-marker'),
    IsTruncated: page.truncated,
    NextKeyMarker: page.truncated ? encode(page.last) : undefined,
    NextVersionIdMarker: page.truncated ? 'null' : undefined,
    Version: versions,
    CommonPrefixes: prefixes(page, encode),
  });
};

export const deleteObjects: Handler = async ({ disk, bucket: name, body }) => {
  const bucket = disk.bucket(name);
  const request = parseXml(await collect(body, 2 * 1024 * 1024), 'Delete');
  const targets = request.all('Object');
  if (targets.length === 0 || targets.length > PAGE) throw new ServiceError('MalformedXML');
  const deleted: Node[] = [];
  const failed: Node[] = [];
  for (const target of targets) {
    const key = target.text('Key');
    const version = target.optionalText('VersionId') ?? 'null';
    if (version === 'null') {
      await disk.deleteObject(bucket, key);
      deleted.push({ Key: key });
    } else {
      failed.push({ Key: key, VersionId: version, Code: 'NoSuchVersion', Message: 'No such version.' });
    }
  }
  const quiet = request.optionalText('Quiet') === 'true';
  return xmlReply('DeleteResult', { Deleted: quiet ? [] : deleted, Error: failed });
};

interface Listing {
  readonly page: ListPage<ObjectRecord>;
  readonly limit: number;
  readonly encode: (name: string) => string;
}

function list(call: Call, after: string): Listing {
  const encode = nameEncoder(call);
  const limit = Math.min(numberOf(call, 'max-keys', PAGE), PAGE);
  const request: ListRequest = {
    prefix: queryOf(call, 'prefix'),
    delimiter: queryOf(call, 'delimiter'),
    after,
    limit,
  };
  return { page: listPage(call.disk.bucket(call.bucket).objects, request), limit, encode };
}

function listHead(call: Call, limit: number, encode: (name: string) => string): Record<string, Node | undefined> {
  const delimiter = queryOf(call, 'delimiter');
  return {
    Name: call.bucket,
    Prefix: encode(queryOf(call, 'prefix')),
    Delimiter: delimiter === '' ? undefined : encode(delimiter),
    MaxKeys: limit,
    EncodingType: call.request.query.get('encoding-type'),
  };
}

type Content = Readonly<Record<string, Node | undefined>>;

function contents(page: ListPage<ObjectRecord>, encode: (name: string) => string, owner?: string): Content[] {
  return page.items.flatMap((item) =>
    item.kind === 'prefix'
      ? []
      : {
          Key: encode(item.key),
          LastModified: isoTime(item.value.modified),
          ETag: quote(item.value.etag),
          Size: item.value.size,
          Owner: owner === undefined ? undefined : { ID: owner, DisplayName: owner },
          StorageClass: item.value.headers['x-amz-storage-class'] ?? 'STANDARD',
        },
  );
}

function prefixes(page: ListPage<ObjectRecord>, encode: (name: string) => string): Node[] {
  return page.items.flatMap((item) => (item.kind === 'prefix' ? { Prefix: encode(item.prefix) } : []));
}

function formatToken(after: string): string {
  return Buffer.from(after, 'utf8').toString('base64url');
}

function parseToken(token: string): string {
  const after = Buffer.from(token, 'base64url').toString('utf8');
  if (token === '' || formatToken(after) !== token)
    throw new ServiceError('InvalidArgument', { message: 'The continuation token provided is incorrect' });
  return after;
}
