import { createHash } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { Upload as LibUpload } from '@aws-sdk/lib-storage';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startDevStore, type DevStore } from '../../src/devstore/server.ts';
import { s3, withSignedChunks, xmlText, xmlTexts, type RawRequest, type RawStore } from '../support/s3-raw.ts';
import { Site } from '../stores/site.ts';

const credentials = { accessKeyId: 'DEVELOPER', secretAccessKey: 'developer-secret' };
const region = 'eu-test-1';
let directory: string;
let running: DevStore;
let store: RawStore;
let site: Site;
let time = Date.now();

async function start(): Promise<void> {
  const clock = (): Date => new Date(time);
  running = await startDevStore({ directory, host: '127.0.0.1', port: 0, credentials, region, clock, fsync: false });
  store = { endpoint: running.url, ...credentials, region };
  site = new Site(store, 'devstore');
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'sse-devstore-'));
  await start();
  await s3(store, { method: 'PUT', bucket: site.bucket });
});
afterAll(async () => {
  await running.close();
  await rm(directory, { recursive: true, force: true });
});

const code = (text: string): string => xmlText(text, 'Code');
const drafts = (): Promise<string[]> => readdir(join(directory, 'tmp'));

describe('what it does not do is refused, never ignored', () => {
  it.each([
    ['an SSE-S3 header', 'PUT', 'x', { headers: { 'x-amz-server-side-encryption': 'AES256' } }],
    ['a customer key', 'GET', 'x', { headers: { 'x-amz-server-side-encryption-customer-algorithm': 'AES256' } }],
    ['a canned ACL', 'PUT', 'x', { headers: { 'x-amz-acl': 'public-read' } }],
    ['an object lock', 'PUT', 'x', { headers: { 'x-amz-object-lock-mode': 'COMPLIANCE' } }],
    ['an ACL', 'PUT', 'x', { query: { acl: '' } }],
    ['GetObjectAttributes', 'GET', 'x', { query: { attributes: '' } }],
    ['a part number on GET', 'GET', 'x', { query: { partNumber: '1' } }],
    ['PutBucketVersioning', 'PUT', undefined, { query: { versioning: '' } }],
    ['GetBucketPolicy', 'GET', undefined, { query: { policy: '' } }],
    ['a checksum that it cannot verify', 'PUT', 'x', { headers: { 'x-amz-checksum-crc64nvme': 'AAAAAAAAAAA=' } }],
  ] as const)('%s', async (_, method, key, more: Partial<RawRequest>) => {
    await site.put('x', 'before');
    const { status, text } = await site.send(method, key, { body: 'after', ...more });
    expect([status, code(text)]).toEqual([501, 'NotImplemented']);
    expect((await site.get('x')).text).toBe('before');
  });
});

it('the canned ACL `private` is what everything here has, and is taken', async () => {
  expect((await site.put('own', 'x', { 'x-amz-acl': 'private' })).status).toBe(200);
});

describe('a body that is not what its request says keeps the old object', () => {
  const md5 = createHash('md5').update('other').digest('base64');
  const sha256 = createHash('sha256').update('other').digest('base64');
  it.each([
    ['Content-MD5', { 'content-md5': md5 }],
    ['x-amz-checksum-sha256', { 'x-amz-checksum-sha256': sha256 }],
    ['x-amz-checksum-crc32', { 'x-amz-checksum-crc32': 'AAAAAA==' }],
    ['x-amz-checksum-crc32c', { 'x-amz-checksum-crc32c': 'AAAAAA==' }],
    ['x-amz-checksum-sha1', { 'x-amz-checksum-sha1': 'AAAAAAAAAAAAAAAAAAAAAAAAAAA=' }],
  ])('%s', async (_, headers) => {
    await site.put('digest', 'before');
    const { status, text } = await site.put('digest', 'after', headers);
    expect([status, code(text)]).toEqual([400, 'BadDigest']);
    expect((await site.get('digest')).text).toBe('before');
    expect(await drafts()).toEqual([]);
  });

  it('and right ones are taken', async () => {
    const body = '123456789';
    const headers = { 'x-amz-checksum-crc32': 'y/Q5Jg==', 'x-amz-checksum-crc32c': '4waSgw==' };
    expect((await site.put('digest', body, headers)).status).toBe(200);
  });
});

describe('XML', () => {
  const entity = '<!DOCTYPE Delete [<!ENTITY k "x">]><Delete><Object><Key>&k;</Key></Object></Delete>';
  it.each([
    ['a document type', '<!DOCTYPE Delete><Delete><Object><Key>x</Key></Object></Delete>'],
    ['an entity of its own', entity],
    ['an unknown entity', '<Delete><Object><Key>&k;</Key></Object></Delete>'],
    ['an element that is not closed', '<Delete><Object><Key>x</Key></Object>'],
    ['another root', '<Remove><Object><Key>x</Key></Object></Remove>'],
    ['no key', '<Delete><Object></Object></Delete>'],
    ['two keys in one object', '<Delete><Object><Key>x</Key><Key>y</Key></Object></Delete>'],
    ['nothing', ''],
  ])('with %s is MalformedXML, and deletes nothing', async (_, body) => {
    await site.put('x', 'kept');
    const { status, text } = await site.send('POST', undefined, { query: { delete: '' }, body });
    expect([status, code(text)]).toEqual([400, 'MalformedXML']);
    expect((await site.get('x')).status).toBe(200);
  });

  it('takes keys as text: numbers, blanks, references', async () => {
    const keys = ['00123', ' blank ', '1e3', 'a<b', '\n'];
    for (const key of keys) await site.put(`text/${key}`, 'x');
    const list = await site.send('GET', undefined, { query: { prefix: 'text/' } });
    expect(xmlTexts(list.text, 'Key').sort()).toEqual(keys.map((key) => `text/${key}`).sort());
    const objects = ['00123', ' blank ', '1e3', 'a&lt;b', '&#xA;'].map(
      (key) => `<Object><Key>text/${key}</Key></Object>`,
    );
    await site.send('POST', undefined, { query: { delete: '' }, body: `<Delete>${objects.join('')}</Delete>` });
    const after = await site.send('GET', undefined, { query: { prefix: 'text/' } });
    expect(xmlTexts(after.text, 'Key')).toEqual([]);
  });
});

describe('limits', () => {
  it.each([
    ['user metadata of 2049 bytes', { 'x-amz-meta-a': 'v'.repeat(2048) }, 'MetadataTooLarge'],
    ['eleven tags', { 'x-amz-tagging': Array.from({ length: 11 }, (_, i) => `t${i}=`).join('&') }, 'InvalidArgument'],
    ['a tag given twice', { 'x-amz-tagging': 'a=1&a=2' }, 'InvalidArgument'],
    ['If-None-Match with an ETag', { 'if-none-match': '"0123"' }, 'NotImplemented'],
  ])('%s', async (_, headers, expected) => {
    expect(code((await site.put('limits', 'x', headers)).text)).toBe(expected);
    expect((await site.get('limits')).status).toBe(404);
  });

  it.each([
    ['AB', 400, 'InvalidBucketName'],
    ['a..b', 400, 'InvalidBucketName'],
    ['..', 400, 'InvalidBucketName'],
    ['%2e%2e', 400, 'InvalidBucketName'],
    ['devstore', 409, 'BucketAlreadyOwnedByYou'],
  ])('bucket name %s', async (bucket, status, expected) => {
    const answer = await s3(store, { method: 'PUT', bucket });
    expect([answer.status, code(answer.text)]).toEqual([status, expected]);
  });

  it('a bucket of another region', async () => {
    const body =
      '<CreateBucketConfiguration><LocationConstraint>us-west-2</LocationConstraint></CreateBucketConfiguration>';
    const { text } = await s3(store, { method: 'PUT', bucket: 'elsewhere', body });
    expect(code(text)).toBe('IllegalLocationConstraintException');
    const location = await site.send('GET', undefined, { query: { location: '' } });
    expect(xmlText(location.text, 'LocationConstraint')).toBe(region);
  });

  it('a part that is too small and not the last', async () => {
    const upload = await site.createUpload('small');
    const parts = [await upload.part(1, Buffer.alloc(5 * 1024 ** 2 - 1)), await upload.part(2, Buffer.alloc(1))];
    expect(code((await upload.complete(parts)).text)).toBe('EntityTooSmall');
  });

  it.each(['0', '10001', '-1', 'x'])('part number %s', async (partNumber) => {
    const upload = await site.createUpload('number');
    const { status } = await site.send('PUT', 'number', { query: { partNumber, uploadId: upload.id }, body: 'x' });
    expect(status).toBe(400);
  });

  it('a copy of a range behind the end of its source, and of an object onto itself without a change', async () => {
    await site.put('ten', '0123456789');
    const source = { 'x-amz-copy-source': `${site.bucket}/ten` };
    const upload = await site.createUpload('behind');
    const part = await upload.send(1, { headers: { ...source, 'x-amz-copy-source-range': 'bytes=5-10' } });
    expect(code(part.text)).toBe('InvalidArgument');
    expect(code((await site.send('PUT', 'ten', { headers: source })).text)).toBe('InvalidRequest');
  });
});

it('no key becomes a path: every file has a name of ours', async () => {
  for (const key of ['../up', '/etc/x', 'a/../../b', '.', '..', 'con', 'x\0y', 'k'.repeat(1024)])
    expect((await site.put(key, key)).status).toBe(200);
  const files = await readdir(join(directory, 'buckets', site.bucket), { recursive: true });
  const names = files.filter((name) => name.startsWith('objects/'));
  expect(names.length).toBeGreaterThan(8);
  expect(names.filter((name) => !/^objects\/[0-9a-f]{64}$/.test(name))).toEqual([]);
  expect((await readdir(directory)).sort()).toEqual(['buckets', 'tmp']);
  expect((await site.get('x\0y')).text).toBe('x\0y');
});

it('a start finds everything again, uploads too', async () => {
  await site.put('stays', 'here', { 'x-amz-meta-a': 'b', 'content-type': 'text/x', 'x-amz-tagging': 't=1' });
  const upload = await site.createUpload('unfinished');
  const part = await upload.part(1, Buffer.from('part'));
  const before = await site.send('GET', undefined, { query: { 'list-type': '2' } });
  await running.close();
  await start();
  const after = await site.send('GET', undefined, { query: { 'list-type': '2' } });
  expect(after.text).toBe(before.text);
  const { text, headers } = await site.get('stays');
  expect([text, headers['x-amz-meta-a'], headers['content-type'], headers['x-amz-tagging-count']]).toEqual([
    'here',
    'b',
    'text/x',
    '1',
  ]);
  const body = `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>${part.etag}</ETag></Part></CompleteMultipartUpload>`;
  const { status } = await site.send('POST', 'unfinished', { query: { uploadId: upload.id }, body });
  expect(status).toBe(200);
});

it('a bucket that was deleted and made again takes no body that was meant for the first', async () => {
  const bucket = 'made-twice';
  await s3(store, { method: 'PUT', bucket });
  // The body waits in its middle while the bucket goes; then it is finished.
  const slow = await slowPut(bucket, 'x', 1000);
  await s3(store, { method: 'DELETE', bucket });
  await s3(store, { method: 'PUT', bucket });
  expect(await slow.finish()).toBe(404);
  expect((await s3(store, { method: 'GET', bucket, key: 'x' })).status).toBe(404);
  expect(await drafts()).toEqual([]);
});

it('the condition of a PUT is checked when its body has come, not only before', async () => {
  const slow = await slowPut(site.bucket, 'raced', 1000, { 'if-none-match': '*' });
  await site.put('raced', 'first');
  expect(await slow.finish()).toBe(412);
  expect((await site.get('raced')).text).toBe('first');
});

/** A PUT whose body stops in its middle, after the store has begun to take it, until `finish`. */
async function slowPut(
  bucket: string,
  key: string,
  length: number,
  headers: Readonly<Record<string, string>> = {},
): Promise<{ finish(): Promise<number> }> {
  const body = Buffer.alloc(length, 's');
  let release = (): void => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  const answer = s3(store, {
    method: 'PUT',
    bucket,
    key,
    body,
    headers,
    pauseAfter: { bytes: length / 2, until: released },
  });
  while ((await drafts()).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  return {
    async finish() {
      release();
      return (await answer).status;
    },
  };
}

it('a refusal before the body leaves the connection in use', async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const sockets = new Set<unknown>();
  const put = (): Promise<number | undefined> =>
    new Promise((resolve, reject) => {
      const req = request(`${store.endpoint}/nobody/x`, {
        agent,
        method: 'PUT',
        headers: { 'content-length': 1_000_000 },
      });
      req.on('socket', (socket) => sockets.add(socket));
      req.on('error', reject);
      req.on('response', (res) => res.resume().on('end', () => resolve(res.statusCode)));
      req.end(Buffer.alloc(1_000_000));
    });
  expect([await put(), await put()]).toEqual([403, 403]);
  expect(sockets.size).toBe(1);
  agent.destroy();
});

it('response-* parameters set headers, and cannot break out of them', async () => {
  await site.put('override', 'x', { 'content-type': 'text/x', 'cache-control': 'no-store' });
  const ask = (value: string) => site.send('GET', 'override', { query: { 'response-content-type': value } });
  const { headers } = await ask('text/y');
  expect([headers['content-type'], headers['cache-control']]).toEqual(['text/y', 'no-store']);
  expect((await ask('text/y\r\nset-cookie: a=b')).status).toBe(400);
});

it('a copy takes its storage class from the request, the rest from its source', async () => {
  await site.put('cold', 'x', { 'x-amz-storage-class': 'GLACIER_IR', 'x-amz-meta-a': 'b' });
  const source = { 'x-amz-copy-source': `${site.bucket}/cold` };
  const seen = [{}, { 'x-amz-storage-class': 'STANDARD_IA' }].map(async (headers, i) => {
    await site.send('PUT', `warm-${i}`, { headers: { ...source, ...headers } });
    const head = (await site.send('HEAD', `warm-${i}`)).headers;
    return [head['x-amz-storage-class'], head['x-amz-meta-a']];
  });
  expect(await Promise.all(seen)).toEqual([
    [undefined, 'b'],
    ['STANDARD_IA', 'b'],
  ]);
});

it('a chunk that is refused early in a long body is answered, and the connection not just cut', async () => {
  const chunks = Array.from({ length: 128 }, () => Buffer.alloc(65_536, 'c'));
  const { status, text } = await site.send('PUT', 'chunked', withSignedChunks(chunks, 0));
  expect([status, code(text)]).toEqual([403, 'SignatureDoesNotMatch']);
  expect(await drafts()).toEqual([]);
});

it('versions: each object has the one version null', async () => {
  await site.put('versions/a', 'x');
  const { text } = await site.send('GET', undefined, { query: { versions: '', prefix: 'versions/' } });
  expect([xmlText(text, 'VersionId'), xmlText(text, 'IsLatest')]).toEqual(['null', 'true']);
  const statuses = ['null', 'other'].map(async (versionId) => {
    return (await site.send('GET', 'versions/a', { query: { versionId } })).status;
  });
  expect(await Promise.all(statuses)).toEqual([200, 404]);
});

it("a request of another time than the store's is refused", async () => {
  time = Date.now() + 16 * 60_000;
  try {
    expect(code((await site.get('x')).text)).toBe('RequestTimeTooSkewed');
  } finally {
    time = Date.now();
  }
});

it('serves the AWS SDK as it comes, checksums and parts included', async () => {
  const client = new S3Client({ endpoint: store.endpoint, region, credentials, forcePathStyle: true });
  const Bucket = site.bucket;
  await client.send(new PutObjectCommand({ Bucket, Key: 'sdk/ä b', Body: 'hello', Metadata: { a: 'b' } }));
  const got = await client.send(new GetObjectCommand({ Bucket, Key: 'sdk/ä b' }));
  expect([await got.Body?.transformToString(), got.Metadata]).toEqual(['hello', { a: 'b' }]);
  const Body = Buffer.alloc(11 * 1024 ** 2, 'p');
  await new LibUpload({ client, params: { Bucket, Key: 'sdk/parts', Body } }).done();
  const parts = await client.send(new GetObjectCommand({ Bucket, Key: 'sdk/parts' }));
  expect(Buffer.from((await parts.Body?.transformToByteArray()) ?? []).equals(Body)).toBe(true);
  client.destroy();
});
