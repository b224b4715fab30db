import { createSecretKey } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { decodeManifest, encodeManifest, openManifest, sealManifest, type Manifest } from '../../src/sse/manifest.ts';
import { manifestMessageLength } from '../../src/sse/size.ts';
import { openTailManifest } from '../../src/sse/tail.ts';
import { bytes } from './fixture.ts';

const key = createSecretKey(bytes(32, 'manifest key'));
const objectId = bytes(32, 'object id');
const refusedAs = (reason: string): unknown => expect.objectContaining({ reason: `integrity:${reason}` });

function multipart(count: number, seed = 'm'): Manifest {
  const entries = Array.from({ length: count }, (_, index) => ({
    partNumber: index + 1,
    length: 5_242_880 + index,
    floeIv: bytes(32, `${seed} iv ${index}`),
    headerTag: bytes(32, `${seed} tag ${index}`),
    checksum: { algorithm: 'CRC32C', type: 'FULL_OBJECT', value: bytes(4, `${index}`) } as const,
  }));
  return {
    type: 'multipart',
    length: entries.reduce((sum, entry) => sum + entry.length, 0),
    checksum: { algorithm: 'SHA256', type: 'COMPOSITE', value: bytes(32) },
    entries,
  };
}
const three = multipart(3);

describe('a manifest', () => {
  it.each([1, 3, 431, 432, 1000])('of %i parts comes back', (count) => {
    const manifest = multipart(count);
    const sealed = sealManifest(key, objectId, manifest);
    expect(sealed.length).toBe(manifestMessageLength(count));
    expect(openManifest(key, objectId, count, sealed)).toEqual(manifest);
  });

  it('of a single object has no entries', () => {
    const manifest: Manifest = { type: 'single', length: 7, checksum: undefined, entries: [] };
    expect(openManifest(key, objectId, 0, sealManifest(key, objectId, manifest))).toEqual(manifest);
  });

  it('is sealed to the same bytes by two replicas, and to no common byte when it differs', () => {
    expect(sealManifest(key, objectId, three).equals(sealManifest(key, objectId, multipart(3)))).toBe(true);
    const [a, b] = [sealManifest(key, objectId, three), sealManifest(key, objectId, multipart(3, 'other'))];
    expect(a.subarray(10, 42).equals(b.subarray(10, 42))).toBe(false);
    expect(a.subarray(78, 90).equals(b.subarray(78, 90))).toBe(false);
  });

  it('has another IV in every segment', () => {
    const sealed = sealManifest(key, objectId, multipart(2000));
    const ivs = Array.from({ length: 5 }, (_, index) => sealed.subarray(78 + index * 65568, 90 + index * 65568));
    expect(new Set(ivs.map((iv) => iv.toString('hex'))).size).toBe(5);
  });

  it.each([
    ['another key', createSecretKey(bytes(32, 'x')), objectId, 3],
    ['another object', key, bytes(32, 'x'), 3],
    ['another number of parts', key, objectId, 4],
  ])('does not open with %s', (_, k, id, count) => {
    expect(() => openManifest(k, id, count, sealManifest(key, objectId, three))).toThrow();
  });

  it.each<[string, number, number, string]>([
    ['another version', 0, 2, 'manifest-version'],
    ['an object type that is not known', 1, 2, 'manifest-version'],
    ['type single with entries', 1, 0, 'manifest-parts'],
    ['a checksum algorithm that is not known', 2, 9, 'checksum-form'],
    ['a checksum type that is not known', 3, 3, 'checksum-form'],
    ['a checksum length that is not the algorithm’s', 4, 31, 'checksum-form'],
    ['a byte in the head’s zeros', 5, 1, 'manifest-form'],
    ['a T that is not the sum of the parts', 15, 9, 'manifest-sum'],
    ['another number of entries', 19, 2, 'manifest-length'],
    ['a byte in the second zeros', 20, 1, 'manifest-form'],
    ['a byte behind the checksum', 24 + 40, 1, 'checksum-form'],
    ['a byte in the reserved end of the head', 119, 1, 'manifest-form'],
    ['part 0', 121, 0, 'manifest-order'],
    ['a part above 10,000', 120, 0x40, 'manifest-order'],
    ['the flag of a copied part', 123, 1, 'manifest-entry'],
    ['a byte in an entry’s zeros', 126, 1, 'manifest-entry'],
    ['a byte in an entry’s reserved end', 120 + 151, 1, 'manifest-entry'],
    ['two entries of one number', 120 + 152 + 1, 1, 'manifest-order'],
  ])('with %s is refused, even authenticated', (_, at, value, reason) => {
    const plaintext = encodeManifest(three);
    plaintext.writeUInt8(value, at);
    expect(() => decodeManifest(plaintext)).toThrow(refusedAs(reason));
  });

  it.each<[string, Partial<Manifest>]>([
    ['parts out of order', { entries: [...three.entries].reverse() }],
    ['a T that is not the sum', { length: three.length + 1 }],
    ['no parts', { entries: [], length: 0 }],
    ['a single with parts', { type: 'single' }],
  ])('is never sealed with %s', (_, change) => {
    expect(() => sealManifest(key, objectId, { ...three, ...change })).toThrow();
  });

  it('is held against the footer', () => {
    const sealed = sealManifest(key, objectId, three);
    const footer = { type: 'multipart', parts: 3, length: three.length } as const;
    const open = (change: object): Manifest =>
      openTailManifest({ manifestKey: key, objectId, footer: { ...footer, ...change }, sealed });
    expect(open({})).toEqual(three);
    expect(() => open({ length: three.length + 1 })).toThrow(refusedAs('manifest-footer'));
    expect(() => open({ type: 'single' })).toThrow(refusedAs('manifest-footer'));
    expect(() => open({ parts: 2 })).toThrow(refusedAs('manifest-length'));
  });
});
