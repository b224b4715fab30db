import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { codeOf } from '../support/attacker.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { customerKey } from '../support/modes.ts';
import { crc32Base64, s3, xmlText, type RawRequest, type RawResponse } from '../support/s3-raw.ts';

/** Rules that are the gateway's own, whatever store is behind it. */
const [store] = inject('stores');
if (store === undefined) throw new Error('the run has no store');

type Headers = Readonly<Record<string, string>>;
const SSE = 'x-amz-server-side-encryption';
const KMS = { [SSE]: 'aws:kms' };
const KEY = `${SSE}-aws-kms-key-id`;
const own = customerKey();

/** What each row of docs/CONFIGURATION.md, "Compatibility", comes to. */
const EXPECTED = {
  aws: {
    wrongKey: '403 AccessDenied',
    wrongKeyHead: '403',
    noKeyId: '200',
    neverSet: '200',
    complete: '200',
    completeWithChecksum: '400 InvalidRequest',
    keyName: 'arn:aws:kms:us-east-1:000000000000:key/data',
  },
  ceph: {
    wrongKey: '400 InvalidArgument',
    wrongKeyHead: '400',
    noKeyId: '400 InvalidArgument',
    neverSet: '404 ServerSideEncryptionConfigurationNotFoundError',
    complete: '400 InvalidRequest',
    completeWithChecksum: '400 InvalidRequest',
    keyName: 'data',
  },
} as const;

describe.each(['aws', 'ceph'] as const)('compatibility: %s', (profile) => {
  const bucket = `compatibility-${randomBytes(4).toString('hex')}`;
  const expected = EXPECTED[profile];
  let gateway: TestGateway;
  beforeAll(async () => {
    gateway = await startGateway({ store, tls: true, config: { compatibility: profile } });
    expect(told(await send('PUT'))).toBe('200');
  });
  afterAll(() => gateway.stop());

  function told(answer: RawResponse): string {
    return `${answer.status} ${codeOf(answer)}`.trim();
  }
  const send = (method: RawRequest['method'], key?: string, rest: Partial<RawRequest> = {}): Promise<RawResponse> =>
    s3(gateway.raw, { method, bucket, ...(key === undefined ? {} : { key }), ...rest });

  it('a read with a wrong customer key', async () => {
    await send('PUT', 'customer', { headers: own, body: 'mine' });
    expect(told(await send('GET', 'customer', { headers: customerKey() }))).toBe(expected.wrongKey);
    expect(told(await send('HEAD', 'customer', { headers: customerKey() }))).toBe(expected.wrongKeyHead);
    expect((await send('GET', 'customer', { headers: own })).text).toBe('mine');
  });

  it('aws:kms without a key id', async () => {
    expect(told(await send('PUT', 'kms', { headers: KMS, body: 'x' }))).toBe(expected.noKeyId);
    expect(told(await send('POST', 'kms', { headers: KMS, query: { uploads: '' } }))).toBe(expected.noKeyId);
    expect(told(await send('PUT', 'kms', { headers: { ...KMS, [KEY]: 'data' }, body: 'x' }))).toBe('200');
  });

  it('GetBucketEncryption of a bucket that was never set', async () => {
    const query = { encryption: '' };
    expect(told(await send('GET', undefined, { query }))).toBe(expected.neverSet);
    const rule = `<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>`;
    const body = `<ServerSideEncryptionConfiguration>${rule}</ServerSideEncryptionConfiguration>`;
    expect(told(await send('PUT', undefined, { query, body }))).toBe('200');
    expect((await send('GET', undefined, { query })).text).toContain('aws:kms');
    // The bucket's own default may leave the key to the default one, in both.
    expect(told(await send('PUT', 'by-default', { body: 'x' }))).toBe('200');
    expect(told(await send('DELETE', undefined, { query }))).toBe('204');
  });

  it('how a key is named', async () => {
    const put = await send('PUT', 'named', { headers: { ...KMS, [KEY]: 'data' }, body: 'x' });
    const get = await send('GET', 'named');
    const head = await send('HEAD', 'named');
    expect([put, get, head].map(({ headers }) => headers[KEY])).toEqual(Array(3).fill(expected.keyName));
  });

  it.each([
    ['without a checksum', {}, expected.complete],
    ['with one', { 'x-amz-checksum-algorithm': 'CRC32' }, expected.completeWithChecksum],
  ] as const)(
    "Complete of an SSE-C upload without the customer's headers, %s",
    async (title, asked: Headers, right) => {
      const key = `upload ${title}`;
      const uploadId = xmlText(
        (await send('POST', key, { query: { uploads: '' }, headers: { ...own, ...asked } })).text,
        'UploadId',
      );
      const body = Buffer.from('the only part');
      const sum = Object.keys(asked).length === 0 ? '' : crc32Base64(body);
      const part = await send('PUT', key, { query: { uploadId, partNumber: '1' }, headers: own, body });
      const told32 = sum === '' ? '' : `<ChecksumCRC32>${sum}</ChecksumCRC32>`;
      const list = `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>${part.headers.etag ?? ''}</ETag>${told32}</Part></CompleteMultipartUpload>`;
      const complete = (headers: Headers): Promise<RawResponse> =>
        send('POST', key, { query: { uploadId }, headers, body: list });
      expect(told(await complete({}))).toBe(right);
      expect(told(await complete(own))).toBe('200');
      expect((await send('GET', key, { headers: own })).text).toBe('the only part');
    },
  );

  it('SSE-C over plain HTTP is refused in both: only the development setting lets it', async () => {
    for (const [config, right] of [
      [{}, '400 InvalidRequest'],
      [{ development: { allowInsecureSseC: true } }, '200'],
    ] as const) {
      const plain = await startGateway({ store, config: { ...config, compatibility: profile } });
      try {
        const own = { bucket: `${bucket}-${right.slice(0, 3)}` };
        await s3(plain.raw, { method: 'PUT', ...own });
        expect(told(await s3(plain.raw, { method: 'PUT', ...own, key: 'k', headers: customerKey(), body: 'x' }))).toBe(
          right,
        );
      } finally {
        await plain.stop();
      }
    }
  });
});

describe('blockedEncryptionTypes', () => {
  it('new buckets block SSE-C: PUT and Create are 403, until PutBucketEncryption says NONE', async () => {
    const gateway = await startGateway({
      store,
      tls: true,
      config: { blockedEncryptionTypes: ['SSE-C'] },
    });
    const bucket = `blocked-${randomBytes(4).toString('hex')}`;
    const told = (answer: RawResponse): string => `${answer.status} ${codeOf(answer)}`.trim();
    const send = (method: RawRequest['method'], rest: Partial<RawRequest>): Promise<RawResponse> =>
      s3(gateway.raw, { method, bucket, ...rest });
    const garbage = { [`${SSE}-customer-key`]: 'not a key' };
    try {
      await send('PUT', {});
      const { text } = await send('GET', { query: { encryption: '' } });
      expect([xmlText(text, 'SSEAlgorithm'), xmlText(text, 'EncryptionType')]).toEqual(['AES256', 'SSE-C']);
      for (const headers of [own, garbage]) {
        expect(told(await send('PUT', { key: 'k', headers, body: 'x' }))).toBe('403 AccessDenied');
        expect(told(await send('POST', { key: 'k', headers, query: { uploads: '' } }))).toBe('403 AccessDenied');
      }
      expect(told(await send('PUT', { key: 'k', headers: { [SSE]: 'AES256' }, body: 'x' }))).toBe('200');
      // A default that is taken away unblocks nothing.
      expect(told(await send('DELETE', { query: { encryption: '' } }))).toBe('204');
      expect(told(await send('PUT', { key: 'k', headers: own, body: 'x' }))).toBe('403 AccessDenied');
      const none = '<BlockedEncryptionTypes><EncryptionType>NONE</EncryptionType></BlockedEncryptionTypes>';
      const body = `<ServerSideEncryptionConfiguration><Rule>${none}</Rule></ServerSideEncryptionConfiguration>`;
      expect(told(await send('PUT', { query: { encryption: '' }, body }))).toBe('200');
      expect(told(await send('PUT', { key: 'k', headers: own, body: 'x' }))).toBe('200');
      expect(told(await send('POST', { key: 'k', headers: own, query: { uploads: '' } }))).toBe('200');
    } finally {
      await gateway.stop();
    }
  });
});
