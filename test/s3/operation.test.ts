import { describe, expect, it } from 'vitest';
import { KNOWN_ACTIONS } from '../../src/iam/actions.ts';
import { actionsOf, deleteActions } from '../../src/s3/access.ts';
import type { Operation } from '../../src/s3/operation.ts';
import { parseOperation } from '../../src/s3/parse-operation.ts';
import { OPERATION_ROWS, type OperationRow } from '../../src/s3/rows.ts';
import { codeOf } from './errors.ts';

const OPTIONS = { baseHosts: ['s3.example.com', 'example.com'], systemBucket: 's3sse-system' };

interface Request {
  readonly path?: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly form?: { readonly fields: ReadonlyMap<string, string> };
}

function parse(method: string, { path = '/bucket/key', query = {}, headers = {}, form }: Request = {}): Operation {
  const request = {
    method,
    path,
    query: new Map(Object.entries(query)),
    headers: { host: 'gateway:9000', ...headers },
    ...(form === undefined ? {} : { form }),
  };
  return parseOperation(request, OPTIONS);
}

const PATHS = { service: '/', bucket: '/bucket', object: '/bucket/key' } as const;

/** Selectors that are more than a name. */
const VALUES: Readonly<Record<string, string>> = { 'list-type': '2', partNumber: '1', uploadId: 'upload' };

/** The smallest request that a row takes. */
function requestOf(row: OperationRow): [string, Request] {
  const query = Object.fromEntries(row.selector.map((name) => [name, VALUES[name] ?? '']));
  const headers = {
    ...(row.selectorHeader === undefined ? {} : { [row.selectorHeader]: '/other/key' }),
    ...(row.name === 'GetObjectAttributes' ? { 'x-amz-object-attributes': 'ETag' } : {}),
  };
  const form = row.name === 'PostObject' ? { form: { fields: new Map([['key', 'posted']]) } } : {};
  return [row.method, { path: PATHS[row.level], query, headers, ...form }];
}

describe('the operation table', () => {
  it.each(OPERATION_ROWS.filter((row) => row.mode === 'understood'))('$name is understood', (row) => {
    expect(parse(...requestOf(row))).toMatchObject({ kind: row.name, row });
  });

  it.each(OPERATION_ROWS.filter((row) => row.mode === 'forward'))('$name is forwarded', (row) => {
    const op = parse(...requestOf(row));
    expect(op).toMatchObject({ kind: 'Forward', name: row.name, row, query: row.selector.map((name) => [name, '']) });
  });

  it.each(OPERATION_ROWS.filter((row) => row.mode === 'refused'))('$name is 501', (row) => {
    expect(codeOf(() => parse(...requestOf(row)))).toBe('NotImplemented');
  });

  it.each(OPERATION_ROWS)('$name takes no query parameter that is not in its row', (row) => {
    const [method, request] = requestOf(row);
    expect(codeOf(() => parse(method, { ...request, query: { ...request.query, bogus: '1' } }))).toBe('NotImplemented');
  });

  it.each(OPERATION_ROWS.filter((row) => row.mode !== 'refused'))("$name takes the SDKs' x-id", (row) => {
    const [method, request] = requestOf(row);
    const op = parse(method, { ...request, query: { ...request.query, 'x-id': row.name } });
    expect(op.row).toBe(row);
    expect(JSON.stringify(op)).not.toContain('x-id');
  });

  it.each(OPERATION_ROWS.filter((row) => row.name !== 'PostObject'))('a form is never $name', (row) => {
    const [method, request] = requestOf(row);
    const code = codeOf(() => parse(method, { ...request, form: { fields: new Map([['key', 'posted']]) } }));
    expect(code).toBe('MethodNotAllowed');
  });

  it('names actions that policies know', () => {
    for (const { mode, action, versionAction } of OPERATION_ROWS) {
      if (mode === 'refused') continue;
      expect(KNOWN_ACTIONS).toContain(action.toLowerCase());
      if (versionAction !== undefined) expect(KNOWN_ACTIONS).toContain(versionAction.toLowerCase());
    }
  });

  it('has one row for a level, method and selector', () => {
    const ids = OPERATION_ROWS.map((r) => `${r.level} ${r.method} ${r.selector.join('&')} ${r.selectorHeader ?? ''}`);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it.each([
    ['PUT', { partNumber: '0', uploadId: 'u' }, 'InvalidArgument'],
    ['PUT', { partNumber: '10001', uploadId: 'u' }, 'InvalidArgument'],
    ['PUT', { partNumber: '', uploadId: 'u' }, 'InvalidArgument'],
    ['PUT', { partNumber: '1', uploadId: '' }, 'NoSuchUpload'],
    ['PUT', { partNumber: '1', uploadId: 'a b' }, 'NoSuchUpload'],
    ['DELETE', { uploadId: '..' }, 'NoSuchUpload'],
    ['DELETE', { uploadId: '../theirs/id' }, 'NoSuchUpload'],
    ['DELETE', { uploadId: 'a/./b' }, 'NoSuchUpload'],
    ['DELETE', { uploadId: 'a\\..\\b' }, 'NoSuchUpload'],
    ['DELETE', { uploadId: '/a' }, 'NoSuchUpload'],
    ['DELETE', { versionId: '../theirs/id' }, 'InvalidArgument'],
    ['GET', { versionId: '..' }, 'InvalidArgument'],
    ['GET', { uploadId: 'u', 'max-parts': '-1' }, 'InvalidArgument'],
    ['GET', { uploadId: 'u', 'encoding-type': 'x' }, 'InvalidArgument'],
  ] as const)('%s of %o is %s', (method, query, code) => {
    expect(codeOf(() => parse(method, { query }))).toBe(code);
  });

  // What could make the store move, copy, answer or report on sealed bytes. Adding one here needs a reason.
  it('forwards exactly this', () => {
    const names = OPERATION_ROWS.filter((row) => row.mode === 'forward').map(({ name }) => name);
    expect(names.sort()).toEqual(
      [
        ...['DeleteObjectTagging', 'GetObjectTagging', 'PutObjectTagging', 'GetObjectAcl', 'PutObjectAcl'],
        ...['GetObjectRetention', 'PutObjectRetention', 'GetObjectLegalHold', 'PutObjectLegalHold'],
        ...['DeleteBucketTagging', 'GetBucketTagging', 'PutBucketTagging', 'GetBucketAcl', 'PutBucketAcl'],
        ...['DeleteBucketLifecycle', 'GetBucketLifecycleConfiguration', 'PutBucketLifecycleConfiguration'],
        ...['GetBucketVersioning', 'PutBucketVersioning', 'GetObjectLockConfiguration', 'PutObjectLockConfiguration'],
        ...['GetBucketNotificationConfiguration', 'PutBucketNotificationConfiguration'],
        ...['DeleteBucketPolicy', 'GetBucketPolicy', 'GetBucketPolicyStatus', 'PutBucketPolicy'],
        ...['DeleteBucketWebsite', 'GetBucketWebsite', 'PutBucketWebsite'],
        ...['DeleteBucketOwnershipControls', 'GetBucketOwnershipControls', 'PutBucketOwnershipControls'],
        ...['DeletePublicAccessBlock', 'GetPublicAccessBlock', 'PutPublicAccessBlock'],
        ...['GetBucketRequestPayment', 'PutBucketRequestPayment'],
        ...['GetBucketAccelerateConfiguration', 'GetBucketLogging', 'GetBucketReplication'],
      ].sort(),
    );
  });
});

describe('requests that are no operation', () => {
  it.each<[string, string, Request, string]>([
    ['POST on an object without a subresource', 'POST', {}, 'MethodNotAllowed'],
    ['POST on the service', 'POST', { path: '/' }, 'MethodNotAllowed'],
    ['PATCH', 'PATCH', {}, 'MethodNotAllowed'],
    ['a known subresource with another method', 'POST', { query: { tagging: '' } }, 'MethodNotAllowed'],
    ['policyStatus with PUT', 'PUT', { path: '/bucket', query: { policyStatus: '' } }, 'MethodNotAllowed'],
    ['an unknown subresource', 'GET', { path: '/bucket', query: { metadataTable: '' } }, 'NotImplemented'],
    ['a bucket subresource on an object', 'GET', { query: { versioning: '' } }, 'NotImplemented'],
    ['two subresources', 'GET', { query: { tagging: '', acl: '' } }, 'NotImplemented'],
    ['a part number without an upload', 'PUT', { query: { partNumber: '1' } }, 'NotImplemented'],
    ['a versioned PUT', 'PUT', { query: { versionId: 'v' } }, 'NotImplemented'],
    ['lower-case method', 'get', {}, 'MethodNotAllowed'],
    ['a tagging call that is also an upload', 'PUT', { query: { tagging: '', uploadId: 'u' } }, 'NotImplemented'],
  ])('%s', (_, method, request, code) => {
    expect(codeOf(() => parse(method, request))).toBe(code);
  });

  it.each([
    ['/other/key', 'key', undefined],
    ['other/key', 'key', undefined],
    ['other%2Fkey', 'key', undefined],
    ['other/a+b%2520c//d', 'a+b%20c//d', undefined],
    ['/other/a%20b?versionId=3', 'a b', '3'],
    ['/other/%3FversionId=3', '?versionId=3', undefined],
  ])('a PUT with the copy source %s is a copy, not a PutObject', (source, key, versionId) => {
    const op = parse('PUT', { headers: { 'x-amz-copy-source': source } });
    expect(op).toMatchObject({ kind: 'CopyObject', source: { bucket: 'other', key } });
    expect('source' in op && op.source.versionId).toBe(versionId);
  });

  it.each([
    ...['', '/', 'other', 'other/', 'other/key?versionId=', 'other/key?x=1', 'o%zz/key', 'other/%ff'],
    ...[
      'other/key?versionId=%0a',
      'other/key?versionId=../id',
      'arn:aws:s3:us-east-1:000000000000:accesspoint/mine/object/key',
    ],
  ])('the copy source %j is InvalidArgument, and no PutObject', (source) => {
    expect(codeOf(() => parse('PUT', { headers: { 'x-amz-copy-source': source } }))).toBe('InvalidArgument');
  });

  it.each(['x-amz-write-offset-bytes', 'x-minio-extract', 'x-amz-meta-snowball-auto-extract'])(
    'a PUT with %s is 501, and no PutObject',
    (name) => expect(codeOf(() => parse('PUT', { headers: { [name]: '1' } }))).toBe('NotImplemented'),
  );
});

describe('the system bucket', () => {
  it.each<[string, string, Request]>([
    ['path style', 'GET', { path: '/s3sse-system/x' }],
    ['percent-encoded', 'GET', { path: '/s3sse%2Dsystem/x' }],
    ['virtual host', 'GET', { path: '/x', headers: { host: 'S3SSE-system.s3.example.com:443' } }],
    ['its listing', 'GET', { path: '/s3sse-system', query: { 'list-type': '2' } }],
    ['its creation', 'PUT', { path: '/s3sse-system' }],
    ['an operation that is 501 elsewhere', 'POST', { path: '/s3sse-system/x', query: { uploads: '' } }],
    ['as the source of a copy', 'PUT', { headers: { 'x-amz-copy-source': '/s3sse-system/uploads/x' } }],
    ['as an encoded source', 'PUT', { headers: { 'x-amz-copy-source': '%733sse-system%2Fuploads%2Fx' } }],
    [
      'as the source of a part',
      'PUT',
      { query: { partNumber: '1', uploadId: 'u' }, headers: { 'x-amz-copy-source': 's3sse-system/uploads/x' } },
    ],
  ])('%s is AccessDenied', (_, method, request) => {
    expect(codeOf(() => parse(method, request))).toBe('AccessDenied');
  });
});

describe('addresses', () => {
  it.each<[string, Request, string, string]>([
    ['path style', { path: '/bucket/a/b' }, 'bucket', 'a/b'],
    ['virtual host', { path: '/a/b', headers: { host: 'bucket.s3.example.com' } }, 'bucket', 'a/b'],
    ['virtual host with a port', { path: '/a', headers: { host: 'Bucket.S3.example.com:9000' } }, 'bucket', 'a'],
    ['virtual host with dots', { path: '/a', headers: { host: 'a.b.s3.example.com' } }, 'a.b', 'a'],
    ['the longest base host', { path: '/a', headers: { host: 'abc.s3.example.com' } }, 'abc', 'a'],
    ['another host', { path: '/bucket/a', headers: { host: 'bucket.other.org' } }, 'bucket', 'a'],
    ['a base host itself', { path: '/bucket/a', headers: { host: 's3.example.com' } }, 'bucket', 'a'],
    ['an empty segment', { path: '/bucket//a' }, 'bucket', '/a'],
    ['dots are a key', { path: '/bucket/a/../b/./c' }, 'bucket', 'a/../b/./c'],
    ['encoded slash', { path: '/bucket/a%2Fb' }, 'bucket', 'a/b'],
    ['unicode', { path: '/bucket/%E2%82%AC%F0%9F%98%80' }, 'bucket', '€😀'],
    ['plus is plus', { path: '/bucket/a+b%2B%20' }, 'bucket', 'a+b+ '],
    ['encoded twice', { path: '/bucket/%2541' }, 'bucket', '%41'],
    ['1,024 bytes', { path: `/bucket/${'%C3%A4'.repeat(512)}` }, 'bucket', 'ä'.repeat(512)],
  ])('%s', (_, request, bucket, key) => {
    expect(parse('GET', request)).toMatchObject({ kind: 'GetObject', bucket, key });
  });

  it.each<[string, string, string]>([
    ['1,025 bytes', `/bucket/${'a'.repeat(1025)}`, 'KeyTooLongError'],
    ['513 characters of two bytes', `/bucket/${'%C3%A4'.repeat(513)}`, 'KeyTooLongError'],
    ['NUL', '/bucket/a%00b', 'InvalidURI'],
    ['invalid UTF-8', '/bucket/%ff', 'InvalidURI'],
    ['overlong UTF-8', '/bucket/%C0%AF', 'InvalidURI'],
    ['a surrogate', '/bucket/%ED%A0%80', 'InvalidURI'],
    ['a broken escape', '/bucket/%4', 'InvalidURI'],
    ['raw octets', '/bucket/\u00e4', 'InvalidURI'],
    ['a raw space', '/bucket/a b', 'InvalidURI'],
    ['a fragment', '/bucket/a#b', 'InvalidURI'],
    ['no leading slash', 'bucket/a', 'InvalidURI'],
    ['an empty bucket', '//key', 'InvalidBucketName'],
  ])('%s is refused', (_, path, code) => {
    expect(codeOf(() => parse('GET', { path }))).toBe(code);
  });

  it.each(['abc', 'a-b.c', '1ab', 'a'.repeat(63), 'a--b', '1.2.3.4.5', 'xn--old', 'sthree-old'])(
    'the bucket name %s is taken',
    (name) => expect(parse('GET', { path: `/${name}/k` })).toMatchObject({ bucket: name }),
  );

  it.each([
    ...['ab', 'a'.repeat(64), 'Abc', 'a_b', '-ab', 'ab-', '.ab', 'ab.', 'a..b', '192.168.5.4', 'a%2Fb', 'abc%00'],
    ...['x-s3alias', 'x--ol-s3', 'x.mrap', 'x--x-s3', 'x--table-s3', '%E2%82%ACab'],
  ])('the bucket name %s is InvalidBucketName', (name) => {
    expect(codeOf(() => parse('GET', { path: `/${name}/k` }))).toBe('InvalidBucketName');
  });

  it.each(['xn--new', 'sthree-new', 'amzn-s3-demo-new'])('a new bucket may not be called %s', (name) => {
    expect(codeOf(() => parse('PUT', { path: `/${name}` }))).toBe('InvalidBucketName');
  });
});

describe('arguments', () => {
  const list = (query: Record<string, string>) => parse('GET', { path: '/bucket', query });

  it('of ListObjectsV2', () => {
    const query = { 'list-type': '2', prefix: 'a/', delimiter: '/', 'max-keys': '7', 'encoding-type': 'url' };
    const more = { 'continuation-token': 't', 'start-after': 's', 'fetch-owner': 'true' };
    const expected = { prefix: 'a/', delimiter: '/', maxKeys: 7, encodingType: 'url', fetchOwner: true };
    expect(list({ ...query, ...more })).toMatchObject({ ...expected, continuationToken: 't', startAfter: 's' });
  });

  it('have defaults', () => {
    expect(list({})).toMatchObject({ kind: 'ListObjects', prefix: '', delimiter: '', maxKeys: 1000, marker: '' });
  });

  it.each([
    ['0', 0],
    ['1000', 1000],
    ['1001', 1000],
    ['2147483647', 1000],
    ['', 1000],
  ])('max-keys=%s means %i', (text, maxKeys) => expect(list({ 'max-keys': text })).toMatchObject({ maxKeys }));

  it.each<Record<string, string>>([
    { 'max-keys': '-1' },
    { 'max-keys': 'x' },
    { 'max-keys': '1.5' },
    { 'max-keys': '2147483648' },
    { 'encoding-type': 'base64' },
    { 'list-type': '1' },
    { 'list-type': '' },
    { 'list-type': '2', 'continuation-token': '' },
    { versions: '', 'version-id-marker': 'v' },
  ])('%j is InvalidArgument', (query) => expect(codeOf(() => list(query))).toBe('InvalidArgument'));

  it.each<Record<string, string>>([
    { versionId: '' },
    { versionId: 'a b' },
    { versionId: 'a\r\nx: y' },
    { partNumber: '0' },
    { partNumber: '10001' },
    { 'response-content-type': 'text/html\r\nset-cookie: a=b' },
    { 'response-content-disposition': 'a\u20ac' },
  ])('GetObject with %j is InvalidArgument', (query) => {
    expect(codeOf(() => parse('GET', { query }))).toBe('InvalidArgument');
  });

  it('of GetObject', () => {
    const query = { versionId: 'null', 'response-content-type': 'text/plain', 'response-expires': 'x' };
    const headers = { range: 'bytes=1-2', 'x-amz-checksum-mode': 'enabled' };
    expect(parse('GET', { query, headers })).toMatchObject({
      versionId: 'null',
      overrides: { 'content-type': 'text/plain', expires: 'x' },
      range: { kind: 'from', first: 1, last: 2 },
      checksumMode: true,
    });
  });

  it('a range and a part number exclude each other', () => {
    const request = { query: { partNumber: '1' }, headers: { range: 'bytes=0-1' } };
    expect(codeOf(() => parse('GET', request))).toBe('InvalidRequest');
  });

  it('a forwarded call keeps its version and drops the value of its subresource', () => {
    const op = parse('GET', { query: { tagging: 'junk', versionId: 'v1' } });
    expect(op).toMatchObject({
      versionId: 'v1',
      query: [
        ['tagging', ''],
        ['versionId', 'v1'],
      ],
    });
  });
});

describe('the rights that a request needs', () => {
  it.each<[string, string, Request, readonly string[]]>([
    ['a plain PUT', 'PUT', {}, ['s3:PutObject']],
    ['with tags', 'PUT', { headers: { 'x-amz-tagging': 'a=b' } }, ['s3:PutObject', 's3:PutObjectTagging']],
    ['with an ACL', 'PUT', { headers: { 'x-amz-acl': 'public-read' } }, ['s3:PutObject', 's3:PutObjectAcl']],
    ['with the private ACL', 'PUT', { headers: { 'x-amz-acl': 'private' } }, ['s3:PutObject']],
    ['with a grant', 'PUT', { headers: { 'x-amz-grant-read': 'id=1' } }, ['s3:PutObject', 's3:PutObjectAcl']],
    [
      'with a lock',
      'PUT',
      { headers: { 'x-amz-object-lock-mode': 'GOVERNANCE' } },
      ['s3:PutObject', 's3:PutObjectRetention'],
    ],
    [
      'with a hold',
      'PUT',
      { headers: { 'x-amz-object-lock-legal-hold': 'ON' } },
      ['s3:PutObject', 's3:PutObjectLegalHold'],
    ],
    ['a read', 'GET', {}, ['s3:GetObject']],
    ['a read of a version', 'GET', { query: { versionId: 'v' } }, ['s3:GetObjectVersion']],
    ['tags of a version', 'GET', { query: { tagging: '', versionId: 'v' } }, ['s3:GetObjectVersionTagging']],
    ['retention of a version', 'GET', { query: { retention: '', versionId: 'v' } }, ['s3:GetObjectRetention']],
    [
      'a deletion that bypasses governance',
      'DELETE',
      { query: { versionId: 'v' }, headers: { 'x-amz-bypass-governance-retention': 'TRUE' } },
      ['s3:DeleteObjectVersion', 's3:BypassGovernanceRetention'],
    ],
    [
      'a deletion that the store may think so of',
      'DELETE',
      { headers: { 'x-amz-bypass-governance-retention': 'true\u00a0' } },
      ['s3:DeleteObject', 's3:BypassGovernanceRetention'],
    ],
    [
      'a deletion that says no',
      'DELETE',
      { headers: { 'x-amz-bypass-governance-retention': 'False' } },
      ['s3:DeleteObject'],
    ],
  ])('%s', (_, method, request, actions) => {
    expect(actionsOf(parse(method, request), request.headers ?? {})).toEqual(actions);
  });

  it('of each object of a DeleteObjects body', () => {
    const bypass = { 'x-amz-bypass-governance-retention': 'true' };
    expect(deleteActions(undefined, {})).toEqual(['s3:DeleteObject']);
    expect(deleteActions('v', bypass)).toEqual(['s3:DeleteObjectVersion', 's3:BypassGovernanceRetention']);
  });
});
