import { describe, expect, it } from 'vitest';
import { codeOf, draft, NOW, SECRET, verify, type Draft } from './support.ts';

const at = (milliseconds: number): Date => new Date(NOW.getTime() + milliseconds);
const MINUTES = 60_000;
const HEX = '0123456789abcdef'.repeat(4);

describe('the presigned form', () => {
  const presign = (given: Draft) => draft(given, 'presigned');

  it.each([
    ['at its start', 0, 'accepted'],
    ['at its last moment', 60_000, 'accepted'],
    ['a millisecond later', 60_001, 'AccessDenied'],
    ['started 15 minutes ahead', -15 * MINUTES, 'accepted'],
    ['a millisecond further ahead', -15 * MINUTES - 1, 'AccessDenied'],
  ])('is valid %s', (_, offset, code) => {
    expect(codeOf(() => verify(presign({}), at(offset)))).toBe(code);
  });

  it.each([
    ['0', 'AuthorizationQueryParametersError'],
    ['1', 'accepted'],
    ['604800', 'accepted'],
    ['604801', 'AuthorizationQueryParametersError'],
    ['-1', 'AuthorizationQueryParametersError'],
    ['1.5', 'AuthorizationQueryParametersError'],
    ['1e3', 'AuthorizationQueryParametersError'],
    ['', 'AuthorizationQueryParametersError'],
    ['9999999999', 'AuthorizationQueryParametersError'],
  ])('X-Amz-Expires=%s', (expires, code) => {
    expect(codeOf(() => verify(presign({ expires })))).toBe(code);
  });

  it.each<[string, Draft, string]>([
    ['unknown access key', { accessKeyId: 'AKIAUNKNOWN' }, 'InvalidAccessKeyId'],
    ['another secret', { secret: `${SECRET}x` }, 'SignatureDoesNotMatch'],
    ['another region', { scope: '20130524/eu-west-1/s3/aws4_request' }, 'AuthorizationQueryParametersError'],
    ['another date in the scope', { scope: '20130523/us-east-1/s3/aws4_request' }, 'AuthorizationQueryParametersError'],
    ['a session token', { query: 'X-Amz-Security-Token=t' }, 'InvalidToken'],
    [
      'host not signed',
      { headers: { host: undefined, 'x-amz-acl': 'private' }, unsigned: { host: 'h' } },
      'AccessDenied',
    ],
    ['an unsigned SSE header', { unsigned: { 'x-amz-server-side-encryption': 'AES256' } }, 'AccessDenied'],
    ['an Authorization header besides', { unsigned: { authorization: 'AWS4-HMAC-SHA256 x' } }, 'InvalidArgument'],
    ['a date that does not exist', { timestamp: '20130231T000000Z' }, 'AuthorizationQueryParametersError'],
    ['a payload hash in the query', { query: `X-Amz-Content-Sha256=${HEX}`, payloadHash: HEX }, 'accepted'],
    ['a payload hash that was not signed', { query: `X-Amz-Content-Sha256=${HEX}` }, 'SignatureDoesNotMatch'],
    ['a line break in a parameter', { query: 'x-amz-meta-a=b%0D%0Ac%3A%20d' }, 'AuthorizationQueryParametersError'],
    ['a parameter that is no header name', { query: 'x-amz-meta-a%3Ab=c' }, 'AuthorizationQueryParametersError'],
    [
      'a parameter against its header',
      { query: 'x-amz-acl=a', headers: { 'x-amz-acl': 'b' } },
      'AuthorizationQueryParametersError',
    ],
    ['a parameter equal to its header', { query: 'x-amz-acl=a', headers: { 'x-amz-acl': 'a' } }, 'accepted'],
    ['a customer key in the URL', { query: 'x-amz-server-side-encryption-customer-key=a2V5' }, 'InvalidRequest'],
    [
      'a source key in the URL',
      { query: 'x-amz-copy-source-server-side-encryption-customer-key=a2V5' },
      'InvalidRequest',
    ],
  ])('%s', (_, given, code) => {
    expect(codeOf(() => verify(presign(given)))).toBe(code);
  });

  it.each(['Algorithm', 'Credential', 'Date', 'Expires', 'SignedHeaders', 'Signature'])('needs X-Amz-%s', (name) => {
    const head = presign({});
    const target = head.target.replace(new RegExp(`X-Amz-${name}=[^&]*&?`), '');
    expect(codeOf(() => verify({ ...head, target }))).toBe('AuthorizationQueryParametersError');
  });

  it.each([
    ['AWS4-HMAC-SHA1', 'AuthorizationQueryParametersError'],
    ['AWS4-ECDSA-P256-SHA256', 'NotImplemented'],
  ])('X-Amz-Algorithm=%s', (algorithm, code) => {
    const head = presign({});
    const target = head.target.replace('AWS4-HMAC-SHA256', algorithm);
    expect(codeOf(() => verify({ ...head, target }))).toBe(code);
  });

  it('moves x-amz- parameters into the headers, checksums and its own left out', () => {
    const verified = verify(
      presign({
        method: 'PUT',
        query: [
          'response-content-type=text%2Fplain',
          'x-amz-checksum-crc32=AAAAAA%3D%3D',
          'x-amz-checksum-mode=ENABLED',
          'x-amz-meta-blanks=%09%20b%20b%20',
          'x-amz-meta-name=%C3%A9',
          'x-amz-sdk-checksum-algorithm=CRC32',
          'x-amz-server-side-encryption=aws%3Akms',
          'x-id=PutObject',
        ].join('&'),
      }),
    );
    expect({ ...verified.request.headers }).toEqual({
      host: 'localhost:9000',
      'x-amz-checksum-mode': 'ENABLED',
      'x-amz-meta-blanks': 'b b',
      // The bytes of a UTF-8 é, as Node gives a header.
      'x-amz-meta-name': '\u00c3\u00a9',
      'x-amz-server-side-encryption': 'aws:kms',
    });
    expect([...verified.request.query.keys()]).toEqual(['response-content-type', 'x-id']);
  });

  it('makes no header of an unverified or header-form query', () => {
    const verified = verify(draft({ query: 'x-amz-acl=public-read' }));
    expect(verified.request.headers['x-amz-acl']).toBeUndefined();
  });
});
