import type { IncomingMessage, ServerResponse } from 'node:http';

/**
 * Requests that a client sends without waiting for answers (RFC 9112 section 9.3.2) take turns. Node hands all of them
 * out at once, and gives an answer its socket only when those before it have gone: until then it never closes, not even
 * when the client leaves, and whatever its request holds (a connection to the store, keys) would be held for ever.
 * False: the client has left.
 */
export function turnOf(req: IncomingMessage, res: ServerResponse): Promise<boolean> {
  if (res.socket !== null) return Promise.resolve(true);
  if (req.destroyed) return Promise.resolve(false);
  return new Promise((resolve) => {
    const settle = (mine: boolean) => (): void => {
      res.off('socket', onTurn);
      req.off('close', onGone);
      resolve(mine);
    };
    const onTurn = settle(true);
    const onGone = settle(false);
    res.once('socket', onTurn);
    // Nobody has read the request yet, so this is its connection's end and not its own.
    req.once('close', onGone);
  });
}
