import { describe, expect, it } from 'vitest';
import { createSigningKeys } from '../../src/sigv4/keys.ts';
import {
  ACCESS_KEY_ID,
  alice,
  codeOf,
  draft,
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

  it('refuses to take a signed header that was removed for an empty one', () => {
    const head = draft({ headers: { 'x-amz-meta-a': '' } });
    expect(codeOf(() => verify(head))).toBe('accepted');
    const at = head.rawHeaders.indexOf('x-amz-meta-a');
    const rawHeaders = head.rawHeaders.filter((_, index) => index !== at && index !== at + 1);
    expect(codeOf(() => verify({ ...head, rawHeaders }))).toBe('SignatureDoesNotMatch');
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

  it('derives a signing key once, and keeps no more of them than it was told', () => {
    const keys = createSigningKeys(2);
    const scope = (region: string) => ({ date: '20130524', region, service: 's3' });
    const first = keys.of(alice, scope('a'));
    expect(keys.of(alice, scope('a'))).toBe(first);
    keys.of(alice, scope('b'));
    expect(keys.of(alice, scope('a'))).toBe(first);
    keys.of(alice, scope('c'));
    expect(keys.of(alice, scope('a'))).not.toBe(first);
    expect(keys.of(alice, scope('a')).equals(first)).toBe(true);
  });
});
