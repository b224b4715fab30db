import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { codeOf } from '../support/attacker.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { s3, withTrailer, xmlText, xmlTexts, type RawRequest, type RawResponse } from '../support/s3-raw.ts';
import { startStoreProxy, type StoreProxy } from '../support/store-proxy.ts';

const TAGS = '<Tagging><TagSet><Tag><Key>colour</Key><Value>blue</Value></Tag></TagSet></Tagging>';
const [first] = inject('stores');
if (first === undefined) throw new Error('the run has no store');

function told(answer: RawResponse): string {
  return `${answer.status} ${codeOf(answer)}`.trim();
}

describe('what is forwarded, whatever store is behind', () => {
  const bucket = `forwarded-${randomBytes(4).toString('hex')}`;
  let proxy: StoreProxy;
  let gateway: TestGateway;
  const send = (method: RawRequest['method'], key?: string, rest: Partial<RawRequest> = {}): Promise<RawResponse> =>
    s3(gateway.raw, { method, bucket, ...(key === undefined ? {} : { key }), ...rest });

  beforeAll(async () => {
    proxy = await startStoreProxy(first);
    gateway = await startGateway({ store: proxy.store });
    await send('PUT');
    await send('PUT', 'k', { body: 'x' });
  });
  afterAll(async () => {
    await gateway.stop();
    await proxy.stop();
  });

  it('a small body is decoded, verified, and sent with a Content-MD5 of our own', async () => {
    const calls = await proxy.callsOf(async () => {
      const framed = withTrailer(Buffer.from(TAGS));
      expect(told(await send('PUT', 'k', { ...framed, query: { tagging: '' } }))).toBe('200');
    });
    expect(calls).toHaveLength(1);
    const headers = calls[0]?.headers ?? {};
    expect(headers['content-md5']).toBe(createHash('md5').update(TAGS).digest('base64'));
    expect([headers['content-length'], headers['content-encoding']]).toEqual([String(TAGS.length), undefined]);
    expect(xmlTexts((await send('GET', 'k', { query: { tagging: '' } })).text, 'Value')).toEqual(['blue']);
  });

  it.each<[string, Partial<RawRequest>, string]>([
    ['a wrong trailer', withTrailer(Buffer.from(TAGS), 'AAAAAA=='), '400 BadDigest'],
    ['a wrong Content-MD5', { body: TAGS, headers: { 'content-md5': `${'A'.repeat(22)}==` } }, '400 BadDigest'],
    ['a wrong checksum', { body: TAGS, headers: { 'x-amz-checksum-crc32': 'AAAAAA==' } }, '400 BadDigest'],
    ['another digest', { body: TAGS, payload: '0'.repeat(64) }, '400 XAmzContentSHA256Mismatch'],
    ['a body without end', { body: 'x'.repeat(1024 * 1024 + 1) }, '400 MaxMessageLengthExceeded'],
  ])('%s does not reach the store', async (_title, request, expected) => {
    const calls = await proxy.callsOf(async () => {
      expect(told(await send('PUT', 'k', { ...request, query: { tagging: '' } }))).toBe(expected);
    });
    expect(calls).toEqual([]);
  });

  it("nothing of the store's own passes with an answer", async () => {
    const leak = {
      server: 'SecretStore/1.0',
      'x-amz-bucket-region': 'store-region',
      'x-amz-server-side-encryption': 'aws:kms',
      'x-amz-server-side-encryption-aws-kms-key-id': 'the-stores-key',
      'x-amz-checksum-crc32': 'AAAAAA==',
      'x-amz-id-2': 'host-42.internal',
      'x-amz-tagging-a': 'b',
      'set-cookie': 'a=b',
      location: 'http://host-42.internal/',
    };
    const operations: readonly (readonly [RawRequest['method'], string | undefined, Partial<RawRequest>])[] = [
      ['GET', 'k', { query: { tagging: '' } }],
      ['PUT', 'k', { query: { tagging: '' }, body: TAGS }],
      ['GET', undefined, { query: { versioning: '' } }],
      ['GET', 'k', {}],
      ['HEAD', 'k', {}],
      ['GET', 'k', { query: { attributes: '' }, headers: { 'x-amz-object-attributes': 'ETag,Checksum' } }],
      ['PUT', 'other', { body: 'x' }],
      ['DELETE', 'other', {}],
      ['GET', undefined, { query: { 'list-type': '2' } }],
    ];
    for (const [method, key, rest] of operations) {
      const lie = proxy.lying(
        (_call, answer) => ({ ...answer, headers: { ...answer.headers, ...leak } }),
        () => send(method, key, rest),
      );
      const { status, headers } = await lie;
      expect(status).toBeLessThan(300);
      for (const [name, value] of Object.entries(leak)) {
        expect([method, name, headers[name]]).not.toEqual([method, name, value]);
      }
    }
  });

  it('an answer that says it is a page is none', async () => {
    const page = { status: 200, headers: { 'content-type': 'text/html' }, body: Buffer.from('<script/>') };
    const answer = await proxy.lying(
      () => page,
      () => send('GET', 'k', { query: { tagging: '' } }),
    );
    expect(answer.headers['content-type']).toBe('application/xml');
  });

  it.each([
    [400, 'MalformedXML', '400 MalformedXML'],
    [400, 'InvalidTag', '400 InvalidTag'],
    [400, 'XSecretStoreError', '400 InvalidRequest'],
    [403, 'AccessDenied', '403 AccessDenied'],
    [404, 'NoSuchTagSet', '404 NoSuchTagSet'],
    [404, 'NoSuchSecret', '404 NoSuchKey'],
    [500, 'InternalError', '503 ServiceUnavailable'],
  ])('%i %s of the store, in our words', async (status, code, expected) => {
    const text = `<Error><Code>${code}</Code><Message>host-42.internal says no</Message><HostId>host-42</HostId></Error>`;
    const refusal = { status, headers: { 'content-type': 'application/xml' }, body: Buffer.from(text) };
    for (const [method, key, query] of [
      ['GET', 'k', { tagging: '' }],
      ['GET', 'k', {}],
    ] as const) {
      const answer = await proxy.lying(
        () => refusal,
        () => send(method, key, { query }),
      );
      expect(told(answer)).toBe(expected);
      expect(answer.text).not.toContain('host-42');
      expect([xmlText(answer.text, 'Resource'), xmlText(answer.text, 'RequestId')]).toEqual([
        `/${bucket}/k`,
        answer.headers['x-amz-request-id'],
      ]);
    }
  });
});
