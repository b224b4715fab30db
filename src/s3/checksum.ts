import { createHash, type Hash } from 'node:crypto';
import { crc32, crc32c } from '@node-rs/crc32';
import { equalBytes, u32 } from '../bytes.ts';
import { ServiceError } from '../errors.ts';
import { Crc64Nvme } from './crc64.ts';

export type ChecksumAlgorithm = 'CRC32' | 'CRC32C' | 'CRC64NVME' | 'SHA1' | 'SHA256';

/** A checksum of the plaintext. */
export interface PlaintextDigest {
  readonly algorithm: ChecksumAlgorithm;
  readonly value: Buffer;
}

interface Digester {
  update(chunk: Buffer): void;
  digest(): Buffer;
}

const ALGORITHMS: Readonly<Record<ChecksumAlgorithm, { readonly length: number; readonly create: () => Digester }>> = {
  CRC32: { length: 4, create: () => crcDigester(crc32) },
  CRC32C: { length: 4, create: () => crcDigester(crc32c) },
  CRC64NVME: { length: 8, create: () => new Crc64Nvme() },
  SHA1: { length: 20, create: () => hashDigester(createHash('sha1')) },
  SHA256: { length: 32, create: () => hashDigester(createHash('sha256')) },
};
const MD5_LENGTH = 16;

const PREFIX = 'x-amz-checksum-';
/** Names with the prefix that are no checksums. */
const SETTINGS: ReadonlySet<string> = new Set([`${PREFIX}algorithm`, `${PREFIX}mode`, `${PREFIX}type`]);
const BY_HEADER: ReadonlyMap<string, ChecksumAlgorithm> = new Map(
  (Object.keys(ALGORITHMS) as ChecksumAlgorithm[]).map((algorithm) => [checksumHeader(algorithm), algorithm]),
);

/** `x-amz-checksum-crc32` … */
export function checksumHeader(algorithm: ChecksumAlgorithm): string {
  return PREFIX + algorithm.toLowerCase();
}

function crcDigester(crc: (input: Uint8Array, state?: number) => number): Digester {
  let state = 0;
  return {
    update: (chunk) => {
      state = crc(chunk, state);
    },
    digest: () => u32(state),
  };
}

function hashDigester(hash: Hash): Digester {
  return { update: (chunk) => void hash.update(chunk), digest: () => hash.digest() };
}

/** What a request says of its body's digests, checked while the plaintext passes. One body, one use. */
export interface ChecksumPlan {
  /** The checksum that the headers give, before a byte has come; a trailer's is known only after `verify`. */
  readonly declared: PlaintextDigest | undefined;
  update(chunk: Buffer): void;
  /** At the end of the body, with the verified trailers. Throws BadDigest; returns the checksum to keep and return. */
  verify(trailers: Readonly<Record<string, string>>): PlaintextDigest | undefined;
}

/**
 * Makes the plan of a request. Nothing is computed that nobody asked for; two checksums are refused, as by AWS.
 * `wanted` is what the upload that the body is part of asks for: computed where the request has none, and the only one.
 */
export function checksumPlan(headers: Readonly<Record<string, string>>, wanted?: ChecksumAlgorithm): ChecksumPlan {
  const declared = headerChecksum(headers);
  const trailer = trailerAlgorithm(headers['x-amz-trailer']);
  if (declared !== undefined && trailer !== undefined) throw severalChecksums();
  const stated = declared?.algorithm ?? trailer;
  checkNamedAlgorithm(headers, stated);
  if (wanted !== undefined && stated !== undefined && stated !== wanted) throw otherType(wanted, stated);
  const algorithm = stated ?? wanted;
  const md5 = headers['content-md5'];
  const expectedMd5 = md5 === undefined ? undefined : fromBase64(md5, MD5_LENGTH);
  if (md5 !== undefined && expectedMd5 === undefined) throw new ServiceError('InvalidDigest');

  const digester = algorithm === undefined ? undefined : ALGORITHMS[algorithm].create();
  const md5Digester = expectedMd5 === undefined ? undefined : hashDigester(createHash('md5'));
  return {
    declared,
    update: (chunk) => {
      digester?.update(chunk);
      md5Digester?.update(chunk);
    },
    verify: (trailers) => {
      if (expectedMd5 && md5Digester) assertDigest('Content-MD5', expectedMd5, md5Digester.digest());
      if (algorithm === undefined || digester === undefined) return undefined;
      const value = digester.digest();
      if (stated !== undefined) assertDigest(algorithm, declared?.value ?? trailerValue(trailers, algorithm), value);
      return { algorithm, value };
    },
  };
}

function headerChecksum(headers: Readonly<Record<string, string>>): PlaintextDigest | undefined {
  const names = Object.keys(headers).filter((name) => name.startsWith(PREFIX) && !SETTINGS.has(name));
  const [name] = names;
  if (name === undefined) return undefined;
  if (names.length > 1) throw severalChecksums();
  const algorithm = knownAlgorithm(name);
  const value = fromBase64(headers[name] ?? '', ALGORITHMS[algorithm].length);
  if (value === undefined) throw invalidValue(name);
  return { algorithm, value };
}

/** `x-amz-trailer` may name one trailer, and that is a checksum: nothing else is defined for S3. */
function trailerAlgorithm(header: string | undefined): ChecksumAlgorithm | undefined {
  if (header === undefined) return undefined;
  const names = header.split(',').map((name) => name.trim().toLowerCase());
  if (names.length > 1) throw severalChecksums();
  return knownAlgorithm(names[0] ?? '');
}

function knownAlgorithm(name: string): ChecksumAlgorithm {
  const algorithm = BY_HEADER.get(name);
  if (algorithm !== undefined) return algorithm;
  throw new ServiceError('NotImplemented', {
    message: 'The checksum algorithm is not implemented. Use CRC32, CRC32C, CRC64NVME, SHA1 or SHA256.',
    reason: 'checksum-algorithm',
  });
}

/**
 * SDKs name the algorithm in a header of its own, which must agree. It may stand alone: on a presigned URL it is in the
 * signed query, while a checksum there (of a body that the signer never saw) is not.
 */
function checkNamedAlgorithm(
  headers: Readonly<Record<string, string>>,
  algorithm: ChecksumAlgorithm | undefined,
): void {
  for (const header of ['x-amz-sdk-checksum-algorithm', `${PREFIX}algorithm`]) {
    const named = headers[header]?.toUpperCase();
    if (named === undefined) continue;
    if (algorithm === undefined ? !(named in ALGORITHMS) && named !== 'MD5' : named !== algorithm) {
      throw invalidValue(header);
    }
  }
}

function trailerValue(trailers: Readonly<Record<string, string>>, algorithm: ChecksumAlgorithm): Buffer {
  const name = checksumHeader(algorithm);
  const text = trailers[name];
  const value = text === undefined ? undefined : fromBase64(text, ALGORITHMS[algorithm].length);
  if (value === undefined) throw invalidValue(name);
  return value;
}

/** The algorithm that CreateMultipartUpload names for its parts. */
export function namedAlgorithm(name: string): ChecksumAlgorithm {
  return knownAlgorithm(PREFIX + name.toLowerCase());
}

/** A checksum header of a request whose body it does not speak of (CompleteMultipartUpload: the whole object's). */
export function statedChecksum(headers: Readonly<Record<string, string>>):
  | {
      readonly algorithm: ChecksumAlgorithm;
      readonly text: string;
    }
  | undefined {
  const [name, ...others] = Object.keys(headers).filter((key) => key.startsWith(PREFIX) && !SETTINGS.has(key));
  if (name === undefined) return undefined;
  if (others.length > 0) throw severalChecksums();
  return { algorithm: knownAlgorithm(name), text: headers[name] ?? '' };
}

/** The digest of a few bytes, as COMPOSITE checksums are made of the parts' own. */
export function digestOf(algorithm: ChecksumAlgorithm, bytes: Buffer): Buffer {
  const digester = ALGORITHMS[algorithm].create();
  digester.update(bytes);
  return digester.digest();
}

/** Strict base64 of exactly `length` bytes. */
function fromBase64(text: string, length: number): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64');
  return bytes.length === length && bytes.toString('base64') === text ? bytes : undefined;
}

function assertDigest(name: string, expected: Buffer, actual: Buffer): void {
  if (equalBytes(expected, actual)) return;
  throw new ServiceError('BadDigest', {
    message: `The ${name} you specified did not match the calculated checksum.`,
    reason: `digest:${name.toLowerCase()}`,
  });
}

function otherType(wanted: ChecksumAlgorithm, stated: ChecksumAlgorithm): ServiceError {
  const [expected, actual] = [wanted.toLowerCase(), stated.toLowerCase()];
  return new ServiceError('InvalidRequest', {
    message: `Checksum Type mismatch occurred, expected checksum Type: ${expected}, actual checksum Type: ${actual}`,
    reason: 'checksum-type',
  });
}

function severalChecksums(): ServiceError {
  return new ServiceError('InvalidRequest', {
    message: 'Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.',
    reason: 'checksum-several',
  });
}

function invalidValue(name: string): ServiceError {
  return new ServiceError('InvalidRequest', {
    message: `Value for ${name} header is invalid.`,
    reason: 'checksum-form',
  });
}
