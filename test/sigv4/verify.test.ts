import { describe, expect, it } from 'vitest';
import {
  ACCESS_KEY_ID,
  alice,
  codeOf,
  draft,
  EMPTY,
  NOW,
  SECRET,
  signerOf,
  TIMESTAMP,
  verifierOf,
  verify,
  withHeader,
  type Draft,
} from './support.ts';

const at = (milliseconds: number): Date => new Date(NOW.getTime() + milliseconds);
const MINUTES = 60_000;
const HEX = '0123456789abcdef'.repeat(4);

function authorizationOf(edit: (text: string) => string) {
  const head = draft({});
  const text = head.rawHeaders[head.rawHeaders.indexOf('authorization') + 1] ?? '';
  return withHeader(head, 'authorization', edit(text));
}

describe('the header form', () => {
  it('returns who signed, what was asked and what the body must be', () => {
    const head = draft({
      method: 'PUT',
      path: '/bucket/a%20b',
      query: 'partNumber=1&uploadId=x%2By',
      headers: { 'content-length': '11', 'x-amz-meta-a': 'b' },
      payloadHash: HEX,
    });
    const verified = verify(head);
    expect(verified).toMatchObject({
      identity: alice,
      payload: { kind: 'sha256', digest: HEX },
      contentLength: 11,
      auth: 'header',
      region: 'us-east-1',
      service: 's3',
      seed: { timestamp: TIMESTAMP, scope: '20130524/us-east-1/s3/aws4_request', signature: head.signature },
    });
    expect(verified.request).toMatchObject({ method: 'PUT', path: '/bucket/a%20b' });
    expect([...verified.request.query]).toEqual([
      ['partNumber', '1'],
      ['uploadId', 'x+y'],
    ]);
    expect(verified.request.headers['x-amz-meta-a']).toBe('b');
  });

  it.each([
    ['exactly 15 minutes old', 15 * MINUTES, 'accepted'],
    ['one millisecond older', 15 * MINUTES + 1, 'RequestTimeTooSkewed'],
    ['exactly 15 minutes ahead', -15 * MINUTES, 'accepted'],
    ['one millisecond further ahead', -15 * MINUTES - 1, 'RequestTimeTooSkewed'],
  ])('skew: %s', (_, offset, code) => {
    expect(codeOf(() => verify(draft({}), at(offset)))).toBe(code);
  });

  it.each<[string, Draft, string]>([
    ['nothing bent', {}, 'accepted'],
    ['unknown access key', { accessKeyId: 'AKIAUNKNOWN' }, 'InvalidAccessKeyId'],
    ['another secret', { secret: `${SECRET}x` }, 'SignatureDoesNotMatch'],
    ['unknown access key, and the stand-in secret', { accessKeyId: 'AKIAX', secret: 'nobody' }, 'InvalidAccessKeyId'],
    ['another region', { scope: '20130524/eu-west-1/s3/aws4_request' }, 'AuthorizationHeaderMalformed'],
    ['another service', { scope: '20130524/us-east-1/iam/aws4_request' }, 'AuthorizationHeaderMalformed'],
    ['another date in the scope', { scope: '20130523/us-east-1/s3/aws4_request' }, 'AuthorizationHeaderMalformed'],
    ['another terminator', { scope: '20130524/us-east-1/s3/aws4_requesT' }, 'AuthorizationHeaderMalformed'],
    ['a session token', { headers: { 'x-amz-security-token': 't' } }, 'InvalidToken'],
    ['a session token in the query', { query: 'X-Amz-Security-Token=t' }, 'InvalidToken'],
    ['an S3 Express session', { headers: { 'x-amz-s3session-token': 't' } }, 'InvalidToken'],
    ['no x-amz-content-sha256', { headers: { 'x-amz-content-sha256': undefined } }, 'InvalidRequest'],
    ['no date', { headers: { 'x-amz-date': undefined } }, 'AccessDenied'],
    ['host not signed', { headers: { host: undefined }, unsigned: { host: 'localhost:9000' } }, 'AccessDenied'],
    ['no host at all', { headers: { host: undefined } }, 'AccessDenied'],
    ['an unsigned SSE header', { unsigned: { 'x-amz-server-side-encryption': 'AES256' } }, 'AccessDenied'],
    ['an unsigned X-AMZ- header in capitals', { unsigned: { 'X-AMZ-ACL': 'private' } }, 'AccessDenied'],
    ['an unsigned header of another kind', { unsigned: { 'content-type': 'text/plain' } }, 'accepted'],
    ['a month that does not exist', { timestamp: '20131324T000000Z' }, 'AccessDenied'],
    ['a day that does not exist', { timestamp: '20130631T000000Z' }, 'AccessDenied'],
    ['a date in another form', { timestamp: '2013-05-24T00:00:00Z' }, 'AccessDenied'],
  ])('%s', (_, given, code) => {
    expect(codeOf(() => verify(draft(given)))).toBe(code);
  });

  it('takes the Date header where x-amz-date is missing', () => {
    const date = (text: string) => draft({ headers: { date: text, 'x-amz-date': undefined } });
    expect(codeOf(() => verify(date('Fri, 24 May 2013 00:00:00 GMT')))).toBe('accepted');
    expect(codeOf(() => verify(date('Fri, 24 May 2013 00:00:00 +0000')))).toBe('AccessDenied');
    expect(codeOf(() => verify(date('Thu, 24 May 2013 00:00:00 GMT')))).toBe('AccessDenied');
  });

  it.each([
    ['no blanks between the fields', (t: string) => t.replaceAll(', ', ','), 'accepted'],
    ['another order of the fields', (t: string) => t.replace(/ (Cred\S+), (Sig\S+),/, ' $2, $1,'), 'accepted'],
    ['a field given twice', (t: string) => `${t}, Signature=${HEX}`, 'AuthorizationHeaderMalformed'],
    ['an unknown field', (t: string) => `${t}, Extra=1`, 'AuthorizationHeaderMalformed'],
    ['no signature', (t: string) => t.replace(/, Signature=.*/, ''), 'AuthorizationHeaderMalformed'],
    ['a short signature', (t: string) => t.slice(0, -1), 'AuthorizationHeaderMalformed'],
    ['a long signature', (t: string) => `${t}0`, 'AuthorizationHeaderMalformed'],
    [
      'a signature in capitals',
      (t: string) => t.replace(/Signature=.*/, (s) => 'Signature=' + s.slice(10).toUpperCase()),
      'AuthorizationHeaderMalformed',
    ],
    [
      'signed headers in another order',
      (t: string) => t.replace('host;x-amz-content-sha256', 'x-amz-content-sha256;host'),
      'AuthorizationHeaderMalformed',
    ],
    ['a signed header twice', (t: string) => t.replace('host;', 'host;host;'), 'AuthorizationHeaderMalformed'],
    ['signed headers in capitals', (t: string) => t.replace('host;', 'Host;'), 'AuthorizationHeaderMalformed'],
    ['an empty signed header', (t: string) => t.replace('host;', ';host;'), 'AuthorizationHeaderMalformed'],
    ['a signed header that did not come', (t: string) => t.replace('host;', 'host;if-match;'), 'SignatureDoesNotMatch'],
    ['signature version 2', () => 'AWS AKIAIOSFODNN7EXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=', 'InvalidRequest'],
    ['signature version 4a', (t: string) => t.replace('HMAC-SHA256', 'ECDSA-P256-SHA256'), 'NotImplemented'],
    ['a bearer token', () => 'Bearer abc', 'InvalidArgument'],
    ['a scheme alone', () => 'AWS4-HMAC-SHA256', 'AuthorizationHeaderMalformed'],
    ['an empty header', () => '', 'InvalidArgument'],
    ['8 KiB of it', (t: string) => t + ' '.repeat(8192), 'AuthorizationHeaderMalformed'],
  ])('Authorization: %s', (_, edit, code) => {
    expect(codeOf(() => verify(authorizationOf(edit)))).toBe(code);
  });

  it('refuses a request that nobody signed', () => {
    expect(codeOf(() => verify({ method: 'GET', target: '/bucket/key', rawHeaders: ['Host', 'x'] }))).toBe(
      'AccessDenied',
    );
    const v2 = { method: 'GET', target: '/b/k?AWSAccessKeyId=a&Expires=1&Signature=b', rawHeaders: ['Host', 'x'] };
    expect(codeOf(() => verify(v2))).toBe('InvalidRequest');
  });

  it.each([
    ['method', (head: ReturnType<typeof draft>) => ({ ...head, method: 'DELETE' })],
    ['path', (head: ReturnType<typeof draft>) => ({ ...head, target: head.target.replace('key', 'kez') })],
    [
      'path, in another encoding',
      (head: ReturnType<typeof draft>) => ({ ...head, target: head.target.replace('key', '%6bey') }),
    ],
    ['a slash more', (head: ReturnType<typeof draft>) => ({ ...head, target: head.target.replace('/key', '//key') })],
    ['query value', (head: ReturnType<typeof draft>) => ({ ...head, target: head.target.replace('=1', '=2') })],
    ['query added', (head: ReturnType<typeof draft>) => ({ ...head, target: `${head.target}&acl` })],
    ['host', (head: ReturnType<typeof draft>) => withHeader(head, 'host', 'localhost:9001')],
    ['signed header', (head: ReturnType<typeof draft>) => withHeader(head, 'x-amz-meta-a', 'c')],
    ['payload hash', (head: ReturnType<typeof draft>) => withHeader(head, 'x-amz-content-sha256', 'UNSIGNED-PAYLOAD')],
    ['date', (head: ReturnType<typeof draft>) => withHeader(head, 'x-amz-date', '20130524T000001Z')],
  ])('refuses a change after signing: %s', (_, change) => {
    const head = draft({ query: 'partNumber=1', headers: { 'x-amz-meta-a': 'b' } });
    expect(codeOf(() => verify(head))).toBe('accepted');
    expect(codeOf(() => verify(change(head)))).toBe('SignatureDoesNotMatch');
  });

  it('tells a client with the wrong region the right one', () => {
    const head = draft({ scope: '20130524/eu-west-1/s3/aws4_request' });
    expect(() => verify(head)).toThrow(
      expect.objectContaining({
        message: expect.stringContaining("the region 'eu-west-1' is wrong; expecting 'us-east-1'") as string,
        headers: { 'x-amz-bucket-region': 'us-east-1' },
      }) as Error,
    );
  });
});

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

describe('the request target and the headers', () => {
  const signed = (query: string) => draft({ query });

  it.each([
    ['the same parameter twice', 'acl=&acl=', 'InvalidArgument'],
    ['twice, once escaped', 'a%63l=&acl=', 'InvalidArgument'],
    ['x-amz- twice in different case', 'X-Amz-Acl=a&x-amz-acl=b', 'InvalidArgument'],
    ['the same name in different case', 'ACL=&acl=', 'accepted'],
    ['a parameter without a name', '=a', 'InvalidURI'],
    ['bytes that are not UTF-8', 'prefix=%FF', 'InvalidURI'],
    ['a broken escape', 'prefix=%4', 'InvalidURI'],
    ['an escape that is none', 'prefix=%zz', 'InvalidURI'],
    ['128 parameters', Array.from({ length: 128 }, (_, i) => `p${String(i).padStart(3, '0')}=`).join('&'), 'accepted'],
    [
      '129 parameters',
      Array.from({ length: 129 }, (_, i) => `p${String(i).padStart(3, '0')}=`).join('&'),
      'InvalidURI',
    ],
  ])('query: %s', (_, query, code) => {
    expect(codeOf(() => verify(signed(query)))).toBe(code);
  });

  it.each([
    ['a name without `=`', 'acl', 'acl='],
    ['`+` for a space', 'prefix=a+b', 'prefix=a%20b'],
    ['lower-case escapes', 'prefix=%c3%a9', 'prefix=%C3%A9'],
    ['another order', 'b=2&a=1', 'a=1&b=2'],
    ['unescaped characters', "prefix=a/(b)!*'", 'prefix=a%2F%28b%29%21%2A%27'],
    ['empty pieces', '&acl=&&', 'acl='],
  ])('takes %s on the wire for the canonical form', (_, wire, canonical) => {
    const head = draft({ query: canonical });
    expect(codeOf(() => verify({ ...head, target: `/bucket/key?${wire}` }))).toBe('accepted');
  });

  it.each([
    ['/bucket/a//b/../c/./%2F/%20', 'accepted'],
    ['//', 'accepted'],
    ['/a+b', 'accepted'],
    ['bucket/key', 'InvalidURI'],
    ['http://host/bucket/key', 'InvalidURI'],
    ['*', 'InvalidURI'],
    ['', 'InvalidURI'],
    ['/a#b', 'InvalidURI'],
    ['/a b', 'InvalidURI'],
    ['/a%', 'InvalidURI'],
    ['/a\u00e9', 'InvalidURI'],
    ['/a\nb', 'InvalidURI'],
    ['/' + 'a'.repeat(16_383), 'accepted'],
    ['/' + 'a'.repeat(16_384), 'InvalidURI'],
  ])('path %.30s', (path, code) => {
    expect(codeOf(() => verify(draft({ path })))).toBe(code);
  });

  it.each(['get', '', 'G ET', 'GET\n', 'A'.repeat(17)])('refuses the method %j', (method) => {
    expect(codeOf(() => verify(draft({ method })))).toBe('MethodNotAllowed');
  });

  it.each([
    ['host', 'InvalidArgument'],
    ['x-amz-date', 'InvalidArgument'],
    ['x-amz-content-sha256', 'InvalidArgument'],
    ['x-amz-meta-a', 'InvalidArgument'],
    ['authorization', 'InvalidArgument'],
    ['content-length', 'InvalidArgument'],
    ['content-type', 'InvalidArgument'],
    ['if-match', 'InvalidArgument'],
    ['range', 'InvalidArgument'],
    ['date', 'InvalidArgument'],
    ['transfer-encoding', 'InvalidArgument'],
    ['expect', 'InvalidArgument'],
    ['via', 'accepted'],
  ])('a second %s', (name, code) => {
    const plain = { 'content-length': '0', 'content-type': 'a/b', 'if-match': 'a', range: 'bytes=0-1', expect: 'a' };
    const head = draft({
      headers: { ...plain, 'x-amz-meta-a': 'b', date: 'x', 'transfer-encoding': 'chunked', via: '1.1 a' },
    });
    const value = head.rawHeaders[head.rawHeaders.indexOf(name) + 1] ?? '';
    expect(codeOf(() => verify(head))).toBe('accepted');
    const twice = { ...head, rawHeaders: [...head.rawHeaders, name.toUpperCase(), value] };
    // A second `via` is lawful, but this one was signed as it was.
    expect(codeOf(() => verify(twice))).toBe(code === 'accepted' ? 'SignatureDoesNotMatch' : code);
  });

  it('joins a lawful second header', () => {
    const head = draft({});
    const verified = verify({ ...head, rawHeaders: [...head.rawHeaders, 'Via', '1.1 a', 'via', '1.1 b'] });
    expect(verified.request.headers['via']).toBe('1.1 a,1.1 b');
  });

  it.each([
    ['x-a: b', 'b'],
    ['', 'b'],
    ['x-a', 'b\nc'],
    ['x-a', 'b\u0000'],
    ['x-a', 'b\u007f'],
    ['x-a', 'b\u0100'],
  ])('refuses the header %j with %j', (name, value) => {
    const head = draft({});
    expect(codeOf(() => verify({ ...head, rawHeaders: [...head.rawHeaders, name, value] }))).toBe('InvalidRequest');
  });

  it.each([
    ['256 headers', 256, 1, 'accepted'],
    ['257 headers', 257, 1, 'RequestHeaderSectionTooLarge'],
    ['more than 64 KiB', 100, 700, 'RequestHeaderSectionTooLarge'],
  ])('%s', (_, count, length, code) => {
    const head = draft({});
    const rawHeaders = [...head.rawHeaders];
    for (let i = rawHeaders.length / 2; i < count; i++) rawHeaders.push(`a${String(i)}`, 'v'.repeat(length));
    expect(codeOf(() => verify({ ...head, rawHeaders }))).toBe(code);
  });

  it('keeps `__proto__` a name like any other', () => {
    const head = draft({ query: '__proto__=a', headers: { 'x-amz-meta-__proto__': 'b' } });
    const rawHeaders = [...head.rawHeaders, '__proto__', 'c'];
    expect(verify({ ...head, rawHeaders }).request.headers['__proto__']).toBe('c');
  });

  it('folds blanks in header values, and takes no UTF-8 byte for one', () => {
    const head = draft({ headers: { 'x-amz-meta-a': 'a b', 'x-amz-meta-b': 'voil\u00c3\u00a0' } });
    expect(codeOf(() => verify(head))).toBe('accepted');
    expect(codeOf(() => verify(withHeader(head, 'x-amz-meta-a', ' a \t  b ')))).toBe('accepted');
    expect(codeOf(() => verify(withHeader(head, 'x-amz-meta-b', 'voil\u00c3')))).toBe('SignatureDoesNotMatch');
  });
});

describe('the payload mode', () => {
  const put = (payloadHash: string, headers: Draft['headers'] = {}) =>
    verify(draft({ method: 'PUT', payloadHash, headers }));
  const LENGTH = { 'x-amz-decoded-content-length': '5' };
  const TRAILER = { 'x-amz-trailer': 'x-amz-checksum-crc32' };

  it.each<[string, Draft['headers'], unknown]>([
    [HEX, {}, { kind: 'sha256', digest: HEX }],
    ['UNSIGNED-PAYLOAD', {}, { kind: 'unsigned' }],
    ['STREAMING-AWS4-HMAC-SHA256-PAYLOAD', LENGTH, { kind: 'signed-chunks', trailer: false }],
    ['STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER', { ...LENGTH, ...TRAILER }, { kind: 'signed-chunks', trailer: true }],
    ['STREAMING-UNSIGNED-PAYLOAD-TRAILER', { ...LENGTH, ...TRAILER }, { kind: 'unsigned-trailer' }],
  ])('%s', (literal, headers, mode) => {
    expect(put(literal, headers).payload).toEqual(mode);
  });

  it.each([
    ['STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD', 'NotImplemented'],
    ['STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER', 'NotImplemented'],
    ['STREAMING-AWS4-HMAC-SHA256-EVENTS', 'InvalidArgument'],
    ['unsigned-payload', 'InvalidArgument'],
    [HEX.toUpperCase(), 'InvalidArgument'],
    [HEX.slice(1), 'InvalidArgument'],
    ['', 'InvalidArgument'],
  ])('refuses %j', (literal, code) => {
    expect(codeOf(() => put(literal, LENGTH))).toBe(code);
  });

  const CHUNKED = 'STREAMING-UNSIGNED-PAYLOAD-TRAILER';
  it.each<[string, string, Draft['headers'], string]>([
    ['no decoded length', CHUNKED, TRAILER, 'MissingContentLength'],
    ['only Content-Length', CHUNKED, { ...TRAILER, 'content-length': '5' }, 'MissingContentLength'],
    [
      'a decoded length that is no number',
      CHUNKED,
      { ...TRAILER, 'x-amz-decoded-content-length': '0x5' },
      'InvalidArgument',
    ],
    ['a negative one', CHUNKED, { ...TRAILER, 'x-amz-decoded-content-length': '-5' }, 'InvalidArgument'],
    ['one of 16 digits', CHUNKED, { ...TRAILER, 'x-amz-decoded-content-length': '1'.repeat(16) }, 'InvalidArgument'],
    ['no x-amz-trailer', CHUNKED, LENGTH, 'InvalidRequest'],
    ['a trailer that is no checksum', CHUNKED, { ...LENGTH, 'x-amz-trailer': 'x-amz-meta-a' }, 'InvalidRequest'],
    [
      'two trailers',
      CHUNKED,
      { ...LENGTH, 'x-amz-trailer': 'x-amz-checksum-crc32,x-amz-checksum-sha1' },
      'InvalidRequest',
    ],
    ['a checksum in the headers too', CHUNKED, { ...LENGTH, ...TRAILER, 'x-amz-checksum-sha1': 'a' }, 'InvalidRequest'],
    [
      'a checksum algorithm in the headers',
      CHUNKED,
      { ...LENGTH, ...TRAILER, 'x-amz-sdk-checksum-algorithm': 'CRC32' },
      'accepted',
    ],
    [
      'a trailer named in another mode',
      'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
      { ...LENGTH, ...TRAILER },
      'InvalidRequest',
    ],
    ['a trailer named with a plain body', 'UNSIGNED-PAYLOAD', TRAILER, 'InvalidRequest'],
    ['a plain body without a length', 'UNSIGNED-PAYLOAD', { 'transfer-encoding': 'chunked' }, 'MissingContentLength'],
    ['a plain body with a bad length', 'UNSIGNED-PAYLOAD', { 'content-length': '5x' }, 'InvalidArgument'],
    ['no body', 'UNSIGNED-PAYLOAD', {}, 'accepted'],
  ])('%s', (_, literal, headers, code) => {
    expect(codeOf(() => put(literal, headers))).toBe(code);
  });

  it('counts the decoded bytes of a chunked body', () => {
    expect(put(CHUNKED, { ...LENGTH, ...TRAILER, 'content-length': '99' }).contentLength).toBe(5);
  });
});

describe('a collected body (admin plane)', () => {
  const admin = verifierOf({ services: ['s3', 'execute-api'] });
  const SCOPE = '20130524/us-east-1/execute-api/aws4_request';
  const body = Buffer.from('{}');
  const DIGEST = '44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a';
  const none = { 'x-amz-content-sha256': undefined };
  type Row = [string, Draft, 'header' | 'presigned', Buffer | undefined, string];

  it.each<Row>([
    ['the digest as header, s3', { payloadHash: DIGEST }, 'header', body, 'accepted'],
    [
      'the digest as header, another body',
      { payloadHash: DIGEST },
      'header',
      Buffer.from('[]'),
      'XAmzContentSHA256Mismatch',
    ],
    ['no header, s3', { payloadHash: DIGEST, headers: none }, 'header', body, 'InvalidRequest'],
    ['UNSIGNED-PAYLOAD', { payloadHash: 'UNSIGNED-PAYLOAD' }, 'header', body, 'InvalidRequest'],
    ['UNSIGNED-PAYLOAD, no body', { payloadHash: 'UNSIGNED-PAYLOAD' }, 'header', Buffer.alloc(0), 'InvalidRequest'],
    ['chunks', { payloadHash: 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD' }, 'header', body, 'InvalidRequest'],
    ['no header, execute-api', { scope: SCOPE, payloadHash: DIGEST, headers: none }, 'header', body, 'accepted'],
    [
      'no header, execute-api, another body',
      { scope: SCOPE, payloadHash: DIGEST, headers: none },
      'header',
      Buffer.from('[]'),
      'SignatureDoesNotMatch',
    ],
    [
      'no header, execute-api, no body given',
      { scope: SCOPE, payloadHash: DIGEST, headers: none },
      'header',
      undefined,
      'InvalidRequest',
    ],
    ['presigned, s3', {}, 'presigned', body, 'InvalidRequest'],
    [
      'presigned, s3, with the digest',
      { query: `X-Amz-Content-Sha256=${DIGEST}`, payloadHash: DIGEST },
      'presigned',
      body,
      'accepted',
    ],
    ['presigned, execute-api', { scope: SCOPE, payloadHash: DIGEST }, 'presigned', body, 'accepted'],
    [
      'presigned, execute-api, another body',
      { scope: SCOPE, payloadHash: DIGEST },
      'presigned',
      Buffer.from('[]'),
      'SignatureDoesNotMatch',
    ],
  ])('%s', (_, given, form, collected, code) => {
    const head = draft({ method: 'POST', ...given }, form);
    expect(codeOf(() => admin.verify(head, NOW, collected))).toBe(code);
  });

  it('is not a service of the data plane', () => {
    expect(codeOf(() => verify(draft({ scope: SCOPE })))).toBe('AuthorizationHeaderMalformed');
  });
});

describe('a verifier', () => {
  it('accepts every region and service it was given, and only those', () => {
    const verifier = verifierOf({ regions: ['us-east-1', 'eu-west-1'] });
    for (const region of ['us-east-1', 'eu-west-1', 'eu-west-2']) {
      const head = draft({ scope: `20130524/${region}/s3/aws4_request` });
      expect(codeOf(() => verifier.verify(head, NOW))).toBe(
        region === 'eu-west-2' ? 'AuthorizationHeaderMalformed' : 'accepted',
      );
    }
  });

  it('forgets a signing key when the secret has changed, and an identity that is gone', () => {
    const people = new Map([[ACCESS_KEY_ID, alice]]);
    const verifier = verifierOf({ lookup: (id) => people.get(id) });
    const old = draft({});
    expect(codeOf(() => verifier.verify(old, NOW))).toBe('accepted');
    people.set(ACCESS_KEY_ID, { ...signerOf(ACCESS_KEY_ID, 'rotated'), name: 'alice' });
    expect(codeOf(() => verifier.verify(old, NOW))).toBe('SignatureDoesNotMatch');
    expect(codeOf(() => verifier.verify(draft({ secret: 'rotated' }), NOW))).toBe('accepted');
    people.clear();
    expect(codeOf(() => verifier.verify(draft({ secret: 'rotated' }), NOW))).toBe('InvalidAccessKeyId');
  });

  it('keeps no more signing keys than it was told', () => {
    const verifier = verifierOf({ cachedKeys: 1, regions: ['us-east-1', 'eu-west-1'] });
    for (const region of ['us-east-1', 'eu-west-1', 'us-east-1']) {
      const head = draft({ scope: `20130524/${region}/s3/aws4_request`, payloadHash: EMPTY });
      expect(codeOf(() => verifier.verify(head, NOW))).toBe('accepted');
    }
  });
});
