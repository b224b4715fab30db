import { hash } from 'node:crypto';
import { ServiceError } from '../errors.ts';
import type { Credential } from './credential.ts';
import type { ParsedHead } from './parse.ts';
import type { PayloadMode } from './types.ts';

/** The payload as the canonical request names it, and what follows for the body. */
export interface Payload {
  readonly literal: string;
  readonly mode: PayloadMode;
}

/** A registry row per literal of `x-amz-content-sha256`. */
const LITERALS: ReadonlyMap<string, PayloadMode> = new Map<string, PayloadMode>([
  ['UNSIGNED-PAYLOAD', { kind: 'unsigned' }],
  ['STREAMING-AWS4-HMAC-SHA256-PAYLOAD', { kind: 'signed-chunks', trailer: false }],
  ['STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER', { kind: 'signed-chunks', trailer: true }],
  ['STREAMING-UNSIGNED-PAYLOAD-TRAILER', { kind: 'unsigned-trailer' }],
]);

/** A collected body (admin plane): its digest must be what was signed, whichever way the client said so. */
export function parsePayload(head: ParsedHead, credential: Credential, body: Uint8Array | undefined): Payload {
  const literal = head.headers['x-amz-content-sha256'] ?? contentSha256OfUrl(head, credential);
  if (body !== undefined) return collectedPayload(credential, literal, body);
  if (literal !== undefined) return { literal, mode: parseLiteral(literal) };
  if (credential.form === 'presigned' && credential.service === 's3') {
    return { literal: 'UNSIGNED-PAYLOAD', mode: { kind: 'unsigned' } };
  }
  throw missingLiteral();
}

function contentSha256OfUrl(head: ParsedHead, credential: Credential): string | undefined {
  return credential.form === 'presigned' ? head.amzQuery.get('x-amz-content-sha256') : undefined;
}

function missingLiteral(): ServiceError {
  return new ServiceError('InvalidRequest', {
    message: 'Missing required header for this request: x-amz-content-sha256',
    reason: 'no-content-sha256',
  });
}

/** Only S3 has the header; elsewhere the canonical request ends in the body's digest, which the server computes. */
function collectedPayload(credential: Credential, literal: string | undefined, body: Uint8Array): Payload {
  if (literal === undefined && credential.service === 's3' && credential.form === 'header') throw missingLiteral();
  const digest = hash('sha256', body, 'hex');
  if (literal === undefined && credential.service !== 's3')
    return { literal: digest, mode: { kind: 'sha256', digest } };
  if (literal === undefined || parseLiteral(literal).kind !== 'sha256') {
    throw new ServiceError('InvalidRequest', {
      message: 'The body of this request must be signed by its SHA-256.',
      reason: 'body-not-signed',
    });
  }
  if (literal !== digest) throw new ServiceError('XAmzContentSHA256Mismatch');
  return { literal, mode: { kind: 'sha256', digest } };
}

function parseLiteral(literal: string): PayloadMode {
  const known = LITERALS.get(literal);
  if (known !== undefined) return known;
  if (/^[0-9a-f]{64}$/.test(literal)) return { kind: 'sha256', digest: literal };
  if (/^STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD(?:-TRAILER)?$/.test(literal)) {
    throw new ServiceError('NotImplemented', { reason: 'signature-v4a' });
  }
  throw new ServiceError('InvalidArgument', {
    message: 'x-amz-content-sha256 must be UNSIGNED-PAYLOAD, one of the STREAMING- values, or a valid sha256 value.',
    reason: 'content-sha256-form',
  });
}

type Headers = Readonly<Record<string, string>>;

/** Plaintext bytes to come, and the rules that tie the mode to the other headers. */
export function parseContentLength(mode: PayloadMode, headers: Headers): number {
  const chunked = mode.kind === 'signed-chunks' || mode.kind === 'unsigned-trailer';
  const wantsTrailer = mode.kind === 'unsigned-trailer' || (mode.kind === 'signed-chunks' && mode.trailer);
  if (wantsTrailer) declaredTrailer(headers);
  else if (headers['x-amz-trailer'] !== undefined) {
    throw new ServiceError('InvalidRequest', {
      message: 'x-amz-trailer needs a x-amz-content-sha256 that ends in -TRAILER.',
      reason: 'trailer-without-mode',
    });
  }
  if (chunked) return parseLength(headers['x-amz-decoded-content-length'] ?? missingLength());
  const length = headers['content-length'];
  if (length !== undefined) return parseLength(length);
  // Without a length the sealed size, which the store is told first, could not be computed. AWS wants one too.
  return headers['transfer-encoding'] === undefined ? 0 : missingLength();
}

function missingLength(): never {
  throw new ServiceError('MissingContentLength');
}

function parseLength(text: string): number {
  if (!/^[0-9]{1,15}$/.test(text)) {
    throw new ServiceError('InvalidArgument', {
      message: 'The content length is not a number.',
      reason: 'length-form',
    });
  }
  return Number(text);
}

/** The one trailer that `x-amz-trailer` names. AWS takes a single checksum, and no header checksum beside it. */
export function declaredTrailer(headers: Headers): string {
  const name = headers['x-amz-trailer']?.trim().toLowerCase() ?? '';
  if (!isChecksumHeader(name)) {
    throw new ServiceError('InvalidRequest', {
      message: 'The value specified in the x-amz-trailer header is not supported',
      reason: 'trailer-name',
    });
  }
  for (const header in headers) {
    if (isChecksumHeader(header)) {
      throw new ServiceError('InvalidRequest', {
        message: 'Expecting a single x-amz-checksum- header',
        reason: 'trailer-and-header-checksum',
      });
    }
  }
  return name;
}

/** A header that carries a checksum's value; `-mode`, `-algorithm` and `-type` only speak of one. */
export function isChecksumHeader(name: string): boolean {
  return /^x-amz-checksum-(?!mode$|algorithm$|type$)[a-z0-9]{1,32}$/.test(name);
}
