import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { promisify } from 'node:util';
import {
  DeleteObjectsCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { Client as MinioClient } from 'minio';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { startGateway, USER, type TestGateway } from '../support/gateway.ts';
import { s3, withSignedChunks, withTrailer, type RawRequest } from '../support/s3-raw.ts';

const run = promisify(execFile);

/** What clients send does not depend on the store behind. */
const [store] = inject('stores');
if (store === undefined) throw new Error('the run has no store');

const Bucket = `clients-${randomBytes(4).toString('hex')}`;
const KEY = "a b/é+(1)'*!~/%2F";
const BODY = randomBytes(200_000);
let gateway: TestGateway;
let aws: S3Client;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'clients-'));
  await writeFile(join(folder, 'body'), BODY);
  gateway = await startGateway({ store });
  aws = gateway.client();
  await s3(gateway.raw, { method: 'PUT', bucket: Bucket });
});
afterAll(async () => {
  await gateway.stop();
  await rm(folder, { recursive: true, force: true });
});

async function stored(key: string): Promise<Buffer> {
  return (await s3(gateway.raw, { method: 'GET', bucket: Bucket, key })).body;
}

async function ask(url: string, init: RequestInit = {}): Promise<{ status: number; code: string; body: Buffer }> {
  const answer = await fetch(url, init);
  const body = Buffer.from(await answer.arrayBuffer());
  return { status: answer.status, code: /<Code>(.*?)<\/Code>/.exec(body.toString())?.[1] ?? '', body };
}

describe('presigned URLs of the AWS SDK', () => {
  const get = (expiresIn = 60, signingDate = new Date()): Promise<string> =>
    getSignedUrl(aws, new GetObjectCommand({ Bucket, Key: KEY }), { expiresIn, signingDate });

  it('PUT, then GET, by any HTTP client', async () => {
    const url = await getSignedUrl(aws, new PutObjectCommand({ Bucket, Key: KEY, ContentType: 'text/plain' }));
    const put = await ask(url, {
      method: 'PUT',
      body: new Uint8Array(BODY),
      headers: { 'content-type': 'text/plain' },
    });
    expect(put.status).toBe(200);
    const got = await ask(await get());
    expect([got.status, got.body.equals(BODY)]).toEqual([200, true]);
    const part = await ask(await get(), { headers: { range: 'bytes=5-9' } });
    expect([part.status, part.body.equals(BODY.subarray(5, 10))]).toEqual([206, true]);
  });

  it('expired, of the future, tampered with, for another method or key', async () => {
    const hour = 3_600_000;
    expect(await ask(await get(60, new Date(Date.now() - hour)))).toMatchObject({ status: 403, code: 'AccessDenied' });
    expect(await ask(await get(60, new Date(Date.now() + hour)))).toMatchObject({ status: 403, code: 'AccessDenied' });
    const url = await get();
    const mismatch = { status: 403, code: 'SignatureDoesNotMatch' };
    expect(await ask(url.replace('X-Amz-Expires=60', 'X-Amz-Expires=61'))).toMatchObject(mismatch);
    expect(
      await ask(url.replace(/(Signature=)./, (_all, name: string) => `${name}0`).replace(/.$/, 'z')),
    ).toMatchObject({ status: 403 });
    expect(await ask(url, { method: 'PUT', body: 'x' })).toMatchObject(mismatch);
    expect(await ask(url.replace('/a%20b/', '/a%20c/'))).toMatchObject(mismatch);
    expect(await ask(`${url}&versionId=1`)).toMatchObject(mismatch);
    expect((await stored(KEY)).equals(BODY)).toBe(true);
  });

  it('an SSE header that was not signed is refused, one that was is honoured', async () => {
    const headers = { 'x-amz-server-side-encryption': 'aws:kms' };
    const bare = await getSignedUrl(aws, new PutObjectCommand({ Bucket, Key: 'sse' }));
    expect(await ask(bare, { method: 'PUT', body: 'x', headers })).toMatchObject({ status: 403, code: 'AccessDenied' });
    const command = new PutObjectCommand({ Bucket, Key: 'sse', ServerSideEncryption: 'aws:kms' });
    // The SDK signs it as a header, which then must come.
    const url = await getSignedUrl(aws, command);
    const answer = await fetch(url, { method: 'PUT', body: 'x', headers });
    expect([answer.status, answer.headers.get('x-amz-server-side-encryption')]).toEqual([200, 'aws:kms']);
    expect((await ask(url, { method: 'PUT', body: 'x' })).status).toBe(403);
    const other = { 'x-amz-server-side-encryption': 'AES256' };
    expect((await ask(url, { method: 'PUT', body: 'x', headers: other })).status).toBe(403);
  });
});

describe('payload modes', () => {
  const modes: readonly (readonly [string, Partial<RawRequest>])[] = [
    ['a digest', { body: BODY }],
    ['UNSIGNED-PAYLOAD', { body: BODY, payload: 'UNSIGNED-PAYLOAD' }],
    ['an unsigned trailer', withTrailer(BODY)],
    ['signed chunks', withSignedChunks([BODY.subarray(0, 70_000), BODY.subarray(70_000)])],
  ];
  it.each(modes)('%s', async (title, rest) => {
    const { status } = await s3(gateway.raw, { method: 'PUT', bucket: Bucket, key: `mode/${title}`, ...rest });
    expect(status).toBe(200);
    expect((await stored(`mode/${title}`)).equals(BODY)).toBe(true);
  });

  const wrong: readonly (readonly [string, Partial<RawRequest>, string])[] = [
    ['the digest of another body', { body: BODY, payload: '0'.repeat(64) }, 'XAmzContentSHA256Mismatch'],
    ['a wrong trailer', withTrailer(BODY, 'AAAAAA=='), 'BadDigest'],
    [
      'a wrong chunk signature',
      withSignedChunks([BODY.subarray(0, 70_000), BODY.subarray(70_000)], 1),
      'SignatureDoesNotMatch',
    ],
    ['a wrong last chunk signature', withSignedChunks([BODY], 1), 'SignatureDoesNotMatch'],
    [
      'a wrong Content-MD5',
      { body: BODY, headers: { 'content-md5': Buffer.alloc(16).toString('base64') } },
      'BadDigest',
    ],
    ['a wrong checksum', { body: BODY, headers: { 'x-amz-checksum-crc32': 'AAAAAA==' } }, 'BadDigest'],
  ];
  it.each(wrong)('%s: refused, and the old object stays', async (_title, rest, code) => {
    await s3(gateway.raw, { method: 'PUT', bucket: Bucket, key: 'before', body: 'what was there' });
    const answer = await s3(gateway.raw, { method: 'PUT', bucket: Bucket, key: 'before', ...rest });
    expect(answer.text).toContain(`<Code>${code}</Code>`);
    expect((await stored('before')).toString()).toBe('what was there');
  });
});

describe('unchanged clients', () => {
  it('the AWS SDK: a stream with a CRC trailer, its checksum on the way back, metadata, listings', async () => {
    const put = await aws.send(
      new PutObjectCommand({
        ...{ Bucket, Key: `sdk/${KEY}`, Body: Readable.from([BODY]), ContentLength: BODY.length },
        ...{ ChecksumAlgorithm: 'CRC32C', Metadata: { owner: 'ann' }, Tagging: 'a=b' },
      }),
    );
    expect(put.ChecksumCRC32C).toMatch(/==$/);
    const got = await aws.send(new GetObjectCommand({ Bucket, Key: `sdk/${KEY}`, ChecksumMode: 'ENABLED' }));
    expect(BODY.equals((await got.Body?.transformToByteArray()) ?? new Uint8Array())).toBe(true);
    expect(got).toMatchObject({ Metadata: { owner: 'ann' }, ETag: put.ETag });
    const listed = await aws.send(new ListObjectsV2Command({ Bucket, Prefix: 'sdk/', EncodingType: 'url' }));
    expect(listed.Contents?.map(({ Key = '', Size }) => [decodeURIComponent(Key.replaceAll('+', ' ')), Size])).toEqual([
      [`sdk/${KEY}`, BODY.length],
    ]);
    const gone = await aws.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: [{ Key: `sdk/${KEY}` }] } }));
    expect(gone.Deleted).toEqual([{ Key: `sdk/${KEY}` }]);
  });

  it('minio', async () => {
    const { hostname, port } = new URL(gateway.raw.endpoint);
    const minio = new MinioClient({
      ...{ endPoint: hostname, port: Number(port), useSSL: false },
      ...{ accessKey: USER.accessKeyId, secretKey: USER.secretAccessKey },
    });
    expect(await minio.bucketExists(Bucket)).toBe(true);
    const put = await minio.putObject(Bucket, `minio/${KEY}`, BODY, BODY.length, {
      'Content-Type': 'image/png',
      colour: 'blue',
    });
    const stat = await minio.statObject(Bucket, `minio/${KEY}`);
    expect(stat).toMatchObject({ size: BODY.length, etag: put.etag });
    expect(stat.metaData).toMatchObject({ 'content-type': 'image/png', colour: 'blue' });
    const pieces: Buffer[] = [];
    for await (const piece of await minio.getObject(Bucket, `minio/${KEY}`)) pieces.push(piece as Buffer);
    expect(Buffer.concat(pieces).equals(BODY)).toBe(true);
    const part: Buffer[] = [];
    for await (const piece of await minio.getPartialObject(Bucket, `minio/${KEY}`, 70_000, 10))
      part.push(piece as Buffer);
    expect(Buffer.concat(part).equals(BODY.subarray(70_000, 70_010))).toBe(true);
    const names: string[] = [];
    for await (const item of minio.listObjectsV2(Bucket, 'minio/', true)) names.push((item as { name: string }).name);
    expect(names).toEqual([`minio/${KEY}`]);
    await minio.removeObject(Bucket, `minio/${KEY}`);
    await expect(minio.statObject(Bucket, `minio/${KEY}`)).rejects.toMatchObject({ code: 'NotFound' });
    const url = await minio.presignedGetObject(Bucket, KEY, 60);
    expect((await ask(url)).status).toBe(200);
  });

  it('curl with --aws-sigv4: up with 100-continue, down, a range', async () => {
    const url = `${gateway.raw.endpoint}/${Bucket}/curl`;
    const signed = ['--aws-sigv4', 'aws:amz:us-east-1:s3', '--user', `${USER.accessKeyId}:${USER.secretAccessKey}`];
    const curl = (...options: string[]): Promise<{ stdout: string }> =>
      run('curl', ['--silent', '--noproxy', '*', '--write-out', '%{http_code}', ...signed, ...options]);
    const unsigned = ['--header', 'x-amz-content-sha256: UNSIGNED-PAYLOAD'];
    const up = await curl(...unsigned, '--header', 'Expect: 100-continue', '--upload-file', join(folder, 'body'), url);
    expect(up.stdout).toBe('200');
    expect((await curl(...unsigned, '--output', join(folder, 'back'), url)).stdout).toBe('200');
    expect((await readFile(join(folder, 'back'))).equals(BODY)).toBe(true);
    expect((await curl(...unsigned, '--range', '5-9', '--output', join(folder, 'part'), url)).stdout).toBe('206');
    expect((await readFile(join(folder, 'part'))).equals(BODY.subarray(5, 10))).toBe(true);
  });
});
