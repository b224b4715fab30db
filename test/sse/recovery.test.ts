import { describe, expect, it } from 'vitest';
import type { SseMode } from '../../src/sse/format.ts';
import { deriveKek } from '../../src/sse/key.ts';
import { openRecovery, parseRecovery } from '../../src/sse/recovery.ts';
import { bytes, DATA_KEY, PLACE, sealSingle, secret } from './fixture.ts';

const plaintext = bytes(40);
const copyOf = (body: Buffer): Buffer => body.subarray(-576, -64);

describe('the recovery copy in the object', () => {
  it.each<SseMode>(['SSE-S3', 'SSE-KMS'])('gives the object key back without any metadata, %s', (mode) => {
    const context = mode === 'SSE-KMS' ? [['department', 'books'] as const] : [];
    const stored = sealSingle({ mode, plaintext, context });
    const copy = parseRecovery(copyOf(stored.body));
    if (copy === undefined) throw new Error('no copy');
    expect(copy).toMatchObject({ mode, keyId: 'photos-key', bucketId: PLACE.bucketId, context });
    const kek = deriveKek(DATA_KEY, copy.objectId, mode);
    const recovered = openRecovery(copy, PLACE, kek);
    expect([recovered.objectKey.equals(stored.objectKey), recovered.named]).toEqual([true, true]);
  });

  it('with a bucket key, opens under another name too, and says that the name is another', () => {
    const stored = sealSingle({ mode: 'SSE-S3', plaintext });
    const copy = parseRecovery(copyOf(stored.body));
    if (copy === undefined) throw new Error('no copy');
    const recovered = openRecovery(copy, { ...PLACE, key: 'renamed' }, deriveKek(DATA_KEY, copy.objectId, 'SSE-S3'));
    expect([recovered.objectKey.equals(stored.objectKey), recovered.named]).toEqual([true, false]);
  });

  it('is zeros for SSE-C', () => {
    const { body } = sealSingle({ mode: 'SSE-C', plaintext });
    expect(copyOf(body).equals(Buffer.alloc(512))).toBe(true);
    expect(parseRecovery(copyOf(body))).toBeUndefined();
  });

  const { body } = sealSingle({ mode: 'SSE-KMS', plaintext });

  it('does not open with another key, for another place, or when any byte of it changed', () => {
    const copy = parseRecovery(copyOf(body));
    if (copy === undefined) throw new Error('no copy');
    const kek = deriveKek(DATA_KEY, copy.objectId, 'SSE-KMS');
    expect(() => openRecovery(copy, PLACE, deriveKek(secret('x'), copy.objectId, 'SSE-KMS'))).toThrow();
    expect(() => openRecovery(copy, { ...PLACE, key: 'other' }, kek)).toThrow();
    // Key id and wrapped data key (from byte 144) are checked by the KMS that unwraps; here only what the AEAD binds.
    for (let at = 0; at < 144; at += 1) {
      const changed = Buffer.from(copyOf(body));
      changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
      expect(() => {
        const parsed = parseRecovery(changed);
        if (parsed !== undefined) openRecovery(parsed, PLACE, deriveKek(DATA_KEY, parsed.objectId, parsed.mode));
      }, `${at}`).toThrow();
    }
  });

  it.each([0, 511, 513])('of %i bytes is refused', (length) => {
    expect(() => parseRecovery(Buffer.alloc(length))).toThrow();
  });

  it('with a byte in its zeros is refused', () => {
    const changed = Buffer.from(copyOf(body));
    changed.writeUInt8(1, 511);
    expect(() => parseRecovery(changed)).toThrow();
  });
});
