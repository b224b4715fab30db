import { createSecretKey } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { confirmSize, openObjectKey, verifyEnvelope, verifyMetadata } from '../../src/sse/envelope.ts';
import { verifyFooter } from '../../src/sse/footer.ts';
import { ENVELOPE_HEADER, type Checksum } from '../../src/sse/format.ts';
import { deriveKek, deriveManifestKey } from '../../src/sse/key.ts';
import type { Manifest } from '../../src/sse/manifest.ts';
import { PartsOpener, planParts } from '../../src/sse/multipart.ts';
import { openSingle, planRange } from '../../src/sse/object.ts';
import { openRecovery, parseRecovery } from '../../src/sse/recovery.ts';
import { manifestPlace, openTailManifest } from '../../src/sse/tail.ts';
import { feed } from './fixture.ts';
import { goldenNames, keysOf, placeOf, readGolden, storedBytes, type Golden } from './golden.ts';
import { openByDocument } from './independent.ts';

interface Opened {
  readonly length: number;
  readonly checksum: Checksum | undefined;
  range(start: number, end: number): Buffer;
}

function openGolden(golden: Golden): Opened {
  const keys = keysOf(golden);
  const envelope = verifyEnvelope(golden.headers[ENVELOPE_HEADER] ?? '', placeOf(golden), keys);
  verifyMetadata(envelope, golden.headers);
  confirmSize(envelope, golden.size);
  const { objectId, pin } = envelope;
  const key = createSecretKey(Buffer.from(golden.key, 'hex'));
  const { objectKey, checksum } = openObjectKey(envelope, deriveKek(key, objectId, envelope.mode));
  if (pin !== undefined) {
    const length = confirmSize(envelope, golden.size);
    // The opener of the whole object checks the commitment of a zero-byte one, too.
    openSingle({ objectKey, objectId, pin: { length, ...pin } });
    const manifest = length === 0 ? undefined : readManifest(golden, objectKey, objectId);
    return {
      length,
      checksum: checksum ?? manifest?.checksum,
      range: (start, end) => {
        const range = planRange(length, start, end);
        const opener = openSingle({ objectKey, objectId, pin: { length, ...pin }, range });
        return feed(opener, storedBytes(golden, range.sealedStart, range.sealedEnd + 1));
      },
    };
  }
  const manifest = readManifest(golden, objectKey, objectId);
  return {
    length: manifest.length,
    checksum: manifest.checksum,
    range: (start, end) => {
      const plan = planParts(manifest.entries, start, end);
      const opener = new PartsOpener({ objectKey, objectId, plan });
      return feed(opener, storedBytes(golden, plan.sealedStart, plan.sealedEnd + 1));
    },
  };
}

function readManifest(golden: Golden, objectKey: Parameters<typeof deriveManifestKey>[0], objectId: Buffer): Manifest {
  const footer = verifyFooter(
    storedBytes(golden, golden.size - 64, golden.size),
    objectId,
    golden.size,
    keysOf(golden),
  );
  const { start, end } = manifestPlace(golden.size, footer.parts);
  const sealed = storedBytes(golden, start, end);
  return openTailManifest({ manifestKey: deriveManifestKey(objectKey), objectId, footer, sealed });
}

describe.each(goldenNames())('golden object %s', (name) => {
  const golden = readGolden(name);
  const { outcome } = golden;

  if (!outcome.opens) {
    it(`is refused: ${outcome.reason}`, () => {
      expect(() => openGolden(golden).range(0, 0)).toThrow(
        expect.objectContaining({ code: outcome.code, reason: outcome.reason }),
      );
    });
    it('is refused by the independent reader, too', () => {
      expect(() => openByDocument(golden, 0, 0)).toThrow();
    });
    return;
  }

  it('opens, with the ranges and the checksum that it was sealed with', () => {
    const opened = openGolden(golden);
    expect(opened.length).toBe(outcome.length);
    for (const range of outcome.ranges) {
      expect(opened.range(range.start, range.end).toString('base64')).toBe(range.base64);
    }
    const checksum = opened.checksum && {
      algorithm: opened.checksum.algorithm,
      base64: opened.checksum.value.toString('base64'),
    };
    expect(checksum).toEqual(outcome.checksum);
  });

  const withRecovery = golden.size > 0 ? [name] : [];
  it.each(withRecovery)(
    '%s has a recovery copy that opens to the same object key, or none where the mode is SSE-C',
    () => {
      const envelope = verifyEnvelope(golden.headers[ENVELOPE_HEADER] ?? '', placeOf(golden), keysOf(golden));
      const kek = deriveKek(createSecretKey(Buffer.from(golden.key, 'hex')), envelope.objectId, envelope.mode);
      const copy = parseRecovery(storedBytes(golden, golden.size - 576, golden.size - 64));
      if (envelope.mode === 'SSE-C') {
        expect(copy).toBeUndefined();
        return;
      }
      if (copy === undefined) throw new Error('the recovery copy is zeros');
      const recovered = openRecovery(copy, placeOf(golden), kek);
      expect([recovered.objectKey.equals(openObjectKey(envelope, kek).objectKey), recovered.named]).toEqual([
        true,
        true,
      ]);
      expect(copy.keyId).toBe(envelope.keyId);
      expect(copy.wrappedDataKey).toEqual(envelope.wrappedDataKey);
      expect(copy.context).toEqual(envelope.context);
    },
  );

  it('opens with the independent reader, written from FORMAT.md', () => {
    for (const { start, end, base64 } of outcome.ranges) {
      expect(openByDocument(golden, start, end).toString('base64')).toBe(base64);
    }
  });
});

it('there are golden objects of every mode, of both types, of no bytes and of several segments', () => {
  expect(goldenNames().length).toBeGreaterThanOrEqual(9);
});
