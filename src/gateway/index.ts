import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AuditEntry, AuditFields } from '../audit.ts';
import { asServiceError, type ServiceError } from '../errors.ts';
import type { Identity } from '../iam/types.ts';
import type { Operation } from '../s3/operation.ts';
import { parseOperation } from '../s3/parse-operation.ts';
import type { VerifiedRequest } from '../sigv4/types.ts';
import { createVerifier } from '../sigv4/verify.ts';
import { authorize } from './authorize.ts';
import { answerCors, isCors } from './buckets/cors.ts';
import type { Rooms } from './exchange.ts';
import type { Form } from './form.ts';
import { guarded, type GuardOptions } from './guard.ts';
import {
  arrive,
  attachTo,
  countBytes,
  hasUnreadBody,
  refuseEatenBody,
  requestIdOf,
  trustedProxies,
  type Arrival,
} from './http.ts';
import { identify, pathBelow } from './identify.ts';
import { operate } from './operations.ts';
import { respond, respondError } from './respond.ts';

export interface GatewayOptions {
  readonly rooms: Rooms;
  lookup(accessKeyId: string): Identity | undefined;
  readonly acceptedRegions: readonly string[];
  readonly trustedProxies: readonly string[];
  /** Connections that stand still within a request, and idle ones between requests. */
  readonly idleMs: number;
  readonly keepAliveMs: number;
  /** Most requests at once. */
  readonly concurrentRequests: number;
  /** Told of an error that was nobody's: the log. */
  readonly unexpected: (err: unknown) => void;
  /** Told of every outcome: metrics and the log. */
  readonly observe: (outcome: Outcome) => void;
}

/** What one request came to, for metrics and the log: classes and numbers, no names of objects. */
export interface Outcome {
  readonly requestId: string;
  readonly operation: string;
  readonly status: number;
  /** The error's code and class, where there was one. */
  readonly code: string | undefined;
  readonly reason: string | undefined;
  readonly mode: NonNullable<AuditFields['mode']>;
  readonly seconds: number;
  /** Bytes of the body that came, framing included, and of the answer that was sent, its head included. */
  readonly received: number;
  readonly sent: number;
}

export interface Gateway {
  /**
   * Serves one request. The signature is verified over `target`, the request target as the client sent it; `mount` is
   * the path below which the buckets are (Express's `originalUrl` and `baseUrl`).
   */
  serve(req: IncomingMessage, res: ServerResponse, target: string, mount: string): Promise<void>;
  attach(server: Server): void;
}

/**
 * The data plane; docs/ARCHITECTURE.md says where each step may leave. Long: one request reads as one page, from top to
 * bottom.
 */
export function createGateway(options: GatewayOptions): Gateway {
  const { rooms } = options;
  const trusted = trustedProxies(options.trustedProxies);
  const regions = [rooms.settings.region, ...options.acceptedRegions];
  const verifier = createVerifier<Identity>({ lookup: (id) => options.lookup(id), regions, services: ['s3'] });

  async function serve(req: IncomingMessage, res: ServerResponse, target: string, mount: string): Promise<void> {
    const started = performance.now();
    const arrival = arrive(req, target, trusted, rooms.entropy);
    const entry = rooms.audit.begin({ requestId: arrival.requestId, source: arrival.source });
    const gone = new AbortController();
    // Only where somebody may still be waiting: an abort makes an exception with a stack.
    res.once('close', () => {
      if (!res.writableFinished || error !== undefined) gone.abort();
    });
    let form: Form | undefined;
    let operation = req.method === 'OPTIONS' ? 'CorsPreflight' : 'unknown';
    let error: ServiceError | undefined;
    const bytes = countBytes(req, res);
    try {
      refuseEatenBody(req);
      const now = rooms.clock();
      const asked = { arrival, mount, baseHosts: rooms.settings.baseHosts };
      const accept = (): void => bytes.begin();
      const preflight = isCors(req) ? await answerCors(rooms, asked, req, res) : undefined;
      if (preflight !== undefined) {
        await respond(res, preflight, arrival.requestId);
        return;
      }
      const { caller, ...body } = await identify(verifier, req, asked, now, accept);
      ({ form } = body);
      entry.add({ principal: caller.identity.name });
      const op = parseOperation(below(mount, caller.request), rooms.settings);
      operation = op.row.name;
      entry.add(auditFields(op));
      const { requestId, source, secure } = arrival;
      const exchange = {
        ...{ op, caller, rooms, entry, requestId, source, secure, now, mount, signal: gone.signal },
        body: { req, accept, ...body },
      };
      authorize(exchange);
      const reply = await operate(exchange);
      await respond(res, reply, requestId);
    } catch (err) {
      // What is left of a refused body is thrown away by whoever answers.
      form?.cancel(asServiceError(err));
      error = fail(req, res, err, arrival);
    } finally {
      close(entry, res, error);
      options.observe({
        ...{ requestId: arrival.requestId, operation, status: res.statusCode },
        ...{ code: error?.code, reason: error?.reason, mode: entry.fields.mode ?? 'none' },
        seconds: (performance.now() - started) / 1000,
        ...bytes.figures(),
      });
    }
  }

  return {
    serve: guarded(serve, guardOf(options)),
    attach: (server) => attachTo(server, options.idleMs, options.keepAliveMs),
  };
}

function guardOf({ rooms, concurrentRequests, observe, unexpected }: GatewayOptions): GuardOptions {
  return {
    concurrent: concurrentRequests,
    requestId: () => requestIdOf(rooms.entropy),
    overloaded: (requestId, res, { code, reason }) =>
      observe({ ...REFUSED, requestId, status: res.statusCode, code, reason }),
    unexpected,
  };
}

/** Of what was not looked at nothing is known. */
const REFUSED = { operation: 'unknown', mode: 'none', seconds: 0, received: 0, sent: 0 } as const;

/** The request as it is below the mount path, which is no part of any bucket's name. */
function below(mount: string, request: VerifiedRequest): VerifiedRequest {
  return mount === '' ? request : { ...request, path: pathBelow(mount, request.path) };
}

function fail(req: IncomingMessage, res: ServerResponse, err: unknown, arrival: Arrival): ServiceError {
  const { method, target } = arrival.head;
  const resource = target.split('?', 1)[0] ?? '';
  const unread = hasUnreadBody(req) ? req : undefined;
  return respondError(res, err, { method, resource, requestId: arrival.requestId, unread });
}

function auditFields(op: Operation): Partial<AuditFields> {
  return {
    operation: op.row.name,
    ...('bucket' in op ? { bucket: op.bucket } : {}),
    ...('key' in op ? { key: op.key } : {}),
    ...('versionId' in op ? { versionId: op.versionId } : {}),
  };
}

/** The outcome record, last; a denial is told apart from a failure. */
function close(entry: AuditEntry, res: ServerResponse, error: ServiceError | undefined): void {
  const denied = error?.status === 401 || error?.status === 403;
  entry.finish(error === undefined ? 'success' : denied ? 'denied' : 'failed', res.statusCode, error?.reason);
}
