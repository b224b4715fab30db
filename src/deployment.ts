import type { Server, ServerResponse } from 'node:http';
import { Router } from 'express';
import { bucketAdministration } from './admin/buckets.ts';
import { healthRouter, kmsAdmin } from './admin/index.ts';
import { readSigningKey, type Config } from './config.ts';
import { ERRORS, ServiceError } from './errors.ts';
import { createGateway, type Gateway, type Outcome } from './gateway/index.ts';
import { buildIdentities, type IdentityDirectory } from './iam/identity.ts';
import { evaluate } from './iam/policy.ts';
import type { Log } from './log.ts';
import { createMetrics, type Metrics } from './metrics.ts';
import { openRooms, type Opened } from './open.ts';

/** A gateway without listeners of its own: three routers, for the stand-alone server or somebody's application. */
export interface Deployment {
  readonly data: Router;
  readonly admin: Router;
  /** Health and metrics: unauthenticated, for a listener that only operators reach. */
  readonly health: Router;
  /** Resolves when the rooms are open; rejects when waiting cannot help. The routers answer 503 until then. */
  readonly ready: Promise<void>;
  /** What a router cannot do for its server: docs/ARCHITECTURE.md, "As a middleware". */
  attach(server: Server): void;
  /** Of a listener's certificate, for the metrics. */
  certificateDaysLeft(listener: 'data' | 'admin', days: number): void;
  /** Removes from the system bucket what uploads have left behind. Never rejects: the log has what came of it. */
  sweepUploads(): Promise<void>;
  /** Health says "not ready" from now on; requests go on. */
  drain(): void;
  close(): Promise<void>;
}

const RETRY_MS = [250, 500, 1000, 2000, 5000];

/**
 * Opens the rooms in the background: a control store or an object store that is away is retried, and never ends the
 * process. Throws at once for a configuration that can never work (an unknown policy, an unreadable secret).
 */
export function createDeployment(config: Config, log: Log): Deployment {
  const site = new Site(config, log);
  return {
    data: site.dataRouter(),
    admin: site.adminRouter(),
    health: site.healthRouter(),
    ready: site.ready,
    attach: (server) => site.attach(server),
    certificateDaysLeft: (listener, days) => site.certificateDaysLeft(listener, days),
    sweepUploads: () => site.sweepUploads(),
    drain: () => site.drain(),
    close: () => site.close(),
  };
}

class Site {
  readonly ready: Promise<void>;
  readonly #config: Config;
  readonly #log: Log;
  readonly #metrics: Metrics = createMetrics();
  readonly #identities: IdentityDirectory;
  readonly #servers: Server[] = [];
  #opened: Opened | undefined;
  #gateway: Gateway | undefined;
  #admin: Router | undefined;
  #draining = false;
  #closed = false;

  constructor(config: Config, log: Log) {
    this.#config = config;
    this.#log = log;
    this.#identities = buildIdentities(config, (ref) => readSigningKey(ref));
    this.ready = this.#open();
    // Whoever does not wait for it still sees it in the log.
    this.ready.catch((err: unknown) => log.error('cannot open', {}, err));
  }

  dataRouter(): Router {
    const router = Router({ caseSensitive: true, strict: true });
    router.use((req, res) => {
      if (this.#gateway === undefined) {
        unavailable(res);
        return;
      }
      this.#metrics.inFlight(1);
      return this.#gateway.serve(req, res, req.originalUrl, req.baseUrl).finally(() => this.#metrics.inFlight(-1));
    });
    return router;
  }

  adminRouter(): Router {
    const router = Router({ caseSensitive: true, strict: true });
    router.use((req, res, next) => {
      if (this.#admin === undefined) unavailable(res, 'json');
      else this.#admin(req, res, next);
    });
    return router;
  }

  healthRouter(): Router {
    return healthRouter({
      ready: () => this.#opened !== undefined && !this.#draining,
      state: () => {
        const state = this.#opened?.service.state() ?? 'Starting';
        this.#metrics.serviceState(state);
        return state;
      },
      metrics: this.#metrics,
    });
  }

  attach(server: Server): void {
    this.#servers.push(server);
    this.#gateway?.attach(server);
  }

  certificateDaysLeft(listener: 'data' | 'admin', days: number): void {
    this.#metrics.certificateDaysLeft(listener, days);
  }

  async sweepUploads(): Promise<void> {
    if (this.#opened === undefined || this.#draining) return;
    try {
      const { removed, failed } = await this.#opened.sweep.run();
      if (removed > 0) this.#log.info('leftovers of uploads removed', { count: removed });
      if (failed > 0) this.#log.warn('leftovers of uploads not removed', { count: failed });
    } catch (err) {
      this.#log.warn('leftovers of uploads not removed', {}, err);
    }
  }

  drain(): void {
    this.#draining = true;
  }

  async close(): Promise<void> {
    this.#draining = true;
    this.#closed = true;
    await this.ready.catch(() => undefined);
    await this.#opened?.close();
  }

  async #open(): Promise<void> {
    const opened = await this.#openUntilThere();
    this.#opened = opened;
    this.#gateway = this.#gatewayOf(opened);
    this.#admin = this.#adminOf(opened);
    for (const server of this.#servers) this.#gateway.attach(server);
    this.#log.info('ready');
  }

  async #openUntilThere(): Promise<Opened> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await openRooms({ config: this.#config, log: this.#log, metrics: this.#metrics });
      } catch (err) {
        // What waiting cannot mend (a realm that is another's, a master key that does not fit) is not retried.
        if (!(err instanceof ServiceError) || err.code !== 'ServiceUnavailable' || this.#closed) throw err;
        this.#log.warn('not ready', { count: attempt + 1 }, err);
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)]).unref());
    }
  }

  #gatewayOf({ rooms }: Opened): Gateway {
    const { data } = this.#config;
    return createGateway({
      rooms,
      lookup: (accessKeyId) => this.#identities.lookup(accessKeyId, 'data'),
      acceptedRegions: data.acceptedRegions,
      trustedProxies: data.trustedProxies,
      idleMs: data.idleSeconds * 1000,
      keepAliveMs: data.keepAliveSeconds * 1000,
      concurrentRequests: data.concurrentRequests,
      unexpected: (err) => this.#log.error('unexpected', {}, err),
      observe: (outcome) => this.#observe(outcome),
    });
  }

  #observe({ requestId, operation, status, code, reason, mode, seconds, received, sent }: Outcome): void {
    this.#metrics.bytesIn(received);
    this.#metrics.bytesOut(sent);
    const denied = status === 401 || status === 403;
    this.#metrics.request(operation, mode, status < 400 ? 'success' : denied ? 'denied' : 'failed', seconds);
    if (denied) this.#metrics.authFailure('data', code ?? 'AccessDenied');
    if (status >= 500) this.#log.warn('request failed', { requestId, operation, status, reason: reason ?? '' });
  }

  #adminOf({ service, rooms }: Opened): Router {
    const { region, acceptedRegions } = this.#config.data;
    const { buckets, store, settings, clock } = rooms;
    return kmsAdmin({
      service,
      buckets: bucketAdministration({ buckets, store, systemBucket: settings.systemBucket, clock }),
      identity: (accessKeyId) => this.#identities.lookup(accessKeyId, 'admin'),
      allows: (policies, request) => evaluate(policies, request) === 'allow',
      audit: rooms.audit,
      metrics: this.#metrics,
      clock,
      regions: [region, ...acceptedRegions],
    });
  }
}

/** Before the rooms are open there is no key to use and no record to write. */
function unavailable(res: ServerResponse, form: 'xml' | 'json' = 'xml'): void {
  const { status, message } = ERRORS.ServiceUnavailable;
  const code = 'ServiceUnavailable';
  const bodies = {
    xml: `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${message}</Message></Error>`,
    json: `${JSON.stringify({ error: { code, message } })}\n`,
  };
  res.writeHead(status, { 'retry-after': '1', 'content-type': `application/${form}`, connection: 'close' });
  res.end(bodies[form]);
}
