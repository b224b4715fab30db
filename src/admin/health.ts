import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ServiceState } from '../kms/ports.ts';
import type { Metrics } from '../metrics.ts';

export interface HealthOptions {
  /** The control store was read and the process is not draining. */
  readonly ready: () => boolean;
  readonly state: () => ServiceState;
  readonly metrics: Metrics;
}

export interface HealthAnswer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

type HealthRoute = (options: HealthOptions, query: string) => HealthAnswer | Promise<HealthAnswer>;

/**
 * Listener-local and unauthenticated: they tell states, never names. A sealed KMS does not end readiness, for SSE-C,
 * plaintext and cached reads go on; `?kms=1` asks for the KMS too.
 */
export const HEALTH: Readonly<Record<string, HealthRoute>> = Object.freeze({
  '/health/live': () => json(200, { status: 'live' }),
  '/health/ready': ({ ready, state }: HealthOptions, query: string) => {
    if (!ready()) return json(503, { status: 'not ready' });
    if (query === 'kms=1' && state() !== 'Running') return json(503, { status: 'not ready', kms: state() });
    return json(200, { status: 'ready', kms: state() });
  },
  '/metrics': async ({ metrics, state }: HealthOptions) => {
    metrics.serviceState(state());
    return { status: 200, type: metrics.contentType, body: await metrics.render() };
  },
});

function json(status: number, body: object): HealthAnswer {
  return { status, type: 'application/json', body: `${JSON.stringify(body)}\n` };
}

/** True when the request was one of health's, and is answered. */
export async function serveHealth(options: HealthOptions, req: IncomingMessage, res: ServerResponse): Promise<boolean> {
  const [path = '', query = ''] = (req.url ?? '').split('?');
  const route = Object.hasOwn(HEALTH, path) ? HEALTH[path] : undefined;
  if (route === undefined) return false;
  const readable = req.method === 'GET' || req.method === 'HEAD';
  const answer = readable ? await route(options, query) : json(405, { status: 'method not allowed' });
  const body = Buffer.from(answer.body);
  res.writeHead(answer.status, {
    'content-type': answer.type,
    'content-length': body.length,
    'cache-control': 'no-store',
    ...(readable ? {} : { allow: 'GET, HEAD' }),
  });
  res.end(req.method === 'HEAD' ? undefined : body);
  return true;
}
