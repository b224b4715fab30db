import type { KeyObject } from 'node:crypto';
import { equalBytes, u32 } from '../bytes.ts';
import { integrityError, ServiceError } from '../errors.ts';
import { checksumCodes, readChecksum } from './checksum.ts';
import { clientContext, contextDigest, effectiveContext, encodePairs } from './context.ts';
import type { EncryptionContext, ObjectPlace } from './context.ts';
import { checkFields, encodeEnvelope, parseEnvelope, transcript, type EnvelopeFields } from './envelope-form.ts';
import { ENVELOPE_MAX_CHARACTERS, KEY_LENGTH, LABEL, PRIVATE_CHECKSUM, type Checksum, type Entropy } from './format.ts';
import { takeObjectKey, type Kek, type ObjectKey } from './key.ts';
import { envelopeMac, type EnvelopeKeys } from './mac.ts';
import { metadataDigest } from './metadata.ts';
import { multipartSealedSize, plaintextSize, sealedSize } from './size.ts';
import { unwrap, wrapObjectKey } from './wrap.ts';

const NO_BYTES = Buffer.alloc(0);

function envelopeTag(
  key: KeyObject,
  version: number,
  t: Buffer,
  rest: { readonly pairs: Buffer; readonly wrappedDataKey: Buffer; readonly wrappedObjectKey: Buffer },
): Buffer {
  return envelopeMac(key, LABEL.envelope, [u32(version), t, rest.pairs, rest.wrappedDataKey, rest.wrappedObjectKey]);
}

function finishEnvelope(fields: EnvelopeFields, t: Buffer, wrappedObjectKey: Buffer, keys: EnvelopeKeys): string {
  const { version, key } = keys.current();
  const pairs = encodePairs(fields.context);
  const tag = envelopeTag(key, version, t, { pairs, wrappedDataKey: fields.wrappedDataKey, wrappedObjectKey });
  const value = Buffer.concat([encodeEnvelope(fields, version, pairs, wrappedObjectKey), tag]).toString('base64url');
  if (value.length > ENVELOPE_MAX_CHARACTERS) throw tooLarge(fields.context);
  return value;
}

function tooLarge(context: EncryptionContext): ServiceError {
  if (context.length === 0) return new ServiceError('InternalError', { reason: 'envelope-too-large' });
  const message = 'The encryption context is too large to be kept with the object.';
  return new ServiceError('InvalidArgument', { message, reason: 'context-too-large' });
}

export interface SealEnvelopeOptions extends EnvelopeFields {
  readonly place: ObjectPlace;
  readonly keys: EnvelopeKeys;
  /** `deriveKek` of the data key or customer key for this object id and mode. */
  readonly kek: Kek;
  readonly objectKey: ObjectKey;
  /** A checksum that is known with the headers, or of a small body; it is wrapped with the object key. */
  readonly checksum?: Checksum | undefined;
  readonly entropy: Entropy;
}

/** The value of ENVELOPE_HEADER. InvalidArgument when the client's context is too large for it. */
export function sealEnvelope(options: SealEnvelopeOptions): string {
  const { place, bucketKey, kek, objectKey, entropy } = options;
  const fields = { ...options, context: clientContext(options.context, place, bucketKey) };
  checkFields(fields);
  const t = transcript(fields, place, contextDigest(effectiveContext(fields.context, place, bucketKey)));
  const wrapped = wrapObjectKey(kek, objectKey, privateFields(options.checksum), t, entropy);
  return finishEnvelope(fields, t, wrapped, options.keys);
}

function privateFields(checksum: Checksum | undefined): Buffer {
  if (checksum === undefined) return NO_BYTES;
  return Buffer.concat([Buffer.from([PRIVATE_CHECKSUM, ...checksumCodes(checksum)]), checksum.value]);
}

declare const verified: unique symbol;

/** An envelope whose tag has verified in its place. `verifyEnvelope` is the only maker. */
export interface VerifiedEnvelope extends EnvelopeFields {
  readonly [verified]: true;
  readonly place: ObjectPlace;
  /** The version of the envelope key that made it. */
  readonly keyVersion: number;
  /** The context that the data key is bound to, for the KMS call and for policies. */
  readonly effectiveContext: EncryptionContext;
  readonly contextDigest: Buffer;
  readonly transcript: Buffer;
  readonly wrappedObjectKey: Buffer;
  /** For caches: the tag names this very envelope. */
  readonly tag: Buffer;
}

/**
 * Parses and authenticates an envelope for an object at `place`, before anybody is asked for a key: a forged key id or
 * a moved envelope ends here. Every failure is an integrity error.
 */
export function verifyEnvelope(value: string, place: ObjectPlace, keys: EnvelopeKeys): VerifiedEnvelope {
  const { fields, pairs, wrappedObjectKey, keyVersion, tag } = parseEnvelope(value);
  const key = keys.get(keyVersion);
  if (key === undefined) throw integrityError('envelope-key-version');
  const context = contextOf(fields, place);
  const digest = contextDigest(context);
  const t = transcript(fields, place, digest);
  const { wrappedDataKey } = fields;
  if (!equalBytes(envelopeTag(key, keyVersion, t, { pairs, wrappedDataKey, wrappedObjectKey }), tag)) {
    throw integrityError('envelope-tag');
  }
  const proof = { place, keyVersion, effectiveContext: context, contextDigest: digest, transcript: t };
  return { ...fields, ...proof, wrappedObjectKey, tag } as VerifiedEnvelope;
}

function contextOf(fields: EnvelopeFields, place: ObjectPlace): EncryptionContext {
  try {
    return effectiveContext(fields.context, place, fields.bucketKey);
  } catch (cause) {
    throw integrityError('envelope-context', cause);
  }
}

/** What the KEK opens: the object key, and a checksum if one was known with the headers. */
export interface OpenedEnvelope {
  readonly objectKey: ObjectKey;
  readonly checksum: Checksum | undefined;
}

/** Unwraps the object key. With a good tag, a failure means a wrong customer key (403), or tampering (500). */
export function openObjectKey(envelope: VerifiedEnvelope, kek: Kek): OpenedEnvelope {
  const plaintext = unwrap(kek, envelope.wrappedObjectKey, envelope.transcript);
  if (plaintext === undefined) {
    if (envelope.mode === 'SSE-C') throw new ServiceError('AccessDenied', { reason: 'customer-key' });
    throw integrityError('object-key');
  }
  const fields = Buffer.from(plaintext.subarray(KEY_LENGTH));
  const objectKey = takeObjectKey(plaintext.subarray(0, KEY_LENGTH));
  return { objectKey, checksum: readPrivateFields(fields) };
}

function readPrivateFields(fields: Buffer): Checksum | undefined {
  if (fields.length === 0) return undefined;
  const [tag, algorithm = 0, type = 0, length = 0] = fields;
  if (tag !== PRIVATE_CHECKSUM || fields.length !== 4 + length) throw integrityError('private-fields');
  return readChecksum([algorithm, type, length], fields.subarray(4));
}

/** The same envelope around a data key that the KMS has wrapped again (`rewrap`): t and the object key stay. */
export function replaceWrappedDataKey(envelope: VerifiedEnvelope, wrapped: Buffer, keys: EnvelopeKeys): string {
  const fields = { ...envelope, wrappedDataKey: wrapped };
  checkFields(fields);
  return finishEnvelope(fields, envelope.transcript, envelope.wrappedObjectKey, keys);
}

/** Refuses metadata and content headers that are not those that were sealed. */
export function verifyMetadata(
  envelope: VerifiedEnvelope,
  headers: Readonly<Record<string, string | undefined>>,
): void {
  if (!equalBytes(digestOrNone(headers), envelope.metadataDigest)) throw integrityError('metadata');
}

/** What no header of ours can hold was never sealed: a fault of the stored object, not of the request that reads it. */
function digestOrNone(headers: Readonly<Record<string, string | undefined>>): Buffer {
  try {
    return metadataDigest(headers);
  } catch {
    return NO_BYTES;
  }
}

/**
 * Refuses a stored size that the envelope contradicts. Returns T; for multipart, T by inversion only, which manifest
 * and footer must confirm.
 */
export function confirmSize(envelope: VerifiedEnvelope, size: number): number {
  if (envelope.length !== undefined) {
    if (sealedSize(envelope.length) !== size) throw integrityError('size');
    return envelope.length;
  }
  const length = plaintextSize(size);
  if (length === undefined || multipartSealedSize(length) !== size) throw integrityError('size');
  return length;
}
