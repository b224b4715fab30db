import { createSecretKey, type KeyObject } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';

/** Where a secret is kept. The configuration holds references only, never a secret itself. */
export type SecretRef =
  { readonly kind: 'file'; readonly path: string } | { readonly kind: 'env'; readonly name: string };

export type Environment = Readonly<Record<string, string | undefined>>;

/** A secret cannot be had. The message names the place and the fault, never a content. */
export class SecretError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'SecretError';
  }
}

const MAX_SECRET = 64 * 1024;

/** The secret's bytes as they are kept, in a buffer that is solely the caller's, who wipes it. */
export function readSecretFrom(ref: SecretRef, env: Environment): Buffer {
  if (ref.kind === 'file') return readPrivateFile(ref.path);
  const value = env[ref.name];
  if (value === undefined || value === '') throw new SecretError(`the environment variable ${ref.name} is not set`);
  const out = Buffer.allocUnsafeSlow(Buffer.byteLength(value));
  out.write(value);
  return out;
}

/**
 * Reads a file that only its owner may read. The checks are made on the open descriptor, so that the file that was
 * checked is the file that is read; links are followed (Kubernetes mounts secrets as links).
 */
export function readPrivateFile(path: string): Buffer {
  // Without O_NONBLOCK the open of a FIFO would wait for a writer.
  const fd = openFile(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(fd);
    const { mode, size } = stat;
    if (!stat.isFile()) throw new SecretError(`${path} is not a regular file`);
    if ((mode & 0o077) !== 0) throw new SecretError(`${path} is open to group or others; set its mode to 0600`);
    if (size === 0 || size > MAX_SECRET) throw new SecretError(`${path} must hold 1 to ${MAX_SECRET} bytes`);
    const out = Buffer.allocUnsafeSlow(size);
    for (let at = 0; at < size;) {
      const read = readSync(fd, out, at, size - at, at);
      if (read === 0) throw new SecretError(`${path} changed while it was read`);
      at += read;
    }
    return out;
  } finally {
    closeSync(fd);
  }
}

function openFile(path: string, flags: number): number {
  try {
    return openSync(path, flags);
  } catch (err) {
    const code = err instanceof Error && 'code' in err ? String(err.code) : 'unknown error';
    throw new SecretError(`${path} cannot be read (${code})`);
  }
}

/** The HMAC key over `AWS4` ‖ secret access key, with which SigV4 begins; one trailing newline is not the secret's. */
export function signingKeyFrom(ref: SecretRef, env: Environment): KeyObject {
  const secret = readSecretFrom(ref, env);
  const length = trimmedLength(secret);
  const prefixed = Buffer.allocUnsafeSlow(4 + length);
  try {
    if (length < 8 || length > 256 || secret.subarray(0, length).some((byte) => byte < 0x21 || byte > 0x7e)) {
      throw new SecretError(`${place(ref)} must hold a secret access key of 8 to 256 printable ASCII characters`);
    }
    prefixed.write('AWS4', 'latin1');
    secret.copy(prefixed, 4, 0, length);
    return createSecretKey(prefixed);
  } finally {
    secret.fill(0);
    prefixed.fill(0);
  }
}

/** A 256-bit master key: 32 raw bytes, 64 hexadecimal digits, or base64 (or base64url) of 32 bytes. */
export function masterKeyFrom(ref: SecretRef, env: Environment): KeyObject {
  const secret = readSecretFrom(ref, env);
  const key = Buffer.allocUnsafeSlow(32);
  try {
    if (!decodeKey(secret, key)) {
      throw new SecretError(`${place(ref)} must hold 32 bytes: raw, as 64 hexadecimal digits, or as base64`);
    }
    return createSecretKey(key);
  } finally {
    secret.fill(0);
    key.fill(0);
  }
}

const place = (ref: SecretRef) => (ref.kind === 'file' ? ref.path : `the environment variable ${ref.name}`);

function trimmedLength(secret: Buffer): number {
  if (secret.at(-1) !== 0x0a) return secret.length;
  return secret.at(-2) === 0x0d ? secret.length - 2 : secret.length - 1;
}

/** Decodes byte by byte, so that the key never becomes a string. */
function decodeKey(secret: Buffer, key: Buffer): boolean {
  if (secret.length === 32) return secret.copy(key) === 32;
  const text = secret.subarray(0, trimmedLength(secret));
  if (text.length === 64) return text.every((digit, index) => putHexDigit(key, index, digit));
  const digits = text.at(-1) === 0x3d && text.length === 44 ? text.subarray(0, 43) : text;
  return digits.length === 43 && decodeBase64(digits, key);
}

function putHexDigit(key: Buffer, index: number, digit: number): boolean {
  const value = '0123456789abcdef'.indexOf(String.fromCharCode(digit).toLowerCase());
  const at = index >> 1;
  key[at] = index % 2 === 0 ? value << 4 : (key[at] ?? 0) | value;
  return value >= 0;
}

const BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_';

/** 43 digits carry 258 bits: the last two must be zero. */
function decodeBase64(digits: Buffer, key: Buffer): boolean {
  let bits = 0;
  let count = 0;
  let at = 0;
  for (const digit of digits) {
    const position = BASE64.indexOf(String.fromCharCode(digit));
    if (position < 0) return false;
    bits = ((bits << 6) | (position > 63 ? position - 2 : position)) & 0xffff;
    count += 6;
    if (count >= 8) {
      count -= 8;
      key[at] = (bits >> count) & 0xff;
      at += 1;
    }
  }
  return at === 32 && (bits & 0b11) === 0;
}
