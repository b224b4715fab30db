import { u16 } from '../bytes.ts';
import { ServiceError } from '../errors.ts';
import { BUCKET_ID_LENGTH, CONTEXT_ARN, CONTEXT_BUCKET_ID, LABEL, RESERVED_CONTEXT_PREFIXES } from './format.ts';
import { pairsDigest } from './mac.ts';
import type { FieldReader } from './reader.ts';

/** An encryption context: names are unique, and in the canonical order (ascending UTF-8 bytes) wherever we made it. */
export type EncryptionContext = readonly (readonly [name: string, value: string])[];

/** Where an object is, as far as its keys are bound to it. */
export interface ObjectPlace {
  /** 16 bytes: one per deployment. */
  readonly realmId: Buffer;
  /** 16 bytes: random, made with the bucket and retired with it. */
  readonly bucketId: Buffer;
  /** The name that ARNs are built from; a replica bucket inherits it from the bucket's record. */
  readonly bucketName: string;
  /** The decoded object key. */
  readonly key: string;
}

const MAX_PAIRS = 255;
const MAX_TEXT = 0xffff;
/** Base64 of 8 KiB of JSON: AWS KMS allows a context of 8,192 bytes. */
const MAX_HEADER = 11_000;
const LONE_SURROGATE = /\p{Surrogate}/u;
const BEYOND_BMP = /[\ud800-\udfff]/;
const JSON_STRING = /[ \t\r\n]*("(?:[^"\\]|\\.)*")[ \t\r\n]*/y;

function refuse(message: string, reason: string): never {
  throw new ServiceError('InvalidArgument', { message, reason });
}

function malformed(): never {
  refuse(
    'The header x-amz-server-side-encryption-context shall be Base64-encoded UTF-8 string holding JSON which represents a string-string map',
    'context-malformed',
  );
}

/** True for names that only the gateway sets; the public KMS API refuses them all. */
export function isReservedContextName(name: string): boolean {
  return RESERVED_CONTEXT_PREFIXES.some((prefix) => name.startsWith(prefix));
}

/** By UTF-8 bytes. That is the order of the strings themselves, unless a character beyond U+FFFF is in one. */
function byName([a]: readonly [string, string], [b]: readonly [string, string]): number {
  if (BEYOND_BMP.test(a) || BEYOND_BMP.test(b)) return Buffer.compare(Buffer.from(a, 'utf8'), Buffer.from(b, 'utf8'));
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The canonical order. Refuses duplicates, empty names, lone surrogates and what cannot be stored. */
export function canonicalContext(pairs: EncryptionContext): EncryptionContext {
  if (pairs.length > MAX_PAIRS) refuse('The encryption context has too many pairs.', 'context-too-large');
  const sorted = [...pairs].sort(byName);
  sorted.forEach(([name, value], index) => {
    if (name === '' || LONE_SURROGATE.test(name) || LONE_SURROGATE.test(value)) malformed();
    if (name === sorted[index - 1]?.[0]) refuse('The encryption context names a key twice.', 'context-duplicate');
    if (Buffer.byteLength(name) > MAX_TEXT || Buffer.byteLength(value) > MAX_TEXT) {
      refuse('The encryption context is too large.', 'context-too-large');
    }
  });
  return sorted;
}

/** Parses `x-amz-server-side-encryption-context`: base64 of a JSON map of strings, in canonical order. */
export function parseContextHeader(header: string): EncryptionContext {
  if (header.length > MAX_HEADER) refuse('The encryption context is too large.', 'context-too-large');
  const bytes = Buffer.from(header, 'base64');
  if (bytes.toString('base64') !== header) malformed();
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    malformed();
  }
  return canonicalContext(parseStringMap(text));
}

/** A JSON object of strings, member by member: `JSON.parse` would drop duplicate names without a word. */
function parseStringMap(text: string): [string, string][] {
  const pairs: [string, string][] = [];
  const body = /^[ \t\r\n]*\{(.*)\}[ \t\r\n]*$/su.exec(text)?.[1];
  if (body === undefined) malformed();
  if (/^[ \t\r\n]*$/u.test(body)) return pairs;
  let at = 0;
  const token = (): string => {
    JSON_STRING.lastIndex = at;
    const match = JSON_STRING.exec(body);
    if (match?.[1] === undefined) malformed();
    at = JSON_STRING.lastIndex;
    try {
      return JSON.parse(match[1]) as string;
    } catch {
      malformed();
    }
  };
  for (;;) {
    const name = token();
    if (body[at] !== ':') malformed();
    at += 1;
    pairs.push([name, token()]);
    if (at === body.length) return pairs;
    if (body[at] !== ',') malformed();
    at += 1;
  }
}

export function bucketArn(bucket: string): string {
  return `arn:aws:s3:::${bucket}`;
}

export function objectArn(bucket: string, key: string): string {
  return `arn:aws:s3:::${bucket}/${key}`;
}

/**
 * The client's own pairs as the envelope keeps them: without an `aws:s3:arn` that equals the real one. AWS lets a
 * client's ARN replace the real one; here another one is refused, or a policy on the ARN would mean nothing.
 */
export function clientContext(pairs: EncryptionContext, place: ObjectPlace, bucketKey: boolean): EncryptionContext {
  const arn = bucketKey ? bucketArn(place.bucketName) : objectArn(place.bucketName, place.key);
  return canonicalContext(pairs).filter(([name, value]) => {
    if (!isReservedContextName(name)) return true;
    if (name === CONTEXT_ARN && value === arn) return false;
    return refuse(`The encryption context may not set ${CONTEXT_ARN} or a reserved name.`, 'context-reserved');
  });
}

/**
 * Contexts of bucket keys, with their digests: such a one says nothing of the object, and every request asks for it
 * several times (15 µs). When there are too many they are made anew.
 */
const ofBuckets = new Map<string, EncryptionContext>();
const digests = new WeakMap<EncryptionContext, Buffer>();
const MAX_BUCKETS = 1000;

/** What the KMS is bound to: the client's pairs, the ARN, the bucket id (FORMAT.md section 7). */
export function effectiveContext(pairs: EncryptionContext, place: ObjectPlace, bucketKey: boolean): EncryptionContext {
  if (place.bucketId.length !== BUCKET_ID_LENGTH) throw new RangeError('a bucket id has 16 bytes');
  return bucketKey && pairs.length === 0 ? bucketContext(place) : boundContext(pairs, place, bucketKey);
}

function bucketContext(place: ObjectPlace): EncryptionContext {
  // The id first: it has one length.
  const name = place.bucketId.toString('latin1') + place.bucketName;
  let context = ofBuckets.get(name);
  if (context === undefined) {
    context = Object.freeze(boundContext([], place, true).map((pair) => Object.freeze(pair)));
    digests.set(context, contextDigest(context));
    if (ofBuckets.size >= MAX_BUCKETS) ofBuckets.clear();
    ofBuckets.set(name, context);
  }
  return context;
}

function boundContext(pairs: EncryptionContext, place: ObjectPlace, bucketKey: boolean): EncryptionContext {
  return canonicalContext([
    ...clientContext(pairs, place, bucketKey),
    [CONTEXT_ARN, bucketKey ? bucketArn(place.bucketName) : objectArn(place.bucketName, place.key)],
    [CONTEXT_BUCKET_ID, place.bucketId.toString('base64url')],
  ]);
}

/** The 32 bytes that stand for a context everywhere; over length-prefixed pairs, never over JSON text. */
export function contextDigest(context: EncryptionContext): Buffer {
  const known = digests.get(context);
  if (known !== undefined) return known;
  const pairs = canonicalContext(context);
  const fields = pairs.flatMap(([name, value]) => [Buffer.from(name, 'utf8'), Buffer.from(value, 'utf8')]);
  return pairsDigest(LABEL.context, fields);
}

/** The stored form of pairs in canonical order. */
export function encodePairs(context: EncryptionContext): Buffer {
  const fields = context.flat().map((text) => Buffer.from(text, 'utf8'));
  return Buffer.concat([Buffer.from([context.length]), ...fields.flatMap((field) => [u16(field.length), field])]);
}

/** The strict inverse of `encodePairs`: ascending names, none empty, valid UTF-8; one stored form of each context. */
export function decodePairs(reader: FieldReader, malformed: () => Error): EncryptionContext {
  const text = (bytes: Buffer): string => {
    const decoded = bytes.toString('utf8');
    if (!Buffer.from(decoded, 'utf8').equals(bytes)) throw malformed();
    return decoded;
  };
  const pairs: (readonly [string, string])[] = [];
  let previous: Buffer = Buffer.alloc(0);
  for (let left = reader.u8(); left > 0; left -= 1) {
    const name = reader.take(reader.u16());
    if (Buffer.compare(previous, name) >= 0) throw malformed();
    previous = name;
    pairs.push([text(name), text(reader.take(reader.u16()))]);
  }
  return pairs;
}
