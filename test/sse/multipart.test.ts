import { beforeAll, describe, expect, it } from 'vitest';
import { verifyFooter } from '../../src/sse/footer.ts';
import { deriveManifestKey } from '../../src/sse/key.ts';
import type { ManifestEntry } from '../../src/sse/manifest.ts';
import { PartsOpener, planParts, WholeMultipartOpener } from '../../src/sse/multipart.ts';
import { messageLength } from '../../src/sse/size.ts';
import { manifestPlace, openTailManifest } from '../../src/sse/tail.ts';
import { bytes, ENVELOPE_KEYS, seededEntropy } from './fixture.ts';
import { completeParts, multipartKeys, sealPart, tailOf, VirtualMultipart, type SealedPart } from './parts.ts';

const MIB = 1024 * 1024;
const keys = multipartKeys();
const OPEN = { ...keys, keys: ENVELOPE_KEYS };

/** Whole GET: what the client got before the end, and after it was confirmed. */
function openWhole(body: Buffer, chunk: number, size = body.length): { early: Buffer; all: Buffer } {
  const opener = new WholeMultipartOpener({ ...OPEN, size });
  const out: Buffer[] = [];
  for (let at = 0; at < body.length; at += chunk) out.push(...opener.update(body.subarray(at, at + chunk)));
  const early = Buffer.concat(out);
  return { early, all: Buffer.concat([early, ...opener.finish().held]) };
}

function part(number: number, length: number, seed = 'a'): SealedPart {
  return sealPart(keys, number, bytes(length, `plain ${number} ${seed}`), seededEntropy(`part ${number} ${seed}`));
}

describe('a multipart object read in one pass', () => {
  let first: SealedPart;
  let second: SealedPart;
  let last: SealedPart;
  let body: Buffer;
  let plaintext: Buffer;

  beforeAll(() => {
    first = part(1, 5 * MIB + 5);
    second = part(7, 5 * MIB);
    last = part(9_999, 70_000);
    body = completeParts(keys, [first, second, last]);
    plaintext = Buffer.concat([
      bytes(5 * MIB + 5, 'plain 1 a'),
      bytes(5 * MIB, 'plain 7 a'),
      bytes(70_000, 'plain 9999 a'),
    ]);
  });

  it.each([64 * 1024, 1_000_003, 65_537])('opens in chunks of %i', (chunk) => {
    const { early, all } = openWhole(body, chunk);
    expect(all.equals(plaintext)).toBe(true);
    expect(early.length).toBeLessThan(plaintext.length);
  });

  const refused = (change: () => Buffer, size?: number): void => {
    expect(() => openWhole(change(), 64 * 1024, size)).toThrow(expect.objectContaining({ status: 500 }));
  };

  it('refuses an older attempt of a part, although it is authentic', () => {
    refused(() =>
      Buffer.concat([first.sealed, second.sealed, part(9_999, 70_000, 'b').sealed, body.subarray(-tailLength())]),
    );
  });

  it('keeps the last segment until the tail has confirmed the parts', () => {
    const forged = Buffer.concat([
      first.sealed,
      second.sealed,
      part(9_999, 70_000, 'b').sealed,
      body.subarray(-tailLength()),
    ]);
    const opener = new WholeMultipartOpener({ ...OPEN, size: forged.length });
    const out = Buffer.concat(opener.update(forged));
    expect(out.length).toBeLessThan(plaintext.length - 1);
    expect(() => opener.finish()).toThrow();
  });

  function tailLength(): number {
    return body.length - first.sealed.length - second.sealed.length - last.sealed.length;
  }

  it('refuses parts in another order before a byte of the second is given', () => {
    const body = Buffer.concat([second.sealed, first.sealed, last.sealed, Buffer.alloc(tailLength())]);
    expect(() => openWhole(body, 64 * 1024)).toThrow(expect.objectContaining({ reason: 'integrity:part-prefix' }));
  });

  it('refuses a part that came twice in place of another', () => {
    const other = part(7, 5 * MIB + 5);
    refused(() => Buffer.concat([other.sealed, second.sealed, last.sealed, body.subarray(-tailLength())]));
  });

  it('refuses a part under another number', () => {
    refused(() => {
      const changed = Buffer.from(body);
      changed.writeUInt32BE(2, 0);
      return changed;
    });
  });

  it('refuses a manifest of other parts of the same sizes', () => {
    const entries = [first.entry, second.entry, part(9_999, 70_000, 'b').entry];
    refused(() => Buffer.concat([first.sealed, second.sealed, last.sealed, tailOf(keys, entries)]));
  });

  it('refuses a manifest of another object', () => {
    const other = multipartKeys('other');
    const tail = tailOf({ objectKey: keys.objectKey, objectId: other.objectId }, [
      first.entry,
      second.entry,
      last.entry,
    ]);
    refused(() => Buffer.concat([first.sealed, second.sealed, last.sealed, tail]));
  });

  it.each([
    ['truncated by a byte', (b: Buffer) => b.subarray(0, -1)],
    ['truncated by the footer', (b: Buffer) => b.subarray(0, -64)],
    ['extended by a byte', (b: Buffer) => Buffer.concat([b, Buffer.alloc(1)])],
  ])('refuses an object %s, whatever size the store tells', (_, change) => {
    refused(() => change(body));
    refused(() => change(body), body.length);
  });
});

describe('a multipart object of nothing', () => {
  it('opens to nothing', () => {
    const body = completeParts(keys, [part(1, 0)]);
    expect(body.length).toBe(1120);
    expect(openWhole(body, 100).all.length).toBe(0);
  });
});

describe('every byte of a small multipart object', () => {
  // One part; the regions by offset. Padding and recovery copy carry nothing that a read uses.
  const one = part(3, 40);
  const body = completeParts(keys, [one]);
  const recoveryAt = body.length - 576;

  it('matters, but for the recovery copy, which no read uses', () => {
    const accepted: number[] = [];
    for (let at = 0; at < body.length; at += 1) {
      const changed = Buffer.from(body);
      changed.writeUInt8(changed.readUInt8(at) ^ 0x10, at);
      try {
        expect(openWhole(changed, body.length).all.equals(bytes(40, 'plain 3 a'))).toBe(true);
        accepted.push(at);
      } catch (err) {
        expect(err).toMatchObject({ status: 500 });
      }
    }
    expect(accepted).toEqual(Array.from({ length: 512 }, (_, index) => recoveryAt + index));
  });
});

describe.each([
  ['3 parts', [5 * MIB + 5, 5 * MIB, 11]],
  ['an empty last part', [5 * MIB, 0]],
  ['10,000 parts', Array.from({ length: 10_000 }, (_, index) => 5 * MIB + (index % 3))],
])('ranges over %s', (_, lengths) => {
  let object: VirtualMultipart;
  let entries: readonly ManifestEntry[];

  beforeAll(() => {
    object = new VirtualMultipart(keys, lengths);
    // As a reader has it: footer first, then the manifest, then ranges.
    const footer = verifyFooter(object.tail.subarray(-64), keys.objectId, object.size, ENVELOPE_KEYS);
    expect(footer).toEqual({ type: 'multipart', parts: lengths.length, length: object.length });
    const { start, end } = manifestPlace(object.size, footer.parts);
    const sealed = object.read(start, end - 1);
    entries = openTailManifest({
      manifestKey: deriveManifestKey(keys.objectKey),
      objectId: keys.objectId,
      footer,
      sealed,
    }).entries;
  });

  function range(start: number, end: number, chunk = 50_000): Buffer {
    const plan = planParts(entries, start, end);
    const opener = new PartsOpener({ ...keys, plan });
    const stored = object.read(plan.sealedStart, plan.sealedEnd);
    const out: Buffer[] = [];
    for (let at = 0; at < stored.length; at += chunk) out.push(...opener.update(stored.subarray(at, at + chunk)));
    opener.finish();
    return Buffer.concat(out);
  }

  it('open across part ends, at both ends and in the middle', () => {
    const total = object.length;
    const cut = lengths[0] ?? 0;
    const middle = Math.floor(total / 2);
    const rows: [number, number][] = [
      [0, 0],
      [0, 70_000],
      [cut - 3, Math.min(total - 1, cut + 3)],
      [cut - 65_536, Math.min(total - 1, cut + 65_536)],
      [middle, Math.min(total - 1, middle + 5 * MIB)],
      [total - 1, total - 1],
      [total - 200_000, total - 1],
    ];
    for (const [start, end] of rows) {
      expect(range(start, end).equals(object.plain(start, end)), `${start}-${end}`).toBe(true);
    }
  });

  it('refuse a segment of another part in the place of one', () => {
    const plan = planParts(entries, 10, 20);
    const opener = new PartsOpener({ ...keys, plan });
    const other = planParts(entries, 65_536 + 10, 65_536 + 20);
    expect(() => opener.update(object.read(other.sealedStart, other.sealedEnd))).toThrow(
      expect.objectContaining({ reason: 'integrity:segment-tag' }),
    );
  });
});

it('a range over two parts refuses another prefix between them', () => {
  const cut = 5 * MIB + 5;
  const object = new VirtualMultipart(keys, [cut, 11]);
  const plan = planParts(object.entries, cut - 3, cut + 3);
  const stored = object.read(plan.sealedStart, plan.sealedEnd);
  const prefixAt = 16 + messageLength(cut) - plan.sealedStart;
  expect(Buffer.concat(new PartsOpener({ ...keys, plan }).update(stored))).toHaveLength(7);
  stored.writeUInt8(stored.readUInt8(prefixAt + 7) ^ 1, prefixAt + 7);
  expect(() => new PartsOpener({ ...keys, plan }).update(stored)).toThrow(
    expect.objectContaining({ reason: 'integrity:part-prefix' }),
  );
});
