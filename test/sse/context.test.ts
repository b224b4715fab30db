import { describe, expect, it } from 'vitest';
import {
  clientContext,
  contextDigest,
  decodePairs,
  effectiveContext,
  encodePairs,
  isReservedContextName,
  parseContextHeader,
  type EncryptionContext,
} from '../../src/sse/context.ts';
import { FieldReader } from '../../src/sse/reader.ts';
import { bytes, PLACE } from './fixture.ts';

const header = (json: string): string => Buffer.from(json, 'utf8').toString('base64');
const invalid = (reason: string): unknown => expect.objectContaining({ code: 'InvalidArgument', reason });
const objectArn = `arn:aws:s3:::photos/${PLACE.key}`;

describe('the context header', () => {
  it.each<[string, string, EncryptionContext]>([
    ['nothing', '{}', []],
    ['one pair', '{"a":"b"}', [['a', 'b']]],
    [
      'white space',
      ' {\n"a" : "b" , "c":"d"\t} ',
      [
        ['a', 'b'],
        ['c', 'd'],
      ],
    ],
    [
      'pairs out of order',
      '{"b":"1","a":"2"}',
      [
        ['a', '2'],
        ['b', '1'],
      ],
    ],
    [
      'order by UTF-8 bytes, not by UTF-16 units',
      '{"\\ud83d\\ude00":"1","\\uff5e":"2"}',
      [
        ['～', '2'],
        ['😀', '1'],
      ],
    ],
    ['escapes and braces inside text', '{"a\\"{,}:":"\\u00e9}"}', [['a"{,}:', 'é}']]],
    ['an empty value', '{"a":""}', [['a', '']]],
    ['a name that is special to JavaScript', '{"__proto__":"x"}', [['__proto__', 'x']]],
  ])('with %s is parsed', (_, json, pairs) => {
    expect(parseContextHeader(header(json))).toEqual(pairs);
  });

  it.each([
    ['not base64', '{"a":"b"}'],
    ['base64 without padding', header('{"ab":"b"}').replace(/=+$/, '')],
    ['base64url', Buffer.from('{"a":"~~~?"}').toString('base64url') + '_'],
    ['nothing at all', ''],
    ['an array', header('["a"]')],
    ['a string', header('"a"')],
    ['null', header('null')],
    ['a number for a value', header('{"a":1}')],
    ['null for a value', header('{"a":null}')],
    ['a map for a value', header('{"a":{"b":"c"}}')],
    ['a trailing comma', header('{"a":"b",}')],
    ['a missing comma', header('{"a":"b" "c":"d"}')],
    ['a name without a value', header('{"a"}')],
    ['two maps', header('{"a":"b"}{"c":"d"}')],
    ['text behind the map', header('{"a":"b"}x')],
    ['a bad escape', header('{"a":"\\x"}')],
    ['a control character', header('{"a":"\n"}')],
    ['an empty name', header('{"":"b"}')],
    ['a lone surrogate in a name', header('{"\\ud800":"b"}')],
    ['a lone surrogate in a value', header('{"a":"\\udc00"}')],
    ['bytes that are not UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x22, 0x22, 0x7d]).toString('base64')],
    ['a byte order mark', header('\ufeff{"a":"b"}')],
  ])('with %s is malformed', (_, value) => {
    expect(() => parseContextHeader(value)).toThrow(invalid('context-malformed'));
  });

  it('with a name twice is refused, however it is escaped', () => {
    expect(() => parseContextHeader(header('{"a":"b","\\u0061":"c"}'))).toThrow(invalid('context-duplicate'));
  });

  it('of more than 8 KiB is refused', () => {
    expect(() => parseContextHeader(header(`{"a":"${'x'.repeat(9000)}"}`))).toThrow(invalid('context-too-large'));
  });

  it('that would take a careless parser long is refused at once', () => {
    const began = performance.now();
    expect(() => parseContextHeader(header(`{${'"a":"b",'.repeat(900)}`))).toThrow();
    expect(() => parseContextHeader(header(`{"${'\\\\'.repeat(3900)}`))).toThrow();
    expect(performance.now() - began).toBeLessThan(500);
  });
});

describe('the effective context', () => {
  it('adds the ARN of the object and the bucket id', () => {
    expect(effectiveContext([['z', '1']], PLACE, false)).toEqual([
      ['aws:s3:arn', objectArn],
      ['express-s3-sse:bucket-id', PLACE.bucketId.toString('base64url')],
      ['z', '1'],
    ]);
  });

  it('has the ARN of the bucket with a bucket key', () => {
    expect(effectiveContext([], PLACE, true)[0]).toEqual(['aws:s3:arn', 'arn:aws:s3:::photos']);
  });

  it("takes a client's own ARN only when it is the real one, and does not keep it", () => {
    expect(clientContext([['aws:s3:arn', objectArn]], PLACE, false)).toEqual([]);
    expect(effectiveContext([['aws:s3:arn', objectArn]], PLACE, false)).toEqual(effectiveContext([], PLACE, false));
  });

  it.each<[string, string]>([
    ['aws:s3:arn', 'arn:aws:s3:::photos/other'],
    ['aws:s3:arn', 'arn:aws:s3:::photos'],
    ['aws:s3:arn', ''],
    ['aws:s3:other', 'x'],
    ['express-s3-sse:bucket-id', PLACE.bucketId.toString('base64url')],
    ['express-s3-sse:x', 'x'],
  ])('refuses %s = %j of a client', (name, value) => {
    expect(() => effectiveContext([[name, value]], PLACE, false)).toThrow(invalid('context-reserved'));
    expect(isReservedContextName(name)).toBe(true);
  });
});

describe('the context digest', () => {
  it('does not depend on the order of pairs', () => {
    const digest = contextDigest([
      ['a', '1'],
      ['b', '2'],
    ]);
    expect(
      contextDigest([
        ['b', '2'],
        ['a', '1'],
      ]).equals(digest),
    ).toBe(true);
  });

  it.each<[string, EncryptionContext, EncryptionContext]>([
    ['where a name ends', [['ab', 'c']], [['a', 'bc']]],
    [
      'how many pairs there are',
      [
        ['a', 'b'],
        ['c', 'd'],
      ],
      [['a', 'bcd']],
    ],
    ['a value', [['a', 'b']], [['a', 'c']]],
    ['an empty pair', [], [['a', '']]],
  ])('depends on %s', (_, left, right) => {
    expect(contextDigest(left).equals(contextDigest(right))).toBe(false);
  });

  it('depends on the bucket id', () => {
    const other = effectiveContext([], { ...PLACE, bucketId: bytes(16, 'other') }, true);
    expect(contextDigest(effectiveContext([], PLACE, true)).equals(contextDigest(other))).toBe(false);
  });
});

describe('stored pairs', () => {
  const decode = (stored: Buffer): EncryptionContext => {
    const reader = new FieldReader(stored, () => new Error('malformed'));
    const pairs = decodePairs(reader, () => new Error('malformed'));
    reader.end();
    return pairs;
  };

  it('come back', () => {
    const pairs = [
      ['a', ''],
      ['bücher', '😀'],
    ] as const;
    expect(decode(encodePairs(pairs))).toEqual(pairs);
  });

  it.each([
    [
      'out of order',
      [
        ['b', '1'],
        ['a', '2'],
      ],
    ],
    [
      'twice',
      [
        ['a', '1'],
        ['a', '2'],
      ],
    ],
    ['without a name', [['', '1']]],
  ] as const)('%s are refused', (_, pairs) => {
    expect(() => decode(encodePairs(pairs))).toThrow('malformed');
  });

  it('that are not UTF-8 are refused', () => {
    expect(() => decode(Buffer.from([1, 0, 1, 0xff, 0, 0]))).toThrow('malformed');
  });
});
