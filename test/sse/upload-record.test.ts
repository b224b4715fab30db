import { createSecretKey } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { openPartRecord, sealPartRecord, type PartRecord } from '../../src/sse/part-record.ts';
import {
  decodeTombstone,
  decodeUploadRecord,
  encodeTombstone,
  encodeUploadRecord,
  listDigest,
  uploadHash,
} from '../../src/sse/upload-record.ts';
import { bytes, ENVELOPE_KEYS, newUpload } from './fixture.ts';

const { entropy, envelope, name: named, upload, manifestKey, recovery } = newUpload('upload', 'one', 'SSE-S3', 's3');
const { hash, objectId } = upload;
const otherHash = uploadHash({ ...named, uploadId: 'two' });
const record = encodeUploadRecord(
  {
    name: named,
    created: 1234,
    checksum: { algorithm: 'CRC32', type: 'FULL_OBJECT' },
    envelope,
    manifestKey,
    objectId,
    recovery,
  },
  ENVELOPE_KEYS,
  entropy,
);
const part: PartRecord = {
  partNumber: 7,
  length: 5_242_880,
  time: 1_700_000_000_000,
  floeIv: bytes(32, 'iv'),
  headerTag: bytes(32, 'tag'),
  checksum: { algorithm: 'SHA256', type: 'FULL_OBJECT', value: bytes(32, 'sum') },
  asideId: undefined,
  storeEtag: '0123456789abcdef0123456789abcdef',
};

describe('upload record', () => {
  it('gives back what was written', () => {
    const { manifestKey: key, ...rest } = decodeUploadRecord(record, hash, ENVELOPE_KEYS);
    expect(rest).toEqual({
      name: named,
      keyVersion: 2,
      created: 1234,
      checksum: { algorithm: 'CRC32', type: 'FULL_OBJECT' },
      envelope,
      recovery,
    });
    expect(key.export().equals(manifestKey.export())).toBe(true);
  });

  it('is refused with any bit turned over, cut, longer, or for another upload', () => {
    for (let at = 0; at < record.length; at += 1) {
      const forged = Buffer.from(record);
      forged[at] = (forged[at] ?? 0) ^ 1;
      expect(() => decodeUploadRecord(forged, hash, ENVELOPE_KEYS)).toThrow();
    }
    expect(() => decodeUploadRecord(record.subarray(1), hash, ENVELOPE_KEYS)).toThrow();
    expect(() => decodeUploadRecord(Buffer.concat([record, bytes(1)]), hash, ENVELOPE_KEYS)).toThrow();
    expect(() => decodeUploadRecord(record, otherHash, ENVELOPE_KEYS)).toThrow();
  });

  it('does not show the manifest key', () => {
    expect(record.includes(manifestKey.export())).toBe(false);
  });
});

describe('part record', () => {
  const { name, etag } = sealPartRecord(part, upload, entropy);

  it('gives back what was written, and the same ETag', () => {
    expect(openPartRecord(name, upload)).toEqual({ ...part, etag });
    expect(etag).toMatch(/^0123456789abcdef0123456789abcdef-[\w-]{22}$/);
  });

  it('is a name that any store takes, under its number', () => {
    expect(name).toMatch(/^00007(\/[\w-]{1,240})+$/);
  });

  it('is nobody’s record when changed, of another upload, or under another number', () => {
    const last = name.at(-3) === 'A' ? 'B' : 'A';
    expect(openPartRecord(name.slice(0, -3) + last + name.slice(-2), upload)).toBeUndefined();
    expect(openPartRecord(name, { ...upload, hash: otherHash })).toBeUndefined();
    expect(openPartRecord(name.replace('00007', '00008'), upload)).toBeUndefined();
    expect(openPartRecord('00007/junk', upload)).toBeUndefined();
    expect(openPartRecord('', upload)).toBeUndefined();
  });

  it.each<[string, Partial<PartRecord>]>([
    ['number', { partNumber: 8 }],
    ['length', { length: 5_242_881 }],
    ['time', { time: 1_700_000_000_001 }],
    ['IV', { floeIv: bytes(32, 'other') }],
    ['header tag', { headerTag: bytes(32, 'other') }],
    ['checksum', { checksum: undefined }],
    ['place', { asideId: bytes(16, 'aside') }],
  ])('has another ETag with another %s', (_name, change) => {
    expect(sealPartRecord({ ...part, ...change }, upload, entropy).etag).not.toBe(etag);
  });

  it('has another ETag in another upload, object or realm', () => {
    const others = [
      { ...upload, hash: otherHash },
      { ...upload, objectId: bytes(32, 'other') },
      {
        ...upload,
        keys: {
          current: () => ({ version: 2, key: createSecretKey(bytes(32)) }),
          get: () => createSecretKey(bytes(32)),
        },
      },
    ];
    for (const other of others) expect(sealPartRecord(part, other, entropy).etag).not.toBe(etag);
  });

  it('takes no ETag from a store that is none', () => {
    for (const storeEtag of ['', 'x'.repeat(65), 'a"b', 'ä']) {
      expect(() => sealPartRecord({ ...part, storeEtag }, upload, entropy)).toThrow();
    }
  });
});

describe('tombstone', () => {
  const list = [{ partNumber: 1, etag: 'a' }];
  const checksum = { algorithm: 'CRC32', type: 'FULL_OBJECT', value: bytes(4, 'sum') } as const;
  const left = { completed: 5, listDigest: listDigest(list), envelope, checksum, etag: '"x-2"', versionId: 'v' };
  const stone = encodeTombstone(left, hash, ENVELOPE_KEYS);

  it('gives back what was written, and nothing when changed or of another upload', () => {
    expect(decodeTombstone(stone, hash, ENVELOPE_KEYS)).toEqual(left);
    for (let at = 0; at < stone.length; at += 1) {
      const forged = Buffer.from(stone);
      forged[at] = (forged[at] ?? 0) ^ 1;
      expect(() => decodeTombstone(forged, hash, ENVELOPE_KEYS)).toThrow();
    }
    expect(() => decodeTombstone(stone, otherHash, ENVELOPE_KEYS)).toThrow();
  });

  it('knows its list', () => {
    const others = [[], [{ partNumber: 2, etag: 'a' }], [{ partNumber: 1, etag: 'b' }], [...list, ...list]];
    for (const other of others) expect(listDigest(other).equals(left.listDigest)).toBe(false);
  });
});
