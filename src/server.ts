import { readFileSync } from 'node:fs';
import type { Server } from 'node:http';
import type { ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
import express, { type Express } from 'express';
import { healthRouter, kmsAdmin } from './admin/index.ts';
import { readSigningKey, type Config } from './config.ts';
import { asServiceError, ServiceError } from './errors.ts';
import { createGateway, type Gateway, type Outcome } from './gateway/index.ts';
import { buildIdentities, type IdentityDirectory } from './iam/identity.ts';
import { evaluate } from './iam/policy.ts';
import { createListener } from './listener.ts';
import { createLog, type Log } from './log.ts';
import { createMetrics, type Metrics } from './metrics.ts';
import { openRooms, type Opened } from './open.ts';

export interface RunningServer {
  /** `http://host:port` or `https://…`, with the ports that were taken. */
  readonly dataUrl: string;
  readonly adminUrl: string;
  /** Resolves when the control store and the object store were opened; the listeners answer 503 until then. */
  readonly ready: Promise<void>;
  /** Takes no new connection, lets requests in flight end for `graceMs`, then closes everything. */
  close(graceMs?: number): Promise<void>;
}

const RETRY_MS = [250, 500, 1000, 2000, 5000];

/**
 * The stand-alone server: data listener, admin listener, TLS, drain. It listens at once and answers 503 until its
 * rooms are open; a control store or an object store that is away is retried, and never ends the process.
 */
export async function startServer(config: Config, log: Log = createLog(config.log.level)): Promise<RunningServer> {
  const metrics = createMetrics();
  const identities = buildIdentities(config, (ref) => readSigningKey(ref));
  const state: State = { opened: undefined, gateway: undefined, draining: false };
  const data = express().disable('x-powered-by').disable('etag');
  const admin = express().disable('x-powered-by').disable('etag');
  const dataServer = createListener(data, tlsOf(config.data.tls));
  const adminServer = createListener(admin, tlsOf(config.admin.tls));
  serveHealth(admin, state, metrics);
  data.use((req, res, next) => (state.gateway === undefined ? unavailable(res) : state.gateway.router(req, res, next)));
  const dataUrl = await listen(dataServer, config.data);
  const adminUrl = await listen(adminServer, config.admin);
  log.info('listening', { listener: 'data', address: dataUrl });
  log.info('listening', { listener: 'admin', address: adminUrl });
  const opening = openUntilThere(config, log, metrics, state).then((opened) => {
    state.opened = opened;
    state.gateway = gatewayOf(config, opened, identities, metrics, log);
    state.gateway.attach(dataServer);
    admin.use(adminOf(config, opened, identities, metrics));
    admin.use((_req, res) => void res.status(404).end());
    log.info('ready');
  });
  opening.catch((err: unknown) => log.error('cannot open', {}, err));
  return {
    dataUrl,
    adminUrl,
    ready: opening,
    close: async (graceMs = 10_000) => {
      state.draining = true;
      await Promise.all([closeListener(dataServer, graceMs), closeListener(adminServer, graceMs)]);
      await state.opened?.close();
    },
  };
}

interface State {
  opened: Opened | undefined;
  gateway: Gateway | undefined;
  draining: boolean;
}

async function openUntilThere(config: Config, log: Log, metrics: Metrics, state: State): Promise<Opened> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await openRooms({ config, log, metrics });
    } catch (err) {
      // What waiting cannot mend (a realm that is another's, a master key that does not fit) is not retried.
      if (!(err instanceof ServiceError) || err.code !== 'ServiceUnavailable' || state.draining) throw err;
      log.warn('not ready', { count: attempt + 1 }, err);
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)]));
  }
}

function gatewayOf(
  config: Config,
  { rooms }: Opened,
  identities: IdentityDirectory,
  metrics: Metrics,
  log: Log,
): Gateway {
  const observe = (outcome: Outcome): void => {
    const { requestId, operation, status, reason, seconds } = outcome;
    const denied = status === 401 || status === 403;
    metrics.request(operation, outcome.mode, status < 400 ? 'success' : denied ? 'denied' : 'failed', seconds);
    if (denied) metrics.authFailure('data', outcome.code ?? 'AccessDenied');
    if (status >= 500) log.warn('request failed', { requestId, operation, status, state: reason ?? '' });
  };
  return createGateway({
    rooms,
    lookup: (accessKeyId) => identities.lookup(accessKeyId, 'data'),
    acceptedRegions: config.data.acceptedRegions,
    trustedProxies: config.data.trustedProxies,
    idleMs: config.data.idleSeconds * 1000,
    keepAliveMs: config.data.keepAliveSeconds * 1000,
    observe,
  });
}

function adminOf(config: Config, opened: Opened, identities: IdentityDirectory, metrics: Metrics): express.Router {
  return kmsAdmin({
    service: opened.service,
    identity: (accessKeyId) => identities.lookup(accessKeyId, 'admin'),
    allows: (policies, request) => evaluate(policies, request) === 'allow',
    audit: opened.rooms.audit,
    metrics,
    clock: () => new Date(),
    regions: [config.data.region, ...config.data.acceptedRegions],
  });
}

function serveHealth(admin: Express, state: State, metrics: Metrics): void {
  admin.use(
    healthRouter({
      ready: () => state.opened !== undefined && !state.draining,
      state: () => {
        const current = state.opened?.service.state() ?? 'Starting';
        metrics.serviceState(current);
        return current;
      },
      metrics,
    }),
  );
}

/** Before the rooms are open there is no identity to verify and no key to use. */
function unavailable(res: express.Response): void {
  const { status, message } = asServiceError(new ServiceError('ServiceUnavailable'));
  res.writeHead(status, { 'retry-after': '1', 'content-type': 'application/xml', connection: 'close' });
  res.end(
    `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>ServiceUnavailable</Code><Message>${message}</Message></Error>`,
  );
}

function tlsOf(tls: Config['data']['tls']): ServerOptions | undefined {
  if (tls === undefined) return undefined;
  return { cert: readFileSync(tls.certFile), key: readFileSync(tls.keyFile), minVersion: 'TLSv1.2' };
}

async function listen(server: Server, place: Config['data'] | Config['admin']): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(place.port, place.host, () => {
      server.off('error', reject);
      resolve();
    });
  });
  const { port } = server.address() as AddressInfo;
  const host = place.host.includes(':') ? `[${place.host}]` : place.host;
  return `${place.tls === undefined ? 'http' : 'https'}://${host}:${port}`;
}

async function closeListener(server: Server, graceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearTimeout(timer);
}
