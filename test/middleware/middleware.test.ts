import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import type { Server } from 'node:http';
import { randomBytes } from 'node:crypto';
import {
  CreateBucketCommand,
  GetObjectCommand,
  ListBucketsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import express, { type Express } from 'express';
import request from 'supertest';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ConfigError, createLog, kmsAdmin, s3Encryption, type S3Encryption } from '../../src/index.ts';
import { adminCall } from '../support/admin-call.ts';
import { makeSite, type Site } from './site.ts';

const silent = createLog('silent');

describe('the middleware in an application', () => {
  let site: Site;
  let storage: S3Encryption;
  let server: Server | undefined;
  const clients: S3Client[] = [];

  beforeAll(async () => {
    site = await makeSite();
    storage = s3Encryption(site.options(), silent);
    await storage.ready;
  });
  afterEach(() => {
    for (const client of clients.splice(0)) client.destroy();
    server?.close();
    server?.closeAllConnections();
    server = undefined;
  });
  afterAll(async () => {
    await storage.close();
    site.remove();
  });

  async function serve(app: Express, attach = true): Promise<string> {
    const started = app.listen(0, '127.0.0.1');
    server = started;
    if (attach) storage.attach(started);
    await new Promise((resolve) => started.once('listening', resolve));
    return `http://127.0.0.1:${(started.address() as AddressInfo).port}`;
  }
  function client(endpoint: string): S3Client {
    const made = new S3Client({
      endpoint,
      region: 'us-east-1',
      forcePathStyle: true,
      credentials: site.user,
      maxAttempts: 1,
    });
    clients.push(made);
    return made;
  }
  async function roundTrip(endpoint: string, size: number): Promise<void> {
    const s3 = client(endpoint);
    const Bucket = `b-${randomBytes(4).toString('hex')}`;
    const body = randomBytes(size);
    await s3.send(new CreateBucketCommand({ Bucket }));
    await s3.send(new PutObjectCommand({ Bucket, Key: 'a/b c', Body: body }));
    const { Contents } = await s3.send(new ListObjectsV2Command({ Bucket }));
    expect(Contents?.map(({ Key, Size }) => [Key, Size])).toEqual([['a/b c', size]]);
    const got = await s3.send(new GetObjectCommand({ Bucket, Key: 'a/b c' }));
    expect(body.equals(await bytesOf(got.Body))).toBe(true);
    const { Buckets } = await s3.send(new ListBucketsCommand());
    expect(Buckets?.map(({ Name }) => Name)).toContain(Bucket);
    const url = await getSignedUrl(s3, new GetObjectCommand({ Bucket, Key: 'a/b c' }));
    expect(body.equals(Buffer.from(await (await fetch(url)).arrayBuffer()))).toBe(true);
  }

  it.each([11, 300_000])('serves S3 at the root (%d bytes)', async (size) => {
    await roundTrip(await serve(express().use(storage)), size);
  });

  it.each([
    ['/storage', 11],
    ['/storage', 300_000],
    ['/deep/below/s3', 11],
  ])('serves S3 below %s (%d bytes), signatures verified over the whole path', async (mount, size) => {
    const url = await serve(express().use(mount, storage));
    await roundTrip(`${url}${mount}`, size);
  });

  it('refuses a signature that was made for another path than the one that was asked', async () => {
    const url = await serve(express().use('/storage', storage).use('/other', storage));
    const signed = await getSignedUrl(client(`${url}/storage`), new GetObjectCommand({ Bucket: 'bucket', Key: 'k' }));
    const moved = await fetch(signed.replace('/storage/', '/other/'));
    expect([moved.status, await moved.text()]).toEqual([403, expect.stringContaining('SignatureDoesNotMatch')]);
  });

  it('leaves the other routes of the application alone', async () => {
    const app = express().use('/storage', storage).use(express.json());
    app.post('/echo', (req, res) => void res.json(req.body));
    const echoed = await request(app).post('/echo').send({ a: 1 });
    expect([echoed.status, echoed.body]).toEqual([200, { a: 1 }]);
    const unsigned = await request(app).get('/storage/bucket/key');
    expect([unsigned.status, unsigned.text]).toEqual([403, expect.stringContaining('<Code>AccessDenied</Code>')]);
    expect((await request(app).get('/nothing')).status).toBe(404);
  });

  it('says so when a body parser has eaten the body', async () => {
    const url = await serve(
      express()
        .use(express.raw({ type: () => true }))
        .use(storage),
    );
    const put = client(url).send(new PutObjectCommand({ Bucket: 'bucket', Key: 'k', Body: 'eaten' }));
    await expect(put).rejects.toMatchObject({
      name: 'InternalError',
      message: expect.stringContaining('mount it before any body parser') as string,
    });
  });

  it('has its admin API as a router of its own', async () => {
    const app = express().use('/kms', kmsAdmin(storage)).use(storage);
    const url = await serve(app);
    const status = await adminCall(url, site.administrator, 'GET', '/kms/status');
    expect([status.status, status.body.state]).toEqual([200, 'Running']);
    expect((await adminCall(url, site.user, 'GET', '/kms/status')).status).toBe(403);
    const s3 = client(url);
    await s3.send(new CreateBucketCommand({ Bucket: 'stopped' }));
    expect((await adminCall(url, site.administrator, 'POST', '/kms/stop', { reason: 'test' })).status).toBe(200);
    const put = () => s3.send(new PutObjectCommand({ Bucket: 'stopped', Key: 'k', Body: 'x' }));
    await expect(put()).rejects.toMatchObject({ $metadata: { httpStatusCode: 503 } });
    expect((await adminCall(url, site.administrator, 'POST', '/kms/start', {})).status).toBe(200);
    await put();
    // Health and metrics belong to a listener that only operators reach.
    expect((await request(app).get('/metrics')).status).toBe(403);
  });

  /** What comes back for a head that expects 100-continue, whose body is sent only after `100`. */
  function converse(url: string, head: string, body: string): Promise<string> {
    return new Promise((resolve, reject) => {
      let received = '';
      const socket = connect(Number(new URL(url).port), '127.0.0.1', () => socket.write(head));
      const timer = setTimeout(() => socket.destroy(new Error(`no answer after: ${received}`)), 15_000);
      socket.on('data', (chunk) => {
        received += chunk.toString('latin1');
        if (received.endsWith('100 Continue\r\n\r\n')) socket.write(body);
        else if (/HTTP\/1\.1 [2-5]/.test(received)) {
          clearTimeout(timer);
          socket.destroy();
          resolve(received);
        }
      });
      socket.on('error', reject);
    });
  }
  const EXPECTING = ['Host: localhost', 'Content-Type: application/json', 'Content-Length: 7', 'Expect: 100-continue'];
  const headOf = (line: string, ...more: string[]): string => `${[line, ...EXPECTING, ...more].join('\r\n')}\r\n\r\n`;

  it('holds 100-continue back until a signature has verified', async () => {
    const url = await serve(express().use('/storage', storage));
    const forged =
      'Authorization: AWS4-HMAC-SHA256 Credential=QUICKSTARTUSER/20260101/us-east-1/s3/aws4_request, ' +
      `SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=${'0'.repeat(64)}`;
    const answer = await converse(url, headOf('PUT /storage/bucket/key HTTP/1.1', forged), '{"a":1}');
    expect(answer).toMatch(/^HTTP\/1\.1 40[03] /);
    expect(answer).not.toContain('100 Continue');
  });

  it('asks for the body of other routes when they read it', async () => {
    const app = express().use('/storage', storage);
    app.post('/echo', express.json(), (req, res) => void res.json(req.body));
    app.post('/iterated', async (req, res) => {
      let text = '';
      for await (const chunk of req as AsyncIterable<Buffer>) text += chunk.toString();
      res.end(text);
    });
    const url = await serve(app);
    for (const path of ['/echo', '/iterated']) {
      const answer = await converse(url, headOf(`POST ${path} HTTP/1.1`), '{"a":1}');
      expect(answer).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 /);
    }
  });

  it('answers 503 until its stores are open', async () => {
    const other = await makeSite();
    const early = s3Encryption(other.options(), silent);
    const app = express().use('/kms', kmsAdmin(early)).use(early);
    const data = await request(app).get('/bucket');
    expect([data.status, data.text]).toEqual([503, expect.stringContaining('<Code>ServiceUnavailable</Code>')]);
    const admin = await request(app).get('/kms/status');
    expect([admin.status, admin.body]).toMatchObject([503, { error: { code: 'ServiceUnavailable' } }]);
    await early.ready;
    expect((await request(app).get('/bucket')).status).toBe(403);
    await early.close();
    other.remove();
  });

  it('names the right option where one is misspelled, and never its value', () => {
    const given = { ...site.options(), metadataIntegrty: 'hunter2' };
    expect(() => s3Encryption(given, silent)).toThrow(ConfigError);
    expect(() => s3Encryption(given, silent)).toThrow(/did you mean "metadataIntegrity"/);
    expect(() => s3Encryption(given, silent)).not.toThrow(/hunter2/);
    expect(() => s3Encryption({}, silent)).toThrow(/store: is required/);
    expect(() => kmsAdmin(express.Router() as never)).toThrow(/what s3Encryption returned/);
  });

  it('keeps what it was given: a later change of the value changes nothing', async () => {
    const other = await makeSite();
    const options = other.options() as { identities: { policies: string[] }[] };
    const mine = s3Encryption(options, silent);
    for (const one of options.identities) one.policies.length = 0;
    await mine.ready;
    const app = express().use(mine);
    const started = app.listen(0, '127.0.0.1');
    await new Promise((resolve) => started.once('listening', resolve));
    const s3 = new S3Client({
      endpoint: `http://127.0.0.1:${(started.address() as AddressInfo).port}`,
      region: 'us-east-1',
      forcePathStyle: true,
      credentials: other.user,
    });
    await s3.send(new CreateBucketCommand({ Bucket: 'bucket' }));
    s3.destroy();
    started.close();
    started.closeAllConnections();
    await mine.close();
    other.remove();
  });
});

async function bytesOf(body: { transformToByteArray(): Promise<Uint8Array> } | undefined): Promise<Buffer> {
  return Buffer.from((await body?.transformToByteArray()) ?? []);
}
