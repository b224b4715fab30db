import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { release } from '../../src/bytes.ts';
import { newObjectId, newObjectKey } from '../../src/sse/key.ts';
import { ObjectSealer, openSingle, planRange } from '../../src/sse/object.ts';
import { messageLength, sealedSize, segmentCount } from '../../src/sse/size.ts';
import { bytes, ENVELOPE_KEYS, seededEntropy } from '../sse/fixture.ts';

const SEGMENT = 65536;
const objectKey = newObjectKey(seededEntropy('key'));
const objectId = newObjectId(seededEntropy('id'));
const SOURCE = bytes(4 * SEGMENT, 'source');

const length = fc.oneof(
  fc.integer({ min: 1, max: 300 }),
  fc.integer({ min: 1, max: 3 * SEGMENT }),
  fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: -2, max: 2 })).map(([n, d]) => n * SEGMENT + d),
);
/** Sizes of the fragments in which bytes arrive; repeated as needed. */
const chunks = fc.array(fc.oneof(fc.integer({ min: 1, max: 100_000 }), fc.constant(SEGMENT), fc.constant(1000)), {
  minLength: 1,
  maxLength: 6,
});

function sealer(size: number): ObjectSealer {
  return new ObjectSealer({
    objectKey,
    objectId,
    length: size,
    entropy: seededEntropy(`seal ${size}`),
    envelopeKey: ENVELOPE_KEYS.current(),
    recovery: undefined,
  });
}

function* fragments(whole: Buffer, sizes: readonly number[]): Generator<Buffer> {
  for (let at = 0, turn = 0; at < whole.length; turn += 1) {
    const size = sizes[turn % sizes.length] ?? 1;
    // A copy, as a socket would give: what was taken in may be overwritten afterwards.
    yield Buffer.from(whole.subarray(at, at + size));
    at += size;
  }
}

/** Seals; each buffer that comes out is copied (sent) and released at once, each that went in is overwritten. */
function seal(plaintext: Buffer, sizes: readonly number[]): { sealed: Buffer; early: number } {
  const s = sealer(plaintext.length);
  const out: Buffer[] = [];
  const send = (pieces: Buffer[]): void => {
    for (const piece of pieces) {
      out.push(Buffer.from(piece));
      release(piece);
    }
  };
  for (const fragment of fragments(plaintext, sizes)) {
    send(s.update(fragment));
    fragment.fill(0xee);
  }
  const early = out.reduce((sum, piece) => sum + piece.length, 0);
  send(s.finish());
  return { sealed: Buffer.concat(out), early };
}

const pinOf = (size: number) => {
  const { floeIv, headerTag } = sealer(size);
  return { length: size, floeIv, headerTag };
};

describe('sealing', () => {
  it('gives the same bytes however the plaintext arrives, and F(T) of them', () => {
    fc.assert(
      fc.property(length, chunks, chunks, (size, one, other) => {
        const plaintext = SOURCE.subarray(0, size);
        const { sealed } = seal(plaintext, one);
        expect(sealed.length).toBe(sealedSize(size));
        expect(seal(plaintext, other).sealed.equals(sealed)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it('byte by byte is the same as whole', () => {
    const plaintext = SOURCE.subarray(0, SEGMENT + 300);
    expect(seal(plaintext, [1]).sealed.equals(seal(plaintext, [plaintext.length]).sealed)).toBe(true);
  });

  it('never gives a byte of the last segment before finish', () => {
    fc.assert(
      fc.property(length, chunks, (size, sizes) => {
        const last = segmentCount(size) - 1;
        expect(seal(SOURCE.subarray(0, size), sizes).early).toBeLessThanOrEqual(74 + last * (SEGMENT + 32));
      }),
      { numRuns: 60 },
    );
  });

  it('refuses a byte too many at once, and a byte too few at the end', () => {
    fc.assert(
      fc.property(length, (size) => {
        const long = sealer(size);
        long.update(SOURCE.subarray(0, size));
        expect(() => long.update(Buffer.alloc(1))).toThrow(expect.objectContaining({ code: 'IncompleteBody' }));
        const short = sealer(size);
        short.update(SOURCE.subarray(0, size - 1));
        expect(() => short.finish()).toThrow(expect.objectContaining({ code: 'IncompleteBody' }));
      }),
      { numRuns: 30 },
    );
  });

  it('ends once', () => {
    const s = sealer(3);
    s.update(Buffer.from('abc'));
    s.finish();
    expect(() => s.finish()).toThrow();
    expect(() => s.update(Buffer.alloc(0))).toThrow();
  });

  it('of nothing gives nothing, but a commitment', () => {
    const s = sealer(0);
    expect(s.sealedLength).toBe(0);
    expect(s.headerTag).toHaveLength(32);
    expect(s.finish()).toEqual([]);
    expect(() => sealer(0).update(Buffer.alloc(1))).toThrow();
    const opener = openSingle({ objectKey, objectId, pin: pinOf(0) });
    opener.finish();
    const wrong = { ...pinOf(0), headerTag: Buffer.alloc(32) };
    expect(() => openSingle({ objectKey, objectId, pin: wrong })).toThrow();
  });
});

describe('opening', () => {
  function open(sealed: Buffer, sizes: readonly number[], size: number): Buffer {
    const opener = openSingle({ objectKey, objectId, pin: pinOf(size) });
    const out: Buffer[] = [];
    for (const fragment of fragments(sealed, sizes)) {
      for (const piece of opener.update(fragment)) {
        out.push(Buffer.from(piece));
        release(piece);
      }
      fragment.fill(0xee);
    }
    opener.finish();
    return Buffer.concat(out);
  }

  it('gives the plaintext however the sealed bytes arrive', () => {
    fc.assert(
      fc.property(length, chunks, (size, sizes) => {
        const plaintext = SOURCE.subarray(0, size);
        expect(open(seal(plaintext, [size]).sealed, sizes, size).equals(plaintext)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it('byte by byte is the same as whole', () => {
    const plaintext = SOURCE.subarray(0, SEGMENT + 300);
    expect(open(seal(plaintext, [1000]).sealed, [1], plaintext.length).equals(plaintext)).toBe(true);
  });

  it('gives only whole segments that have verified', () => {
    fc.assert(
      fc.property(length, fc.nat(), (size, cut) => {
        const { sealed } = seal(SOURCE.subarray(0, size), [size]);
        const end = cut % messageLength(size);
        const opener = openSingle({ objectKey, objectId, pin: pinOf(size) });
        const out = Buffer.concat(opener.update(sealed.subarray(0, end)));
        const segments = Math.max(0, Math.floor((end - 74) / (SEGMENT + 32)));
        expect(out.equals(SOURCE.subarray(0, Math.min(size, segments * SEGMENT)))).toBe(true);
        expect(() => opener.finish()).toThrow();
      }),
      { numRuns: 60 },
    );
  });

  it('of a range gives the slice, out of its segments alone', () => {
    fc.assert(
      fc.property(length, fc.nat(), fc.nat(), chunks, (size, a, b, sizes) => {
        const [start = 0, end = 0] = [a % size, b % size].sort((x, y) => x - y);
        const plaintext = SOURCE.subarray(0, size);
        const { sealed } = seal(plaintext, [size]);
        const range = planRange(size, start, end);
        const stored = sealed.subarray(range.sealedStart, range.sealedEnd + 1);
        expect(stored.length).toBeLessThanOrEqual((Math.ceil((end - start + 1) / SEGMENT) + 1) * (SEGMENT + 32));
        const opener = openSingle({ objectKey, objectId, pin: pinOf(size), range });
        const out: Buffer[] = [];
        for (const fragment of fragments(stored, sizes)) out.push(...opener.update(fragment));
        opener.finish();
        expect(Buffer.concat(out).equals(plaintext.subarray(start, end + 1))).toBe(true);
      }),
      { numRuns: 80 },
    );
  });

  it.each([
    [10, -1, 3],
    [10, 3, 10],
    [10, 4, 3],
    [0, 0, 0],
  ])('of T = %i refuses to plan %i–%i', (size, start, end) => {
    expect(() => planRange(size, start, end)).toThrow(RangeError);
  });
});
