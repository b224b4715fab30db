import { describe, expect, it } from 'vitest';
import { ServiceError } from '../../src/errors.ts';
import { conditionsOf, evaluateConditions } from '../../src/s3/conditions.ts';
import { formatContentRange, parseRange, resolveRange } from '../../src/s3/range.ts';

function resolve(header: string, size: number): string {
  try {
    const range = resolveRange(parseRange(header), size);
    return range === undefined ? 'whole' : formatContentRange(range);
  } catch (err) {
    if (!(err instanceof ServiceError)) throw err;
    return `${err.status} ${err.headers['Content-Range'] ?? ''}`;
  }
}

describe('Range', () => {
  it.each([
    ['bytes=0-0', 10, 'bytes 0-0/10'],
    ['bytes=0-9', 10, 'bytes 0-9/10'],
    ['bytes=0-10', 10, 'bytes 0-9/10'],
    ['bytes=9-', 10, 'bytes 9-9/10'],
    ['bytes=0-', 10, 'bytes 0-9/10'],
    ['bytes=-1', 10, 'bytes 9-9/10'],
    ['bytes=-10', 10, 'bytes 0-9/10'],
    ['bytes=-11', 10, 'bytes 0-9/10'],
    ['BYTES= 2-3 ', 10, 'bytes 2-3/10'],
    ['bytes=10-', 10, '416 bytes */10'],
    ['bytes=10-20', 10, '416 bytes */10'],
    ['bytes=-0', 10, '416 bytes */10'],
    ['bytes=0-', 0, '416 bytes */0'],
    ['bytes=-5', 0, '416 bytes */0'],
    ['bytes=99999999999999999999999-', 10, '416 bytes */10'],
    ['bytes=1-99999999999999999999999', 10, 'bytes 1-9/10'],
    ['bytes=-99999999999999999999999', 10, 'bytes 0-9/10'],
    // Ignored: RFC 9110 section 14.2, and AWS for several ranges.
    ['bytes=0-1,3-4', 10, 'whole'],
    ['bytes=5-4', 10, 'whole'],
    ['bytes=-', 10, 'whole'],
    ['bytes=a-b', 10, 'whole'],
    ['bytes=+1-2', 10, 'whole'],
    ['items=0-1', 10, 'whole'],
    ['0-1', 10, 'whole'],
    ['', 10, 'whole'],
  ])('%s of %i bytes is %s', (header, size, expected) => expect(resolve(header, size)).toBe(expected));

  it('is nothing without a header', () => expect(parseRange(undefined)).toBeUndefined());
});

describe('conditions', () => {
  const lastModified = new Date('2026-03-04T05:06:07.890Z');
  const at = 'Wed, 04 Mar 2026 05:06:07 GMT';
  const before = 'Wed, 04 Mar 2026 05:06:06 GMT';
  const after = 'Wed, 04 Mar 2026 05:06:08 GMT';
  const check = (headers: Record<string, string>) =>
    evaluateConditions(conditionsOf(headers), { etag: '"abc-01"', lastModified });

  it.each<[Record<string, string>, string]>([
    [{}, 'go'],
    [{ 'if-match': '"abc-01"' }, 'go'],
    [{ 'if-match': 'abc-01' }, 'go'],
    [{ 'if-match': '*' }, 'go'],
    [{ 'if-match': '"x", "abc-01"' }, 'go'],
    [{ 'if-match': '"abc"' }, 'failed'],
    [{ 'if-match': 'W/"abc-01"' }, 'failed'],
    [{ 'if-none-match': '"abc-01"' }, 'not-modified'],
    [{ 'if-none-match': 'W/"abc-01"' }, 'not-modified'],
    [{ 'if-none-match': '*' }, 'not-modified'],
    [{ 'if-none-match': '"abc"' }, 'go'],
    [{ 'if-modified-since': before }, 'go'],
    [{ 'if-modified-since': at }, 'not-modified'],
    [{ 'if-modified-since': after }, 'not-modified'],
    [{ 'if-modified-since': '2026-03-04' }, 'go'],
    [{ 'if-unmodified-since': before }, 'failed'],
    [{ 'if-unmodified-since': at }, 'go'],
    [{ 'if-unmodified-since': 'yesterday' }, 'go'],
    // Precedence, RFC 9110 section 13.2.2.
    [{ 'if-match': '"abc-01"', 'if-unmodified-since': before }, 'go'],
    [{ 'if-match': '"x"', 'if-unmodified-since': after }, 'failed'],
    [{ 'if-none-match': '"x"', 'if-modified-since': after }, 'go'],
    [{ 'if-none-match': '"abc-01"', 'if-modified-since': before }, 'not-modified'],
    [{ 'if-match': '"x"', 'if-none-match': '"abc-01"' }, 'failed'],
  ])('%j: %s', (headers, expected) => expect(check(headers)).toBe(expected));
});
