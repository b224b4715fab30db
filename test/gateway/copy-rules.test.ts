import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { Attacker, codeOf, flipped } from '../support/attacker.ts';
import { startGateway, USER, type TestGateway } from '../support/gateway.ts';
import { customerKey } from '../support/modes.ts';
import { crc32Base64, s3, xmlText, type RawRequest, type RawResponse } from '../support/s3-raw.ts';
import { startStoreProxy, type StoreProxy } from '../support/store-proxy.ts';

type Headers = Readonly<Record<string, string>>;

const MIB = 1024 ** 2;
const SSE = 'x-amz-server-side-encryption';
const COPY = 'x-amz-copy-source';
const S3 = { [SSE]: 'AES256' };
const KMS = { [SSE]: 'aws:kms' };
const [oldKey, newKey] = [customerKey(), customerKey()];
const REPLACE = { 'x-amz-metadata-directive': 'REPLACE' };
const PAST = 'Tue, 01 Jan 2019 00:00:00 GMT';

function forSource(headers: Headers): Headers {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name.replace('x-amz-', `${COPY}-`), value]),
  );
}

const allow = (Action: string[], Resource: string) => ({ Effect: 'Allow', Action, Resource });
const policy = (...Statement: object[]) => ({ Version: '2012-10-17', Statement });
const KEYS = (...actions: string[]) => allow(actions, 'arn:aws:kms:*:*:key/*');

/** Each lacks one right of a copy from `private/` to `open/`. */
const IDENTITIES = {
  NOSOURCEACCESSKEY: policy(allow(['s3:PutObject', 's3:GetObject'], 'arn:aws:s3:::*/open/*'), KEYS('kms:*')),
  NOVERSIONACCESSKEY: policy(allow(['s3:PutObject', 's3:GetObject'], 'arn:aws:s3:::*'), KEYS('kms:*')),
  NODECRYPTACCESSKEY: policy(allow(['s3:*'], 'arn:aws:s3:::*'), KEYS('kms:GenerateDataKey')),
  NOENCRYPTACCESSKEY: policy(allow(['s3:*'], 'arn:aws:s3:::*'), KEYS('kms:Decrypt')),
  NOTARGETACCESSKEY: policy(allow(['s3:GetObject'], 'arn:aws:s3:::*'), KEYS('kms:*')),
  NOUPDATEACCESSKEY: policy(allow(['s3:PutObject', 's3:GetObject'], 'arn:aws:s3:::*'), KEYS('kms:*')),
};
const identities = [
  {
    name: 'user',
    accessKeyId: USER.accessKeyId,
    secretFile: 'user.secret',
    plane: 'data',
    policies: ['S3FullAccess', 'KMSUser'],
  },
  {
    name: 'administrator',
    accessKeyId: 'TESTADMINACCESSKEY',
    secretFile: 'admin.secret',
    plane: 'admin',
    policies: ['KMSAdministrator'],
  },
  ...Object.entries(IDENTITIES).map(([accessKeyId, document]) => ({
    name: accessKeyId.toLowerCase(),
    accessKeyId,
    secretFile: 'user.secret',
    plane: 'data',
    policies: [document],
  })),
];

describe.each(inject('stores'))('the rules of copies over $name', (store) => {
  let gateway: TestGateway;
  let proxy: StoreProxy;
  let attacker: Attacker;
  const bucket = `rules-${randomBytes(4).toString('hex')}`;
  const body = randomBytes(3 * MIB + 17);
  const honoursIfMatch = store.name !== 'radosgw';

  const send = (method: RawRequest['method'], key: string, more: Partial<RawRequest> = {}): Promise<RawResponse> =>
    s3(gateway.raw, { method, bucket, key, ...more });
  const put = (key: string, headers: Headers = {}, of: Buffer = body): Promise<RawResponse> =>
    send('PUT', key, { headers, body: of });
  const copy = (from: string, to: string, headers: Headers = {}): Promise<RawResponse> =>
    send('PUT', to, { headers: { [COPY]: `/${bucket}/${from}`, ...headers } });
  const told = (answer: RawResponse): string => `${answer.status} ${codeOf(answer)}`.trim();

  beforeAll(async () => {
    proxy = await startStoreProxy(store);
    attacker = new Attacker(store);
    gateway = await startGateway({
      store: { ...store, endpoint: proxy.store.endpoint },
      config: {
        development: { allowInsecureSseC: true },
        data: { slowReplySeconds: 1 },
        store: { largestCopy: 5 * MIB },
        identities,
      },
    });
    expect((await s3(gateway.raw, { method: 'PUT', bucket })).status).toBe(200);
    for (const [name, sse] of Object.entries({ s3: S3, kms: KMS, c: oldKey })) {
      expect((await put(`private/${name}`, sse)).status).toBe(200);
    }
    expect((await put('private/small', S3, body.subarray(0, 5000))).status).toBe(200);
  }, 60_000);
  afterAll(async () => {
    await gateway.stop();
    await proxy.stop();
  });

  it.each([
    ['private/s3', KMS, false],
    ['private/kms', S3, false],
    ['private/c', { ...KMS, ...forSource(oldKey) }, false],
    ['private/c', { ...newKey, ...forSource(oldKey) }, false],
    ['private/kms', newKey, true],
  ] as const)('of %s under %j: data moves %s', async (from, headers, moves) => {
    const bytes = await proxy.bytesOf(async () => expect(told(await copy(from, 'open/moved', headers))).toBe('200'));
    expect(moves ? bytes > body.length : bytes < 64 * 1024, String(bytes)).toBe(true);
  });

  it('a customer key is changed in place, moves no data, and is in no request to the store', async () => {
    await put('open/rotated', oldKey);
    const calls = await proxy.callsOf(async () => {
      const bytes = await proxy.bytesOf(async () => {
        expect(told(await copy('open/rotated', 'open/rotated', { ...newKey, ...forSource(oldKey) }))).toBe('200');
      });
      expect(bytes).toBeLessThan(64 * 1024);
    });
    const sent = JSON.stringify(calls);
    expect(calls.length).toBeGreaterThan(1);
    for (const value of [...Object.values(oldKey), ...Object.values(newKey)].filter((text) => text.length > 20)) {
      expect(sent.includes(value)).toBe(false);
    }
    expect((await send('GET', 'open/rotated', { headers: oldKey })).status).toBe(403);
    expect((await send('GET', 'open/rotated', { headers: newKey })).body.equals(body)).toBe(true);
  });

  it('above the largest copy of the store: the same sealed bytes in parts', async () => {
    const large = randomBytes(11 * MIB);
    await put('open/large', S3, large);
    const bytes = await proxy.bytesOf(async () => {
      expect(told(await copy('open/large', 'open/larger', KMS))).toBe('200');
    });
    expect(bytes).toBeLessThan(64 * 1024);
    const [source, target] = [await attacker.take(bucket, 'open/large'), await attacker.take(bucket, 'open/larger')];
    expect(target.body.equals(source.body)).toBe(true);
    expect(target.headers).not.toEqual(source.headers);
    expect((await send('GET', 'open/larger')).body.equals(large)).toBe(true);
  });

  it.each<[string, string, Headers, string, string]>([
    ['nothing of itself changed', 'private/s3', {}, 'private/s3', '400 InvalidRequest'],
    ['its metadata replaced', 'private/s3', REPLACE, 'private/s3', '200'],
    ['its mode said', 'private/s3', S3, 'private/s3', '200'],
    ['an unknown directive', 'private/s3', { 'x-amz-metadata-directive': 'KEEP' }, 'open/x', '400 InvalidArgument'],
    ['no such key', 'private/none', {}, 'open/x', '404 NoSuchKey'],
    ['no key for SSE-C', 'private/c', {}, 'open/x', '400 InvalidRequest'],
    ['another key for SSE-C', 'private/c', forSource(newKey), 'open/x', '403 AccessDenied'],
    ['a key for SSE-KMS', 'private/kms', forSource(oldKey), 'open/x', '400 InvalidRequest'],
    ['If-Match of another', 'private/s3', { [`${COPY}-if-match`]: '"0-01"' }, 'open/x', '412 PreconditionFailed'],
    ['If-None-Match of all', 'private/s3', { [`${COPY}-if-none-match`]: '*' }, 'open/x', '412 PreconditionFailed'],
    [
      'modified since, not',
      'private/s3',
      { [`${COPY}-if-unmodified-since`]: PAST },
      'open/x',
      '412 PreconditionFailed',
    ],
    ['modified since, yes', 'private/s3', { [`${COPY}-if-modified-since`]: PAST }, 'open/x', '200'],
    ['a target that is there', 'private/small', { 'if-none-match': '*' }, 'private/kms', '412 PreconditionFailed'],
    ['a target that is not', 'private/small', { 'if-none-match': '*' }, 'open/fresh', '200'],
    ['a checksum that is new', 'private/s3', { 'x-amz-checksum-algorithm': 'CRC32' }, 'open/sum', '200'],
  ])('%s', async (_, from, headers, to, outcome) => {
    const answer = await copy(from, to, headers);
    expect(told(answer)).toBe(outcome);
    if (headers['x-amz-checksum-algorithm'] !== undefined) {
      expect(xmlText(answer.text, 'ChecksumCRC32')).toBe(crc32Base64(body));
    }
  });

  it('the ETags that clients know are the ones that conditions compare', async () => {
    const { etag = '' } = (await send('HEAD', 'private/s3')).headers;
    expect(told(await copy('private/s3', 'open/etag', { [`${COPY}-if-match`]: etag }))).toBe('200');
    expect(told(await copy('private/s3', 'open/etag', { [`${COPY}-if-none-match`]: etag }))).toBe(
      '412 PreconditionFailed',
    );
    const target = (await send('HEAD', 'open/etag')).headers.etag ?? '';
    const matching = told(await copy('private/small', 'open/etag', { 'if-match': target }));
    const other = told(await copy('private/small', 'open/etag', { 'if-match': '"0-01"' }));
    expect([matching, other]).toEqual(
      honoursIfMatch ? ['200', '412 PreconditionFailed'] : ['501 NotImplemented', '501 NotImplemented'],
    );
  });

  it.each<[string, string, string]>([
    ['NOSOURCEACCESSKEY', 'private/kms', '403 AccessDenied'],
    ['NOVERSIONACCESSKEY', 'private/kms?versionId=null', '403 AccessDenied'],
    ['NOVERSIONACCESSKEY', 'private/kms', '200'],
    ['NODECRYPTACCESSKEY', 'private/kms', '403 AccessDenied'],
    ['NODECRYPTACCESSKEY', 'private/s3', '200'],
    ['NOENCRYPTACCESSKEY', 'private/kms', '403 AccessDenied'],
    ['NOTARGETACCESSKEY', 'private/kms', '403 AccessDenied'],
  ])('%s of %s is %s', async (accessKeyId, from, outcome) => {
    const headers = { [COPY]: `/${bucket}/${from}`, ...KMS };
    const as = { ...gateway.raw, accessKeyId };
    expect(told(await s3(as, { method: 'PUT', bucket, key: 'open/right', headers }))).toBe(outcome);
    const key = 'open/right in parts';
    const uploadId = xmlText((await send('POST', key, { query: { uploads: '' } })).text, 'UploadId');
    const part = { method: 'PUT', bucket, key, query: { uploadId, partNumber: '1' } } as const;
    const made = await s3(as, { ...part, headers: { [COPY]: `/${bucket}/${from}` } });
    // No data key is made for a part.
    expect(told(made)).toBe(accessKeyId === 'NOENCRYPTACCESSKEY' ? '200' : outcome);
    expect(told(await send('DELETE', key, { query: { uploadId } }))).toBe('204');
  });

  it('tags are copied only for who may read and write them', async () => {
    await put('private/tagged', { 'x-amz-tagging': 'a=b' });
    const as = { ...gateway.raw, accessKeyId: 'NOVERSIONACCESSKEY' };
    const headers = { [COPY]: `/${bucket}/private/tagged` };
    const request = { method: 'PUT', bucket, key: 'open/tagged' } as const;
    expect(told(await s3(as, { ...request, headers }))).toBe('403 AccessDenied');
    expect(told(await s3(as, { ...request, headers: { ...headers, 'x-amz-tagging-directive': 'REPLACE' } }))).toBe(
      '200',
    );
  });

  it('what was exchanged at the store is not copied, and what was spoilt opens nowhere', async () => {
    await put('open/mine', KMS, randomBytes(5000));
    await put('open/kept', KMS, randomBytes(50));
    await attacker.plant(bucket, 'open/planted', await attacker.take(bucket, 'private/kms'));
    expect(told(await copy('open/planted', 'open/kept', S3))).toBe('500 InternalError');
    const loot = await attacker.take(bucket, 'open/mine');
    await attacker.plant(bucket, 'open/mine', { ...loot, body: flipped(loot.body, 200) });
    // Sealed anew it is opened first.
    expect(told(await copy('open/mine', 'open/kept', newKey))).toBe('500 InternalError');
    expect((await send('GET', 'open/kept')).status).toBe(200);
    await attacker.plant(bucket, 'open/mine', { ...loot, body: loot.body.subarray(0, -1) });
    expect(told(await copy('open/mine', 'open/kept', S3))).toBe('500 InternalError');
    await attacker.plant(bucket, 'open/mine', { ...loot, headers: { ...loot.headers, 'content-type': 'text/html' } });
    expect(told(await copy('open/mine', 'open/kept', S3))).toBe('500 InternalError');
    expect((await send('GET', 'open/kept')).status).toBe(200);
  });

  it('a slow copy is 200 and white space, and its error is in the body', async () => {
    const isCopy = ({ headers }: { headers: object }): boolean => COPY in headers;
    const late = await proxy.delaying(isCopy, 2_500, () => copy('private/s3', 'open/late', KMS));
    expect([late.status, late.headers['content-length']]).toEqual([200, undefined]);
    expect(late.text).toMatch(/^<\?xml[^>]*>\n\s*<CopyObjectResult/);
    expect((await send('GET', 'open/late')).body.equals(body)).toBe(true);
    const failing = await proxy.lying(
      (call, answer) => (isCopy(call) ? { ...answer, status: 403, body: Buffer.alloc(0) } : answer),
      () => proxy.delaying(isCopy, 2_500, () => copy('private/s3', 'open/later', KMS)),
    );
    expect([failing.status, codeOf(failing)]).toEqual([200, 'AccessDenied']);
  });

  it.each(['private/s3', 'private/kms', 'private/c'])('parts of %s in uploads of every mode', async (from) => {
    const given = from === 'private/c' ? forSource(oldKey) : {};
    for (const [name, sse] of Object.entries({ s3: S3, kms: KMS, c: newKey })) {
      const key = `open/parts ${name}`;
      const own = name === 'c' ? newKey : {};
      const create = { query: { uploads: '' }, headers: { ...sse, 'x-amz-checksum-algorithm': 'CRC32' } };
      const uploadId = xmlText((await send('POST', key, create)).text, 'UploadId');
      const part = (range: string | undefined, more: Headers = {}): Promise<RawResponse> => {
        const ranged: Headers = range === undefined ? {} : { [`${COPY}-range`]: range };
        const headers = { [COPY]: `${bucket}/${from}`, ...given, ...own, ...ranged, ...more };
        return send('PUT', key, { query: { partNumber: '1', uploadId }, headers });
      };
      expect(told(await part('bytes=0-'))).toBe('400 InvalidArgument');
      expect(told(await part(`bytes=0-${body.length}`))).toBe('400 InvalidArgument');
      expect(told(await part(`bytes=${body.length}-${body.length + 1}`))).toBe('400 InvalidArgument');
      expect(told(await part(undefined, { [`${COPY}-if-match`]: '"0-01"' }))).toBe('412 PreconditionFailed');
      expect(told(await part(undefined))).toBe('200');
      const made = await part('bytes=65530-2000000');
      const piece = body.subarray(65_530, 2_000_001);
      expect([told(made), xmlText(made.text, 'ChecksumCRC32')]).toEqual(['200', crc32Base64(piece)]);
      const list = `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>${xmlText(made.text, 'ETag')}</ETag><ChecksumCRC32>${crc32Base64(piece)}</ChecksumCRC32></Part></CompleteMultipartUpload>`;
      expect(told(await send('POST', key, { query: { uploadId }, body: list, headers: own }))).toBe('200');
      expect((await send('GET', key, { headers: own })).body.equals(piece)).toBe(true);
      // An object in parts is copied like any other.
      const again = await copy(encodeURIComponent(key), 'open/again', { ...sse, ...forSource(own), ...REPLACE });
      expect(told(again)).toBe('200');
      const read = await send('GET', 'open/again', { headers: own });
      expect([read.body.equals(piece), read.headers.etag]).toEqual([true, xmlText(again.text, 'ETag')]);
    }
  });

  const encryption = (key: string, arn: string, as = gateway.raw): Promise<RawResponse> => {
    const inner = `<SSE-KMS><BucketKeyEnabled>true</BucketKeyEnabled><KMSKeyArn>${arn}</KMSKeyArn></SSE-KMS>`;
    const request = `<ObjectEncryption xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${inner}</ObjectEncryption>`;
    return s3(as, { method: 'PUT', bucket, key, query: { encryption: '' }, body: request });
  };
  const ARN = 'arn:aws:kms:us-east-1:000000000000:key/data';

  it('UpdateObjectEncryption wraps anew, and keeps everything else', async () => {
    const small = body.subarray(0, 5000);
    const sum = { 'x-amz-checksum-crc32': crc32Base64(small) };
    const kept = { 'content-type': 'text/kept', 'x-amz-meta-colour': 'blue' };
    await put('open/updated', { ...S3, ...sum, ...kept, 'x-amz-tagging': 'a=b' }, small);
    const answer = await encryption('open/updated', ARN);
    if (!honoursIfMatch) {
      expect(told(answer)).toBe('501 NotImplemented');
      return;
    }
    expect([answer.status, answer.text]).toEqual([200, '']);
    const read = await send('GET', 'open/updated', { headers: { 'x-amz-checksum-mode': 'ENABLED' } });
    expect(read.body.equals(small)).toBe(true);
    expect(read.headers).toMatchObject({ ...sum, ...kept, ...KMS, 'x-amz-tagging-count': '1' });
    expect(told(await encryption('private/c', ARN))).toBe('400 InvalidRequest');
    expect(told(await encryption('private/s3', 'data'))).toBe('400 InvalidArgument');
    expect(told(await encryption('private/s3', `${ARN}-none`))).toBe('400 KMS.NotFoundException');
    const as = { ...gateway.raw, accessKeyId: 'NOUPDATEACCESSKEY' };
    expect(told(await encryption('private/s3', ARN, as))).toBe('403 AccessDenied');
    expect(told(await send('PUT', 'private/s3', { query: { encryption: '' }, body: '<ObjectEncryption/>' }))).toBe(
      '400 MalformedXML',
    );
  });

  it('under uploads and copies at the same time every acknowledged copy opens, and no upload is lost', async () => {
    let round = 0;
    const end = Date.now() + 3_000;
    const failures: string[] = [];
    let copies = 0;
    const bodyOf = (n: number): Buffer => Buffer.alloc(2000 + (n % 7), `${n} `);
    await put('race/source', {}, bodyOf(0));
    const writer = async (): Promise<void> => {
      while (Date.now() < end) {
        round += 1;
        const mine = bodyOf(round);
        if ((await put('race/source', {}, mine)).status !== 200) failures.push('put');
      }
    };
    const copier = async (to: string, headers: Headers): Promise<void> => {
      while (Date.now() < end) {
        const made = await copy('race/source', to, headers);
        // Given up after some attempts: nothing was acknowledged.
        if (made.status === 503) continue;
        const read = await send('GET', to);
        copies += 1;
        const n = Number(/^\d+/.exec(read.text)?.[0]);
        if (made.status !== 200 || read.status !== 200 || !read.body.equals(bodyOf(n))) {
          failures.push(`${to}: ${told(made)}, ${told(read)}`);
        }
      }
    };
    const updater = async (): Promise<void> => {
      let n = 0;
      await put('race/updated', {}, bodyOf(n));
      while (honoursIfMatch && Date.now() < end) {
        const updating = encryption('race/updated', ARN);
        n += 1;
        if ((await put('race/updated', {}, bodyOf(n))).status !== 200) failures.push('put');
        const read = await send('GET', 'race/updated');
        if (!read.body.equals(bodyOf(n))) failures.push(`upload ${n} was lost: ${read.status}`);
        if (![200, 409, 503].includes((await updating).status)) failures.push(told(await updating));
      }
    };
    const itself = copier('race/source', { ...KMS, ...REPLACE });
    await Promise.all([writer(), copier('race/target', KMS), copier('race/target', KMS), itself, updater()]);
    expect(failures).toEqual([]);
    expect(copies).toBeGreaterThan(3);
  }, 60_000);
});
