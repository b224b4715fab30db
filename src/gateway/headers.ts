import { ServiceError } from '../errors.ts';
import { requestHeadersFor, responseHeadersFor } from '../s3/headers.ts';
import { assertLock } from '../s3/object-lock.ts';
import { toClientEtag } from '../sse/etag.ts';
import { ENVELOPE_HEADER } from '../sse/format.ts';
import type { StoreHeaders } from '../store/port.ts';
import type { BucketExchange } from './exchange.ts';

/** AWS's own default. Stores guess one when none is sent, and the metadata digest must cover what is kept. */
const DEFAULT_CONTENT_TYPE = 'binary/octet-stream';
const REDIRECT = 'x-amz-website-redirect-location';
const BEYOND_ASCII = /[\u0080-\u00ff]/;
/** Of an empty `dir/` marker: what S3 consoles send, and what stores with paths for keys turn every other type into. */
const MARKER_CONTENT_TYPE = 'application/x-directory';

/** The client's headers that go to the store with this operation, by the lists in s3/headers.ts. */
export function forwardedRequest(x: BucketExchange): Record<string, string> {
  return requestHeadersFor(x.op.row, x.caller.request.headers, ENVELOPE_HEADER);
}

/** What the store keeps beside a body of `length` bytes. */
export function objectHeaders(x: BucketExchange, key: string, length: number): Record<string, string> {
  const headers = withContentType(forwardedRequest(x), key, length);
  assertLock(headers);
  refuseUnkept(x, headers);
  return headers;
}

/** A bucket without Object Lock is told from another bad request by the store's words alone, which never pass. */
export function lockRefusal(err: unknown): unknown {
  if (!(err instanceof ServiceError && err.code === 'InvalidRequest' && err.reason.startsWith('store-'))) return err;
  return new ServiceError('InvalidRequest', {
    message:
      'The store behind refuses the Object Lock headers: its bucket has no Object Lock, or it demands a digest that cannot be known beforehand.',
    reason: err.reason,
  });
}

/** It is under the metadata digest: dropped or changed in silence, the object would not open again. */
export function refuseUnkept(x: BucketExchange, headers: StoreHeaders): void {
  const { keepsRedirect, keepsOctets } = x.rooms.store.traits;
  if (!keepsRedirect && headers[REDIRECT] !== undefined) {
    throw new ServiceError('NotImplemented', {
      message: `The store behind does not keep ${REDIRECT}.`,
      reason: 'redirect-trait',
    });
  }
  if (
    !keepsOctets &&
    Object.entries(headers).some(([name, value]) => name.startsWith('x-amz-meta-') && BEYOND_ASCII.test(value))
  ) {
    throw new ServiceError('NotImplemented', {
      message: 'The store behind does not keep user metadata beyond US-ASCII.',
      reason: 'octets-trait',
    });
  }
}

/** An empty Content-Type counts as none. */
export function withContentType(headers: Record<string, string>, key: string, length: number): Record<string, string> {
  const fallback = key.endsWith('/') && length === 0 ? MARKER_CONTENT_TYPE : DEFAULT_CONTENT_TYPE;
  return (headers['content-type'] ?? '') === '' ? { ...headers, 'content-type': fallback } : headers;
}

/** The store's headers that go to the client. */
export function answerHeaders(x: BucketExchange, headers: StoreHeaders): Record<string, string> {
  return responseHeadersFor(x.op.row, headers, ENVELOPE_HEADER);
}

/** The same for a read, with the ETag in the client's form. */
export function readAnswer(x: BucketExchange, headers: StoreHeaders): Record<string, string> {
  const { etag } = headers;
  return {
    ...answerHeaders(x, headers),
    ...(etag === undefined ? {} : { etag: toClientEtag(etag) }),
    'accept-ranges': 'bytes',
  };
}

/**
 * Keys that end in a slash are directories to some stores, which drop their body or their metadata without a word, and
 * with it the envelope: refused there, before anything is lost. Bare markers are the operator's decision.
 */
export function refuseSlash(x: BucketExchange, key: string, length: number): void {
  if (!key.endsWith('/')) return;
  const { keepsSlashBody, keepsSlashMetadata } = x.rooms.store.traits;
  const kept =
    length === 0 ? keepsSlashMetadata || x.rooms.settings.bareMarkersReadable : keepsSlashBody && keepsSlashMetadata;
  if (kept) return;
  throw new ServiceError('NotImplemented', {
    message: 'The store behind does not keep what is written under a key that ends in a slash.',
    reason: 'slash-trait',
  });
}
