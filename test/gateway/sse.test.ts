import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { KeyRecords } from '../../src/kms/key-records.ts';
import { SSE_HEADERS } from '../../src/sse/request.ts';
import { codeOf } from '../support/attacker.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { customerKey } from '../support/modes.ts';
import { crc32Base64, s3, type RawRequest, type RawResponse } from '../support/s3-raw.ts';
import { startStoreProxy, type StoreProxy } from '../support/store-proxy.ts';

/** What the gateway makes of SSE headers does not depend on the store. */
const [store] = inject('stores');
if (store === undefined) throw new Error('the run has no store');

type Headers = Readonly<Record<string, string>>;

const SSE = 'x-amz-server-side-encryption';
const KEY = `${SSE}-aws-kms-key-id`;
const CONTEXT = `${SSE}-context`;
const BUCKET_KEY = `${SSE}-bucket-key-enabled`;
const C = `${SSE}-customer`;
const ARN = 'arn:aws:kms:us-east-1:000000000000:key/data';
const KMS = { [SSE]: 'aws:kms' };
const OWN = customerKey();
const OTHER = customerKey();

const bucket = `sse-${randomBytes(4).toString('hex')}`;
let proxy: StoreProxy;
let gateway: TestGateway;
let plain: TestGateway;

beforeAll(async () => {
  proxy = await startStoreProxy(store);
  gateway = await startGateway({ store: proxy.store, tls: true });
  plain = await startGateway({ store });
  expect((await s3(gateway.raw, { method: 'PUT', bucket })).status).toBe(200);
  await put('customer', OWN);
  await put('managed', {});
});
afterAll(async () => {
  await Promise.all([gateway.stop(), plain.stop()]);
  await proxy.stop();
});

function put(key: string, headers: Headers, body = 'a body'): Promise<RawResponse> {
  return s3(gateway.raw, { method: 'PUT', bucket, key, headers, body });
}

function read(key: string, headers: Headers = {}, method: 'GET' | 'HEAD' = 'GET'): Promise<RawResponse> {
  return s3(gateway.raw, { method, bucket, key, headers });
}

function told(answer: RawResponse): string {
  return `${answer.status} ${codeOf(answer)}`.trim();
}

function sseOf(answer: RawResponse): Record<string, string | string[] | undefined> {
  return Object.fromEntries(Object.entries(answer.headers).filter(([name]) => name.startsWith(SSE)));
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

const md5Of = (headers: Headers): string => headers[`${C}-key-md5`] ?? '';
const without = (headers: Headers, name: string): Headers =>
  Object.fromEntries(Object.entries(headers).filter(([other]) => other !== name));

describe('answers of writes and reads', () => {
  it.each<[string, Headers, Headers, Headers]>([
    ['nothing: the default of AWS', {}, { [SSE]: 'AES256' }, { [SSE]: 'AES256' }],
    ['AES256', { [SSE]: 'AES256' }, { [SSE]: 'AES256' }, { [SSE]: 'AES256' }],
    ['aws:kms with the default key', KMS, { ...KMS, [KEY]: ARN }, { ...KMS, [KEY]: ARN }],
    ['a key id', { ...KMS, [KEY]: 'data' }, { ...KMS, [KEY]: ARN }, { ...KMS, [KEY]: ARN }],
    ['a key ARN', { ...KMS, [KEY]: ARN }, { ...KMS, [KEY]: ARN }, { ...KMS, [KEY]: ARN }],
    [
      'a bucket key',
      { ...KMS, [BUCKET_KEY]: 'true' },
      { ...KMS, [KEY]: ARN, [BUCKET_KEY]: 'true' },
      { ...KMS, [KEY]: ARN, [BUCKET_KEY]: 'true' },
    ],
    ['no bucket key', { ...KMS, [BUCKET_KEY]: 'false' }, { ...KMS, [KEY]: ARN }, { ...KMS, [KEY]: ARN }],
    [
      'a context, told on the write only',
      { ...KMS, [CONTEXT]: base64('{"department":"accounts"}') },
      { ...KMS, [KEY]: ARN, [CONTEXT]: base64('{"department":"accounts"}') },
      { ...KMS, [KEY]: ARN },
    ],
  ])('%s', async (title, asked, onWrite, onRead) => {
    const key = `answers/${title}`;
    expect(sseOf(await put(key, asked))).toEqual(onWrite);
    const got = await read(key);
    expect([got.status, got.text, sseOf(got)]).toEqual([200, 'a body', onRead]);
    expect(sseOf(await read(key, {}, 'HEAD'))).toEqual(onRead);
    expect(sseOf(await read(key, { range: 'bytes=0-1' }))).toEqual(onRead);
  });

  it('a customer key: its algorithm and MD5, never the key', async () => {
    const answer = { [`${C}-algorithm`]: 'AES256', [`${C}-key-md5`]: md5Of(OWN) };
    expect(sseOf(await put('answers/customer', OWN))).toEqual(answer);
    expect(sseOf(await read('answers/customer', OWN))).toEqual(answer);
    expect(sseOf(await read('answers/customer', OWN, 'HEAD'))).toEqual(answer);
  });
});

describe('refused writes', () => {
  const key32 = OWN[`${C}-key`] ?? '';
  it.each<[string, Headers, string]>([
    ['SSE-C together with SSE', { ...OWN, [SSE]: 'AES256' }, '400 InvalidArgument'],
    ['SSE-C together with aws:kms', { ...OWN, ...KMS }, '400 InvalidArgument'],
    ['SSE-C of another algorithm', { ...OWN, [`${C}-algorithm`]: 'AES128' }, '400 InvalidEncryptionAlgorithmError'],
    ['SSE-C without algorithm', without(OWN, `${C}-algorithm`), '400 InvalidArgument'],
    ['SSE-C without key', without(OWN, `${C}-key`), '400 InvalidArgument'],
    ['SSE-C without MD5', without(OWN, `${C}-key-md5`), '400 InvalidArgument'],
    ['SSE-C with a short key', customerKey(randomBytes(31)), '400 InvalidArgument'],
    ['SSE-C with a long key', customerKey(randomBytes(33)), '400 InvalidArgument'],
    ['SSE-C whose key is no base64', { ...OWN, [`${C}-key`]: `${key32.slice(0, -2)}!=` }, '400 InvalidArgument'],
    ['SSE-C with the MD5 of another key', { ...OWN, [`${C}-key-md5`]: md5Of(OTHER) }, '400 InvalidArgument'],
    ['an unknown algorithm', { [SSE]: 'aes256' }, '400 InvalidArgument'],
    ['an empty algorithm', { [SSE]: '' }, '400 InvalidArgument'],
    ['two layers', { [SSE]: 'aws:kms:dsse' }, '501 NotImplemented'],
    ['a key id alone', { [KEY]: 'data' }, '400 InvalidArgument'],
    ['a key id with AES256', { [SSE]: 'AES256', [KEY]: 'data' }, '400 InvalidArgument'],
    ['a context with AES256', { [SSE]: 'AES256', [CONTEXT]: base64('{}') }, '400 InvalidArgument'],
    ['a context alone', { [CONTEXT]: base64('{"a":"b"}') }, '400 InvalidArgument'],
    ['a context that is no base64', { ...KMS, [CONTEXT]: '{"a":"b"}' }, '400 InvalidArgument'],
    ['a context that is no JSON', { ...KMS, [CONTEXT]: base64('a=b') }, '400 InvalidArgument'],
    ['a context of other values than strings', { ...KMS, [CONTEXT]: base64('{"a":1}') }, '400 InvalidArgument'],
    ['a context with a name twice', { ...KMS, [CONTEXT]: base64('{"a":"b","a":"c"}') }, '400 InvalidArgument'],
    ['the ARN of another object', { ...KMS, [CONTEXT]: base64('{"aws:s3:arn":"x"}') }, '400 InvalidArgument'],
    ['a bucket key that is neither', { ...KMS, [BUCKET_KEY]: 'yes' }, '400 InvalidArgument'],
    ['an unknown key', { ...KMS, [KEY]: 'nobody' }, '400 KMS.NotFoundException'],
    ['a key id that is a path', { ...KMS, [KEY]: '../../sys/seal' }, '400 KMS.NotFoundException'],
    [
      'a key of another account',
      { ...KMS, [KEY]: ARN.replace('000000000000', '1'.repeat(12)) },
      '400 KMS.NotFoundException',
    ],
    ['an unknown alias', { ...KMS, [KEY]: 'alias/nobody' }, '400 KMS.NotFoundException'],
  ])('%s', async (_title, headers, expected) => {
    await put('kept', {}, 'what was there');
    expect(told(await put('kept', headers))).toBe(expected);
    expect((await read('kept')).text).toBe('what was there');
  });

  it('SSE-C over plain HTTP, on writes and reads, before the bucket is looked at', async () => {
    const call = (method: RawRequest['method'], headers: Headers): Promise<RawResponse> =>
      s3(plain.raw, { method, bucket, key: 'k', headers, ...(method === 'PUT' ? { body: 'x' } : {}) });
    await s3(plain.raw, { method: 'PUT', bucket: `${bucket}-plain` });
    const there = (method: RawRequest['method']): Promise<RawResponse> =>
      s3(plain.raw, {
        method,
        bucket: `${bucket}-plain`,
        key: 'k',
        headers: OWN,
        ...(method === 'PUT' ? { body: 'x' } : {}),
      });
    expect(told(await there('PUT'))).toBe('400 InvalidRequest');
    expect(told(await there('GET'))).toBe('400 InvalidRequest');
    expect(told(await there('HEAD'))).toBe('400');
    expect((await call('PUT', OWN)).status).toBeGreaterThanOrEqual(400);
  });
});

describe('refused reads', () => {
  it.each<[string, string, Headers, string]>([
    ['an SSE-C object without a key', 'customer', {}, '400 InvalidRequest'],
    ['an SSE-C object with another key', 'customer', OTHER, '403 AccessDenied'],
    ['an SSE-C object without the MD5', 'customer', without(OWN, `${C}-key-md5`), '403 AccessDenied'],
    ['the MD5 of another key', 'customer', { ...OWN, [`${C}-key-md5`]: md5Of(OTHER) }, '400 InvalidArgument'],
    ['a customer key on another object', 'managed', OWN, '400 InvalidRequest'],
    ['an SSE header', 'managed', { [SSE]: 'AES256' }, '400 InvalidRequest'],
    ['a KMS header', 'managed', KMS, '400 InvalidRequest'],
    ['a context', 'managed', { [CONTEXT]: base64('{}') }, '400 InvalidRequest'],
  ])('%s', async (_title, key, headers, expected) => {
    expect(told(await read(key, headers))).toBe(expected);
    expect(told(await read(key, { ...headers, range: 'bytes=0-1' }))).toBe(expected);
    const head = await read(key, headers, 'HEAD');
    expect([told(head), head.text]).toEqual([expected.slice(0, 3), '']);
  });
});

describe("a bucket's default", () => {
  const where = { bucket: `sse-default-${randomBytes(4).toString('hex')}` };
  beforeAll(async () => {
    await s3(gateway.raw, { method: 'PUT', ...where });
  });

  const encryption = (method: 'GET' | 'PUT' | 'DELETE', body?: string): Promise<RawResponse> =>
    s3(gateway.raw, { method, ...where, query: { encryption: '' }, ...(body === undefined ? {} : { body }) });
  const rule = (inner: string, more = ''): string =>
    `<Rule><ApplyServerSideEncryptionByDefault>${inner}</ApplyServerSideEncryptionByDefault>${more}</Rule>`;
  const document = (rules: string): string =>
    `<ServerSideEncryptionConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${rules}</ServerSideEncryptionConfiguration>`;
  const kms = (key: string, more = ''): string =>
    document(rule(`<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>${key}</KMSMasterKeyID>`, more));
  const aes = '<SSEAlgorithm>AES256</SSEAlgorithm>';
  const write = (headers: Headers = {}): Promise<RawResponse> =>
    s3(gateway.raw, { method: 'PUT', ...where, key: 'k', headers, body: 'a body' });

  it('never set: 200, AES256, no bucket key', async () => {
    const { status, text } = await encryption('GET');
    expect(status).toBe(200);
    expect(text).toContain(rule(aes, '<BucketKeyEnabled>false</BucketKeyEnabled>'));
    expect(sseOf(await write())).toEqual({ [SSE]: 'AES256' });
  });

  it.each(['data', ARN])('aws:kms with %s: given back as it was put, and used', async (reference) => {
    const enabled = '<BucketKeyEnabled>true</BucketKeyEnabled>';
    expect((await encryption('PUT', kms(reference, enabled))).status).toBe(200);
    const { text } = await encryption('GET');
    expect(text).toContain(`<KMSMasterKeyID>${reference}</KMSMasterKeyID>`);
    expect(text).toContain(enabled);
    expect(sseOf(await write())).toEqual({ ...KMS, [KEY]: ARN, [BUCKET_KEY]: 'true' });
    // The request beats the default.
    expect(sseOf(await write({ [SSE]: 'AES256' }))).toEqual({ [SSE]: 'AES256' });
    expect(sseOf(await write({ ...KMS, [BUCKET_KEY]: 'false' }))).toEqual({ ...KMS, [KEY]: ARN });
    expect((await write(OWN)).headers[`${C}-algorithm`]).toBe('AES256');
  });

  it('an alias', async () => {
    await gateway.offline((control) =>
      new KeyRecords({ store: control, clock: Date.now, freshMs: 0, staleMs: () => 0 }).setAlias('invoices', 'data'),
    );
    expect((await encryption('PUT', kms('alias/invoices'))).status).toBe(200);
    expect((await encryption('GET')).text).toContain('alias/invoices');
    expect(sseOf(await write())).toEqual({ ...KMS, [KEY]: ARN });
  });

  it('survives a restart, and is never at the store', async () => {
    const calls = await proxy.callsOf(async () => {
      await encryption('PUT', kms('data'));
      await encryption('GET');
    });
    expect(calls.filter(({ target }) => target.includes('encryption'))).toEqual([]);
    await gateway.restart();
    expect(sseOf(await write())).toEqual({ ...KMS, [KEY]: ARN });
  });

  it('deleted: 204, and AES256 again', async () => {
    expect((await encryption('DELETE')).status).toBe(204);
    expect((await encryption('GET')).text).toContain(aes);
    expect(sseOf(await write())).toEqual({ [SSE]: 'AES256' });
  });

  it('BlockedEncryptionTypes: SSE-C writes are 403 before the key is looked at, reads stay', async () => {
    await write(OWN);
    const blocked = (type: string): string =>
      document(rule(aes, `<BlockedEncryptionTypes><EncryptionType>${type}</EncryptionType></BlockedEncryptionTypes>`));
    expect((await encryption('PUT', blocked('SSE-C'))).status).toBe(200);
    expect((await encryption('GET')).text).toContain('<EncryptionType>SSE-C</EncryptionType>');
    expect(told(await write(OWN))).toBe('403 AccessDenied');
    expect(told(await write({ [`${C}-key`]: 'not a key' }))).toBe('403 AccessDenied');
    expect((await s3(gateway.raw, { method: 'GET', ...where, key: 'k', headers: OWN })).text).toBe('a body');
    expect((await encryption('PUT', blocked('NONE'))).status).toBe(200);
    expect((await write(OWN)).status).toBe(200);
  });

  it.each<[string, string, string]>([
    ['no rule', document(''), '400 MalformedXML'],
    ['two rules', document(rule(aes) + rule(aes)), '400 MalformedXML'],
    ['no algorithm', document(rule('')), '400 MalformedXML'],
    ['another algorithm', document(rule('<SSEAlgorithm>DES</SSEAlgorithm>')), '400 MalformedXML'],
    ['no XML', 'AES256', '400 MalformedXML'],
    ['XML cut off', document(rule(aes)).slice(0, -10), '400 MalformedXML'],
    ['a DOCTYPE', `<!DOCTYPE x [<!ENTITY e "AES256">]>${document(rule(aes))}`, '400 MalformedXML'],
    ['a key with AES256', document(rule(`${aes}<KMSMasterKeyID>data</KMSMasterKeyID>`)), '400 InvalidArgument'],
    ['an unknown key', kms('nobody'), '400 KMS.NotFoundException'],
    ['two layers', document(rule('<SSEAlgorithm>aws:kms:dsse</SSEAlgorithm>')), '501 NotImplemented'],
  ])('refused, and nothing changed: %s', async (_title, body, expected) => {
    const before = (await encryption('GET')).text;
    expect(told(await encryption('PUT', body))).toBe(expected);
    expect((await encryption('GET')).text).toBe(before);
  });
});

describe('the state of the key', () => {
  const records = (work: (keys: KeyRecords) => Promise<unknown>): Promise<unknown> =>
    gateway.offline((store) => work(new KeyRecords({ store, clock: Date.now, freshMs: 0, staleMs: () => 0 })));

  it('disabled, pending deletion, back again', async () => {
    await put('stateful', KMS);
    await records((keys) => keys.disable('data'));
    expect([told(await put('stateful', KMS)), told(await read('stateful'))]).toEqual([
      '400 KMS.DisabledException',
      '400 KMS.DisabledException',
    ]);
    await records((keys) => keys.scheduleDeletion('data', 7));
    expect([told(await put('stateful', KMS)), told(await read('stateful'))]).toEqual([
      '400 KMS.KMSInvalidStateException',
      '400 KMS.KMSInvalidStateException',
    ]);
    await records((keys) => keys.cancelDeletion('data'));
    await records((keys) => keys.enable('data'));
    expect((await read('stateful')).text).toBe('a body');
  });

  it('stopped: 503 with Retry-After, never a downgrade; SSE-C goes on; started again, everything is there', async () => {
    expect((await gateway.admin('POST', '/kms/stop', { reason: 'a test' })).status).toBe(200);
    for (const headers of [{}, { [SSE]: 'AES256' }, KMS]) {
      const answer = await put('stateful', headers);
      expect(told(answer)).toBe('503 ServiceUnavailable');
      expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
    }
    expect(told(await read('stateful'))).toBe('503 ServiceUnavailable');
    expect((await put('while-stopped', OWN)).status).toBe(200);
    expect((await read('while-stopped', OWN)).text).toBe('a body');
    expect((await gateway.admin('POST', '/kms/start')).status).toBe(200);
    expect((await read('stateful')).text).toBe('a body');
  });
});

describe('what the store is told', () => {
  /** Of everything that a client may send, nothing of these comes to the store, whatever the operation. */
  const FORBIDDEN = [...SSE_HEADERS, 'x-amz-security-token', 'x-amz-sdk-checksum-algorithm', 'x-amz-trailer'];
  const noise: Headers = {
    'x-amz-sdk-checksum-algorithm': 'CRC32',
    'amz-sdk-invocation-id': 'a1b2',
    'amz-sdk-request': 'attempt=1; max=3',
    'x-minio-source-mtime': '2026-01-01T00:00:00Z',
    'x-amz-checksum-mode': 'ENABLED',
    'accept-encoding': 'gzip',
    'x-own-secret': 'for the gateway only',
  };

  it.each<[string, RawRequest]>([
    ['a small PUT', { method: 'PUT', key: 'told', headers: OWN, body: 'x' }],
    ['a streamed PUT', { method: 'PUT', key: 'told', headers: OWN, body: randomBytes(300_000) }],
    ['a GET', { method: 'GET', key: 'told', headers: OWN }],
    ['a range', { method: 'GET', key: 'told', headers: { ...OWN, range: 'bytes=-5' } }],
    ['a HEAD', { method: 'HEAD', key: 'told', headers: OWN }],
    ['a tagging call that brings the key', { method: 'GET', key: 'told', query: { tagging: '' }, headers: OWN }],
    ['a DELETE', { method: 'DELETE', key: 'told', headers: OWN }],
    ['a listing', { method: 'GET', query: { 'list-type': '2' }, headers: OWN }],
  ])('%s carries no key, no checksum, no header of the SDK', async (_title, request) => {
    const body = Buffer.from(request.body ?? '');
    const sums = request.method === 'PUT' ? { 'x-amz-checksum-crc32': crc32Base64(body) } : {};
    const calls = await proxy.callsOf(async () => {
      const { status } = await s3(gateway.raw, {
        ...request,
        bucket,
        headers: { ...noise, ...request.headers, ...sums },
      });
      expect(status).toBeLessThan(300);
    });
    expect(calls.length).toBeGreaterThan(0);
    for (const { headers, target } of calls) {
      const names = Object.keys(headers);
      expect(
        names.filter((name) => FORBIDDEN.includes(name) || /^(?:amz-sdk|x-minio|x-own|x-amz-checksum-mode)/.test(name)),
      ).toEqual([]);
      expect(headers['x-amz-checksum-crc32']).toBeUndefined();
      expect(headers['accept-encoding']).toBe('identity');
      const all = `${target} ${JSON.stringify(headers)}`;
      for (const secret of Object.values(OWN).filter((value) => value !== 'AES256')) expect(all).not.toContain(secret);
    }
  });
});
