import { describe, expect, it } from 'vitest';
import { codeOf, draft, verify, withHeader } from './support.ts';

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
