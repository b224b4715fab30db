import { createHash, createSecretKey } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import {
  applyDefault,
  parseCopySourceSse,
  parsePartSse,
  parseReadSse,
  parseWriteSse,
  requireReadMode,
  SSE_HEADERS,
  sseResponseHeaders,
  type BucketDefault,
  type SseTransport,
} from '../../src/sse/request.ts';
import { bytes } from './fixture.ts';

const SSE = 'x-amz-server-side-encryption';
const KID = `${SSE}-aws-kms-key-id`;
const CTX = `${SSE}-context`;
const BK = `${SSE}-bucket-key-enabled`;
const C = `${SSE}-customer`;
const CS = 'x-amz-copy-source-server-side-encryption-customer';
const TLS: SseTransport = { secureTransport: true };
type Headers = Record<string, string>;

const customerKey = bytes(32, 'customer');
const md5 = (key: Buffer): string => createHash('md5').update(key).digest('base64');
function customer(family = C, key = customerKey): Headers {
  return {
    [`${family}-algorithm`]: 'AES256',
    [`${family}-key`]: key.toString('base64'),
    [`${family}-key-md5`]: md5(key),
  };
}
const without = (headers: Headers, name: string): Headers =>
  Object.fromEntries(Object.entries(headers).filter(([key]) => key !== name));
const error = (status: number, code: string): unknown => expect.objectContaining({ status, code });
const json = Buffer.from('{"a":"b"}').toString('base64');

describe('a write', () => {
  it.each<[string, Headers, object]>([
    ['nothing', {}, { mode: 'none', bucketKey: undefined }],
    ['a bucket key setting alone', { [BK]: 'true' }, { mode: 'none', bucketKey: true }],
    ['AES256', { [SSE]: 'AES256' }, { mode: 'SSE-S3' }],
    ['aws:kms', { [SSE]: 'aws:kms' }, { mode: 'SSE-KMS', keyReference: undefined, context: [], bucketKey: undefined }],
    [
      'aws:kms with everything',
      { [SSE]: 'aws:kms', [KID]: 'alias/books', [CTX]: json, [BK]: 'True' },
      { mode: 'SSE-KMS', keyReference: 'alias/books', context: [['a', 'b']], bucketKey: true },
    ],
    ['a bucket key refused', { [SSE]: 'aws:kms', [BK]: 'false' }, { mode: 'SSE-KMS', bucketKey: false }],
  ])('with %s', (_, headers, expected) => {
    expect(parseWriteSse(headers, TLS)).toMatchObject(expected);
  });

  it('with a customer key', () => {
    const parsed = parseWriteSse(customer(), TLS);
    if (parsed.mode !== 'SSE-C') throw new Error(parsed.mode);
    expect(parsed.key.equals(createSecretKey(customerKey))).toBe(true);
    expect(parsed.keyMd5).toBe(md5(customerKey));
  });

  it.each<[string, Headers, number, string]>([
    ['SSE-C and AES256', { ...customer(), [SSE]: 'AES256' }, 400, 'InvalidArgument'],
    ['SSE-C and aws:kms', { ...customer(), [SSE]: 'aws:kms' }, 400, 'InvalidArgument'],
    ['SSE-C and a KMS key id', { ...customer(), [KID]: 'k' }, 400, 'InvalidArgument'],
    ['one SSE-C header and AES256', { [`${C}-algorithm`]: 'AES256', [SSE]: 'AES256' }, 400, 'InvalidArgument'],
    [
      'SSE-C with another algorithm',
      { ...customer(), [`${C}-algorithm`]: 'AES128' },
      400,
      'InvalidEncryptionAlgorithmError',
    ],
    ['SSE-C with aes256', { ...customer(), [`${C}-algorithm`]: 'aes256' }, 400, 'InvalidEncryptionAlgorithmError'],
    ['SSE-C without algorithm', without(customer(), `${C}-algorithm`), 400, 'InvalidArgument'],
    ['SSE-C without key', without(customer(), `${C}-key`), 400, 'InvalidArgument'],
    ['SSE-C without MD5', without(customer(), `${C}-key-md5`), 400, 'InvalidArgument'],
    ['SSE-C with a key of 31 bytes', customer(C, bytes(31)), 400, 'InvalidArgument'],
    ['SSE-C with a key of 33 bytes', customer(C, bytes(33)), 400, 'InvalidArgument'],
    ['SSE-C with an empty key', { ...customer(), [`${C}-key`]: '' }, 400, 'InvalidArgument'],
    [
      'SSE-C with a key that is not base64',
      { ...customer(), [`${C}-key`]: `${'!'.repeat(43)}=` },
      400,
      'InvalidArgument',
    ],
    ['SSE-C with the MD5 of another key', { ...customer(), [`${C}-key-md5`]: md5(bytes(32)) }, 400, 'InvalidArgument'],
    [
      'SSE-C with an MD5 in hex',
      { ...customer(), [`${C}-key-md5`]: createHash('md5').update(customerKey).digest('hex') },
      400,
      'InvalidArgument',
    ],
    ['an unknown algorithm', { [SSE]: 'AES128' }, 400, 'InvalidArgument'],
    ['an empty algorithm', { [SSE]: '' }, 400, 'InvalidArgument'],
    ['aws:kms in capitals', { [SSE]: 'AWS:KMS' }, 400, 'InvalidArgument'],
    ['dual-layer encryption', { [SSE]: 'aws:kms:dsse' }, 501, 'NotImplemented'],
    ['a key id alone', { [KID]: 'k' }, 400, 'InvalidArgument'],
    ['a key id with AES256', { [SSE]: 'AES256', [KID]: 'k' }, 400, 'InvalidArgument'],
    ['a context alone', { [CTX]: json }, 400, 'InvalidArgument'],
    ['a context with AES256', { [SSE]: 'AES256', [CTX]: json }, 400, 'InvalidArgument'],
    ['an empty key id', { [SSE]: 'aws:kms', [KID]: '' }, 400, 'InvalidArgument'],
    ['an endless key id', { [SSE]: 'aws:kms', [KID]: 'k'.repeat(2049) }, 400, 'InvalidArgument'],
    ['a context that is no map', { [SSE]: 'aws:kms', [CTX]: 'e30' }, 400, 'InvalidArgument'],
    ['a bucket key setting of yes', { [SSE]: 'aws:kms', [BK]: 'yes' }, 400, 'InvalidArgument'],
  ])('with %s is refused', (_, headers, status, code) => {
    expect(() => parseWriteSse(headers, TLS)).toThrow(error(status, code));
  });

  it('with a customer key over plain HTTP is refused, unless development says otherwise', () => {
    expect(() => parseWriteSse(customer(), { secureTransport: false })).toThrow(error(400, 'InvalidRequest'));
    const development = { secureTransport: false, allowInsecureCustomerKeys: true };
    expect(parseWriteSse(customer(), development).mode).toBe('SSE-C');
    expect(parseWriteSse({ [SSE]: 'AES256' }, { secureTransport: false }).mode).toBe('SSE-S3');
  });

  it('with a customer key is 403 where the bucket blocks SSE-C, before the key is looked at', () => {
    const blocked = { ...TLS, customerKeysBlocked: true };
    expect(() => parseWriteSse(customer(), blocked)).toThrow(error(403, 'AccessDenied'));
    expect(() => parseWriteSse({ [`${C}-key`]: 'garbage' }, blocked)).toThrow(error(403, 'AccessDenied'));
    expect(parseReadSse(customer(), blocked).mode).toBe('SSE-C');
  });

  it('refused says nothing of the key', () => {
    try {
      parseWriteSse({ ...customer(), [`${C}-key-md5`]: md5(bytes(32)) }, TLS);
      expect.unreachable();
    } catch (err) {
      expect(JSON.stringify(err, Object.getOwnPropertyNames(err))).not.toContain(customerKey.toString('base64'));
    }
  });
});

describe.each([
  ['a read', parseReadSse, C],
  ['a copy source', parseCopySourceSse, CS],
] as const)('%s', (_, parse, family) => {
  it('with nothing, or with a customer key', () => {
    expect(parse({}, TLS)).toEqual({ mode: 'none' });
    expect(parse(customer(family), TLS).mode).toBe('SSE-C');
  });

  it.each<[string, Headers, number, string]>([
    ['without the MD5', without(customer(family), `${family}-key-md5`), 403, 'AccessDenied'],
    [
      'with the MD5 of another key',
      { ...customer(family), [`${family}-key-md5`]: md5(bytes(32)) },
      400,
      'InvalidArgument',
    ],
    ['without algorithm', without(customer(family), `${family}-algorithm`), 400, 'InvalidArgument'],
    ['without key', without(customer(family), `${family}-key`), 400, 'InvalidArgument'],
    [
      'with another algorithm',
      { ...customer(family), [`${family}-algorithm`]: 'x' },
      400,
      'InvalidEncryptionAlgorithmError',
    ],
    ['with a short key', customer(family, bytes(16)), 400, 'InvalidArgument'],
  ])('%s is refused', (__, headers, status, code) => {
    expect(() => parse(headers, TLS)).toThrow(error(status, code));
  });

  it('with a key over plain HTTP is refused', () => {
    expect(() => parse(customer(family), { secureTransport: false })).toThrow(error(400, 'InvalidRequest'));
  });
});

describe('headers that an operation has no use for', () => {
  it.each([SSE, KID, CTX, BK])('%s on a read is 400 InvalidRequest', (name) => {
    expect(() => parseReadSse({ [name]: 'AES256' }, TLS)).toThrow(error(400, 'InvalidRequest'));
  });

  it.each([SSE, KID, CTX, BK])('%s on a part is 400 InvalidArgument', (name) => {
    expect(() => parsePartSse({ [name]: 'AES256' }, TLS)).toThrow(error(400, 'InvalidArgument'));
  });

  it('a part takes a customer key, whole', () => {
    expect(parsePartSse(customer(), TLS).mode).toBe('SSE-C');
    expect(() => parsePartSse(without(customer(), `${C}-key-md5`), TLS)).toThrow(error(400, 'InvalidArgument'));
  });
});

describe('a read and the mode of the object', () => {
  const key = parseReadSse(customer(), TLS);

  it('fit', () => {
    expect(() => requireReadMode(key, 'SSE-C')).not.toThrow();
    expect(() => requireReadMode({ mode: 'none' }, 'SSE-S3')).not.toThrow();
    expect(() => requireReadMode({ mode: 'none' }, 'SSE-KMS')).not.toThrow();
  });

  it('do not fit: 400 InvalidRequest', () => {
    expect(() => requireReadMode({ mode: 'none' }, 'SSE-C')).toThrow(error(400, 'InvalidRequest'));
    expect(() => requireReadMode(key, 'SSE-S3')).toThrow(error(400, 'InvalidRequest'));
    expect(() => requireReadMode(key, 'SSE-KMS')).toThrow(error(400, 'InvalidRequest'));
  });
});

describe("the bucket's default", () => {
  const kms: BucketDefault = { mode: 'SSE-KMS', keyReference: 'alias/bucket', bucketKey: true };

  it.each<[string, Headers, BucketDefault | undefined, object]>([
    ['never set is SSE-S3', {}, undefined, { mode: 'SSE-S3' }],
    [
      'fills in what the request leaves out',
      {},
      kms,
      { mode: 'SSE-KMS', keyReference: 'alias/bucket', bucketKey: true, context: [] },
    ],
    [
      'yields to a bucket key setting',
      { [BK]: 'false' },
      kms,
      { mode: 'SSE-KMS', keyReference: 'alias/bucket', bucketKey: false },
    ],
    ['yields to AES256', { [SSE]: 'AES256' }, kms, { mode: 'SSE-S3' }],
    ['yields to a customer key', customer(), kms, { mode: 'SSE-C' }],
    [
      'gives aws:kms its bucket key setting, not its key',
      { [SSE]: 'aws:kms' },
      kms,
      { mode: 'SSE-KMS', keyReference: undefined, bucketKey: true },
    ],
    [
      'without KMS gives no bucket key',
      { [SSE]: 'aws:kms' },
      { mode: 'SSE-S3' },
      { mode: 'SSE-KMS', bucketKey: false },
    ],
  ])('%s', (_, headers, bucketDefault, expected) => {
    expect(applyDefault(parseWriteSse(headers, TLS), bucketDefault)).toMatchObject(expected);
  });
});

describe('the answer', () => {
  const kms = { mode: 'SSE-KMS', keyName: 'arn:aws:kms:x:1:key/k', bucketKey: true, context: [['a', '"']] } as const;

  it('of SSE-KMS has the whole ARN, the bucket key when true, the context on writes only', () => {
    const always = { [SSE]: 'aws:kms', [KID]: kms.keyName };
    expect(sseResponseHeaders(kms, 'write')).toEqual({
      ...always,
      [BK]: 'true',
      [CTX]: Buffer.from('{"a":"\\""}').toString('base64'),
    });
    expect(sseResponseHeaders(kms, 'read')).toEqual({ ...always, [BK]: 'true' });
    expect(sseResponseHeaders({ ...kms, bucketKey: false, context: [] }, 'write')).toEqual(always);
  });

  it('of SSE-S3 is AES256', () => {
    expect(sseResponseHeaders({ mode: 'SSE-S3' }, 'read')).toEqual({ [SSE]: 'AES256' });
  });

  it('of SSE-C names algorithm and MD5, never the key, and nothing at Complete', () => {
    const answer = { mode: 'SSE-C', keyMd5: md5(customerKey) } as const;
    expect(sseResponseHeaders(answer, 'read')).toEqual({
      [`${C}-algorithm`]: 'AES256',
      [`${C}-key-md5`]: answer.keyMd5,
    });
    expect(sseResponseHeaders(answer, 'complete')).toEqual({});
  });
});

it('every SSE header is on the list of those that never reach the store', () => {
  expect([...SSE_HEADERS].sort()).toEqual(
    [...[SSE, KID, CTX, BK], ...Object.keys(customer()), ...Object.keys(customer(CS))].sort(),
  );
});
