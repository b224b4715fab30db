import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { CreateBucketCommand, GetObjectCommand, type GetObjectCommandOutput } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { s3, type RawRequest, type RawResponse } from '../support/s3-raw.ts';

/** `/kms/stop` through a whole gateway: what it ends, what goes on, and that it holds. Keys are local here. */
const KMS = { 'x-amz-server-side-encryption': 'aws:kms' };
const SSE_S3 = { 'x-amz-server-side-encryption': 'AES256' };
const OTHER = randomBytes(32);
const SSE_C = {
  'x-amz-server-side-encryption-customer-algorithm': 'AES256',
  'x-amz-server-side-encryption-customer-key': OTHER.toString('base64'),
  'x-amz-server-side-encryption-customer-key-md5': createHash('md5').update(OTHER).digest('base64'),
};
/** More than the sockets between a gateway and a client that does not read can hold. */
const LARGE = 24 * 1024 * 1024;
const OLD = randomBytes(200_000);

const [first] = inject('stores');
if (first === undefined) throw new Error('the run has no store');

describe.each(inject('stores'))('over $name', (store) => {
  const bucket = `stop-${randomBytes(4).toString('hex')}`;
  const large = randomBytes(LARGE);
  let gateway: TestGateway;

  beforeAll(async () => {
    gateway = await startGateway({ store, tls: true });
    await gateway.client().send(new CreateBucketCommand({ Bucket: bucket }));
    expect((await put('large', large, KMS)).status).toBe(200);
    expect((await put('large-c', large, SSE_C)).status).toBe(200);
  });
  afterAll(() => gateway.stop());
  beforeEach(async () => {
    expect((await gateway.admin('POST', '/kms/start')).body).toMatchObject({ state: 'Running' });
    for (const [key, headers] of [['old', KMS] as const, ['old-c', SSE_C] as const]) {
      expect((await put(key, OLD, headers)).status).toBe(200);
    }
  });

  const call = (request: RawRequest): Promise<RawResponse> =>
    s3({ ...gateway.raw, ...(gateway.ca === undefined ? {} : { ca: gateway.ca }) }, { bucket, ...request });
  const put = (key: string, body: Buffer, headers: Record<string, string> = {}, more: Partial<RawRequest> = {}) =>
    call({ method: 'PUT', key, body, headers, ...more });
  const get = (key: string, headers: Record<string, string> = {}) => call({ method: 'GET', key, headers });
  const stop = (more: object) => gateway.admin('POST', '/kms/stop', { reason: 'a drill', ...more });

  /** An upload that stands still in its middle until it is let go. */
  function slowPut(key: string, body: Buffer, headers: Record<string, string>) {
    let release = (): void => undefined;
    const until = new Promise<void>((resolve) => (release = resolve));
    const answer = put(key, body, headers, { pauseAfter: { bytes: Math.floor(body.length / 2), until } });
    return { answer, release };
  }

  /** A download whose client has the head and reads nothing more until it is asked to. */
  async function slowGet(key: string, headers: object = {}) {
    const answer = await gateway.client().send(new GetObjectCommand({ Bucket: bucket, Key: key, ...headers }));
    const whole = (): Promise<Buffer> => readAll(answer);
    // A length, not megabytes: a failure is printed.
    return { whole, isCut: () => expect(whole().then(({ length }) => length)).rejects.toThrow() };
  }
  async function inFlight(): Promise<number> {
    const metrics = await fetch(`${gateway.adminUrl}/metrics`).then((answer) => answer.text());
    return Number(/^s3sse_requests_in_flight (\d+)$/m.exec(metrics)?.[1]);
  }

  test('abort ends uploads and downloads that stand still; the old object is as it was; SSE-C goes on', async () => {
    const body = randomBytes(300_000);
    const uploads = [
      slowPut('old', body, KMS),
      slowPut('old', body, SSE_S3),
      slowPut('small', body.subarray(9e4), KMS),
    ];
    const customer = slowPut('old-c', body, SSE_C);
    const download = await slowGet('large');
    const customerDownload = await slowGet('large-c', sdkKey());
    await passed(300);
    expect(await stop({ streams: 'abort' })).toMatchObject({ status: 200, body: { state: 'Stopped', durable: true } });
    for (const { answer } of uploads) expect(await answer).toMatchObject(STOPPED);
    // The download has ended too, though its client reads nothing: only the two with a customer key are left.
    await expect.poll(inFlight).toBe(2);
    await download.isCut();

    customer.release();
    expect((await customer.answer).status).toBe(200);
    expect((await customerDownload.whole()).equals(large)).toBe(true);
    expect((await get('old-c', SSE_C)).body.equals(body)).toBe(true);
    expect((await gateway.admin('POST', '/kms/start')).body).toMatchObject({ state: 'Running' });
    expect((await get('old')).body.equals(OLD)).toBe(true);
    expect((await get('small')).status).toBe(404);
    for (const { release } of uploads) release();
  });

  test('drain lets streams end, and takes no new ones', async () => {
    const body = randomBytes(300_000);
    const upload = slowPut('drained', body, KMS);
    const download = await slowGet('large');
    await passed(300);
    expect(await stop({ drain_seconds: 60 })).toMatchObject({
      status: 200,
      body: { state: 'Stopping', durable: true },
    });
    expect(await get('old')).toMatchObject(STOPPED);
    expect(await put('new', OLD, KMS)).toMatchObject(STOPPED);
    upload.release();
    expect((await upload.answer).status).toBe(200);
    expect((await download.whole()).equals(large)).toBe(true);
    await gateway.admin('POST', '/kms/start');
    expect((await get('drained')).body.equals(body)).toBe(true);
    expect((await get('new')).status).toBe(404);
  });

  test('a drain cuts at its limit what has not ended', async () => {
    const upload = slowPut('old', randomBytes(300_000), KMS);
    const download = await slowGet('large');
    await passed(300);
    await stop({ drain_seconds: 1 });
    expect(await upload.answer).toMatchObject(STOPPED);
    await download.isCut();
    expect((await gateway.admin('GET', '/kms/status')).body).toMatchObject({ state: 'Stopped' });
    await gateway.admin('POST', '/kms/start');
    expect((await get('old')).body.equals(OLD)).toBe(true);
  });

  test('scope all ends SSE-C streams too, and lets them end within a drain', async () => {
    const body = randomBytes(300_000);
    const drained = slowPut('drained-c', body, SSE_C);
    await passed(300);
    await stop({ scope: 'all', drain_seconds: 60 });
    expect(await get('old-c', SSE_C)).toMatchObject(STOPPED);
    drained.release();
    expect((await drained.answer).status).toBe(200);
    await gateway.admin('POST', '/kms/start');

    const upload = slowPut('old-c', body, SSE_C);
    const download = await slowGet('large-c', sdkKey());
    await passed(300);
    await stop({ scope: 'all', streams: 'abort' });
    expect(await upload.answer).toMatchObject(STOPPED);
    await download.isCut();
    await gateway.admin('POST', '/kms/start');
    expect((await get('old-c', SSE_C)).body.equals(OLD)).toBe(true);
    expect((await get('drained-c', SSE_C)).body.equals(body)).toBe(true);
  });
});

describe('what a stop ends, and for how long', () => {
  const bucket = `stop-${randomBytes(4).toString('hex')}`;
  const plain = `plain-${randomBytes(4).toString('hex')}`;
  let gateway: TestGateway;

  beforeAll(async () => {
    gateway = await startGateway({ store: first, tls: true });
    await gateway.client().send(new CreateBucketCommand({ Bucket: bucket }));
    // Somebody's bucket of old, whose objects were never sealed.
    await s3(first, { method: 'PUT', bucket: plain });
    await s3(first, { method: 'PUT', bucket: plain, key: 'plain', body: OLD });
    expect((await gateway.admin('POST', `/kms/buckets/${plain}/adopt`, { mode: 'mixed' })).status).toBe(200);
    for (const [name, headers] of Object.entries({ kms: KMS, s3: SSE_S3, c: SSE_C })) {
      for (const key of [name, `delete-${name}`, `batch-${name}`]) expect(await put(key, headers)).toMatchObject(OK);
    }
  });
  afterAll(() => gateway.stop());

  const call = (request: RawRequest): Promise<RawResponse> =>
    s3({ ...gateway.raw, ...(gateway.ca === undefined ? {} : { ca: gateway.ca }) }, { bucket, ...request });
  const put = (key: string, headers: Record<string, string>) => call({ method: 'PUT', key, body: OLD, headers });

  const MANAGED: readonly (readonly [string, RawRequest])[] = [
    ['PUT with SSE-KMS', { method: 'PUT', key: 'kms', body: 'new', headers: KMS }],
    ['PUT with SSE-S3', { method: 'PUT', key: 's3', body: 'new', headers: SSE_S3 }],
    ['PUT under the default', { method: 'PUT', key: 's3', body: 'new' }],
    ['PUT of nothing', { method: 'PUT', key: 's3', body: '' }],
    ['GET of SSE-KMS', { method: 'GET', key: 'kms' }],
    ['GET of SSE-S3', { method: 'GET', key: 's3' }],
    ['a range', { method: 'GET', key: 'kms', headers: { range: 'bytes=5-9' } }],
  ];
  const UNMANAGED: readonly (readonly [string, RawRequest])[] = [
    ['HEAD of SSE-KMS', { method: 'HEAD', key: 'kms' }],
    ['HEAD of SSE-C', { method: 'HEAD', key: 'c', headers: SSE_C }],
    ['PUT with SSE-C', { method: 'PUT', key: 'c', body: OLD, headers: SSE_C }],
    ['GET of SSE-C', { method: 'GET', key: 'c', headers: SSE_C }],
    ['GET of plaintext', { method: 'GET', bucket: plain, key: 'plain' }],
    ['DELETE', { method: 'DELETE', key: 'delete-kms' }],
    ['DeleteObjects', { method: 'POST', query: { delete: '' }, ...batch('batch-kms') }],
  ];
  const LISTS: readonly (readonly [string, RawRequest])[] = [
    ['ListObjectsV2', { method: 'GET', query: { 'list-type': '2' } }],
    ['HeadBucket', { method: 'HEAD' }],
    ['GetBucketEncryption', { method: 'GET', query: { encryption: '' } }],
  ];

  test('managed: 503 with Retry-After for what needs a key, and nothing else', async () => {
    const began = performance.now();
    await gateway.admin('POST', '/kms/stop', { reason: 'a drill', drain_seconds: 0 });
    for (const [name, request] of MANAGED)
      expect({ name, ...(await call(request)) }).toMatchObject({ name, ...STOPPED });
    // From the call of stop, all seven refusals included.
    expect(performance.now() - began).toBeLessThan(2000);
    for (const [name, request] of [...UNMANAGED, ...LISTS]) {
      expect({ name, ok: (await call(request)).status < 300 }).toEqual({ name, ok: true });
    }
    expect((await gateway.admin('GET', '/kms/status')).body).toMatchObject({
      state: 'Stopped',
      desired: 'stopped',
      durable: true,
      stop: { reason: 'a drill', by: 'administrator', scope: 'managed' },
      health: 'none',
    });
  });

  test('it is still stopped after a restart, and served again after start', async () => {
    await gateway.restart();
    expect((await gateway.admin('GET', '/kms/status')).body).toMatchObject({ stop: { reason: 'a drill' } });
    for (const [name, request] of MANAGED)
      expect({ name, ...(await call(request)) }).toMatchObject({ name, ...STOPPED });
    expect(await call({ method: 'GET', key: 'c', headers: SSE_C })).toMatchObject(OK);
    expect((await gateway.admin('POST', '/kms/start')).body).toMatchObject({ state: 'Running', durable: true });
    for (const key of ['kms', 's3']) expect((await call({ method: 'GET', key })).body.equals(OLD)).toBe(true);
    await gateway.restart();
    expect((await call({ method: 'GET', key: 'kms' })).body.equals(OLD)).toBe(true);
  });

  test('all: every operation on objects, over a restart too; lists and settings go on', async () => {
    await gateway.admin('POST', '/kms/stop', { reason: 'all of it', scope: 'all', drain_seconds: 0 });
    for (const again of [false, true]) {
      if (again) await gateway.restart();
      for (const [name, request] of [...MANAGED, ...UNMANAGED]) {
        const { status, headers } = await call(request);
        expect({ name, status, retry: headers['retry-after'] !== undefined }).toEqual({
          name,
          status: 503,
          retry: true,
        });
      }
      for (const [name, request] of LISTS) expect({ name, ...(await call(request)) }).toMatchObject({ name, ...OK });
    }
    await gateway.admin('POST', '/kms/start');
    for (const [, request] of [...MANAGED.slice(4), ...UNMANAGED])
      expect((await call(request)).status).toBeLessThan(300);
  });

  test('the control store cannot be written: 503, in force here, and stopped by the marker after a restart', async () => {
    const control = join(gateway.folder, 'control');
    const record = readdirSync(control).find((name) => /^service\.\d+$/.test(name)) ?? '';
    const inTheWay = join(control, `service.${Number(record.split('.')[1]) + 1}`);
    mkdirSync(inTheWay);
    const answer = await gateway.admin('POST', '/kms/stop', { reason: 'the disk is bad', drain_seconds: 0 });
    expect(answer).toMatchObject({ status: 503, body: { state: 'Stopped', applied: 'local', durable: false } });
    expect(await call({ method: 'GET', key: 'kms' })).toMatchObject(STOPPED);
    expect(await put('kms', KMS)).toMatchObject(STOPPED);
    expect(JSON.parse(readFileSync(join(control, record), 'utf8'))).toMatchObject({ value: { desired: 'running' } });

    await gateway.restart();
    expect((await call({ method: 'GET', key: 'kms' })).status).toBe(503);
    rmdirSync(inTheWay);
    await expect
      .poll(async () => (await gateway.admin('GET', '/kms/status')).body, { timeout: 30_000 })
      .toMatchObject({ state: 'Stopped', durable: true, stop: { reason: 'the disk is bad' } });
    await gateway.restart();
    expect(await call({ method: 'GET', key: 'kms' })).toMatchObject(STOPPED);
    await gateway.admin('POST', '/kms/start');
    expect((await call({ method: 'GET', key: 'kms' })).body.equals(OLD)).toBe(true);
  });
});

const OK = { status: 200 };
const STOPPED = {
  status: 503,
  headers: { 'retry-after': expect.stringMatching(/^\d+$/) as string },
  text: expect.stringContaining('<Code>ServiceUnavailable</Code>') as string,
};

function batch(key: string): Pick<RawRequest, 'body' | 'headers'> {
  const body = `<Delete><Object><Key>${key}</Key></Object></Delete>`;
  return { body, headers: { 'content-md5': createHash('md5').update(body).digest('base64') } };
}

function sdkKey(): object {
  return {
    SSECustomerAlgorithm: 'AES256',
    SSECustomerKey: OTHER.toString('base64'),
    SSECustomerKeyMD5: SSE_C['x-amz-server-side-encryption-customer-key-md5'],
  };
}

async function readAll(answer: GetObjectCommandOutput): Promise<Buffer> {
  return Buffer.from((await answer.Body?.transformToByteArray()) ?? []);
}

/** Time for requests to get under way: what is asserted afterwards holds whether or not they did. */
function passed(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
