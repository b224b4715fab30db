import { gcm } from '@noble/ciphers/aes.js';
import { hkdfSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { LABEL, MODE_CODE, type SseMode } from '../../src/sse/format.ts';
import { deriveKek, deriveManifestKey, expand, newObjectKey, takeObjectKey } from '../../src/sse/key.ts';
import { unwrap, wrapObjectKey } from '../../src/sse/wrap.ts';
import { bytes, DATA_KEY, secret, seededEntropy } from './fixture.ts';

const objectId = bytes(32, 'id');

describe('key derivation', () => {
  it.each<SseMode>(['SSE-S3', 'SSE-KMS', 'SSE-C'])('of the KEK for %s is HKDF-SHA-384 as Node has it', (mode) => {
    const info = Buffer.concat([LABEL.kek, Buffer.from([MODE_CODE[mode]])]);
    const expected = Buffer.from(hkdfSync('sha384', DATA_KEY, objectId, info, 32));
    expect(deriveKek(DATA_KEY, objectId, mode).export().equals(expected)).toBe(true);
  });

  it('gives another KEK for another key, object id or mode', () => {
    const keks = [
      deriveKek(DATA_KEY, objectId, 'SSE-KMS'),
      deriveKek(DATA_KEY, objectId, 'SSE-S3'),
      deriveKek(DATA_KEY, objectId, 'SSE-C'),
      deriveKek(DATA_KEY, bytes(32, 'id2'), 'SSE-KMS'),
      deriveKek(secret('other'), objectId, 'SSE-KMS'),
    ].map((kek) => kek.export().toString('hex'));
    expect(new Set(keks).size).toBe(keks.length);
  });

  it('keeps the manifest key apart from the object key', () => {
    const key = newObjectKey(seededEntropy('k'));
    expect(deriveManifestKey(key).equals(key)).toBe(false);
  });

  it('never gives more than one block', () => {
    expect(() => expand(DATA_KEY, [], 49)).toThrow(RangeError);
  });

  it('zeroes the bytes that an object key was made of', () => {
    const raw = bytes(32, 'raw');
    const key = takeObjectKey(raw);
    expect(raw.equals(Buffer.alloc(32))).toBe(true);
    expect(key.export().equals(bytes(32, 'raw'))).toBe(true);
  });
});

describe('the wrap of an object key', () => {
  const kek = deriveKek(DATA_KEY, objectId, 'SSE-KMS');
  const key = newObjectKey(seededEntropy('object'));
  const aad = bytes(300, 'aad');
  const fields = bytes(20, 'fields');
  const wrapped = wrapObjectKey(kek, key, fields, aad, seededEntropy('wrap'));

  it('is AES-256-GCM as @noble/ciphers has it, both ways', () => {
    const plaintext = Buffer.concat([key.export(), fields]);
    const raw = kek.export();
    expect(Buffer.from(gcm(raw, wrapped.subarray(0, 12), aad).decrypt(wrapped.subarray(12))).equals(plaintext)).toBe(
      true,
    );
    const nonce = bytes(12, 'nonce');
    const theirs = Buffer.concat([nonce, gcm(raw, nonce, aad).encrypt(plaintext)]);
    expect(unwrap(kek, theirs, aad)?.equals(plaintext)).toBe(true);
  });

  it.each([0, 12, 40, wrapped.length - 1])('does not open with bit 0 of byte %i changed', (at) => {
    const changed = Buffer.from(wrapped);
    changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
    expect(unwrap(kek, changed, aad)).toBeUndefined();
  });

  it('does not open with another AAD, or cut off', () => {
    expect(unwrap(kek, wrapped, bytes(300, 'other'))).toBeUndefined();
    for (let length = 0; length < wrapped.length; length += 1) {
      expect(unwrap(kek, wrapped.subarray(0, length), aad)).toBeUndefined();
    }
  });
});
