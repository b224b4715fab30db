import type { ServerResponse } from 'node:http';
import { release, releaseSoon } from '../../bytes.ts';
import { asServiceError, ServiceError } from '../../errors.ts';
import type { BodySink, StoreResponse } from '../../store/port.ts';
import type { PayloadSink } from './body.ts';

/** Turns the store's bytes into the client's: verified ones only. */
export interface Opening {
  update(chunk: Buffer): Buffer[];
  /** Throws unless everything that was to come has come; gives what was held until then. */
  finish(): readonly Buffer[];
}

/** An opener that holds nothing back. */
export function openingOf(opener: { update(chunk: Buffer): Buffer[]; finish(): void }): Opening {
  return {
    update: (chunk) => opener.update(chunk),
    finish: () => {
      opener.finish();
      return [];
    },
  };
}

/** Bytes of an object that was never sealed (mixed buckets). */
export const unsealed: Opening = { update: (chunk) => [chunk], finish: () => [] };

/**
 * Pumps the first `length` bytes of the store's answer through `opening` to the client. The head goes out with the
 * first verified bytes, and the last buffer only when everything has verified, so that a damaged object of one
 * segment is an error and a longer one a broken connection, never a whole answer. `ended` ends it wherever it is,
 * with its reason: a stop does not wait for a client that reads slowly.
 */
export async function sendOpened(
  res: ServerResponse,
  head: () => void,
  response: StoreResponse,
  opening: Opening,
  length: number,
  ended?: AbortSignal,
): Promise<void> {
  return unlessEnded(ended, () => pumpOpened(res, head, response, opening, length, ended));
}

/** `work`, or the reason of `ended` as soon as it aborts: whatever `work` waits for is waited for no longer. */
export async function unlessEnded(ended: AbortSignal | undefined, work: () => Promise<void>): Promise<void> {
  if (ended === undefined) return work();
  ended.throwIfAborted();
  let leave: (() => void) | undefined;
  const cut = new Promise<never>((_resolve, reject) => {
    leave = () => reject(asServiceError(ended.reason));
    ended.addEventListener('abort', leave, { once: true });
  });
  try {
    await Promise.race([work(), cut]);
  } finally {
    if (leave !== undefined) ended.removeEventListener('abort', leave);
  }
}

/** Pumps one body into another, at the speed of the slower one. */
export async function pumpInto(response: StoreResponse, target: PayloadSink): Promise<void> {
  let failed: Error | undefined;
  await response.pump({
    write(chunk) {
      if (failed !== undefined) throw failed;
      if (target.write(chunk)) return true;
      const wrong = (err: unknown): void => {
        failed = asServiceError(err);
        response.resume();
      };
      target.drained().then(() => response.resume(), wrong);
      return false;
    },
  });
  if (failed !== undefined) throw failed;
}

async function pumpOpened(
  res: ServerResponse,
  head: () => void,
  response: StoreResponse,
  opening: Opening,
  length: number,
  ended: AbortSignal | undefined,
): Promise<void> {
  let left = length;
  let last: Buffer | undefined;
  // An application that has put a `write` of its own before Node's (to log, to compress) may keep what it is given.
  const written = Object.hasOwn(res, 'write') ? () => undefined : release;
  const send = (piece: Buffer): boolean => {
    if (!res.headersSent) head();
    return res.write(piece, () => written(piece));
  };
  const sink: BodySink = {
    write(chunk) {
      ended?.throwIfAborted();
      if (res.destroyed) throw new ServiceError('IncompleteBody', { reason: 'client-gone' });
      const mine = chunk.length <= left ? chunk : chunk.subarray(0, left);
      left -= mine.length;
      let more = true;
      for (const piece of opening.update(mine)) {
        if (last !== undefined) more = send(last) && more;
        last = piece;
      }
      if (opening !== unsealed) releaseSoon(chunk);
      if (!more) res.once('drain', () => response.resume());
      return more;
    },
  };
  await response.pump(sink);
  const held = opening.finish();
  ended?.throwIfAborted();
  for (const piece of held) {
    if (last !== undefined) send(last);
    last = piece;
  }
  if (!res.headersSent) head();
  await new Promise<void>((resolve) => {
    res.once('close', resolve);
    res.end(last, resolve);
  });
}
