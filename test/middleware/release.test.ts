import { randomBytes } from 'node:crypto';
import { Agent, createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3';
import express, { type RequestHandler } from 'express';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { release, releaseSoon, setReleasing } from '../../src/bytes.ts';
import { createLog, s3Encryption, type S3Encryption } from '../../src/index.ts';
import { issue, makeCa } from '../support/certs.ts';
import { s3, type RawStore } from '../support/s3-raw.ts';
import { makeSite, type Site } from './site.ts';

const canFree = 'transfer' in ArrayBuffer.prototype;
const MIB = 1024 * 1024;
/** Nine segments and a rest, in chunks that do not begin where segments do. */
const BODY = randomBytes(9 * 65_536 + 17);

afterEach(() => void setReleasing(true));

describe('a buffer that is given up', () => {
  const own = (): Buffer => Buffer.allocUnsafeSlow(70_000);

  it('is freed where Node can, and the switch is on', () => {
    expect(setReleasing(true)).toBe(canFree);
    const buffer = own();
    release(buffer);
    expect(buffer.byteLength).toBe(canFree ? 0 : 70_000);
  });

  it('is freed after the callback that brought it', async () => {
    const buffer = own();
    releaseSoon(buffer);
    expect(buffer.byteLength).toBe(70_000);
    await sleep(1);
    expect(buffer.byteLength).toBe(canFree ? 0 : 70_000);
  });

  it('stays where the switch is off', async () => {
    expect(setReleasing(false)).toBe(false);
    const buffer = own();
    release(buffer);
    releaseSoon(buffer);
    await sleep(1);
    expect(buffer.byteLength).toBe(70_000);
  });

  it.each([
    ['a slice', () => own().subarray(1)],
    ['one of the pool', () => Buffer.from('one of the pool')],
  ])('stays when it is %s: its memory is not its own', (_name, make) => {
    const buffer = make();
    const { byteLength } = buffer;
    release(buffer);
    expect(buffer.byteLength).toBe(byteLength);
  });
});

describe.each([
  ['on', true],
  ['off', false],
])('the middleware behind TLS, freeing %s', (_state, on) => {
  const ca = makeCa();
  const { cert, key } = issue(ca);
  const kept = { received: [] as Buffer[], sent: [] as Buffer[] };
  let site: Site;
  let storage: S3Encryption;
  let server: Server;
  let raw: RawStore;
  let client: S3Client;

  /** A host application that looks at bodies, as loggers do: it keeps the chunks until the answer has gone. */
  const keeping: RequestHandler = (req, res, next) => {
    if (req.get('x-keep') !== undefined) {
      kept.received = [];
      kept.sent = [];
      // A listener of its own sets the body flowing: it joins when somebody reads.
      req.once('resume', () => req.on('data', (chunk: Buffer) => kept.received.push(chunk)));
      const write = res.write.bind(res) as (chunk: Buffer, done?: () => void) => boolean;
      res.write = ((chunk: Buffer, done?: () => void) => {
        kept.sent.push(chunk);
        return write(chunk, done);
      }) as typeof res.write;
    }
    next();
  };

  beforeAll(async () => {
    site = await makeSite();
    storage = s3Encryption(site.options(), createLog('silent'));
    await storage.ready;
    server = createServer({ cert, key }, express().use(keeping, storage) as unknown as () => void).listen(
      0,
      '127.0.0.1',
    );
    storage.attach(server);
    await new Promise((resolve) => server.once('listening', resolve));
    const endpoint = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
    raw = { endpoint, region: 'us-east-1', ca: ca.cert, ...site.user };
    const requestHandler = { httpsAgent: new Agent({ ca: ca.cert }) };
    client = new S3Client({
      endpoint,
      region: 'us-east-1',
      forcePathStyle: true,
      credentials: site.user,
      requestHandler,
    });
    expect((await s3(raw, { method: 'PUT', bucket: 'freed' })).status).toBe(200);
  });
  afterAll(async () => {
    client.destroy();
    server.closeAllConnections();
    server.close();
    await storage.close();
    site.remove();
  });

  async function put(name: string, body: Buffer, more: object = {}): Promise<void> {
    setReleasing(on);
    const { status, text } = await s3(raw, { method: 'PUT', bucket: 'freed', key: name, body, ...more });
    expect([status, text]).toEqual([200, '']);
  }
  async function comesBack(name: string, body: Buffer, headers: Record<string, string> = {}): Promise<void> {
    setReleasing(on);
    const { status, body: got } = await s3(raw, { method: 'GET', bucket: 'freed', key: name, headers });
    expect(status).toBe(200);
    expect(got.equals(body)).toBe(true);
  }

  it.each([5 * MIB + 1, BODY.length, 65_536, 4096])('%d bytes come back as they were', async (size) => {
    const body = randomBytes(size);
    await put('plain', body);
    await comesBack('plain', body);
  });

  it.each([65_536, 3 * 65_536, 262_144])('also after a pause behind %d bytes of the upload', async (bytes) => {
    await put('paused', BODY, { pauseAfter: { bytes, until: sleep(100) } });
    await comesBack('paused', BODY);
  });

  it('also for a client that stops after every chunk of a download', async () => {
    const body = randomBytes(6 * MIB + 5);
    await put('slow', body);
    const { Body } = await client.send(new GetObjectCommand({ Bucket: 'freed', Key: 'slow' }));
    const chunks: Uint8Array[] = [];
    for await (const chunk of Body as AsyncIterable<Uint8Array>) {
      chunks.push(chunk);
      await sleep(2);
    }
    expect(Buffer.concat(chunks).equals(body)).toBe(true);
  });

  it('an application that keeps what passes keeps it whole, both ways', async () => {
    const headers = { 'x-keep': 'yes' };
    await put('kept', BODY, { headers });
    expect(Buffer.concat(kept.received).equals(BODY)).toBe(true);
    await comesBack('kept', BODY, headers);
    // What `end` takes is not seen by a `write` of the application: the last segment.
    expect(Buffer.concat(kept.sent).equals(BODY.subarray(0, 9 * 65_536))).toBe(true);
  });
});
