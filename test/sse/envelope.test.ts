import { describe, expect, it } from 'vitest';
import { u32 } from '../../src/bytes.ts';
import { encodePairs, type EncryptionContext } from '../../src/sse/context.ts';
import { encodeEnvelope, parseEnvelope, transcript, type EnvelopeFields } from '../../src/sse/envelope-form.ts';
import {
  confirmSize,
  openObjectKey,
  replaceWrappedDataKey,
  sealEnvelope,
  verifyEnvelope,
  type SealEnvelopeOptions,
} from '../../src/sse/envelope.ts';
import { ENVELOPE_HEADER, ENVELOPE_MAX_CHARACTERS, LABEL, type SseMode } from '../../src/sse/format.ts';
import { deriveKek, newObjectKey } from '../../src/sse/key.ts';
import { envelopeMac } from '../../src/sse/mac.ts';
import { buildRecovery } from '../../src/sse/recovery.ts';
import { multipartSealedSize, sealedSize } from '../../src/sse/size.ts';
import { bytes, DATA_KEY, ENVELOPE_KEYS, envelopeKeys, PLACE, sealSingle, secret, seededEntropy } from './fixture.ts';

const objectId = bytes(32, 'object id');
const objectKey = newObjectKey(seededEntropy('object key'));

function options(change: Partial<SealEnvelopeOptions> = {}): SealEnvelopeOptions {
  const mode = change.mode ?? 'SSE-KMS';
  return {
    type: 'single',
    mode,
    bucketKey: mode === 'SSE-S3',
    objectId,
    length: 11,
    metadataDigest: bytes(32, 'digest'),
    pin: { floeIv: bytes(32, 'iv'), headerTag: bytes(32, 'tag') },
    keyId: mode === 'SSE-C' ? '' : 'photos-key',
    context: [],
    wrappedDataKey: mode === 'SSE-C' ? Buffer.alloc(0) : Buffer.from('vault:v1:AAAA'),
    place: PLACE,
    keys: ENVELOPE_KEYS,
    kek: deriveKek(DATA_KEY, objectId, mode),
    objectKey,
    entropy: seededEntropy('wrap'),
    ...change,
  };
}

const verify = (value: string) => verifyEnvelope(value, PLACE, ENVELOPE_KEYS);
const refusedAs = (reason: string): unknown =>
  expect.objectContaining({ code: 'InternalError', reason: `integrity:${reason}` });

describe('an envelope', () => {
  it.each<SseMode>(['SSE-S3', 'SSE-KMS', 'SSE-C'])('of %s gives back what was sealed', (mode) => {
    const checksum = { algorithm: 'SHA256', type: 'FULL_OBJECT', value: bytes(32, 'sum') } as const;
    const sealed = options({ mode, checksum });
    const envelope = verify(sealEnvelope(sealed));
    expect(envelope).toMatchObject({ mode, type: 'single', length: 11, keyId: sealed.keyId, keyVersion: 2 });
    const opened = openObjectKey(envelope, sealed.kek);
    expect(opened.objectKey.equals(objectKey)).toBe(true);
    expect(opened.checksum).toEqual(checksum);
  });

  it('of a multipart object has neither T nor a pin', () => {
    const envelope = verify(sealEnvelope(options({ type: 'multipart', length: undefined, pin: undefined })));
    expect(envelope.length).toBeUndefined();
    expect(envelope.pin).toBeUndefined();
  });

  it('has 450 to 650 characters with a key id, a wrapped key of Vault and a checksum', () => {
    const wrappedDataKey = Buffer.from(`vault:v1:${bytes(60).toString('base64')}`);
    const checksum = { algorithm: 'SHA256', type: 'FULL_OBJECT', value: bytes(32) } as const;
    const { length } = sealEnvelope(options({ wrappedDataKey, checksum }));
    expect(length).toBeGreaterThan(450);
    expect(length).toBeLessThan(650);
  });

  it('holds a context up to 896 characters; a larger one is 400', () => {
    const sized = (n: number): EncryptionContext => [['k', 'x'.repeat(n)]];
    let fits = 0;
    while (fitsContext(sized(fits + 1))) fits += 1;
    expect(fits).toBeGreaterThan(200);
    expect(sealEnvelope(options({ context: sized(fits) })).length).toBeLessThanOrEqual(ENVELOPE_MAX_CHARACTERS);
    expect(() => sealEnvelope(options({ context: sized(fits + 1) }))).toThrow(
      expect.objectContaining({ code: 'InvalidArgument', reason: 'context-too-large' }),
    );
  });

  function fitsContext(context: EncryptionContext): boolean {
    try {
      sealEnvelope(options({ context }));
      return true;
    } catch {
      return false;
    }
  }

  it('longer than 896 characters is refused before anything of it is read', () => {
    expect(() => verify('A'.repeat(ENVELOPE_MAX_CHARACTERS + 1))).toThrow(refusedAs('envelope-form'));
  });

  it.each<[string, Partial<SealEnvelopeOptions>]>([
    ['a single without T', { length: undefined }],
    ['a single without a pin', { pin: undefined }],
    ['a multipart with T', { type: 'multipart', pin: undefined }],
    ['SSE-S3 without a bucket key', { mode: 'SSE-S3', bucketKey: false }],
    ['SSE-C with a bucket key', { mode: 'SSE-C', bucketKey: true }],
    ['SSE-C with a KMS key', { mode: 'SSE-C', keyId: 'k' }],
    ['SSE-C with a wrapped data key', { mode: 'SSE-C', wrappedDataKey: bytes(3) }],
    ['SSE-KMS without a key id', { keyId: '' }],
    ['SSE-KMS with a path for a key id', { keyId: '../../sys/seal' }],
    ['SSE-KMS without a wrapped data key', { wrappedDataKey: Buffer.alloc(0) }],
    ['a wrapped data key of 401 bytes', { wrappedDataKey: bytes(401) }],
    ['SSE-S3 with a context', { mode: 'SSE-S3', context: [['a', 'b']] }],
  ])('is never written for %s', (_, change) => {
    expect(() => sealEnvelope(options(change))).toThrow(RangeError);
  });
});

describe('an envelope with a right tag', () => {
  // What only the holder of the envelope key could make: these are the second line of defence.
  function forge(change: Partial<EnvelopeFields>, from = options()): string {
    const value = sealEnvelope(from);
    const { fields, wrappedObjectKey } = parseEnvelope(value);
    const forged = { ...fields, ...change };
    const { contextDigest } = verify(value);
    const pairs = encodePairs(forged.context);
    const t = transcript(forged, PLACE, contextDigest);
    const { version, key } = ENVELOPE_KEYS.current();
    const rest = [pairs, forged.wrappedDataKey, wrappedObjectKey];
    const tag = envelopeMac(key, LABEL.envelope, [u32(version), t, ...rest]);
    return Buffer.concat([encodeEnvelope(forged, version, pairs, wrappedObjectKey), tag]).toString('base64url');
  }

  it('forged like this without a change verifies', () => {
    expect(verify(forge({})).keyId).toBe('photos-key');
  });

  it.each(['../../sys/seal', 'a/b', '-a', 'a b', '', 'a'.repeat(65), 'a%2Fb'])(
    'and the key id %j is refused',
    (keyId) => {
      expect(() => verify(forge({ keyId }))).toThrow(refusedAs('envelope-form'));
    },
  );

  it.each<Partial<EnvelopeFields>>([
    { mode: 'SSE-S3', bucketKey: false },
    { mode: 'SSE-C' },
    { wrappedDataKey: Buffer.alloc(0) },
    { length: 10_000 * 5 * 1024 ** 3 + 1 },
  ])('and fields that contradict each other (%o) is refused', (change) => {
    expect(() => verify(forge(change))).toThrow(refusedAs('envelope-form'));
  });

  it('and a reserved context name is refused', () => {
    expect(() => verify(forge({ context: [['aws:s3:arn', 'arn:aws:s3:::other/key']] }))).toThrow(
      refusedAs('envelope-context'),
    );
  });

  it.each<[SseMode, SseMode]>([
    ['SSE-KMS', 'SSE-S3'],
    ['SSE-S3', 'SSE-KMS'],
  ])('relabelled from %s to %s does not unwrap', (from, to) => {
    const source = options({ mode: from, bucketKey: true });
    const envelope = verify(forge({ mode: to }, source));
    expect(() => openObjectKey(envelope, deriveKek(DATA_KEY, objectId, to))).toThrow(refusedAs('object-key'));
    expect(() => openObjectKey(envelope, source.kek)).toThrow(refusedAs('object-key'));
  });

  it('under the KEK of another mode does not unwrap: the modes are separate domains', () => {
    const envelope = verify(sealEnvelope(options()));
    expect(() => openObjectKey(envelope, deriveKek(DATA_KEY, objectId, 'SSE-S3'))).toThrow(refusedAs('object-key'));
  });
});

describe('a key name', () => {
  it.each([
    ['of more than 1,024 bytes', 'é'.repeat(513)],
    ['with a lone surrogate', 'a\ud800'],
  ])('%s is refused', (_, key) => {
    expect(() => sealEnvelope(options({ place: { ...PLACE, key } }))).toThrow(expect.objectContaining({ status: 400 }));
  });

  it('of 1,024 bytes is sealed', () => {
    const place = { ...PLACE, key: 'é'.repeat(512) };
    expect(verifyEnvelope(sealEnvelope(options({ place })), place, ENVELOPE_KEYS).place.key).toBe(place.key);
  });
});

describe('rewrap', () => {
  it('replaces the wrapped data key and nothing else, under the current envelope key', () => {
    const old = envelopeKeys({ 1: secret('envelope key 1') }, 1);
    const before = verifyEnvelope(sealEnvelope(options({ keys: old })), PLACE, ENVELOPE_KEYS);
    const after = verify(replaceWrappedDataKey(before, Buffer.from('vault:v2:BBBB'), ENVELOPE_KEYS));
    expect(after.wrappedDataKey.toString()).toBe('vault:v2:BBBB');
    expect([before.keyVersion, after.keyVersion]).toEqual([1, 2]);
    expect(after.transcript.equals(before.transcript)).toBe(true);
    expect(openObjectKey(after, options().kek).objectKey.equals(objectKey)).toBe(true);
  });
});

describe('the stored size', () => {
  const single = verify(sealEnvelope(options()));
  const multipart = verify(sealEnvelope(options({ type: 'multipart', length: undefined, pin: undefined })));

  it('is confirmed by the envelope', () => {
    expect(confirmSize(single, sealedSize(11))).toBe(11);
    expect(confirmSize(multipart, multipartSealedSize(11))).toBe(11);
    expect(confirmSize(multipart, 1120)).toBe(0);
  });

  it.each([0, 11, sealedSize(10), sealedSize(12), sealedSize(11) + 1])(
    '%i is refused for a single of 11 bytes',
    (size) => {
      expect(() => confirmSize(single, size)).toThrow(refusedAs('size'));
    },
  );

  it.each([0, 1, 1119, sealedSize(65536) + 1])('%i is refused for a multipart', (size) => {
    expect(() => confirmSize(multipart, size)).toThrow(refusedAs('size'));
  });

  it('a single of zero bytes is zero bytes, never the 1,120 of an empty multipart', () => {
    const empty = verify(sealEnvelope(options({ length: 0 })));
    expect(confirmSize(empty, 0)).toBe(0);
    expect(() => confirmSize(empty, 1120)).toThrow(refusedAs('size'));
  });
});

describe('two objects of the same bytes', () => {
  it('have nothing in common at the store but what is not secret', () => {
    const plaintext = bytes(5000);
    const a = sealSingle({ plaintext, seed: 'a' });
    const b = sealSingle({ plaintext, seed: 'b' });
    expect(a.headers[ENVELOPE_HEADER]).not.toBe(b.headers[ENVELOPE_HEADER]);
    expect(a.body.subarray(10, 5100).equals(b.body.subarray(10, 5100))).toBe(false);
    for (const object of [a, b]) {
      expect(object.body.includes(plaintext.subarray(100, 116))).toBe(false);
      expect(object.body.includes(object.objectKey.export())).toBe(false);
    }
  });
});

describe('the recovery copy', () => {
  it('that cannot hold the context is 400, as the envelope', () => {
    const fields = { ...options({ mode: 'SSE-KMS' }), mode: 'SSE-KMS', context: [['k', 'x'.repeat(400)]] } as const;
    expect(() => buildRecovery(fields, fields.kek, objectKey, seededEntropy('r'))).toThrow(
      expect.objectContaining({ code: 'InvalidArgument', reason: 'context-too-large' }),
    );
  });
});
