import type { IncomingMessage, ServerResponse } from 'node:http';
import { ServiceError } from '../errors.ts';
import { hasUnreadBody } from './http.ts';
import { turnOf } from './pipeline.ts';
import { respondError } from './respond.ts';

type Serve = (req: IncomingMessage, res: ServerResponse, target: string, mount: string) => Promise<void>;

export interface GuardOptions {
  /** Requests that are served at once: above it nothing of a request is read, not even its signature. */
  readonly concurrent: number;
  readonly requestId: () => string;
  /** A request that was refused unread. */
  readonly overloaded: (requestId: string, res: ServerResponse, error: ServiceError) => void;
  /** An error that nothing within took: a fault of this program, or of a sink that it writes to. */
  readonly unexpected: (err: unknown) => void;
}

/**
 * What stands around every request: how many there are at once, and the last catch. The promise never rejects: an
 * unhandled rejection would end the process, and everybody's requests with it.
 */
export function guarded(serve: Serve, options: GuardOptions): Serve {
  let running = 0;
  const refuse = (req: IncomingMessage, res: ServerResponse, target: string): void => {
    const requestId = options.requestId();
    const error = new ServiceError('SlowDown', { reason: 'concurrency' });
    options.overloaded(requestId, res, fail(req, res, target, error, requestId));
  };
  return async (req, res, target, mount) => {
    // Those that wait for their turn hold nothing yet.
    if (res.socket === null && !(await turnOf(req, res))) return;
    running += 1;
    try {
      if (running > options.concurrent) refuse(req, res, target);
      else await serve(req, res, target, mount);
    } catch (err) {
      lastResort(req, res, target, err);
      options.unexpected(err);
    } finally {
      running -= 1;
    }
  };
}

function fail(req: IncomingMessage, res: ServerResponse, target: string, err: unknown, requestId: string) {
  const unread = hasUnreadBody(req) ? req : undefined;
  const resource = target.split('?', 1)[0] ?? '';
  return respondError(res, err, { method: req.method ?? '', resource, requestId, unread });
}

/** An answer that is out already stays what it is. */
function lastResort(req: IncomingMessage, res: ServerResponse, target: string, err: unknown): void {
  if (res.writableEnded) return;
  try {
    fail(req, res, target, err, '');
  } catch {
    res.destroy();
  }
}
