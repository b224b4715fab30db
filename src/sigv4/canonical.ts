import { createHmac, hash, type KeyObject } from 'node:crypto';
import { equalBytes } from '../bytes.ts';
import { encodeComponent } from './encode.ts';

export const ALGORITHM = 'AWS4-HMAC-SHA256';
export const EMPTY_SHA256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

export interface CanonicalParts {
  readonly method: string;
  /** See `canonicalPath`. */
  readonly path: string;
  /** See `encodeQuery`. */
  readonly query: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Lower-cased, in ascending order; each is in `headers`. */
  readonly signedHeaders: readonly string[];
  /** The literal of `x-amz-content-sha256`, or the body's digest where the service sends no such header. */
  readonly payloadHash: string;
}

export function canonicalRequest(parts: CanonicalParts): string {
  let headers = '';
  for (const name of parts.signedHeaders) headers += `${name}:${foldWhitespace(parts.headers[name] ?? '')}\n`;
  return `${parts.method}\n${parts.path}\n${parts.query}\n${headers}\n${parts.signedHeaders.join(';')}\n${parts.payloadHash}`;
}

/**
 * S3 signs the path as it stands on the wire: encoded once, `//`, `.` and `..` kept. Every other service encodes it a
 * second time (SigV4, "Create a canonical request"); those normalise it too, which our paths there never need.
 */
export function canonicalPath(wirePath: string, service: string): string {
  return service === 's3' ? wirePath : encodeComponent(wirePath).replaceAll('%2F', '/');
}

/**
 * Trims, and folds inner runs of blanks into one space. Only ASCII blanks: Node gives header bytes as latin1, where the
 * last byte of a UTF-8 `à` looks like U+00A0, which `trim` and `\s` take for a blank.
 */
export function foldWhitespace(value: string): string {
  return /^[ \t]|[ \t]$|\t| {2}/.test(value) ? value.replace(/[ \t]+/g, ' ').replace(/^ | $/g, '') : value;
}

/** Hex SHA-256 of a header-level text. Latin1 gives back the bytes that were on the wire. */
export function sha256Latin1(text: string): string {
  return hash('sha256', Buffer.from(text, 'latin1'), 'hex');
}

export function stringToSign(timestamp: string, scope: string, canonical: string): string {
  return `${ALGORITHM}\n${timestamp}\n${scope}\n${sha256Latin1(canonical)}`;
}

/** The MAC under a derived signing key, in hex. A buffer from node:crypto costs more than the MAC. */
export function signatureOf(signingKey: KeyObject, text: string): string {
  return createHmac('sha256', signingKey).update(text).digest('hex');
}

/** In constant time. `claimed` is 64 lower-case hex digits. */
export function isSignature(claimed: string, signingKey: KeyObject, text: string): boolean {
  return equalBytes(Buffer.from(signatureOf(signingKey, text), 'latin1'), Buffer.from(claimed, 'latin1'));
}

/** What a chunk's signature covers: the one before it, and the chunk's digest ("Defining the chunk body"). */
export function chunkStringToSign(timestamp: string, scope: string, previous: string, digest: string): string {
  return `${ALGORITHM}-PAYLOAD\n${timestamp}\n${scope}\n${previous}\n${EMPTY_SHA256}\n${digest}`;
}

/** The trailer's: the last chunk's signature, and the digest of its `name:value\n` lines. */
export function trailerStringToSign(timestamp: string, scope: string, previous: string, digest: string): string {
  return `AWS4-HMAC-SHA256-TRAILER\n${timestamp}\n${scope}\n${previous}\n${digest}`;
}
