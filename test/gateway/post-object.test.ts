import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { CreateBucketCommand, GetObjectCommand, HeadObjectCommand } from '@aws-sdk/client-s3';
import { createPresignedPost } from '@aws-sdk/s3-presigned-post';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { ADMIN, startGateway, USER, type TestGateway } from '../support/gateway.ts';
import { encodeForm, formParts, postForm, sendForm, type FormSpec, type Part } from '../support/post-form.ts';
import { s3, xmlText, xmlTexts, type RawResponse } from '../support/s3-raw.ts';

const SSE = 'x-amz-server-side-encryption';
const MIB = 1024 * 1024;
const md5 = (text: string): string => createHash('md5').update(text).digest('base64');
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('base64');

describe.each(inject('stores'))('POST object over $name', (store) => {
  /** What is refused is refused before any store is asked. */
  const isFirst = store.name === inject('stores')[0]?.name;
  /** What no store decides is asked over one of them. A skipped test would be a failure. */
  const once = isFirst ? { describe, it } : undefined;
  let gateway: TestGateway;
  const bucket = `forms-${randomBytes(4).toString('hex')}`;

  beforeAll(async () => {
    gateway = await startGateway({ store, config: { development: { allowInsecureSseC: true }, identities } });
    await gateway.client().send(new CreateBucketCommand({ Bucket: bucket }));
  });
  afterAll(() => gateway.stop());

  const identity = (name: string, accessKeyId: string, policies: unknown[], secretFile = 'user.secret') => ({
    name,
    accessKeyId,
    secretFile,
    plane: name === 'administrator' ? 'admin' : 'data',
    policies,
  });
  const allowed = { Effect: 'Allow', Action: 's3:PutObject', Resource: `arn:aws:s3:::${bucket}/mine/*` };
  const identities = [
    identity('user', USER.accessKeyId, ['S3FullAccess', 'KMSUser']),
    identity('limited', 'LIMITED', [{ Version: '2012-10-17', Statement: [allowed] }]),
    identity('administrator', ADMIN.accessKeyId, ['KMSAdministrator'], 'admin.secret'),
  ];

  const get = (key: string, headers: Record<string, string> = {}) =>
    s3(gateway.raw, { method: 'GET', bucket, key, headers });
  const atStore = (key: string) => s3(store, { method: 'GET', bucket, key });
  const openUploads = async (): Promise<string[]> =>
    xmlTexts((await s3(store, { method: 'GET', bucket, query: { uploads: '' } })).text, 'UploadId');
  const post = (spec: FormSpec) => postForm(gateway.raw, bucket, spec);

  it('takes a form of the AWS SDK from fetch', async () => {
    // Stores without the trait `keepsOctets` take US-ASCII only.
    const city = ['minio', 'swift'].includes(store.name) ? 'Lodz' : 'Łódź';
    const { url, fields } = await createPresignedPost(gateway.client(), {
      Bucket: bucket,
      Key: 'sdk/${filename}',
      Conditions: [
        ['content-length-range', 1, 100],
        ['starts-with', '$Content-Type', 'text/'],
      ],
      Fields: { [SSE]: 'aws:kms', 'Content-Type': 'text/csv', 'x-amz-meta-city': city },
    });
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, value);
    form.append('file', new Blob(['a;b;c']), 'C:\\data\\table.csv');
    const answer = await fetch(url, { method: 'POST', body: form });
    expect([answer.status, answer.headers.get(SSE), await answer.text()]).toEqual([204, 'aws:kms', '']);
    const found = await gateway.client().send(new GetObjectCommand({ Bucket: bucket, Key: 'sdk/table.csv' }));
    expect(await found.Body?.transformToString()).toBe('a;b;c');
    expect([found.ServerSideEncryption, found.ContentType, found.ETag]).toEqual([
      'aws:kms',
      'text/csv',
      answer.headers.get('etag'),
    ]);
    expect(Buffer.from(found.Metadata?.['city'] ?? '', 'latin1').toString('utf8')).toBe(city);
    const stored = await atStore('sdk/table.csv');
    expect([stored.status, stored.text.includes('a;b;c')]).toEqual([200, false]);
  });

  it('takes a form of curl, which waits for 100 Continue', async () => {
    const file = join(gateway.folder, 'curl.bin');
    const bytes = randomBytes(2 * MIB);
    writeFileSync(file, bytes);
    const parts = formParts(gateway.raw, bucket, { fields: [['key', 'curl.bin']] }).filter(
      ({ name }) => name !== 'file',
    );
    const args = parts.flatMap(({ name, value }) => ['--form-string', `${name}=${value.toString()}`]);
    const url = `${gateway.raw.endpoint}/${bucket}`;
    const run = promisify(execFile)('curl', ['-sS', '-w', '%{http_code}', ...args, '-F', `file=@${file}`, url]);
    expect((await run).stdout).toBe('204');
    expect((await get('curl.bin')).body.equals(bytes)).toBe(true);
  });

  const context = Buffer.from(JSON.stringify({ team: 'red' })).toString('base64');
  const customerKey = randomBytes(32);
  const customer: [string, string][] = [
    [`${SSE}-customer-algorithm`, 'AES256'],
    [`${SSE}-customer-key`, customerKey.toString('base64')],
    [`${SSE}-customer-key-MD5`, createHash('md5').update(customerKey).digest('base64')],
  ];

  describe.each([
    ['one request', 5000],
    ['parts, the last of them short', 8 * MIB + 1],
  ])('in %s', (_, length) => {
    const file = randomBytes(length);
    const rows: [string, [string, string][], object][] = [
      ['none', [], { [SSE]: 'AES256' }],
      [
        'SSE-KMS with key, context and bucket key',
        [
          [SSE, 'aws:kms'],
          [`${SSE}-aws-kms-key-id`, 'data'],
          [`${SSE}-context`, context],
          [`${SSE}-bucket-key-enabled`, 'true'],
        ],
        { [SSE]: 'aws:kms' },
      ],
      ['SSE-C', customer, { [`${SSE}-customer-algorithm`]: 'AES256' }],
    ];
    // Each store with one mode: what it keeps of a form does not depend on it.
    it.each(rows.filter(([, fields]) => isFirst || fields.length > 3))(
      'is sealed with the SSE fields: %s',
      async (mode, sse, answered) => {
        const key = `sse ${mode} ${length}`;
        const meta: [string, string][] = [
          ['Content-Type', 'image/png'],
          ['Cache-Control', 'no-store'],
          ['x-amz-meta-who', ' me '],
          ['x-amz-checksum-sha256', sha256(file)],
        ];
        const answer = await post({ fields: [['key', key], ...sse, ...meta], file });
        expect([answer.status, answer.text]).toEqual([204, '']);
        expect(answer.headers).toMatchObject({ ...answered, 'x-amz-checksum-sha256': sha256(file) });
        const found = await get(key, { ...Object.fromEntries(sse === customer ? lower(customer) : []), ...ENABLED });
        expect([found.status, found.body.equals(file), found.headers.etag]).toEqual([200, true, answer.headers.etag]);
        expect(found.headers).toMatchObject({
          'content-type': 'image/png',
          'cache-control': 'no-store',
          'x-amz-meta-who': 'me',
        });
        expect((await atStore(key)).body.includes(file.subarray(0, 32))).toBe(false);
      },
    );
  });

  const lower = (pairs: [string, string][]) => pairs.map(([name, value]) => [name.toLowerCase(), value] as const);
  const ENABLED = { 'x-amz-checksum-mode': 'ENABLED' };

  it('a policy that fails at the end of a long file leaves the old object, and no upload', async () => {
    const key = 'previous';
    expect((await post({ fields: [['key', key]], file: 'the old one' })).status).toBe(204);
    const file = randomBytes(9 * MIB);
    const fields: [string, string][] = [['key', key]];
    const short = await post({ fields, file, more: [['content-length-range', file.length + 1, 2 ** 30]] });
    expect([short.status, xmlText(short.text, 'Code')]).toEqual([400, 'EntityTooSmall']);
    const long = await post({ fields, file, more: [['content-length-range', 0, file.length - 1]] });
    expect([long.status, xmlText(long.text, 'Code')]).toEqual([400, 'EntityTooLarge']);
    const digest = await post({ fields: [...fields, ['x-amz-checksum-sha256', sha256(Buffer.from('x'))]], file });
    expect([digest.status, xmlText(digest.text, 'Code')]).toEqual([400, 'BadDigest']);
    const { type, body } = encodeForm(formParts(gateway.raw, bucket, { fields, file }));
    // Within the last boundary, and behind it but for what says that it is the last.
    for (const missing of [6, 4]) {
      const unclosed = await sendForm(gateway.raw, bucket, { type, body: body.subarray(0, -missing) });
      expect([unclosed.status, xmlText(unclosed.text, 'Code')]).toEqual([400, 'MalformedPOSTRequest']);
    }
    expect((await sendForm(gateway.raw, bucket, { type, body }, { cutAfter: 8 * MIB + 200_000 })).status).toBe(0);
    await expect.poll(openUploads, { timeout: 10_000 }).toEqual([]);
    expect((await get(key)).text).toBe('the old one');
    const right = await post({ fields, file, more: [['content-length-range', file.length, file.length]] });
    expect(right.status).toBe(204);
    expect((await get(key)).body.equals(file)).toBe(true);
  });

  it('answers as the form asks', async () => {
    const key = 'answers/ä b+c.txt';
    const path = `/${bucket}/answers/%C3%A4%20b%2Bc.txt`;
    const fields = (name: string, value: string): [string, string][] => [
      ['key', key],
      [name, value],
    ];
    const created = await post({ fields: fields('success_action_status', '201') });
    expect([created.status, xmlText(created.text, 'Bucket'), xmlText(created.text, 'Key')]).toEqual([201, bucket, key]);
    expect(xmlText(created.text, 'Location')).toBe(gateway.raw.endpoint + path);
    expect(xmlText(created.text, 'ETag')).toBe(created.headers.etag);
    for (const [asked, given] of [
      ['200', 200],
      ['404', 204],
    ] as const) {
      const answer = await post({ fields: fields('success_action_status', asked) });
      expect([answer.status, answer.text, answer.headers.location]).toEqual([given, '', gateway.raw.endpoint + path]);
    }
    const sent = await post({ fields: fields('success_action_redirect', 'https://page.test/done?n=1') });
    expect(sent.status).toBe(303);
    const query = new URL(sent.headers.location ?? '').searchParams;
    expect([...query]).toEqual([
      ['n', '1'],
      ['bucket', bucket],
      ['key', key],
      ['etag', sent.headers.etag],
    ]);
    expect((await post({ fields: fields('success_action_redirect', 'javascript:alert(1)') })).status).toBe(204);
  });

  it('keeps tags where the store does', async () => {
    const xml = '<Tagging><TagSet><Tag><Key>a b</Key><Value>1+2=3</Value></Tag></TagSet></Tagging>';
    const fields: [string, string][] = [
      ['key', 'tagged'],
      ['tagging', xml],
    ];
    expect((await post({ fields })).status).toBe(204);
    const tags = (await s3(gateway.raw, { method: 'GET', bucket, key: 'tagged', query: { tagging: '' } })).text;
    expect([xmlText(tags, 'Key'), xmlText(tags, 'Value')]).toEqual(['a b', '1+2=3']);
  });

  it('the name of the file stands for every ${filename}, and for nothing else', async () => {
    const fields: [string, string][] = [['key', 'x-${filename}/${filename}${FILENAME}']];
    const more = ['x-amz-algorithm', 'x-amz-credential', 'x-amz-date'].map((name) => ['starts-with', `$${name}`, '']);
    const conditions = [{ bucket }, ['starts-with', '$key', 'x-$&$1`'], ...more];
    expect((await post({ fields, conditions, filename: '$&$1`${filename}.txt' })).status).toBe(204);
    const name = '$&$1`${filename}.txt';
    expect((await get(`x-${name}/${name}\${FILENAME}`)).text).toBe('content');
  });

  it('names compare without case, and fields behind the file count for nothing', async () => {
    const credentials = [
      ['starts-with', '$x-amz-algorithm', ''],
      ['starts-with', '$x-amz-credential', ''],
      ['starts-with', '$x-amz-date', ''],
    ];
    const answer = await post({
      fields: [
        ['kEy', 'case'],
        ['cOntent-type', 'text/plain, text/x-more'],
        ['x-ignore-this', 'freely'],
      ],
      conditions: [
        { BuCkEt: bucket },
        ['StArTs-WiTh', '$KeY', 'ca'],
        ['starts-with', '$Content-Type', 'text/'],
        ...credentials,
      ],
      spoil: (parts) => [...parts, { name: 'x-amz-meta-late', value: 'late' }],
    });
    expect(answer.status).toBe(204);
    const head = await s3(gateway.raw, { method: 'HEAD', bucket, key: 'case' });
    expect([head.headers['content-type'], head.headers['x-amz-meta-late']]).toEqual([
      'text/plain, text/x-more',
      undefined,
    ]);
  });

  const set = (name: string, value: string) => (parts: Part[]) =>
    parts.map((part) => (part.name === name ? { ...part, value } : part));
  const without = (name: string) => (parts: Part[]) => parts.filter((part) => part.name !== name);
  const add =
    (...added: Part[]) =>
    (parts: Part[]) => [...added, ...parts];
  const LOCK: [string, string][] = [
    ['x-amz-object-lock-mode', 'GOVERNANCE'],
    ['x-amz-object-lock-retain-until-date', new Date(Date.now() + 3_600_000).toISOString()],
  ];
  const LONG = Buffer.alloc(8 * MIB + 1);
  const soon = new Date(Date.now() + 60_000).toISOString();

  once?.describe('refuses', () => {
    it.each<[string, FormSpec, number, string, string]>([
      [
        'another value of a field',
        { fields: [['acl', 'private']], spoil: set('acl', 'public-read') },
        403,
        'AccessDenied',
        'Invalid according to Policy: Policy Condition failed: ["eq", "$acl", "private"]',
      ],
      [
        'a key outside of its prefix',
        { conditions: [['starts-with', '$key', 'mine/']] },
        403,
        'AccessDenied',
        'Policy Condition failed: ["starts-with", "$key", "mine/"]',
      ],
      [
        'a file name that leaves its prefix',
        { fields: [['key', '${filename}']], conditions: [['starts-with', '$key', 'mine/']] },
        403,
        'AccessDenied',
        'Policy Condition failed',
      ],
      [
        'a condition on a field that is missing',
        { more: [['starts-with', '$Content-Type', '']] },
        403,
        'AccessDenied',
        'Policy Condition failed: ["starts-with", "$content-type", ""]',
      ],
      [
        'one of several content types outside',
        {
          fields: [['content-type', 'image/png, text/html']],
          conditions: [['starts-with', '$Content-Type', 'image/']],
        },
        403,
        'AccessDenied',
        'Policy Condition failed',
      ],
      [
        'another bucket',
        { conditions: [{ bucket: 'another' }] },
        403,
        'AccessDenied',
        'Policy Condition failed: ["eq", "$bucket", "another"]',
      ],
      [
        'no bucket in the policy',
        {
          conditions: ['key', 'x-amz-algorithm', 'x-amz-credential', 'x-amz-date'].map((name) => [
            'starts-with',
            `$${name}`,
            '',
          ]),
        },
        403,
        'AccessDenied',
        'Extra input fields: bucket',
      ],
      [
        'a field without a condition',
        { spoil: add({ name: 'x-amz-meta-extra', value: 'x' }) },
        403,
        'AccessDenied',
        'Extra input fields: x-amz-meta-extra',
      ],
      [
        'an SSE field without a condition',
        { spoil: add({ name: SSE, value: 'AES256' }) },
        403,
        'AccessDenied',
        `Extra input fields: ${SSE}`,
      ],
      [
        'an expired policy',
        { expiration: new Date(Date.now() - 1000).toISOString() },
        403,
        'AccessDenied',
        'Invalid according to Policy: Policy expired.',
      ],
      ['a file that is too long', { more: [['content-length-range', 0, 6]] }, 400, 'EntityTooLarge', 'exceeds'],
      [
        'a file that is too long for one of two ranges',
        {
          more: [
            ['content-length-range', 0, 6],
            ['content-length-range', 0, 100],
          ],
        },
        400,
        'EntityTooLarge',
        'exceeds',
      ],
      ['a lock without a digest', { fields: LOCK }, 400, 'InvalidRequest', 'Content-MD5'],
      ['a lock without a digest on a long file', { fields: LOCK, file: LONG }, 400, 'InvalidRequest', 'Content-MD5'],
      ...['content', LONG].map((file): [string, FormSpec, number, string, string] => [
        `a checksum that is only announced, ${file.length} bytes`,
        { fields: [['x-amz-trailer', 'x-amz-checksum-crc32']], file },
        400,
        'InvalidRequest',
        'x-amz-checksum-crc32',
      ]),
      [
        'a mode of lock without its date',
        { fields: [...LOCK.slice(0, 1), ['content-md5', md5('content')]] },
        400,
        'InvalidArgument',
        'must both',
      ],
      ['a file that is too short', { more: [['content-length-range', '8', '100']] }, 400, 'EntityTooSmall', 'smaller'],
      [
        'a changed policy',
        { spoil: set('policy', Buffer.from(JSON.stringify({ expiration: soon, conditions: [] })).toString('base64')) },
        403,
        'SignatureDoesNotMatch',
        '',
      ],
      ['another signature', { spoil: set('x-amz-signature', '0'.repeat(64)) }, 403, 'SignatureDoesNotMatch', ''],
      ['a signature of another form', { spoil: set('x-amz-signature', 'x') }, 400, 'InvalidArgument', 'Signature'],
      ['no signature', { spoil: without('x-amz-signature') }, 400, 'InvalidArgument', "'x-amz-signature'"],
      ['no policy', { spoil: without('policy') }, 400, 'InvalidArgument', "'policy'"],
      ['another algorithm', { spoil: set('x-amz-algorithm', 'AWS4-HMAC-SHA1') }, 400, 'InvalidArgument', ''],
      [
        'another day than the credential',
        { spoil: set('x-amz-date', '20200101T000000Z') },
        400,
        'InvalidArgument',
        'date',
      ],
      [
        'a signature of eight days ago',
        { now: new Date(Date.now() - 8 * 86_400_000), expiration: soon },
        403,
        'AccessDenied',
        'expired',
      ],
      ['a signature of tomorrow', { now: new Date(Date.now() + 86_400_000) }, 403, 'AccessDenied', 'not valid yet'],
      ['another region', { region: 'eu-north-1' }, 400, 'InvalidArgument', 'eu-north-1'],
      ['another service', { service: 'execute-api' }, 400, 'InvalidArgument', 'service'],
      [
        'an unknown access key',
        {
          spoil: (parts) =>
            parts.map((part) =>
              part.name === 'x-amz-credential'
                ? { ...part, value: part.value.toString().replace(USER.accessKeyId, 'NOBODY') }
                : part,
            ),
        },
        403,
        'InvalidAccessKeyId',
        '',
      ],
      ['a session token', { fields: [['x-amz-security-token', 'token']] }, 400, 'InvalidToken', ''],
      ['a signature of version 2', { fields: [['AWSAccessKeyId', 'AKID']] }, 400, 'InvalidRequest', 'AWS4-HMAC-SHA256'],
      [
        'a policy that is no JSON',
        { policy: '{"expiration"' },
        400,
        'InvalidPolicyDocument',
        'Invalid Policy: Invalid JSON.',
      ],
      [
        'a policy with a name twice',
        { policy: `{"expiration":"${soon}","conditions":[],"conditions":[]}` },
        400,
        'InvalidPolicyDocument',
        'Invalid JSON',
      ],
      [
        'a policy without expiration',
        { policy: '{"conditions":[]}' },
        400,
        'InvalidPolicyDocument',
        'Policy missing expiration.',
      ],
      [
        'a policy without conditions',
        { policy: `{"expiration":"${soon}"}` },
        400,
        'InvalidPolicyDocument',
        'Policy missing conditions.',
      ],
      [
        'a name of a policy in another case',
        { policy: `{"expiration":"${soon}","CONDITIONS":[]}` },
        400,
        'InvalidPolicyDocument',
        "Unexpected: 'CONDITIONS'",
      ],
      [
        'an expiration of another form',
        { expiration: '2999-01-01 00:00:00' },
        400,
        'InvalidPolicyDocument',
        "'expiration'",
      ],
      ['an empty condition', { more: [{}] }, 400, 'InvalidPolicyDocument', 'exactly one property'],
      [
        'an unknown operation',
        { more: [['ends-with', '$key', 'x']] },
        400,
        'InvalidPolicyDocument',
        'unknown operation',
      ],
      [
        'a condition of two elements',
        { more: [['content-length-range', 0]] },
        400,
        'InvalidPolicyDocument',
        'three elements',
      ],
      [
        'a length that is negative',
        { more: [['content-length-range', -1, 0]] },
        400,
        'InvalidPolicyDocument',
        'content-length-range',
      ],
      ['an empty key', { fields: [['key', '']] }, 400, 'InvalidArgument', "'key'"],
      ['a key that is too long', { fields: [['key', 'k'.repeat(1025)]] }, 400, 'KeyTooLongError', ''],
      ['no key', { spoil: without('key') }, 403, 'AccessDenied', 'Policy Condition failed'],
      ['a field twice', { spoil: add({ name: 'KEY', value: 'other' }) }, 400, 'InvalidArgument', 'only once'],
      [
        'an ACL by both its names',
        {
          fields: [
            ['acl', 'private'],
            ['x-amz-acl', 'private'],
          ],
        },
        400,
        'InvalidArgument',
        '',
      ],
      ['a value that no header holds', { fields: [['x-amz-meta-a', 'one\r\ntwo: 2']] }, 400, 'InvalidArgument', ''],
      ['tags that are no XML', { fields: [['tagging', 'a=b']] }, 400, 'MalformedXML', ''],
      ['the reserved metadata', { fields: [['x-amz-meta-express-s3-sse', 'x']] }, 400, 'InvalidArgument', 'reserved'],
      ['no file', { spoil: without('file') }, 400, 'InvalidArgument', 'exactly one file'],
      [
        'two files',
        { spoil: (parts) => [...parts, { name: 'file', value: 'second', filename: 'b' }] },
        400,
        'InvalidArgument',
        'exactly one file',
      ],
      ['the file first', { spoil: (parts) => [...parts.slice(-1), ...parts.slice(0, -1)] }, 403, 'AccessDenied', ''],
      [
        '10,000 fields',
        { spoil: add(...Array.from({ length: 10_000 }, (_, i) => ({ name: `x-ignore-${i}`, value: '' }))) },
        400,
        'MaxPostPreDataLengthExceededError',
        '',
      ],
      [
        'two fields of 11 KiB',
        { spoil: add(...['a', 'b'].map((name) => ({ name: `x-ignore-${name}`, value: 'x'.repeat(11 * 1024) }))) },
        400,
        'MaxPostPreDataLengthExceededError',
        '',
      ],
      [
        'a field of 21 KiB',
        { fields: [['x-ignore-me', 'x'.repeat(21 * 1024)]] },
        400,
        'MaxPostPreDataLengthExceededError',
        '',
      ],
      [
        'an unknown KMS key',
        {
          fields: [
            [SSE, 'aws:kms'],
            [`${SSE}-aws-kms-key-id`, 'unknown'],
          ],
        },
        400,
        'KMS.NotFoundException',
        '',
      ],
      ['a wrong checksum', { fields: [['x-amz-checksum-sha256', sha256(Buffer.from('else'))]] }, 400, 'BadDigest', ''],
      ['a wrong Content-MD5', { fields: [['content-md5', md5('else')]] }, 400, 'BadDigest', ''],
    ])('%s', async (_, spec, status, code, message) => {
      const answer = await post(spec);
      const stored = await get('upload.bin');
      // A row that fails is not to fail those behind it.
      if (stored.status !== 404) await s3(gateway.raw, { method: 'DELETE', bucket, key: 'upload.bin' });
      expect([answer.status, xmlText(answer.text, 'Code'), stored.status]).toEqual([status, code, 404]);
      expect(xmlText(answer.text, 'Message')).toContain(message);
    });

    it('what is no form, and forms elsewhere', async () => {
      const form = encodeForm(formParts(gateway.raw, bucket, {}));
      const codes = async (options: object, type = form.type, body = form.body) => {
        const answer = await sendForm(gateway.raw, bucket, { type, body }, options);
        return [answer.status, xmlText(answer.text, 'Code')];
      };
      expect(await codes({}, 'multipart/form-data')).toEqual([400, 'MalformedPOSTRequest']);
      expect(await codes({}, 'multipart/form-data; boundary=other')).toEqual([400, 'MalformedPOSTRequest']);
      expect(await codes({}, form.type, Buffer.alloc(300_000))).toEqual([400, 'MaxPostPreDataLengthExceededError']);
      expect(await codes({}, 'text/plain')).toEqual([403, 'AccessDenied']);
      expect(await codes({ path: `/${bucket}?delete` })).toEqual([403, 'AccessDenied']);
      expect(await codes({ path: `/${bucket}/upload.bin` })).toEqual([405, 'MethodNotAllowed']);
      expect(await codes({ path: `/${bucket}/upload.bin?uploads` })).toEqual([403, 'AccessDenied']);
      expect(await codes({ path: '/another-bucket' })).toEqual([403, 'AccessDenied']);
      expect(await codes({ path: '/' })).toEqual([403, 'AccessDenied']);
      expect(await codes({ headers: { [SSE]: 'AES256' } })).toEqual([403, 'AccessDenied']);
      const signed = await s3(gateway.raw, { method: 'POST', bucket, body: 'no form' });
      expect([signed.status, xmlText(signed.text, 'Code')]).toEqual([412, 'PreconditionFailed']);
      expect((await get('upload.bin')).status).toBe(404);
    });
  });

  it('a key with dots is that key, or refused where the store takes it for another', async () => {
    const answer = await post({ fields: [['key', 'mine/../yours.txt']] });
    expect([204, 501]).toContain(answer.status);
    expect((await get('yours.txt')).status).toBe(404);
    if (answer.status === 204) expect((await get('mine/../yours.txt')).text).toBe('content');
  });

  it('takes what the signer may do, and no more: the final key, tags, the KMS key', async () => {
    const limited = { ...gateway.raw, accessKeyId: 'LIMITED' };
    const status = async (fields: [string, string][]) => (await postForm(limited, bucket, { fields })).status;
    expect(await status([['key', 'mine/a.txt']])).toBe(204);
    expect(await status([['key', 'yours/a.txt']])).toBe(403);
    const tags = '<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>';
    expect(
      await status([
        ['key', 'mine/t'],
        ['tagging', tags],
      ]),
    ).toBe(403);
    for (const more of [
      [[SSE, 'aws:kms']],
      [['acl', 'public-read']],
      [['x-amz-grant-read', 'uri="http://acs.amazonaws.com/groups/global/AllUsers"']],
      [...LOCK, ['content-md5', md5('content')]],
      [['x-amz-object-lock-legal-hold', 'ON']],
    ] as [string, string][][]) {
      expect([more[0], await status([['key', 'mine/k'], ...more])]).toEqual([more[0], 403]);
    }
    expect([(await get('mine/a.txt')).status, (await get('mine/k')).status]).toEqual([200, 404]);
  });

  it('a redirect of a website is kept as a PUT keeps it, or refused', async () => {
    const name = 'x-amz-website-redirect-location';
    const [page, key] = ['https://page.test/', 'redirected'];
    const put = await s3(gateway.raw, { method: 'PUT', bucket, key: 'by-put', headers: { [name]: page }, body: 'x' });
    for (const file of ['content', LONG]) {
      const { status } = await post({
        fields: [
          ['key', key],
          [name, page],
        ],
        file,
      });
      expect(status).toBe(put.status === 200 ? 204 : 501);
      const head = await s3(gateway.raw, { method: 'HEAD', bucket, key });
      expect([head.status, head.headers[name]]).toEqual(status === 204 ? [200, page] : [404, undefined]);
    }
  });

  once?.it("a bucket that blocks customers' keys takes none from a form", async () => {
    const own = `${bucket}-blocked`;
    await gateway.client().send(new CreateBucketCommand({ Bucket: own }));
    const types = '<BlockedEncryptionTypes><EncryptionType>SSE-C</EncryptionType></BlockedEncryptionTypes>';
    const body = `<ServerSideEncryptionConfiguration><Rule>${types}</Rule></ServerSideEncryptionConfiguration>`;
    expect((await s3(gateway.raw, { method: 'PUT', bucket: own, query: { encryption: '' }, body })).status).toBe(200);
    for (const file of ['content', LONG]) {
      const refused = await postForm(gateway.raw, own, { fields: customer, file });
      expect([refused.status, xmlText(refused.text, 'Code')]).toEqual([403, 'AccessDenied']);
      expect((await postForm(gateway.raw, own, { fields: [[SSE, 'AES256']], file })).status).toBe(204);
    }
  });

  it('a stop ends a form whose file has not ended, and its upload', async () => {
    const file = Buffer.alloc(9 * MIB);
    const { type, body } = encodeForm(formParts(gateway.raw, bucket, { fields: [['key', 'stopped']], file }));
    let stopped: RawResponse['status'] | undefined;
    const sent = sendForm(gateway.raw, bucket, { type, body }, { holdAfter: 8 * MIB + 100_000 }).then(({ status }) => {
      stopped = status;
    });
    await expect.poll(async () => (await openUploads()).length, { timeout: 10_000 }).toBe(1);
    expect((await gateway.admin('POST', '/kms/stop', { reason: 'a test', streams: 'abort' })).status).toBe(200);
    try {
      await sent;
      expect(stopped).toBe(503);
      await expect.poll(openUploads, { timeout: 10_000 }).toEqual([]);
    } finally {
      expect((await gateway.admin('POST', '/kms/start')).status).toBe(200);
    }
    expect((await get('stopped')).status).toBe(404);
  });

  it('leaves an audit record of who posted what', async () => {
    await post({
      fields: [
        ['key', 'audited'],
        [SSE, 'aws:kms'],
      ],
    });
    const head = await gateway.client().send(new HeadObjectCommand({ Bucket: bucket, Key: 'audited' }));
    expect(head.ServerSideEncryption).toBe('aws:kms');
    const records = gateway.auditRecords().filter(({ key }) => key === 'audited');
    expect(records).toContainEqual(
      expect.objectContaining({ type: 'intent', operation: 'PostObject', principal: 'user', bucket, mode: 'SSE-KMS' }),
    );
  });
});
