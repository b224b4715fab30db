import { createHash, createSecretKey, type KeyObject } from 'node:crypto';
import type { EncryptionContext, ObjectPlace } from '../../src/sse/context.ts';
import { sealEnvelope, verifyEnvelope, openObjectKey, confirmSize, verifyMetadata } from '../../src/sse/envelope.ts';
import { ENVELOPE_HEADER, type Checksum, type Entropy, type SseMode } from '../../src/sse/format.ts';
import { deriveKek, deriveManifestKey, newObjectId, newObjectKey, type ObjectKey } from '../../src/sse/key.ts';
import type { EnvelopeKeys } from '../../src/sse/mac.ts';
import { metadataDigest } from '../../src/sse/metadata.ts';
import { ObjectSealer, openSingle, planRange } from '../../src/sse/object.ts';
import type { MessageOpener } from '../../src/sse/open.ts';
import { buildRecovery } from '../../src/sse/recovery.ts';
import { uploadHash } from '../../src/sse/upload-record.ts';

/** Reproducible bytes: SHA-256 in counter mode over a seed. */
export function seededEntropy(seed: string): Entropy {
  let counter = 0;
  return (bytes) => {
    const out = Buffer.alloc(bytes);
    for (let at = 0; at < bytes; at += 32) {
      createHash('sha256').update(`${seed}/${counter}`).digest().copy(out, at);
      counter += 1;
    }
    return out;
  };
}

export function secret(seed: string): KeyObject {
  return createSecretKey(seededEntropy(seed)(32));
}

export function bytes(length: number, seed = 'plaintext'): Buffer {
  return seededEntropy(seed)(length);
}

export const ENVELOPE_KEYS: EnvelopeKeys = envelopeKeys(
  { 1: secret('envelope key 1'), 2: secret('envelope key 2') },
  2,
);

export function envelopeKeys(all: Readonly<Record<number, KeyObject>>, current: number): EnvelopeKeys {
  return {
    current: () => {
      const key = all[current];
      if (key === undefined) throw new Error('no current key');
      return { version: current, key };
    },
    get: (version) => all[version],
  };
}

export const PLACE: ObjectPlace = {
  realmId: bytes(16, 'realm'),
  bucketId: bytes(16, 'bucket'),
  bucketName: 'photos',
  key: 'summer/één.jpg',
};

export const HEADERS = {
  'content-type': 'image/jpeg',
  'x-amz-meta-owner': 'ann',
  etag: '"whatever"',
};

export interface SealedObject {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  readonly objectKey: ObjectKey;
  readonly objectId: Buffer;
}

export interface SealOptions {
  readonly mode?: SseMode;
  readonly bucketKey?: boolean;
  readonly plaintext: Buffer;
  readonly place?: ObjectPlace;
  readonly context?: EncryptionContext;
  readonly dataKey?: KeyObject;
  readonly seed?: string;
  readonly keys?: EnvelopeKeys;
  readonly checksum?: Checksum;
  readonly streamedChecksum?: Checksum;
  readonly headers?: Readonly<Record<string, string>>;
  readonly keyId?: string;
}

export const DATA_KEY = secret('data key');

/** Seals a single object the way that a PUT does. */
export function sealSingle(options: SealOptions): SealedObject {
  const { plaintext, mode = 'SSE-KMS', place = PLACE, context = [], dataKey = DATA_KEY } = options;
  const bucketKey = options.bucketKey ?? mode === 'SSE-S3';
  const keys = options.keys ?? ENVELOPE_KEYS;
  const entropy = seededEntropy(options.seed ?? 'object');
  const headers = options.headers ?? HEADERS;
  const objectKey = newObjectKey(entropy);
  const objectId = newObjectId(entropy);
  const kek = deriveKek(dataKey, objectId, mode);
  const managed =
    mode === 'SSE-C'
      ? { keyId: '', wrappedDataKey: Buffer.alloc(0) }
      : { keyId: options.keyId ?? 'photos-key', wrappedDataKey: Buffer.from('vault:v1:AAAA') };
  const recovery =
    mode === 'SSE-C'
      ? undefined
      : buildRecovery({ mode, bucketKey, objectId, place, context, ...managed }, kek, objectKey, entropy);
  const sealer = new ObjectSealer({
    objectKey,
    objectId,
    length: plaintext.length,
    entropy,
    envelopeKey: keys.current(),
    recovery,
  });
  const body = Buffer.concat([...sealer.update(plaintext), ...sealer.finish(options.streamedChecksum)]);
  const envelope = sealEnvelope({
    type: 'single',
    mode,
    bucketKey,
    objectId,
    length: plaintext.length,
    metadataDigest: metadataDigest(headers),
    pin: { floeIv: sealer.floeIv, headerTag: sealer.headerTag },
    context,
    ...managed,
    place,
    keys,
    kek,
    objectKey,
    checksum: options.checksum,
    entropy,
  });
  return { headers: { ...headers, [ENVELOPE_HEADER]: envelope }, body, objectKey, objectId };
}

export interface OpenOptions {
  readonly place?: ObjectPlace;
  readonly keys?: EnvelopeKeys;
  /** The KMS: what it unwraps to for this key id and context, or the customer key. */
  readonly dataKey?: KeyObject;
  readonly range?: readonly [start: number, end: number];
  readonly chunk?: number;
}

type Stored = Pick<SealedObject, 'headers' | 'body'>;

/** All that a GET does before the body of a single object, in the order of FORMAT.md section 10. */
export function openerOf(stored: Stored, options: OpenOptions = {}): MessageOpener {
  const { place = PLACE, keys = ENVELOPE_KEYS, dataKey = DATA_KEY, range } = options;
  const envelope = verifyEnvelope(stored.headers[ENVELOPE_HEADER] ?? '', place, keys);
  verifyMetadata(envelope, stored.headers);
  const length = confirmSize(envelope, stored.body.length);
  const { objectKey } = openObjectKey(envelope, deriveKek(dataKey, envelope.objectId, envelope.mode));
  if (envelope.pin === undefined) throw new Error('not a single object');
  const plan = range === undefined ? undefined : planRange(length, range[0], range[1]);
  return openSingle({
    objectKey,
    objectId: envelope.objectId,
    pin: { length, ...envelope.pin },
    range: plan,
  });
}

/** Opens a single object, or a range of it, in chunks as they would come from a store. */
export function openObject(stored: Stored, options: OpenOptions = {}): Buffer {
  const opener = openerOf(stored, options);
  const { range, chunk } = options;
  if (range === undefined) return feed(opener, stored.body, chunk);
  const length =
    verifyEnvelope(stored.headers[ENVELOPE_HEADER] ?? '', options.place ?? PLACE, options.keys ?? ENVELOPE_KEYS)
      .length ?? 0;
  const { sealedStart, sealedEnd } = planRange(length, range[0], range[1]);
  return feed(opener, stored.body.subarray(sealedStart, sealedEnd + 1), chunk);
}

export interface Opener {
  update(chunk: Buffer): Buffer[];
  finish(): void;
}

/** Feeds bytes in chunks and gives what came out, all of it or an error. */
export function feed(opener: Opener, body: Buffer, chunk = body.length): Buffer {
  const out: Buffer[] = [];
  for (let at = 0; at < body.length; at += chunk) out.push(...opener.update(body.subarray(at, at + chunk)));
  opener.finish();
  return Buffer.concat(out);
}

/** An upload in parts as it stands after Create: its object's keys, and what its records are bound to. */
export function newUpload(seed: string, uploadId: string, mode: Exclude<SseMode, 'SSE-C'>, keyId: string) {
  const entropy = seededEntropy(seed);
  const objectKey = newObjectKey(entropy);
  const objectId = newObjectId(entropy);
  const envelope = sealEnvelope({
    ...{ type: 'multipart', mode, bucketKey: true, keyId, context: [], objectId, objectKey, entropy },
    ...{ length: undefined, pin: undefined, metadataDigest: bytes(32, 'metadata') },
    ...{ wrappedDataKey: Buffer.from('vault:v1:AAAA'), kek: deriveKek(DATA_KEY, objectId, mode) },
    ...{ place: PLACE, keys: ENVELOPE_KEYS },
  });
  const name = { bucketId: PLACE.bucketId, key: PLACE.key, uploadId };
  const upload = { hash: uploadHash(name), objectId, keys: ENVELOPE_KEYS };
  return {
    entropy,
    envelope,
    name,
    upload,
    manifestKey: deriveManifestKey(objectKey),
    recovery: bytes(512, 'recovery'),
  };
}
