import { randomBytes } from 'node:crypto';
import { request } from 'node:http';
import {
  CompleteMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { OPERATION_ROWS } from '../../src/s3/rows.ts';
import { codeOf } from '../support/attacker.ts';
import { ADMIN, startGateway, USER, type TestGateway } from '../support/gateway.ts';
import { customerKey } from '../support/modes.ts';
import { RawUpload } from '../support/multipart.ts';
import { s3, xmlText, type RawResponse } from '../support/s3-raw.ts';

/** Who asks is made out before any store is. */
const [store] = inject('stores');
if (store === undefined) throw new Error('the run has no store');

type Headers = Readonly<Record<string, string>>;

const SSE = 'x-amz-server-side-encryption';
const OWN = customerKey();
const NEAR = '10.1.2.3';
const bucket = `hosts.${randomBytes(4).toString('hex')}`;
/** Behind a proxy whose address is configured, and the same without: both are asked from 127.0.0.1. */
let behind: TestGateway;
let alone: TestGateway;

const identity = (name: string, accessKeyId: string, policies: unknown[], plane = 'data') => ({
  ...{ name, accessKeyId, plane, policies },
  secretFile: plane === 'admin' ? 'admin.secret' : 'user.secret',
});
const near = { Effect: 'Allow', Action: 's3:*', Resource: '*', Condition: { IpAddress: { 'aws:SourceIp': NEAR } } };
const identities = [
  identity('user', USER.accessKeyId, ['S3FullAccess', 'KMSUser']),
  identity('near', 'NEAR000000000000', [{ Version: '2012-10-17', Statement: [near] }]),
  identity('administrator', ADMIN.accessKeyId, ['KMSAdministrator'], 'admin'),
];

beforeAll(async () => {
  const baseHosts = ['s3.example.test'];
  behind = await startGateway({ store, config: { data: { baseHosts, trustedProxies: ['127.0.0.1'] }, identities } });
  alone = await startGateway({ store, config: { data: { baseHosts }, identities } });
  for (const [{ raw }, own] of [
    [behind, { bucket }],
    [alone, { bucket: `${bucket}.alone` }],
  ] as const) {
    expect((await s3(raw, { method: 'PUT', ...own })).status).toBe(200);
    expect((await s3(raw, { method: 'PUT', ...own, key: 'a/b', body: 'content' })).status).toBe(200);
  }
});
afterAll(() => Promise.all([behind.stop(), alone.stop()]));

/** As a client that signed for a host, with what a proxy (or somebody who would like to be one) adds unsigned. */
function asked(url: string, headers: Headers, method = 'GET', body?: Buffer | string): Promise<RawResponse> {
  return new Promise((resolve, reject) => {
    const { port, pathname, search } = new URL(url);
    request({ host: '127.0.0.1', port, path: pathname + search, method, headers, agent: false }, (res) => {
      const chunks: Buffer[] = [];
      res.on('data', (chunk: Buffer) => chunks.push(chunk));
      res.on('end', () => {
        const all = Buffer.concat(chunks);
        const { headers: received, complete } = res;
        resolve({ status: res.statusCode ?? 0, headers: received, body: all, text: all.toString(), complete });
      });
    })
      .on('error', reject)
      .end(body);
  });
}

function told(answer: RawResponse): string {
  return `${answer.status} ${codeOf(answer)}`.trim();
}

describe('the host', () => {
  const presigned = async (endpoint: string, forcePathStyle: boolean, Bucket = bucket, at = behind) => {
    const client = behind.client({ endpoint, forcePathStyle });
    const url = new URL(await getSignedUrl(client, new GetObjectCommand({ Bucket, Key: 'a/b' })));
    return { host: url.host, url: `${at.raw.endpoint}${url.pathname}${url.search}` };
  };

  it.each([
    ['path style', 'http://s3.example.test:8443', true],
    ['virtual-host style, a dot in the name', 'http://s3.example.test:8443', false],
    ['another host', 'http://elsewhere.test', true],
    ['an IPv6 literal', 'http://[2001:db8::1]:9000', true],
  ])('%s', async (_, endpoint, pathStyle) => {
    const { host, url } = await presigned(endpoint, pathStyle);
    for (const headers of [
      { host },
      { host: 'proxy.internal', 'x-forwarded-host': host },
      // What comes first is whatever the client sent.
      { host: 'proxy.internal', 'x-forwarded-host': `forged.test, ${host}` },
    ]) {
      const { status, text } = await asked(url, headers);
      expect([status, text]).toEqual([200, 'content']);
    }
    expect(told(await asked(url, { host: 'other.test' }))).toBe('403 SignatureDoesNotMatch');
    expect(told(await asked(url, { host, 'x-forwarded-host': `${host}, other.test` }))).toBe(
      '403 SignatureDoesNotMatch',
    );
  });

  it('is named by nobody but a configured address', async () => {
    const { host, url } = await presigned('http://s3.example.test', false, `${bucket}.alone`, alone);
    expect((await asked(url, { host })).text).toBe('content');
    const forged = { host: 'proxy.internal', 'x-forwarded-host': host };
    expect((await asked(url, forged)).status).not.toBe(200);
    expect((await asked(url, { host, 'x-forwarded-host': 'other.test' })).text).toBe('content');
  });
});

describe('what a proxy says of the connection counts from a configured address, and its last word only', () => {
  it.each([
    ['https', '200', '400 InvalidRequest'],
    ['http, https', '200', '400 InvalidRequest'],
    ['https, http', '400 InvalidRequest', '400 InvalidRequest'],
    ['http', '400 InvalidRequest', '400 InvalidRequest'],
  ])('a customer key under X-Forwarded-Proto: %s', async (proto, trusted, forged) => {
    const send = (raw: TestGateway['raw'], of: string) => {
      const headers = { ...OWN, 'x-forwarded-proto': proto };
      return s3(raw, { method: 'PUT', bucket: of, key: 'customer', headers, body: 'x' });
    };
    expect(told(await send(behind.raw, bucket))).toBe(trusted);
    expect(told(await send(alone.raw, `${bucket}.alone`))).toBe(forged);
  });

  it.each([
    [NEAR, '200'],
    [`192.0.2.1, ${NEAR}`, '200'],
    [`${NEAR}, 192.0.2.1`, '403 AccessDenied'],
    ['', '403 AccessDenied'],
  ])('a policy on the address, X-Forwarded-For: %s', async (source, trusted) => {
    const headers = { 'x-forwarded-for': source };
    const as = (raw: TestGateway['raw'], of: string) =>
      s3({ ...raw, accessKeyId: 'NEAR000000000000' }, { method: 'GET', bucket: of, key: 'a/b', headers });
    expect(told(await as(behind.raw, bucket))).toBe(trusted);
    expect(told(await as(alone.raw, `${bucket}.alone`))).toBe('403 AccessDenied');
  });
});

describe('a request without a signature', () => {
  it.each(OPERATION_ROWS.map((row) => [`${row.method} ${row.name}`, row] as const))('%s', async (_, row) => {
    const path = { service: '/', bucket: `/${bucket}`, object: `/${bucket}/a/b` }[row.level];
    const query = row.selector.map((selector) => `${selector}=1`).join('&');
    const headers = row.selectorHeader === undefined ? {} : { [row.selectorHeader]: `/${bucket}/a/b` };
    const answer = await fetch(`${behind.raw.endpoint}${path}?${query}`, { method: row.method, headers });
    expect(answer.status).toBe(403);
    const text = await answer.text();
    if (row.method !== 'HEAD') expect(xmlText(text, 'Code')).toBe('AccessDenied');
  });
});

describe('a presigned URL', () => {
  const place = { Bucket: bucket, Key: 'put' };

  it('of a PUT keeps SSE, metadata and nothing that was not signed', async () => {
    const command = new PutObjectCommand({ ...place, ServerSideEncryption: 'aws:kms', Metadata: { who: 'me' } });
    const url = await getSignedUrl(behind.client(), command, { unhoistableHeaders: new Set([SSE]) });
    expect(url).toContain('x-amz-meta-who');
    const send = (headers: Headers) => fetch(url, { method: 'PUT', body: 'presigned', headers });
    expect((await send({})).status).toBe(403);
    expect((await send({ [SSE]: 'AES256' })).status).toBe(403);
    expect((await send({ [SSE]: 'aws:kms', 'x-amz-meta-more': 'x' })).status).toBe(403);
    expect((await send({ [SSE]: 'aws:kms' })).status).toBe(200);
    const head = await behind.client().send(new HeadObjectCommand(place));
    expect([head.ServerSideEncryption, head.Metadata, head.ContentLength]).toEqual(['aws:kms', { who: 'me' }, 9]);
  });

  it('of HEAD and DELETE, each for its method alone', async () => {
    const own = { bucket, key: 'short-lived' };
    await s3(behind.raw, { method: 'PUT', ...own, body: 'twelve bytes' });
    const command = { Bucket: bucket, Key: own.key };
    const head = await getSignedUrl(behind.client(), new HeadObjectCommand(command));
    const remove = await getSignedUrl(behind.client(), new DeleteObjectCommand(command));
    const { host } = new URL(head);
    const found = await asked(head, { host }, 'HEAD');
    expect([found.status, found.headers['content-length'], found.headers[SSE]]).toEqual([200, '12', 'AES256']);
    for (const [url, method] of [
      [head, 'GET'],
      [head, 'DELETE'],
      [remove, 'HEAD'],
      [remove, 'PUT'],
    ] as const) {
      expect((await asked(url, { host }, method)).status).toBe(403);
    }
    expect((await asked(remove, { host }, 'DELETE')).status).toBe(204);
    expect((await asked(head, { host }, 'HEAD')).status).toBe(404);
  });

  it('of a part and of Complete: no other number, no other upload', async () => {
    const upload = await RawUpload.create(behind.raw, bucket, 'put', { [SSE]: 'aws:kms' });
    const part = { ...place, UploadId: upload.id };
    const first = await getSignedUrl(behind.client(), new UploadPartCommand({ ...part, PartNumber: 1 }));
    const complete = await getSignedUrl(behind.client(), new CompleteMultipartUploadCommand(part));
    const { host } = new URL(first);
    expect(told(await asked(first.replace('partNumber=1', 'partNumber=2'), { host }, 'PUT', 'x'))).toBe(
      '403 SignatureDoesNotMatch',
    );
    const sent = await asked(first, { host }, 'PUT', 'the only part');
    expect([sent.status, sent.headers[SSE]]).toEqual([200, 'aws:kms']);
    const list = `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>${String(sent.headers.etag)}</ETag></Part></CompleteMultipartUpload>`;
    expect(told(await asked(`${complete}x`, { host }, 'POST', list))).toBe('403 SignatureDoesNotMatch');
    const done = await asked(complete, { host }, 'POST', list);
    expect([done.status, xmlText(done.text, 'Key')]).toEqual([200, 'put']);
    expect((await s3(behind.raw, { method: 'GET', bucket, key: 'put' })).text).toBe('the only part');
  });

  it("with a customer's key: its headers are signed, sent beside it, and no other key is taken", async () => {
    const [algorithm, key, md5] = Object.values(OWN);
    const customer = { SSECustomerAlgorithm: algorithm, SSECustomerKey: key, SSECustomerKeyMD5: md5 };
    const options = { unhoistableHeaders: new Set(Object.keys(OWN)) };
    const put = await getSignedUrl(behind.client(), new PutObjectCommand({ ...place, ...customer }), options);
    const get = await getSignedUrl(behind.client(), new GetObjectCommand({ ...place, ...customer }), options);
    const tls = { host: new URL(put).host, 'x-forwarded-proto': 'https' };
    expect(told(await asked(put, tls, 'PUT', 'for the owner'))).toBe('403 SignatureDoesNotMatch');
    expect(told(await asked(put, { ...tls, ...customerKey() }, 'PUT', 'x'))).toBe('403 SignatureDoesNotMatch');
    expect(told(await asked(put, { ...OWN, host: tls.host }, 'PUT', 'x'))).toBe('400 InvalidRequest');
    const sent = await asked(put, { ...tls, ...OWN }, 'PUT', 'for the owner');
    expect([sent.status, sent.headers[`${SSE}-customer-algorithm`]]).toEqual([200, 'AES256']);
    expect((await asked(get, { ...tls, ...OWN })).text).toBe('for the owner');
    expect(told(await asked(get, tls))).toBe('403 SignatureDoesNotMatch');
    // As a presigner does that is told to: the key would be in every log.
    const hoistableHeaders = new Set(Object.keys(OWN));
    const hoisted = await getSignedUrl(behind.client(), new GetObjectCommand({ ...place, ...customer }), {
      hoistableHeaders,
    });
    expect(hoisted).toContain('-customer-key=');
    expect(told(await asked(hoisted, tls))).toBe('400 InvalidRequest');
  });
});
