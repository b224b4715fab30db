import type { IncomingMessage } from 'node:http';
import { releaseSoon } from '../../bytes.ts';
import { ServiceError } from '../../errors.ts';
import type { PayloadReader } from '../../sigv4/types.ts';

/** Where payload bytes go: false asks for a pause until `drained` resolves. */
export interface PayloadSink {
  write(payload: Buffer): boolean;
  drained(): Promise<void>;
  /** Promises that `write` keeps nothing of a payload, which may then be freed. */
  readonly keepsNothing?: boolean;
}

/**
 * Reads the wire body through `reader` into `sink`, with back-pressure, and returns the verified trailers.
 * Rejects with what the reader or the sink threw, or IncompleteBody when the client went away; the rest of the body
 * is then left unread, as it is when `ended` aborts, with its reason. Plain listeners: streams' iterators and
 * transforms cost as much as the encryption.
 */
export function pumpBody(
  req: IncomingMessage,
  reader: PayloadReader,
  sink: PayloadSink,
  ended?: AbortSignal,
): Promise<Readonly<Record<string, string>>> {
  return new Promise((resolve, reject) => {
    let flowing = true;
    const settle = (finish: () => void): void => {
      req.off('data', onData).off('end', onEnd).off('close', onClose).off('error', onClose);
      ended?.removeEventListener('abort', onEnded);
      finish();
    };
    const fail = (err: unknown): void => {
      settle(() => {
        req.pause();
        reject(err instanceof Error ? err : new ServiceError('InternalError', { cause: err }));
      });
    };
    const emit = (payload: Buffer): void => {
      if (!sink.write(payload)) flowing = false;
      if (sink.keepsNothing === true && isSoleReader(req)) releaseSoon(payload);
    };
    const onData = (chunk: Buffer): void => {
      try {
        reader.push(chunk, emit);
      } catch (err) {
        fail(err);
        return;
      }
      if (flowing) return;
      req.pause();
      flowing = true;
      sink.drained().then(() => req.resume(), fail);
    };
    const onEnd = (): void => {
      try {
        const trailers = reader.finish();
        settle(() => resolve(trailers));
      } catch (err) {
        fail(err);
      }
    };
    const onClose = (): void => fail(new ServiceError('IncompleteBody', { reason: 'client-gone' }));
    const onEnded = (): void => fail(ended?.reason);
    if (ended?.aborted === true) {
      onEnded();
      return;
    }
    // Gone while a key was fetched: its events have passed, and nothing would ever settle this.
    if (req.destroyed) {
      onClose();
      return;
    }
    // A client that stands still sends no bytes in which an end could be noticed.
    ended?.addEventListener('abort', onEnded, { once: true });
    req.on('data', onData).on('end', onEnd).on('close', onClose).on('error', onClose);
  });
}

/** Somebody else's listener (the host's application) may have kept the chunk. */
function isSoleReader(req: IncomingMessage): boolean {
  return req.listenerCount('data') === 1 && req.socket.listenerCount('data') <= 1;
}

/** A small body, whole. Throws MaxMessageLengthExceeded above `limit` bytes. */
export async function collectBody(
  req: IncomingMessage,
  reader: PayloadReader,
  limit: number,
  ended?: AbortSignal,
): Promise<CollectedBody> {
  const parts: Buffer[] = [];
  let length = 0;
  const sink: PayloadSink = {
    write: (payload) => {
      length += payload.length;
      if (length > limit) throw new ServiceError('MaxMessageLengthExceeded');
      parts.push(payload);
      return true;
    },
    drained: () => Promise.resolve(),
  };
  const trailers = await pumpBody(req, reader, sink, ended);
  return { bytes: parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts), trailers };
}

export interface CollectedBody {
  readonly bytes: Buffer;
  readonly trailers: Readonly<Record<string, string>>;
}
