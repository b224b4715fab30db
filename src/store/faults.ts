import { ServiceError } from '../errors.ts';

/**
 * The store gave no answer: refused, reset, silent, unknown host. The cause stays private: it names hosts and ports.
 * 503 lets every SDK retry; the previous object is as it was.
 */
export function unreachable(cause: unknown): ServiceError {
  return cause instanceof ServiceError
    ? cause
    : new ServiceError('ServiceUnavailable', { reason: 'store-unreachable', cause });
}

/** The same before the whole body had gone: whatever the store has done with it, it has committed nothing. */
export const MIDWAY = 'store-unreachable-midway';

export function brokenOff(cause: unknown): ServiceError {
  return new ServiceError('ServiceUnavailable', { reason: MIDWAY, cause });
}

/** The answer began and its body broke: shorter than its Content-Length, reset, or silent for too long. */
export function brokenBody(cause: unknown): ServiceError {
  return cause instanceof ServiceError
    ? cause
    : new ServiceError('ServiceUnavailable', { reason: 'store-body', cause });
}

/** Our side gave the exchange up (the client has gone). */
export function aborted(cause?: unknown): ServiceError {
  return new ServiceError('ServiceUnavailable', { reason: 'store-aborted', cause });
}

/** A body above what its reader takes into memory. */
export function answerTooLong(): ServiceError {
  return new ServiceError('InternalError', { reason: 'store-answer-too-long' });
}

/** A programming error of the caller of this room, never the store's: it must not be swallowed as unavailability. */
export function misuse(message: string): Error {
  return new Error(`store client: ${message}`);
}
