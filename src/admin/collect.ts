import type { IncomingMessage } from 'node:http';
import { ServiceError } from '../errors.ts';

/** How long a body of at most 64 KiB may take to arrive. */
export const BODY_TIMEOUT_MS = 10_000;

/**
 * The whole body, at most `limit` bytes. It is read before the signature is checked, which covers its digest: so it is
 * small, and must come soon.
 */
export function collect(req: IncomingMessage, limit: number, timeoutMs = BODY_TIMEOUT_MS): Promise<Buffer> {
  // A body parser that ran before leaves nothing whose digest could be checked (an empty body it leaves alone).
  if (req.readableDidRead || req.readableEnded) return Promise.reject(eaten());
  if (Number(req.headers['content-length'] ?? 0) > limit) return Promise.reject(tooLarge(limit));
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    let length = 0;
    const settle = (finish: () => void): void => {
      clearTimeout(timer);
      req.off('data', onData).off('end', onEnd).off('close', onGone).off('error', onGone);
      finish();
    };
    const fail = (err: ServiceError): void => settle(() => reject(err));
    const onData = (chunk: Buffer): void => {
      length += chunk.length;
      if (length > limit) fail(tooLarge(limit));
      else parts.push(chunk);
    };
    const onEnd = (): void => settle(() => resolve(Buffer.concat(parts)));
    const onGone = (): void => fail(new ServiceError('IncompleteBody', { reason: 'client-gone' }));
    const timer = setTimeout(
      () => fail(new ServiceError('RequestTimeout', { reason: 'admin-body-timeout' })),
      timeoutMs,
    );
    req.on('data', onData).on('end', onEnd).on('close', onGone).on('error', onGone);
  });
}

function tooLarge(limit: number): ServiceError {
  return new ServiceError('MaxMessageLengthExceeded', {
    message: `The body of this request may have at most ${limit} bytes.`,
    reason: 'admin-body-size',
  });
}

function eaten(): ServiceError {
  return new ServiceError('InternalError', {
    message: 'The request body was read before kmsAdmin saw it: mount it before any body parser.',
    reason: 'body-already-read',
  });
}

const LINGER_BYTES = 1024 * 1024;
const LINGER_MS = 2_000;

/** After an early refusal: discards some of what still comes, so that the client gets to read the answer. */
export function discard(req: IncomingMessage): void {
  if (req.complete || req.destroyed) return;
  let left = LINGER_BYTES;
  const timer = setTimeout(() => req.destroy(), LINGER_MS).unref();
  req.on('data', (chunk: Buffer) => {
    left -= chunk.length;
    if (left < 0) req.destroy();
  });
  req.on('error', () => undefined).on('close', () => clearTimeout(timer));
  req.resume();
}
