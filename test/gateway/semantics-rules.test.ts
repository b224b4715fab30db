import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { codeOf } from '../support/attacker.ts';
import { startGateway, USER, type TestGateway } from '../support/gateway.ts';
import { customerKey } from '../support/modes.ts';
import { s3, xmlTexts, type RawRequest, type RawResponse, type RawStore } from '../support/s3-raw.ts';
import { startStoreProxy, type StoreProxy } from '../support/store-proxy.ts';

/** Rules that are the gateway's own, whatever store is behind it. */
const [store] = inject('stores');
if (store === undefined) throw new Error('the run has no store');

const run = randomBytes(4).toString('hex');
const bucket = `rules-${run}`;
let proxy: StoreProxy;
let gateway: TestGateway;

const allow = (actions: string[], resources: string[], more: object = {}): object => ({
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Action: actions, Resource: resources, ...more }],
});
/** Everybody signs with the secret of the fixture's user; the access key says who. */
const IDENTITIES: Readonly<Record<string, readonly (string | object)[]>> = {
  [USER.accessKeyId]: ['S3FullAccess', 'KMSUser'],
  NOBODY0000000000: [],
  READER0000000000: ['S3ReadOnlyAccess', 'KMSUser'],
  NOKEYS0000000000: ['S3FullAccess'],
  ENCRYPT000000000: ['S3FullAccess', allow(['kms:GenerateDataKey'], ['arn:aws:kms:*:key/*'])],
  // The right on data keys for one tenant, whatever the case in which a client writes the name.
  TENANT0000000000: [
    'S3FullAccess',
    'KMSUser',
    {
      Version: '2012-10-17',
      Statement: [
        {
          Effect: 'Deny',
          Action: ['kms:GenerateDataKey'],
          Resource: ['*'],
          Condition: { StringEquals: { 'kms:EncryptionContext:Tenant': 'other' } },
        },
      ],
    },
  ],
  PREFIX0000000000: [
    allow(['s3:GetObject', 's3:PutObject', 's3:DeleteObject'], [`arn:aws:s3:::${bucket}/mine/*`]),
    allow(['s3:ListBucket'], [`arn:aws:s3:::${bucket}`], { Condition: { StringLike: { 's3:prefix': 'mine/*' } } }),
  ],
};

beforeAll(async () => {
  proxy = await startStoreProxy(store);
  const identities = Object.entries(IDENTITIES).map(([accessKeyId, policies]) => {
    return { name: accessKeyId.toLowerCase(), accessKeyId, secretFile: 'user.secret', plane: 'data', policies };
  });
  const administrator = { name: 'administrator', accessKeyId: 'TESTADMINACCESSKEY', secretFile: 'admin.secret' };
  gateway = await startGateway({
    store: proxy.store,
    tls: true,
    config: {
      identities: [...identities, { ...administrator, plane: 'admin', policies: ['KMSAdministrator'] }],
      data: { region: 'eu-central-1', acceptedRegions: ['us-east-1'] },
    },
  });
  await as(USER.accessKeyId, 'PUT');
  for (const key of ['mine/a', 'yours/a']) await as(USER.accessKeyId, 'PUT', key, { body: 'a body' });
});
afterAll(async () => {
  await gateway.stop();
  await proxy.stop();
});

function as(
  accessKeyId: string,
  method: RawRequest['method'],
  key?: string,
  rest: Partial<RawRequest> = {},
): Promise<RawResponse> {
  const caller: RawStore = { ...gateway.raw, accessKeyId };
  return s3(caller, { method, bucket, ...(key === undefined ? {} : { key }), ...rest });
}

function told(answer: RawResponse): string {
  return `${answer.status} ${codeOf(answer)}`.trim();
}

const me = (method: RawRequest['method'], key?: string, rest: Partial<RawRequest> = {}): Promise<RawResponse> =>
  as(USER.accessKeyId, method, key, rest);

describe('policies', () => {
  const KMS = { headers: { 'x-amz-server-side-encryption': 'aws:kms' } };

  it('default deny, before the store or a key is asked', async () => {
    const answers: RawResponse[] = [];
    const calls = await proxy.callsOf(async () => {
      for (const [method, key] of [
        ['GET', 'mine/a'],
        ['HEAD', 'mine/a'],
        ['PUT', 'mine/a'],
        ['DELETE', 'mine/a'],
        ['GET', undefined],
        ['DELETE', undefined],
        ['GET', 'no/such/key'],
      ] as const) {
        answers.push(await as('NOBODY0000000000', method, key, method === 'PUT' ? { body: 'x' } : {}));
      }
      answers.push(await s3({ ...gateway.raw, accessKeyId: 'NOBODY0000000000' }, { method: 'GET' }));
    });
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([403]));
    expect(calls).toEqual([]);
    expect((await me('GET', 'mine/a')).text).toBe('a body');
  });

  it('a reader reads, and nothing else', async () => {
    expect((await as('READER0000000000', 'GET', 'mine/a')).text).toBe('a body');
    expect(told(await as('READER0000000000', 'PUT', 'mine/a', { body: 'x' }))).toBe('403 AccessDenied');
    expect(told(await as('READER0000000000', 'DELETE', 'mine/a'))).toBe('403 AccessDenied');
    expect(told(await as('READER0000000000', 'PUT', 'mine/a', { query: { tagging: '' }, body: '<Tagging/>' }))).toBe(
      '403 AccessDenied',
    );
  });

  it('a prefix, and no way out of it', async () => {
    const who = 'PREFIX0000000000';
    expect((await as(who, 'GET', 'mine/a')).text).toBe('a body');
    expect(told(await as(who, 'PUT', 'mine/b', { body: 'x' }))).toBe('200');
    for (const key of ['yours/a', 'mine', 'Mine/a', 'minex/a']) {
      expect(told(await as(who, 'GET', key))).toBe('403 AccessDenied');
      expect(told(await as(who, 'PUT', key, { body: 'x' }))).toBe('403 AccessDenied');
    }
    expect(told(await as(who, 'GET', undefined, { query: { 'list-type': '2', prefix: 'mine/' } }))).toBe('200');
    expect(told(await as(who, 'GET', undefined, { query: { 'list-type': '2' } }))).toBe('403 AccessDenied');
    expect(told(await as(who, 'GET', undefined, { query: { 'list-type': '2', prefix: 'yours/' } }))).toBe(
      '403 AccessDenied',
    );
  });

  it('DeleteObjects: a right for each key', async () => {
    const text = '<Delete><Object><Key>mine/b</Key></Object><Object><Key>yours/a</Key></Object></Delete>';
    const answer = await as('PREFIX0000000000', 'POST', undefined, { query: { delete: '' }, body: text });
    expect(answer.status).toBe(200);
    expect(xmlTexts(answer.text, 'Code')).toEqual(['AccessDenied']);
    expect((await me('GET', 'mine/b')).status).toBe(404);
    expect((await me('GET', 'yours/a')).text).toBe('a body');
  });

  it('SSE-KMS needs a right on the key beside the one on the object; SSE-S3 does not', async () => {
    await me('PUT', 'kms', { ...KMS, body: 'a body' });
    expect(told(await as('NOKEYS0000000000', 'GET', 'kms'))).toBe('403 AccessDenied');
    expect(told(await as('NOKEYS0000000000', 'PUT', 'kms', { ...KMS, body: 'x' }))).toBe('403 AccessDenied');
    expect((await as('NOKEYS0000000000', 'GET', 'mine/a')).text).toBe('a body');
    expect(told(await as('ENCRYPT000000000', 'PUT', 'kms', { ...KMS, body: 'by another' }))).toBe('200');
    expect(told(await as('ENCRYPT000000000', 'GET', 'kms'))).toBe('403 AccessDenied');
    expect((await me('GET', 'kms')).text).toBe('by another');
  });

  it('who may use no key cannot try out names of keys', async () => {
    const named = (name: string): Partial<RawRequest> => ({
      headers: { ...KMS.headers, 'x-amz-server-side-encryption-aws-kms-key-id': name },
      body: 'x',
    });
    const arn = 'arn:aws:kms:eu-central-1:000000000000:';
    const byDefault = (who: string, name: string | undefined): Promise<RawResponse> => {
      const key = name === undefined ? '' : `<KMSMasterKeyID>${name}</KMSMasterKeyID>`;
      const rule = `<ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm>${key}</ApplyServerSideEncryptionByDefault>`;
      const body = `<ServerSideEncryptionConfiguration><Rule>${rule}</Rule></ServerSideEncryptionConfiguration>`;
      return as(who, 'PUT', undefined, { query: { encryption: '' }, body });
    };
    const unknown = [
      'nobody',
      'alias/nobody',
      `${arn}key/nobody`,
      `${arn}alias/nobody`,
      'arn:aws:kms:x:1:key/data',
      '//',
    ];
    for (const name of ['data', ...unknown]) {
      expect([name, told(await as('NOKEYS0000000000', 'PUT', 'kms', named(name)))]).toEqual([name, '403 AccessDenied']);
      const create = { ...named(name), query: { uploads: '' }, body: '' };
      expect(told(await as('NOKEYS0000000000', 'POST', 'kms', create))).toBe('403 AccessDenied');
      expect([name, told(await byDefault('NOKEYS0000000000', name))]).toEqual([name, '403 AccessDenied']);
    }
    for (const name of ['nobody', `${arn}key/nobody`]) {
      expect(told(await as('ENCRYPT000000000', 'PUT', 'kms', named(name)))).toBe('400 KMS.NotFoundException');
      expect(told(await byDefault('ENCRYPT000000000', name))).toBe('400 KMS.NotFoundException');
    }
    expect(told(await byDefault('ENCRYPT000000000', 'data'))).toBe('200');
    // Without a name it tells none.
    expect(told(await byDefault('NOKEYS0000000000', undefined))).toBe('200');
    expect(told(await me('DELETE', undefined, { query: { encryption: '' } }))).toBe('204');
  });

  it.each([
    ['{"tenant":"mine"}', '200'],
    ['{"TENANT":"other"}', '403 AccessDenied'],
    ['{"tenant":"mine","Tenant":"other"}', '403 AccessDenied'],
    ['{"Tenant":"other","tenant":"mine"}', '403 AccessDenied'],
  ])('a Deny on a name of the context holds in every case of it: %s', async (context, expected) => {
    const headers = {
      ...KMS.headers,
      'x-amz-server-side-encryption-context': Buffer.from(context).toString('base64'),
    };
    expect(told(await as('TENANT0000000000', 'PUT', 'tenant', { headers, body: 'x' }))).toBe(expected);
  });

  it('an access key of the admin plane, or of nobody, signs nothing here', async () => {
    expect(told(await as('TESTADMINACCESSKEY', 'GET', 'mine/a'))).toBe('403 InvalidAccessKeyId');
    expect(told(await as('UNKNOWN000000000', 'GET', 'mine/a'))).toBe('403 InvalidAccessKeyId');
  });
});

describe('regions', () => {
  const location = (inner: string): string =>
    `<CreateBucketConfiguration><LocationConstraint>${inner}</LocationConstraint></CreateBucketConfiguration>`;

  it("GetBucketLocation and HeadBucket answer the gateway's own; the store's is never relayed", async () => {
    expect(xmlTexts((await me('GET', undefined, { query: { location: '' } })).text, 'LocationConstraint')).toEqual([
      'eu-central-1',
    ]);
    expect((await me('HEAD')).headers['x-amz-bucket-region']).toBe('eu-central-1');
    expect((await me('GET', 'mine/a')).headers['x-amz-bucket-region']).toBeUndefined();
  });

  it.each([
    ['eu-central-1', '200'],
    ['us-west-2', '400 IllegalLocationConstraintException'],
  ])('LocationConstraint %s: %s', async (region, expected) => {
    const answer = await s3(gateway.raw, { method: 'PUT', bucket: `${bucket}-${region}`, body: location(region) });
    expect(told(answer)).toBe(expected);
  });

  it('a scope of another region is refused', async () => {
    const elsewhere = { ...gateway.raw, region: 'ap-south-1' };
    expect((await s3(elsewhere, { method: 'GET', bucket, key: 'mine/a' })).status).toBe(400);
  });
});

describe('what is on no list', () => {
  it.each<[string, RawRequest['method'], string | undefined, Readonly<Record<string, string>>, object?]>([
    ['SelectObjectContent', 'POST', 'mine/a', { select: '', 'select-type': '2' }],
    ['GetObjectTorrent', 'GET', 'mine/a', { torrent: '' }],
    ['RestoreObject', 'POST', 'mine/a', { restore: '' }],
    ['PutBucketReplication', 'PUT', undefined, { replication: '' }],
    ['PutBucketLogging', 'PUT', undefined, { logging: '' }],
    ['an unknown selector', 'GET', 'mine/a', { shred: '' }],
    ['an unknown selector of a bucket', 'PUT', undefined, { shred: '' }],
    ['a known one beside an unknown', 'GET', 'mine/a', { tagging: '', shred: '' }],
    ['an append', 'PUT', 'mine/a', {}, { 'x-amz-write-offset-bytes': '3' }],
    ['a rename', 'PUT', 'mine/a', {}, { 'x-amz-rename-source': '/x/y' }],
  ])('%s is 501 and does not reach the store', async (_title, method, key, query, headers) => {
    const calls = await proxy.callsOf(async () => {
      expect(
        told(await me(method, key, { query, headers: { ...headers }, ...(method === 'GET' ? {} : { body: '' }) })),
      ).toBe('501 NotImplemented');
    });
    expect(calls).toEqual([]);
    expect((await me('GET', 'mine/a')).text).toBe('a body');
  });

  it('a tagging call that brings a customer key leaves it here', async () => {
    const own = customerKey();
    const calls = await proxy.callsOf(() => me('GET', 'mine/a', { query: { tagging: '' }, headers: own }));
    expect(calls).toHaveLength(1);
    for (const value of Object.values(own).filter((text) => text !== 'AES256')) {
      expect(JSON.stringify(calls)).not.toContain(value);
    }
  });
});

describe('what is malformed', () => {
  const xml = '400 MalformedXML';
  it.each<[string, string, string]>([
    ['nothing', '', '400 M'],
    ['no XML', 'delete it all', xml],
    ['another document', '<Tagging/>', xml],
    ['no object', '<Delete/>', xml],
    ['an object without key', '<Delete><Object/></Delete>', xml],
    ['cut off', '<Delete><Object><Key>a', xml],
    ['a DOCTYPE', '<!DOCTYPE d [<!ENTITY k "mine/a">]><Delete><Object><Key>&k;</Key></Object></Delete>', xml],
    ['an unknown entity', '<Delete><Object><Key>&k;</Key></Object></Delete>', xml],
    ['a thousand and one keys', `<Delete>${'<Object><Key>a</Key></Object>'.repeat(1001)}</Delete>`, xml],
    ['very deep', '<a>'.repeat(5000), xml],
    ['bytes that are no UTF-8', Buffer.from([0x3c, 0xff, 0xfe, 0x3e]).toString('latin1'), xml],
  ])('DeleteObjects with %s: 400, and nothing deleted', async (_title, text, expected) => {
    const answer = await me('POST', undefined, { query: { delete: '' }, body: Buffer.from(text, 'latin1') });
    expect(told(answer)).toContain(expected);
    expect((await me('GET', 'mine/a')).text).toBe('a body');
  });

  /** Bytes straight onto the socket; what comes back, or nothing when the connection is closed. */
  function wire(text: string): Promise<string> {
    return new Promise((resolve) => {
      const { hostname, port } = new URL(plain.raw.endpoint);
      const socket = connect(Number(port), hostname, () => socket.write(text, 'latin1'));
      let seen = '';
      socket.setTimeout(5000, () => socket.destroy());
      socket.on('data', (chunk) => (seen += chunk.toString('latin1')));
      socket.on('error', () => undefined);
      socket.on('close', () => resolve(seen));
    });
  }

  let plain: TestGateway;
  beforeAll(async () => {
    plain = await startGateway({ store });
  });
  afterAll(() => plain.stop());

  const HOST = 'Host: x\r\nConnection: close\r\n';
  it.each<[string, string]>([
    ['no authorization', `GET /b/k HTTP/1.1\r\n${HOST}\r\n`],
    ['an authorization that is none', `GET /b/k HTTP/1.1\r\n${HOST}Authorization: AWS4-HMAC-SHA256 =,=;;\r\n\r\n`],
    ['two hosts', `GET /b/k HTTP/1.1\r\n${HOST}Host: y\r\n\r\n`],
    ['a broken percent sign', `GET /b/%zz HTTP/1.1\r\n${HOST}\r\n`],
    ['NUL in the key', `GET /b/a%00b HTTP/1.1\r\n${HOST}\r\n`],
    ['a key that is no UTF-8', `GET /b/%ff%fe HTTP/1.1\r\n${HOST}\r\n`],
    ['an absolute target', `GET http://other/b/k HTTP/1.1\r\n${HOST}\r\n`],
    ['an asterisk', `OPTIONS * HTTP/1.1\r\n${HOST}\r\n`],
    ['a query twice', `GET /b/k?versionId=1&versionId=2 HTTP/1.1\r\n${HOST}\r\n`],
    ['a presigned URL of rubbish', `GET /b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=z HTTP/1.1\r\n${HOST}\r\n`],
    ['a length that is none', `PUT /b/k HTTP/1.1\r\n${HOST}Content-Length: -1\r\n\r\n`],
    [
      'length and chunks',
      `PUT /b/k HTTP/1.1\r\n${HOST}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    ],
    ['a method of its own', `BREW /b/k HTTP/1.1\r\n${HOST}\r\n`],
    ['a method that HTTP knows', `PATCH /b/k HTTP/1.1\r\n${HOST}\r\n`],
    ['no HTTP', 'hello\r\n\r\n'],
  ])('%s: a 4xx or the end of the connection, and the gateway goes on', async (_title, text) => {
    expect(await wire(text)).toMatch(/^(?:HTTP\/1\.1 (?:4\d\d|501) |$)/);
    expect((await me('GET', 'mine/a')).text).toBe('a body');
    expect((await s3(plain.raw, { method: 'GET' })).status).toBe(200);
  });
});
