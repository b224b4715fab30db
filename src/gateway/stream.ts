import type { ServerResponse } from 'node:http';
import { release } from '../bytes.ts';
import { ServiceError } from '../errors.ts';
import type { BodySink, StoreResponse } from '../store/port.ts';

/** Turns the store's bytes into the client's: verified ones only. */
export interface Opening {
  update(chunk: Buffer): Buffer[];
  /** Throws unless everything that was to come has come. */
  finish(): void;
}

/** Bytes of an object that was never sealed (mixed buckets). */
export const unsealed: Opening = { update: (chunk) => [chunk], finish: () => undefined };

/**
 * Pumps the first `length` bytes of the store's answer through `opening` to the client. The head goes out with the
 * first verified bytes, and the last buffer only when everything has verified, so that a damaged object of one
 * segment is an error and a longer one a broken connection, never a whole answer.
 */
export async function sendOpened(
  res: ServerResponse,
  head: () => void,
  response: StoreResponse,
  opening: Opening,
  length: number,
): Promise<void> {
  let left = length;
  let last: Buffer | undefined;
  const send = (piece: Buffer): boolean => {
    if (!res.headersSent) head();
    return res.write(piece, () => release(piece));
  };
  const sink: BodySink = {
    write(chunk) {
      if (res.destroyed) throw new ServiceError('IncompleteBody', { reason: 'client-gone' });
      const mine = chunk.length <= left ? chunk : chunk.subarray(0, left);
      left -= mine.length;
      let more = true;
      for (const piece of opening.update(mine)) {
        if (last !== undefined) more = send(last) && more;
        last = piece;
      }
      if (!more) res.once('drain', () => response.resume());
      return more;
    },
  };
  await response.pump(sink);
  opening.finish();
  if (!res.headersSent) head();
  await new Promise<void>((resolve) => {
    res.once('close', resolve);
    res.end(last, resolve);
  });
}
