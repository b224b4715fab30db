import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { codeOf, flipped } from '../support/attacker.ts';
import { ADMIN, startGateway, USER, type TestGateway } from '../support/gateway.ts';
import { customerKey } from '../support/modes.ts';
import { RawUpload, type Listed } from '../support/multipart.ts';
import { crc32Base64, s3, xmlText, type RawResponse } from '../support/s3-raw.ts';
import { startStoreProxy, type StoreProxy } from '../support/store-proxy.ts';

const MIB = 1024 ** 2;
const bucket = `complete-${randomBytes(4).toString('hex')}`;
const refusals = `refusals-${randomBytes(4).toString('hex')}`;
const SSE = 'x-amz-server-side-encryption';
const context = (text: string): string => Buffer.from(text).toString('base64');
const OWN = customerKey();

const CRC = { 'x-amz-checksum-algorithm': 'CRC32', 'x-amz-checksum-type': 'FULL_OBJECT' };
const NO_DECRYPT = 'NODECRYPTACCESSKEY';
const user = { secretFile: 'user.secret', plane: 'data' };
const rights = (Action: string, Resource: string) => ({ Effect: 'Allow', Action, Resource });
const sealsOnly = {
  Version: '2012-10-17',
  Statement: [rights('s3:*', 'arn:aws:s3:::*'), rights('kms:GenerateDataKey', 'arn:aws:kms:*:*:key/*')],
};
const identities = [
  { ...user, name: 'user', accessKeyId: USER.accessKeyId, policies: ['S3FullAccess', 'KMSUser'] },
  { ...user, name: 'seals-only', accessKeyId: NO_DECRYPT, policies: [sealsOnly] },
  {
    name: 'administrator',
    accessKeyId: ADMIN.accessKeyId,
    secretFile: 'admin.secret',
    plane: 'admin',
    policies: ['KMSAdministrator'],
  },
];

describe.each(inject('stores'))('over $name', (store) => {
  let gateway: TestGateway;
  beforeAll(async () => {
    gateway = await startGateway({ store, config: { development: { allowInsecureSseC: true }, identities } });
    await s3(gateway.raw, { method: 'PUT', bucket });
  }, 60_000);
  afterAll(() => gateway.stop());

  const create = (key: string, headers = {}): Promise<RawUpload> => RawUpload.create(gateway.raw, bucket, key, headers);
  const outcome = (answer: RawResponse): string => `${answer.status} ${codeOf(answer)}`.trim();

  it.each<[string, Record<string, string>, Record<string, string>, string]>([
    ['SSE-S3 as it was', {}, { [SSE]: 'AES256' }, '200'],
    ['aws:kms for SSE-S3', {}, { [SSE]: 'aws:kms' }, '400 InvalidRequest'],
    ['a bucket key for SSE-S3', {}, { [`${SSE}-bucket-key-enabled`]: 'true' }, '400 InvalidRequest'],
    ['a customer key for SSE-S3', {}, OWN, '400 InvalidRequest'],
    ['an unknown method', {}, { [SSE]: 'rot13' }, '400 InvalidArgument'],
    [
      'SSE-KMS with its key and context',
      { [SSE]: 'aws:kms', [`${SSE}-context`]: context('{"a":"b"}') },
      { [SSE]: 'aws:kms', [`${SSE}-aws-kms-key-id`]: 'data', [`${SSE}-context`]: context('{"a":"b"}') },
      '200',
    ],
    ['AES256 for SSE-KMS', { [SSE]: 'aws:kms' }, { [SSE]: 'AES256' }, '400 InvalidRequest'],
    [
      'another context',
      { [SSE]: 'aws:kms', [`${SSE}-context`]: context('{"a":"b"}') },
      { [SSE]: 'aws:kms', [`${SSE}-context`]: context('{"a":"c"}') },
      '400 InvalidRequest',
    ],
    [
      'another key',
      { [SSE]: 'aws:kms' },
      { [SSE]: 'aws:kms', [`${SSE}-aws-kms-key-id`]: 'nobody' },
      '400 InvalidRequest',
    ],
    ['SSE-C with its key', OWN, OWN, '200'],
    ['SSE-C with another key', OWN, customerKey(), '400 InvalidRequest'],
    ['AES256 for SSE-C', OWN, { [SSE]: 'AES256' }, '400 InvalidRequest'],
  ])('SSE headers on Complete: %s', async (name, atCreate, atComplete, wanted) => {
    const upload = await create(`sse/${name}`, atCreate);
    const part = await upload.part(
      1,
      randomBytes(10),
      'x-amz-server-side-encryption-customer-key' in atCreate ? OWN : {},
    );
    expect(outcome(await upload.complete([part], atComplete))).toBe(wanted);
    if (wanted !== '200') expect((await upload.complete([part])).status).toBe(200);
  });

  it.each<[string, Record<string, string>, string]>([
    ['SSE-KMS and a checksum', { [SSE]: 'aws:kms', ...CRC }, '403 AccessDenied'],
    ['SSE-KMS', { [SSE]: 'aws:kms' }, '200'],
    ['SSE-S3 and a checksum', CRC, '200'],
  ])('Complete of %s by who may not decrypt', async (name, atCreate, wanted) => {
    const upload = await create(`right/${name}`, atCreate);
    const part = await upload.part(1, randomBytes(10));
    const byOther = upload.through({ ...gateway.raw, accessKeyId: NO_DECRYPT });
    expect(outcome(await byOther.complete([part]))).toBe(wanted);
  });

  it('a composite checksum wants each part’s in the list, the right one, and is verified as a whole', async () => {
    const upload = await create('composite', { 'x-amz-checksum-algorithm': 'SHA256' });
    const bodies = [randomBytes(5 * MIB), randomBytes(100)];
    const sums = bodies.map((body) => createHash('sha256').update(body).digest());
    const parts = [
      await upload.part(1, bodies[0] ?? Buffer.alloc(0)),
      await upload.part(2, bodies[1] ?? Buffer.alloc(0)),
    ];
    const listed = (name: string, texts: readonly (string | undefined)[]): Listed[] =>
      parts.map((part, i) => {
        const text = texts[i];
        return text === undefined ? part : { ...part, checksum: [name, text] };
      });
    const texts = sums.map((sum) => sum.toString('base64'));
    const missing = await upload.complete(listed('ChecksumSHA256', [texts[0], undefined]));
    expect([outcome(missing), xmlText(missing.text, 'Message')]).toEqual([
      '400 InvalidRequest',
      'The upload was created using a sha256 checksum. The complete request must include the checksum for each part. It was missing for part 2 in the request.',
    ]);
    expect(outcome(await upload.complete(listed('ChecksumSHA256', [texts[0], texts[0]])))).toBe('400 InvalidPart');
    expect(outcome(await upload.complete(listed('ChecksumCRC32', ['AAAAAA==', 'AAAAAA=='])))).toBe(
      '400 InvalidRequest',
    );
    const whole = `${createHash('sha256').update(Buffer.concat(sums)).digest('base64')}-2`;
    const right = listed('ChecksumSHA256', texts);
    const wrong = { 'x-amz-checksum-sha256': createHash('sha256').digest('base64') };
    expect(outcome(await upload.complete(right, wrong))).toBe('400 BadDigest');
    const size = String(5 * MIB + 100);
    expect(outcome(await upload.complete(right, { 'x-amz-mp-object-size': '7' }))).toBe('400 InvalidRequest');
    const done = await upload.complete(right, { 'x-amz-checksum-sha256': whole, 'x-amz-mp-object-size': size });
    expect([done.status, xmlText(done.text, 'ChecksumSHA256'), xmlText(done.text, 'ChecksumType')]).toEqual([
      200,
      whole,
      'COMPOSITE',
    ]);
  });

  it('a checksum of a part that nobody has sent is no part’s', async () => {
    const upload = await create('undeclared');
    const part = await upload.part(1, randomBytes(10));
    const claimed = [{ ...part, checksum: ['ChecksumCRC32', 'AAAAAA=='] as const }];
    expect(outcome(await upload.complete(claimed))).toBe('400 InvalidPart');
  });

  it('Complete again has the whole answer: ETag, encryption, checksum', async () => {
    const headers = { [SSE]: 'aws:kms', 'x-amz-checksum-algorithm': 'CRC32', 'x-amz-checksum-type': 'FULL_OBJECT' };
    const upload = await create('again', headers);
    const body = randomBytes(1000);
    const part = await upload.part(1, body);
    const answers = [await upload.complete([part]), await upload.complete([part])];
    const told = answers.map(({ status, headers: all, text }) => [
      status,
      all[SSE],
      all[`${SSE}-aws-kms-key-id`],
      xmlText(text, 'ETag'),
      xmlText(text, 'ChecksumCRC32'),
      xmlText(text, 'ChecksumType'),
    ]);
    expect(told[0]).toEqual([
      200,
      'aws:kms',
      expect.stringContaining('/data'),
      expect.any(String),
      crc32Base64(body),
      'FULL_OBJECT',
    ]);
    expect(told[1]).toEqual(told[0]);
  });
});

describe('what the store answers to its Complete', () => {
  const [store] = inject('stores');
  if (store === undefined) throw new Error('no store');
  let gateway: TestGateway;
  let proxy: StoreProxy;
  beforeAll(async () => {
    proxy = await startStoreProxy(store);
    gateway = await startGateway({ store: { ...store, ...proxy.store } });
    await s3(gateway.raw, { method: 'PUT', bucket: refusals });
  }, 60_000);
  afterAll(async () => {
    await gateway.stop();
    await proxy.stop();
  });

  it.each([
    [400, 'InvalidPart', '400 InvalidPart'],
    [400, 'EntityTooSmall', '400 InvalidPart'],
    [400, 'SomethingElse', '400 InvalidRequest'],
    [400, 'MalformedXML', '400 MalformedXML'],
    [403, 'AccessDenied', '403 AccessDenied'],
    [412, 'PreconditionFailed', '412 PreconditionFailed'],
    // OpenStack Swift, of If-None-Match.
    [412, 'InvalidRequest', '412 PreconditionFailed'],
    [418, 'Teapot', '500 InternalError'],
    [200, 'PreconditionFailed', '412 PreconditionFailed'],
    [200, 'InternalError', '503 ServiceUnavailable'],
  ])('%i %s is told as %s, and the upload stays', async (status, code, wanted) => {
    const upload = await RawUpload.create(gateway.raw, refusals, `answer/${status}/${code}`);
    const part = await upload.part(1, randomBytes(10));
    const body = Buffer.from(`<Error><Code>${code}</Code></Error>`);
    const headers = { 'content-type': 'application/xml', 'content-length': body.length };
    const answer = await proxy.refusing(
      ({ method, target }) =>
        method === 'POST' && target.includes('uploadId=') ? { status, headers, body } : undefined,
      () => upload.complete([part]),
    );
    expect(`${answer.status} ${codeOf(answer)}`).toBe(wanted);
    expect((await upload.complete([part])).status).toBe(200);
  });

  it.each<[string, (quoted: string) => string]>([
    ['in quotes', (quoted) => quoted],
    // radosgw, to the second of two at once.
    ['without quotes', (quoted) => quoted.replaceAll(/&#34;|&quot;|"/g, '')],
    // radosgw, to the first.
    ['not at all', () => ''],
  ])('gives the ETag %s: it is told as the object has it', async (name, change) => {
    const key = `etag-${name}`;
    const upload = await RawUpload.create(gateway.raw, refusals, key);
    const part = await upload.part(1, randomBytes(10));
    const answer = await proxy.lying(
      ({ method, target }, real) => {
        if (method !== 'POST' || !target.includes('uploadId=')) return real;
        const text = real.body.toString().replace(/(?<=<ETag>).*(?=<\/ETag>)/, change);
        const headers = { ...real.headers, 'content-length': Buffer.byteLength(text) };
        return { ...real, headers, body: Buffer.from(text) };
      },
      () => upload.complete([part]),
    );
    const { headers } = await s3(gateway.raw, { method: 'HEAD', bucket: refusals, key });
    expect(headers.etag).toMatch(/^"[^"]+"$/);
    const again = await upload.complete([part]);
    expect([answer, again].map(({ text }) => xmlText(text, 'ETag'))).toEqual([headers.etag, headers.etag]);
  });

  it('what it has made of the parts is looked at before success is told', async () => {
    const upload = await RawUpload.create(gateway.raw, refusals, 'read-back');
    const part = await upload.part(1, randomBytes(10));
    const answer = await proxy.lying(
      ({ method, target, headers }, real) =>
        method === 'GET' && target.includes('read-back') && headers.range !== undefined
          ? { ...real, body: flipped(real.body, -700) }
          : real,
      () => upload.complete([part]),
    );
    expect(`${answer.status} ${codeOf(answer)}`).toBe('503 ServiceUnavailable');
  });
});
