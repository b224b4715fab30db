import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { codeOf } from '../support/attacker.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import {
  crc32Base64,
  s3,
  withTrailer,
  xmlText,
  xmlTexts,
  type RawRequest,
  type RawResponse,
} from '../support/s3-raw.ts';
import { postForm } from '../support/post-form.ts';
import { startStoreProxy, type StoreCall, type StoreProxy } from '../support/store-proxy.ts';
import type { StoreName } from '../stores/store.ts';

type Headers = Readonly<Record<string, string>>;
type Gaps = Partial<Record<StoreName, readonly [instead: string, reason: string]>>;

const stores = inject('stores');
const LOCK_BUCKET = { 'x-amz-bucket-object-lock-enabled': 'true' };
const HOLD = { 'x-amz-object-lock-legal-hold': 'ON' };
const inTime = (ms: number): string => new Date(Date.now() + ms).toISOString().replace(/\.\d+/, '');
const until = inTime(3_600_000);
const GOVERNANCE = { 'x-amz-object-lock-mode': 'GOVERNANCE', 'x-amz-object-lock-retain-until-date': until };

function md5(body: Buffer | string): Headers {
  return { 'content-md5': createHash('md5').update(body).digest('base64') };
}

function told(answer: RawResponse): string {
  return `${answer.status} ${codeOf(answer)}`.trim();
}

describe.each(stores.filter(({ name }) => name === 'devstore'))('over $name, which has no Object Lock', (store) => {
  it('every form of it is 501, and nothing is written unlocked', async () => {
    const gateway = await startGateway({ store });
    const bucket = `lock-${randomBytes(4).toString('hex')}`;
    const send = (method: RawRequest['method'], rest: Partial<RawRequest> = {}): Promise<RawResponse> =>
      s3(gateway.raw, { method, bucket, ...rest });
    try {
      expect(told(await send('PUT', { headers: LOCK_BUCKET }))).toBe('501 NotImplemented');
      await send('PUT');
      const locked = { key: 'k', headers: { ...GOVERNANCE, ...md5('x') }, body: 'x' };
      expect(told(await send('PUT', locked))).toBe('501 NotImplemented');
      expect(told(await send('HEAD', { key: 'k' }))).toBe('404');
      await send('PUT', { key: 'k', body: 'x' });
      const body = '<LegalHold><Status>ON</Status></LegalHold>';
      expect(told(await send('PUT', { key: 'k', query: { 'legal-hold': '' }, body }))).toBe('501 NotImplemented');
    } finally {
      await gateway.stop();
    }
  });
});

describe.each(stores.filter(({ name }) => name !== 'devstore'))('Object Lock over $name', (store) => {
  const bucket = `lock-${randomBytes(4).toString('hex')}`;
  const plain = `${bucket}-plain`;
  const large = randomBytes(200_000);
  let proxy: StoreProxy;
  let gateway: TestGateway;

  const send = (method: RawRequest['method'], key?: string, rest: Partial<RawRequest> = {}): Promise<RawResponse> =>
    s3(gateway.raw, { method, bucket, ...(key === undefined ? {} : { key }), ...rest });
  const expected = (right: string, gaps: Gaps = {}): string => gaps[store.name]?.[0] ?? right;
  /** What says that a version is under a lock. */
  const locked = expected('403 AccessDenied', { minio: ['400 InvalidRequest', 'has its own words for it'] });
  const versionOf = ({ headers }: RawResponse): string => String(headers['x-amz-version-id']);

  beforeAll(async () => {
    proxy = await startStoreProxy(store);
    gateway = await startGateway({ store: proxy.store });
    expect(told(await send('PUT', undefined, { headers: LOCK_BUCKET }))).toBe('200');
    expect(told(await send('PUT', undefined, { bucket: plain }))).toBe('200');
  });
  afterAll(async () => {
    await gateway.stop();
    await proxy.stop();
  });

  it('the bucket says that it has it', async () => {
    const { status, text } = await send('GET', undefined, { query: { 'object-lock': '' } });
    expect([status, xmlText(text, 'ObjectLockEnabled')]).toEqual([200, 'Enabled']);
    const rule = '<Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule>';
    const body = `<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>${rule}</ObjectLockConfiguration>`;
    const own = { bucket: `${bucket}-default` };
    await send('PUT', undefined, { ...own, headers: LOCK_BUCKET });
    expect(told(await send('PUT', undefined, { ...own, query: { 'object-lock': '' }, body }))).toBe('200');
    expect(xmlTexts((await send('GET', undefined, { ...own, query: { 'object-lock': '' } })).text, 'Days')).toEqual([
      '1',
    ]);
    const missing = await send('GET', undefined, { bucket: plain, query: { 'object-lock': '' } });
    expect(told(missing)).toBe('404 ObjectLockConfigurationNotFoundError');
  });

  const trailer = withTrailer(large);
  const digests: readonly (readonly [string, Partial<RawRequest>])[] = [
    ['small, Content-MD5', { body: 'locked', headers: md5('locked') }],
    ['small, a checksum', { body: 'locked', headers: { 'x-amz-checksum-crc32': crc32Base64(Buffer.from('locked')) } }],
    ['streamed, Content-MD5', { body: large, headers: md5(large) }],
    ['streamed, a trailer', trailer],
  ];
  it.each(digests)('a PUT under a lock: %s', async (title, request) => {
    const headers = { ...request.headers, ...GOVERNANCE, ...HOLD };
    let put: RawResponse | undefined;
    const calls = await proxy.callsOf(async () => {
      put = await send('PUT', title, { ...request, headers });
    });
    if (put === undefined) throw new Error('no answer');
    expect(told(put)).toBe('200');
    // The client's digest speaks of other bytes than the store gets: it gets one of its own, where it takes any.
    const sent = calls.find(({ method }: StoreCall) => method === 'PUT')?.headers ?? {};
    if (title.startsWith('small')) {
      expect(sent['content-md5']).toMatch(/^[\w+/]{22}==$/);
      expect(sent['content-md5']).not.toBe(md5('locked')['content-md5']);
    } else {
      const inTrailer = store.name === 'radosgw' ? undefined : 'x-amz-checksum-crc32';
      expect([sent['content-md5'], sent['x-amz-trailer']]).toEqual([undefined, inTrailer]);
    }
    expect(sent).toMatchObject({ ...GOVERNANCE, ...HOLD });
    const head = await send('HEAD', title);
    const NOT_SHOWN = 'shows them by GetObjectRetention and GetObjectLegalHold only';
    const shown = ['x-amz-object-lock-mode', 'x-amz-object-lock-legal-hold'].map((name) => String(head.headers[name]));
    expect(shown.join(' ')).toBe(expected('GOVERNANCE ON', { versitygw: ['undefined undefined', NOT_SHOWN] }));
    const versionId = versionOf(put);
    expect(told(await send('DELETE', title, { query: { versionId } }))).toBe(locked);
    expect(told(await send('GET', title, { query: { versionId } }))).toBe('200');
  });

  it.each<[string, Headers, string]>([
    ['no digest at all', { ...GOVERNANCE }, '400 InvalidRequest'],
    ['a mode without its date', { 'x-amz-object-lock-mode': 'GOVERNANCE', ...md5('x') }, '400 InvalidArgument'],
    ['a date without its mode', { 'x-amz-object-lock-retain-until-date': until, ...md5('x') }, '400 InvalidArgument'],
    ['a mode that is none', { ...GOVERNANCE, 'x-amz-object-lock-mode': 'SOFT', ...md5('x') }, '400 InvalidArgument'],
    ['a hold that is none', { 'x-amz-object-lock-legal-hold': 'MAYBE', ...md5('x') }, '400 InvalidArgument'],
    ["another body's Content-MD5", { ...GOVERNANCE, ...md5('y') }, '400 BadDigest'],
  ])('refused, and nothing written: %s', async (_title, headers, right) => {
    const calls = await proxy.callsOf(async () => {
      expect(told(await send('PUT', 'refused', { headers, body: 'x' }))).toBe(right);
    });
    expect(calls.filter(({ method }) => method === 'PUT')).toEqual([]);
  });

  it("a bucket without it: refused in the gateway's words", async () => {
    const answer = await send('PUT', 'k', { bucket: plain, headers: { ...GOVERNANCE, ...md5('x') }, body: 'x' });
    expect(told(answer)).toBe('400 InvalidRequest');
    expect(xmlText(answer.text, 'Message')).toMatch(/^The store behind refuses the Object Lock headers/);
    const gaps: Gaps = { versitygw: ['200', 'refuses the lock when it has written the object'] };
    expect(told(await send('HEAD', 'k', { bucket: plain }))).toBe(expected('404', gaps));
  });

  it('retention and legal hold: told, changed, lifted', async () => {
    const put = await send('PUT', 'held', { headers: { ...GOVERNANCE, ...HOLD, ...md5('x') }, body: 'x' });
    const versionId = versionOf(put);
    const retention = await send('GET', 'held', { query: { retention: '' } });
    expect([retention.status, xmlText(retention.text, 'Mode')]).toEqual([200, 'GOVERNANCE']);
    const later = `<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>${inTime(7_200_000)}</RetainUntilDate></Retention>`;
    expect(told(await send('PUT', 'held', { query: { retention: '' }, body: later }))).toBe('200');
    expect(xmlTexts((await send('GET', 'held', { query: { 'legal-hold': '' } })).text, 'Status')).toEqual(['ON']);
    const off = '<LegalHold><Status>OFF</Status></LegalHold>';
    expect(told(await send('PUT', 'held', { query: { 'legal-hold': '', versionId }, body: off }))).toBe('200');
    expect(told(await send('DELETE', 'held', { query: { versionId } }))).toBe(locked);
    const headers = { 'x-amz-bypass-governance-retention': 'true' };
    expect(told(await send('DELETE', 'held', { query: { versionId }, headers }))).toBe('204');
    expect(told(await send('GET', 'held', { query: { versionId } }))).toBe('404 NoSuchVersion');
  });

  it('what a form locks is locked', async () => {
    const fields = Object.entries({ key: 'form', ...GOVERNANCE, ...md5('posted'), ...HOLD });
    const sent = await postForm(gateway.raw, bucket, { fields, file: 'posted' });
    expect(told(sent)).toBe('204');
    const versionId = versionOf(sent);
    expect(told(await send('DELETE', 'form', { query: { versionId } }))).toBe(locked);
    expect((await send('GET', 'form', { query: { versionId } })).text).toBe('posted');
  });

  it('an upload in parts is locked from its first moment', async () => {
    const created = await send('POST', 'parts', { query: { uploads: '' }, headers: { ...GOVERNANCE, ...HOLD } });
    const uploadId = xmlText(created.text, 'UploadId');
    const part = await send('PUT', 'parts', { query: { uploadId, partNumber: '1' }, body: 'the only part' });
    const list = `<Part><PartNumber>1</PartNumber><ETag>${part.headers.etag ?? ''}</ETag></Part>`;
    const body = `<CompleteMultipartUpload>${list}</CompleteMultipartUpload>`;
    const completed = await send('POST', 'parts', { query: { uploadId }, body });
    expect(completed.status).toBe(200);
    const versionId = versionOf(await send('HEAD', 'parts'));
    expect((await send('GET', 'parts', { query: { versionId } })).text).toBe('the only part');
    const gaps: Gaps = { radosgw: ['204', 'forgets the lock that CreateMultipartUpload asks for'] };
    const deleted = await send('DELETE', 'parts', { query: { versionId } });
    expect(told(deleted)).toBe(expected(locked, gaps));
  });
});
