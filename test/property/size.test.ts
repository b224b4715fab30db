import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { multipartSealedSize, plaintextSize, sealedPartLength, sealedSize } from '../../src/sse/size.ts';
import { messageLength } from '../../src/sse/size.ts';
import { paddingLength } from '../../src/sse/tail.ts';

const MIB = 1024 * 1024;
const MIN_PART = 5 * MIB;
const MAX_PART = 5 * 1024 * MIB;
const MAX_T = 10_000 * MAX_PART;
const SEGMENT = 65536;

/** Sizes around everything that F has an edge at. */
const size = fc.oneof(
  fc.integer({ min: 1, max: 300_000 }),
  fc.maxSafeInteger().map((n) => 1 + (Math.abs(n) % MAX_T)),
  fc.tuple(fc.integer({ min: 1, max: 10_000_000 }), fc.integer({ min: -2, max: 2 })).map(([n, d]) => n * SEGMENT + d),
  fc.tuple(fc.integer({ min: 1, max: 12_000 }), fc.integer({ min: -2, max: 2 })).map(([n, d]) => n * MIN_PART + d),
);

/** A part length that costs the most (one byte over a segment, or an edge) or any. */
const part = fc.oneof(
  fc.constant(MIN_PART),
  fc.constant(MIN_PART + 1),
  fc.constant(MAX_PART),
  fc.integer({ min: MIN_PART, max: MIN_PART + 3 * SEGMENT }),
  fc.integer({ min: MIN_PART, max: MAX_PART }),
);
const lastPart = fc.oneof(fc.constant(0), fc.constant(1), fc.constant(SEGMENT), fc.constant(SEGMENT + 1), part);

function padding(lengths: Iterable<number>): number {
  let plain = 0;
  let body = 0;
  let parts = 0;
  for (const length of lengths) {
    plain += length;
    body += sealedPartLength(length);
    parts += 1;
  }
  return paddingLength(multipartSealedSize(plain), body, parts);
}

describe('F', () => {
  it('is strictly increasing', () => {
    fc.assert(
      fc.property(size, (t) => {
        expect(sealedSize(t)).toBeGreaterThan(t === 1 ? 1120 : sealedSize(t - 1));
      }),
      { numRuns: 2000 },
    );
  });

  it('inverts from the sealed size alone, and nothing between two of its values inverts', () => {
    fc.assert(
      fc.property(size, (t) => {
        const sealed = sealedSize(t);
        expect(plaintextSize(sealed)).toBe(t);
        const next = sealedSize(t + 1);
        if (next > sealed + 1) {
          expect(plaintextSize(sealed + 1)).toBeUndefined();
          expect(plaintextSize(next - 1)).toBeUndefined();
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('leaves at least 16 bytes of padding in every single object', () => {
    fc.assert(
      fc.property(size, (t) => {
        expect(paddingLength(sealedSize(t), messageLength(t), 0)).toBeGreaterThanOrEqual(16);
      }),
      { numRuns: 2000 },
    );
  });

  it('leaves at least 44 bytes of padding for every legal split into parts', () => {
    fc.assert(
      fc.property(fc.array(part, { maxLength: 200 }), lastPart, (parts, last) => {
        expect(padding([...parts, last])).toBeGreaterThanOrEqual(44);
      }),
      { numRuns: 3000 },
    );
  });

  it.each([
    ['nothing', 1, MIN_PART, 0],
    ['10,000 parts of 5 MiB, an empty last one', 10_000, MIN_PART, 0],
    ['10,000 parts, each one byte into a segment', 10_000, MIN_PART + 1, 1],
    ['10,000 parts of 5 GiB', 10_000, MAX_PART, MAX_PART],
    ['431 parts (the manifest fills a segment), a last byte', 431, MIN_PART + 1, 1],
    ['432 parts', 432, MIN_PART + 1, 1],
  ])('fits: %s', (_, count, each, last) => {
    function* lengths(): Generator<number> {
      for (let index = 1; index < count; index += 1) yield each;
      yield last;
    }
    expect(padding(lengths())).toBeGreaterThanOrEqual(44);
  });

  it('has its smallest padding, 44, in a multipart upload of nothing', () => {
    expect(padding([0])).toBe(44);
  });
});
