import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { multipartSealedSize, plaintextSize, sealedSize } from '../../src/sse/size.ts';

interface Vectors {
  readonly F: readonly { readonly plaintext: string; readonly sealed: string }[];
  readonly notInImage: readonly string[];
}
const vectors = JSON.parse(
  readFileSync(new URL('../vectors/size/canonical-size.json', import.meta.url), 'utf8'),
) as Vectors;

describe('the canonical size', () => {
  it.each(vectors.F)('F($plaintext) = $sealed, and back', ({ plaintext, sealed }) => {
    expect(sealedSize(Number(plaintext))).toBe(Number(sealed));
    expect(plaintextSize(Number(sealed))).toBe(Number(plaintext));
  });

  it.each(vectors.notInImage.filter((size) => size !== '1120'))('%s is no sealed size', (size) => {
    expect(plaintextSize(Number(size))).toBeUndefined();
  });

  it('1120, the multipart upload of nothing, inverts to 0 by rule', () => {
    expect(multipartSealedSize(0)).toBe(1120);
    expect(plaintextSize(1120)).toBe(0);
  });

  it.each([-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])('%d inverts to nothing', (size) => {
    expect(plaintextSize(size)).toBeUndefined();
  });

  it.each([-1, 0.5, Number.NaN, 10_000 * 5 * 1024 ** 3 + 1])('%d is no plaintext size', (size) => {
    expect(() => sealedSize(size)).toThrow(RangeError);
  });
});
