/**
 * Writes golden objects that are not there yet: `node --experimental-strip-types test/sse/make-golden.ts` (Node ≥ 22)
 * or through vitest's runner. It never overwrites one: they are append-only, and every later release opens them.
 */
import { createHash } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import type { EncryptionContext } from '../../src/sse/context.ts';
import { sealEnvelope } from '../../src/sse/envelope.ts';
import { ENVELOPE_HEADER, type Checksum, type SseMode } from '../../src/sse/format.ts';
import { deriveKek } from '../../src/sse/key.ts';
import { metadataDigest } from '../../src/sse/metadata.ts';
import { planParts } from '../../src/sse/multipart.ts';
import { buildRecovery } from '../../src/sse/recovery.ts';
import { bytes, DATA_KEY, ENVELOPE_KEYS, HEADERS, PLACE, sealSingle, secret, seededEntropy } from './fixture.ts';
import { GOLDEN, type Golden } from './golden.ts';
import { multipartKeys, VirtualMultipart } from './parts.ts';

const hex = (name: string): string => secret(name).export().toString('hex');
const base = {
  formatVersion: 1,
  key: DATA_KEY.export().toString('hex'),
  envelopeKeys: { 1: hex('envelope key 1'), 2: hex('envelope key 2') },
  place: {
    realmId: PLACE.realmId.toString('hex'),
    bucketId: PLACE.bucketId.toString('hex'),
    bucketName: PLACE.bucketName,
    key: PLACE.key,
  },
} as const;

function checksumOf(plaintext: Buffer): Checksum {
  const value = createHash('sha256').update(plaintext).digest();
  return { algorithm: 'SHA256', type: 'FULL_OBJECT', value };
}

function rangesOf(plaintext: Buffer, ranges: readonly (readonly [number, number])[]) {
  return ranges.map(([start, end]) => ({
    start,
    end,
    base64: plaintext.subarray(start, end + 1).toString('base64'),
  }));
}

function single(
  about: string,
  seed: string,
  mode: SseMode,
  plaintext: Buffer,
  extra: Partial<Parameters<typeof sealSingle>[0]>,
  ranges: readonly (readonly [number, number])[],
): Golden {
  const stored = sealSingle({ mode, plaintext, seed, ...extra });
  const known = extra.checksum ?? extra.streamedChecksum;
  return {
    about,
    ...base,
    headers: stored.headers,
    size: stored.body.length,
    pieces: [{ offset: 0, base64: stored.body.toString('base64') }],
    outcome: {
      opens: true,
      length: plaintext.length,
      ranges: rangesOf(plaintext, ranges),
      ...(known && { checksum: { algorithm: known.algorithm, base64: known.value.toString('base64') } }),
    },
  };
}

function multipart(
  about: string,
  mode: SseMode,
  lengths: readonly number[],
  context: EncryptionContext,
  ranges: readonly (readonly [number, number])[],
): Golden {
  const keys = multipartKeys(`golden ${lengths.length}`);
  const customer = mode === 'SSE-C';
  const kek = deriveKek(DATA_KEY, keys.objectId, mode);
  const common = {
    bucketKey: false,
    objectId: keys.objectId,
    keyId: customer ? '' : 'photos-key',
    context,
    wrappedDataKey: customer ? Buffer.alloc(0) : Buffer.from('vault:v1:AAAA'),
    place: PLACE,
  };
  const recovery =
    mode === 'SSE-C'
      ? undefined
      : buildRecovery({ ...common, mode }, kek, keys.objectKey, seededEntropy(`${about} recovery`));
  const object = new VirtualMultipart(keys, lengths, recovery);
  const envelope = sealEnvelope({
    ...common,
    type: 'multipart',
    mode,
    length: undefined,
    metadataDigest: metadataDigest(HEADERS),
    pin: undefined,
    keys: ENVELOPE_KEYS,
    kek,
    objectKey: keys.objectKey,
    entropy: seededEntropy(about),
  });
  const runs = ranges.map(([start, end]) => planParts(object.entries, start, end));
  const piece = (offset: number, end: number) => ({ offset, base64: object.read(offset, end).toString('base64') });
  return {
    about,
    ...base,
    headers: { ...HEADERS, [ENVELOPE_HEADER]: envelope },
    size: object.size,
    pieces: [
      ...runs.map((run) => piece(run.sealedStart, run.sealedEnd)),
      piece(object.size - object.tail.length, object.size - 1),
    ],
    outcome: {
      opens: true,
      length: object.length,
      ranges: ranges.map(([start, end]) => ({ start, end, base64: object.plain(start, end).toString('base64') })),
    },
  };
}

const eleven = Buffer.from('hello world');
const two = bytes(65_536 + 11, 'two segments');
const five = 5 * 1024 * 1024;
const ann = sealGolden();

function sealGolden(): Golden {
  return single('11 bytes, SSE-C', 'c', 'SSE-C', eleven, {}, [
    [0, 10],
    [4, 4],
  ]);
}

const rows: Record<string, Golden> = {
  'sse-s3-11-bytes': single(
    '11 bytes, bucket key, SHA-256 in the private fields',
    's3',
    'SSE-S3',
    eleven,
    { checksum: checksumOf(eleven) },
    [
      [0, 10],
      [6, 10],
    ],
  ),
  'sse-kms-two-segments': single(
    '65,547 bytes, client context, SHA-256 in the manifest',
    'kms',
    'SSE-KMS',
    two,
    {
      context: [
        ['department', 'bücher'],
        ['z', ''],
      ],
      streamedChecksum: checksumOf(two),
    },
    [
      [0, 9],
      [65_530, 65_546],
      [65_546, 65_546],
    ],
  ),
  'sse-c-11-bytes': ann,
  'sse-kms-zero-bytes': single('no bytes', 'zero', 'SSE-KMS', Buffer.alloc(0), {}, []),
  'sse-kms-multipart-three-parts': multipart(
    'three parts, sparse: the bytes of the ranges and of the tail',
    'SSE-KMS',
    [five + 5, five + 7, 11],
    [['department', 'books']],
    [
      [five, five + 4],
      [2 * five + 5, 2 * five + 22],
      [2 * five + 12, 2 * five + 20],
    ],
  ),
  'sse-c-multipart-nothing': multipart('a multipart upload of one empty part: 1,120 bytes', 'SSE-C', [0], [], []),
  'refused-other-key-name': {
    ...ann,
    about: 'the envelope of one key under another',
    place: { ...base.place, key: 'summer/deux.jpg' },
    outcome: { opens: false, code: 'InternalError', reason: 'integrity:envelope-tag' },
  },
  'refused-wrong-customer-key': {
    ...ann,
    about: 'SSE-C with another customer key',
    key: hex('another customer'),
    outcome: { opens: false, code: 'AccessDenied', reason: 'customer-key' },
  },
  'refused-flipped-byte': {
    ...ann,
    about: 'one bit of the ciphertext is another',
    pieces: ann.pieces.map(({ offset, base64 }) => {
      const body = Buffer.from(base64, 'base64');
      body.writeUInt8(body.readUInt8(92) ^ 1, 92);
      return { offset, base64: body.toString('base64') };
    }),
    outcome: { opens: false, code: 'InternalError', reason: 'integrity:segment-tag' },
  },
};

for (const [name, golden] of Object.entries(rows)) {
  const file = new URL(`${name}.json`, GOLDEN);
  if (!existsSync(file)) writeFileSync(file, `${JSON.stringify(golden, null, 1)}\n`);
}
