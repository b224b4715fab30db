import { createHash } from 'node:crypto';
import { createServer, request as httpRequest, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { Client as MinioClient } from 'minio';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { asServiceError } from '../../src/errors.ts';
import { payloadReader } from '../../src/sigv4/chunked.ts';
import { ACCESS_KEY_ID, SECRET, verifierOf } from './support.ts';

// Unchanged clients against a server that does nothing but verify and read.
interface Seen {
  readonly path: string;
  readonly mode: string;
  readonly sha256: string;
  readonly trailers: readonly string[];
  readonly key: string | undefined;
}

const verifier = verifierOf();
let seen: Seen[] = [];
let failures: string[] = [];

async function receive(req: IncomingMessage): Promise<void> {
  const head = { method: req.method ?? '', target: req.url ?? '', rawHeaders: req.rawHeaders };
  const verified = verifier.verify(head, new Date());
  const reader = payloadReader(verified);
  const hash = createHash('sha256');
  for await (const chunk of req) reader.push(chunk as Buffer, (part) => hash.update(part));
  seen.push({
    path: decodeURIComponent(verified.request.path),
    mode: verified.payload.kind,
    trailers: Object.keys(reader.finish()),
    sha256: hash.digest('hex'),
    key: verified.request.headers['x-amz-server-side-encryption'],
  });
}

const server = createServer((req, res) => {
  receive(req).then(
    () => res.setHeader('etag', '"a"').end(),
    (err: unknown) => {
      failures.push(asServiceError(err).reason);
      res.writeHead(asServiceError(err).status).end();
    },
  );
});

let port = 0;
let aws: S3Client;
let minio: MinioClient;
const BODY = Buffer.alloc(200_000, 'payload');
const BODY_SHA256 = createHash('sha256').update(BODY).digest('hex');
const KEY = "a b/é+(1)'*!~/../x//%2F";

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  port = (server.address() as AddressInfo).port;
  const credentials = { accessKeyId: ACCESS_KEY_ID, secretAccessKey: SECRET };
  const endpoint = `http://127.0.0.1:${String(port)}`;
  aws = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials, maxAttempts: 1 });
  minio = new MinioClient({
    endPoint: '127.0.0.1',
    port,
    useSSL: false,
    region: 'us-east-1',
    accessKey: ACCESS_KEY_ID,
    secretKey: SECRET,
  });
});
beforeEach(() => {
  seen = [];
  failures = [];
});
afterAll(async () => {
  aws.destroy();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

/** The path as it stands: a `URL` would resolve the `..` of a key. */
function fetchUrl(url: string, method: string, body?: Buffer): Promise<number> {
  const path = url.slice(url.indexOf('/', 'http://'.length));
  return new Promise((resolve, reject) => {
    const req = httpRequest({ host: '127.0.0.1', port, method, path }, (res) => {
      res.resume().on('end', () => resolve(res.statusCode ?? 0));
    });
    req.on('error', reject).end(body);
  });
}

describe('@aws-sdk/client-s3', () => {
  it('puts a buffer', async () => {
    await aws.send(new PutObjectCommand({ Bucket: 'b', Key: KEY, Body: BODY, ServerSideEncryption: 'aws:kms' }));
    expect(seen).toMatchObject([{ path: `/b/${KEY}`, sha256: BODY_SHA256, key: 'aws:kms' }]);
  });

  it('puts a stream, with a checksum in the trailer', async () => {
    const Body = Readable.from([BODY.subarray(0, 9), BODY.subarray(9)]);
    await aws.send(new PutObjectCommand({ Bucket: 'b', Key: 'k', Body, ContentLength: BODY.length }));
    expect(seen).toMatchObject([{ mode: 'unsigned-trailer', sha256: BODY_SHA256, trailers: ['x-amz-checksum-crc32'] }]);
  });

  it('presigns a PUT and a GET', async () => {
    const put = await getSignedUrl(aws, new PutObjectCommand({ Bucket: 'b', Key: KEY, StorageClass: 'STANDARD' }));
    expect(await fetchUrl(put, 'PUT', BODY)).toBe(200);
    const get = await getSignedUrl(aws, new GetObjectCommand({ Bucket: 'b', Key: 'k', VersionId: 'v' }));
    expect(await fetchUrl(get, 'GET')).toBe(200);
    expect(seen).toMatchObject([{ path: `/b/${KEY}`, mode: 'unsigned', sha256: BODY_SHA256 }, { path: '/b/k' }]);
    expect(await fetchUrl(get, 'PUT', BODY)).toBe(403);
    expect(failures).toEqual(['SignatureDoesNotMatch']);
  });
});

describe('minio', () => {
  it('puts a buffer and presigns', async () => {
    const key = "a b/é+(1)'*!~/x";
    await minio.putObject('bucket', key, BODY, BODY.length, { 'X-Amz-Meta-A': 'b  c' });
    const url = await minio.presignedPutObject('bucket', key, 60);
    expect(await fetchUrl(url, 'PUT', BODY)).toBe(200);
    expect(seen).toMatchObject([
      { path: `/bucket/${key}`, sha256: BODY_SHA256 },
      { path: `/bucket/${key}`, sha256: BODY_SHA256 },
    ]);
  });
});
