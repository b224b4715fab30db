import { describe, expect, it } from 'vitest';
import { verifyMetadata, type VerifiedEnvelope } from '../../src/sse/envelope.ts';
import { ENVELOPE_HEADER } from '../../src/sse/format.ts';
import { COVERED_HEADERS, metadataDigest } from '../../src/sse/metadata.ts';

const base = { 'content-type': 'text/plain', 'x-amz-meta-a': '1' };
const digest = (headers: Record<string, string | undefined>): string => metadataDigest(headers).toString('hex');

describe('the metadata digest', () => {
  it.each([...COVERED_HEADERS, 'x-amz-meta-b', 'x-amz-meta-'])('covers %s: present or not, and its value', (name) => {
    const values = [undefined, 'one', 'two'].map((value) => digest({ ...base, [name]: value }));
    expect(new Set(values).size).toBe(3);
  });

  it.each([ENVELOPE_HEADER, 'etag', 'last-modified', 'content-length', 'x-amz-storage-class', 'x-amz-tagging-count'])(
    'leaves %s out',
    (name) => {
      expect(digest({ ...base, [name]: 'x' })).toBe(digest(base));
    },
  );

  it.each([
    ['an empty value counts as absent', { 'x-amz-meta-b': '' }],
    ['so does one of spaces', { 'cache-control': ' \t' }],
    ['surrounding spaces do not count', { 'x-amz-meta-a': '  1\t' }],
  ])('%s', (_, headers) => {
    expect(digest({ ...base, ...headers })).toBe(digest(base));
  });

  it('keeps inner spaces, case and octets of values', () => {
    const values = ['a b', 'a  b', 'A b', 'a\u00e9b', 'a\u00c3\u00a9b'].map((value) =>
      digest({ 'x-amz-meta-a': value }),
    );
    expect(new Set(values).size).toBe(values.length);
  });

  // The store sends the headers: a pattern that looks for blanks at the end took minutes for these.
  it('takes a value of inner blanks as it takes any other', { timeout: 10_000 }, () => {
    expect(digest({ ...base, 'cache-control': `a${' '.repeat(200_000)}b` })).not.toBe(digest(base));
  });

  it('does not depend on the order of headers, but on which value is whose', () => {
    expect(digest({ 'x-amz-meta-b': '2', 'x-amz-meta-a': '1' })).toBe(
      digest({ 'x-amz-meta-a': '1', 'x-amz-meta-b': '2' }),
    );
    expect(digest({ 'x-amz-meta-a': '2', 'x-amz-meta-b': '1' })).not.toBe(
      digest({ 'x-amz-meta-a': '1', 'x-amz-meta-b': '2' }),
    );
  });

  it('a stored value that no header can hold is a fault of the object, never of the read', () => {
    const envelope = { metadataDigest: metadataDigest(base) } as VerifiedEnvelope;
    expect(() => verifyMetadata(envelope, base)).not.toThrow();
    expect(() => verifyMetadata(envelope, { ...base, 'x-amz-meta-a': '\u20ac' })).toThrow(
      expect.objectContaining({ code: 'InternalError', reason: 'integrity:metadata' }),
    );
  });

  it('refuses a value that cannot have been octets on the wire', () => {
    expect(() => metadataDigest({ 'x-amz-meta-a': '\u20ac' })).toThrow(
      expect.objectContaining({ code: 'InvalidArgument' }),
    );
  });
});
