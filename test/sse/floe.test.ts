import { createSecretKey } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { FloeMessage, readHeader, readSegmentPrefix, segmentPrefix, type FloeParameters } from '../../src/sse/floe.ts';
import { seededEntropy } from './fixture.ts';

// Known answers of the FLOE specification's repository (Apache-2.0): test/vectors/floe/README.md.
const folder = new URL('../vectors/floe/', import.meta.url);
const names = readdirSync(folder)
  .filter((name) => name.endsWith('_ct.txt'))
  .map((name) => name.slice(0, -'_ct.txt'.length));
const key = createSecretKey(Buffer.alloc(32));
const aad = Buffer.from('This is AAD', 'ascii');

function vector(name: string, part: 'pt' | 'ct'): Buffer {
  return Buffer.from(readFileSync(new URL(`${name}_${part}.txt`, folder), 'ascii').trim(), 'hex');
}

function parametersOf(name: string, ciphertext: Buffer): FloeParameters {
  return { segmentLength: ciphertext.readUInt32BE(2), rotationMask: name.includes('rotation') ? 2 : 20 };
}

/** Decrypts a whole ciphertext; the last segment is the one that is left. */
function decrypt(ciphertext: Buffer, parameters: FloeParameters): Buffer {
  const { iv, headerTag } = readHeader(ciphertext.subarray(0, 74), parameters);
  const message = new FloeMessage(key, aad, iv, parameters);
  message.verifyHeaderTag(headerTag);
  const out: Buffer[] = [];
  const { segmentLength } = parameters;
  for (let at = 74, position = 0; at < ciphertext.length; at += segmentLength, position += 1) {
    const segment = ciphertext.subarray(at, at + segmentLength);
    const final = segment.readUInt32BE(0) !== 0xffffffff;
    const segmentIv = readSegmentPrefix(segment, segment.length - 32, final);
    const decipher = message.decipher(position, final, segmentIv).setAuthTag(segment.subarray(-16));
    out.push(decipher.update(segment.subarray(16, -16)), decipher.final());
    expect(final).toBe(at + segment.length === ciphertext.length);
  }
  return Buffer.concat(out);
}

function encrypt(plaintext: Buffer, parameters: FloeParameters, emptyTail: boolean): Buffer {
  const entropy = seededEntropy('floe');
  const message = new FloeMessage(key, aad, entropy(32), parameters);
  const room = parameters.segmentLength - 32;
  const last = Math.max(0, Math.ceil(plaintext.length / room) - (emptyTail ? 0 : 1));
  const out = [message.header];
  for (let position = 0; position <= last; position += 1) {
    const piece = plaintext.subarray(position * room, (position + 1) * room);
    const final = position === last;
    const iv = entropy(12);
    const cipher = message.cipher(position, final, iv);
    out.push(segmentPrefix(piece.length, final, iv), cipher.update(piece), cipher.final(), cipher.getAuthTag());
  }
  return Buffer.concat(out);
}

describe('FLOE known answers', () => {
  it('are all here', () => {
    expect(names).toHaveLength(11);
  });

  it.each(names)('%s decrypts', (name) => {
    const ciphertext = vector(name, 'ct');
    expect(decrypt(ciphertext, parametersOf(name, ciphertext)).equals(vector(name, 'pt'))).toBe(true);
  });

  it.each(names)('%s: what we encrypt has its length and decrypts', (name) => {
    const ciphertext = vector(name, 'ct');
    const parameters = parametersOf(name, ciphertext);
    const plaintext = vector(name, 'pt');
    const ours = encrypt(plaintext, parameters, name.includes('lastSegEmpty'));
    expect(ours.length).toBe(ciphertext.length);
    expect(decrypt(ours, parameters).equals(plaintext)).toBe(true);
  });

  it.each(names)('%s: a flipped bit in the middle is refused', (name) => {
    const ciphertext = vector(name, 'ct');
    const at = 74 + Math.floor((ciphertext.length - 74) / 2);
    ciphertext.writeUInt8(ciphertext.readUInt8(at) ^ 1, at);
    expect(() => decrypt(ciphertext, parametersOf(name, ciphertext))).toThrow();
  });
});
