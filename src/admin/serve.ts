import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TLSSocket } from 'node:tls';
import type { AuditEntry } from '../audit.ts';
import { asServiceError, ServiceError, type ErrorCode } from '../errors.ts';
import type { Identity } from '../iam/types.ts';
import { createVerifier, type Verifier } from '../sigv4/verify.ts';
import type { Verified } from '../sigv4/types.ts';
import { collect, discard } from './collect.ts';
import { errorAnswer, respond } from './respond.ts';
import { matchPath, type Match } from './routes.ts';
import type { AdminAnswer, AdminOptions, Parsed, Row } from './types.ts';

/** Answers one admin request; `path` is what the table knows, `target` what the client signed. */
export type ServeAdmin = (req: IncomingMessage, res: ServerResponse, path: string, target: string) => Promise<void>;

/** Of a path that is no route; read only to check who asks for it. */
const UNKNOWN_BODY = 4 * 1024;

/** Refusals of a signature that have the status of a bad request; they count as failed authentications too. */
const FORGED: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'AuthorizationHeaderMalformed',
  'InvalidToken',
  'XAmzContentSHA256Mismatch',
]);

/** Verify, allow, record, answer: in this order, for every route. */
export function createAdmin(options: AdminOptions): ServeAdmin {
  const { audit, metrics, clock } = options;
  const verifier = createVerifier<Identity>({
    lookup: options.identity,
    regions: options.regions,
    services: ['s3', 'execute-api'],
  });

  return async (req, res, path, target) => {
    const requestId = randomBytes(8).toString('hex').toUpperCase();
    const began = clock().getTime();
    const matches = matchPath(path);
    const row = matches.find((match) => match.row.method === req.method)?.row;
    // The table's path, never the client's: it is a metric's label too.
    const operation = row === undefined ? 'unknown' : `${row.method} ${row.path}`;
    const entry = audit.begin({ requestId, source: req.socket.remoteAddress ?? '', operation });
    const seconds = (): number => Math.max(0, clock().getTime() - began) / 1000;
    try {
      const body = await collect(req, Math.max(0, ...matches.map((match) => match.row.maxBody)) || UNKNOWN_BODY);
      const caller = verifyCaller(verifier, req, target, clock(), body);
      entry.add({ principal: caller.identity.name });
      const match = onlyMatch(matches, req.method ?? '');
      if (match.id !== undefined && match.row.resource === 'key') entry.add({ keyId: match.id });
      if (match.id !== undefined && match.row.resource === 'bucket') entry.add({ bucket: match.id });
      authorize(options, caller.identity, match, req);
      const parsed = match.row.parse(body);
      // Who may rule one bucket may not map it into another one.
      if (parsed.names !== undefined) authorize(options, caller.identity, { ...match, id: parsed.names }, req);
      const answer = await perform(options, entry, caller, match, parsed);
      const outcome = answer.error === undefined ? 'success' : 'failed';
      entry.finish(outcome, answer.status, answer.error?.reason);
      metrics.request(operation, 'none', outcome, seconds());
      respond(res, requestId, answer);
    } catch (cause) {
      const err = asServiceError(cause);
      const outcome = err.status === 401 || err.status === 403 ? 'denied' : 'failed';
      entry.finish(outcome, err.status, err.reason);
      metrics.request(operation, 'none', outcome, seconds());
      if (outcome === 'denied' || FORGED.has(err.code)) metrics.authFailure('admin', err.code);
      const unread = req.complete ? {} : { connection: 'close' };
      respond(res, requestId, errorAnswer(err, requestId), { ...err.headers, ...unread });
      discard(req);
    }
  };
}

function verifyCaller(
  verifier: Verifier<Identity>,
  req: IncomingMessage,
  target: string,
  now: Date,
  body: Buffer,
): Verified<Identity> {
  // A presigned URL is kept in logs and histories and may be used again for a week: no way to rule keys.
  if (/[?&]x-amz-(?:algorithm|signature)=/i.test(target)) {
    throw new ServiceError('AccessDenied', {
      message: 'The admin API takes no presigned URLs; sign the request by its Authorization header.',
      reason: 'admin-presigned',
    });
  }
  if (req.headers.authorization === undefined) throw new ServiceError('Unauthorized', { reason: 'unsigned' });
  const head = { method: req.method ?? '', target, rawHeaders: req.rawHeaders };
  const caller = verifier.verify(head, now, body);
  if (caller.identity.plane === 'data') throw new ServiceError('AccessDenied', { reason: 'plane' });
  if (caller.request.query.size > 0) {
    throw new ServiceError('ValidationException', {
      message: 'This route takes no query parameters.',
      reason: 'admin-query',
    });
  }
  return caller;
}

/** Only who is known learns which routes there are. */
function onlyMatch(matches: readonly Match[], method: string): Match {
  if (matches.length === 0) throw new ServiceError('NotFound', { message: 'There is no such route.', reason: 'route' });
  const match = matches.find(({ row }) => row.method === method);
  if (match !== undefined) return match;
  const allow = matches.map(({ row }) => row.method).join(', ');
  throw new ServiceError('MethodNotAllowed', { reason: 'method', headers: { allow } });
}

/** Behind this service there is no account; the data plane's ARNs of keys have the same one. */
const ACCOUNT = '000000000000';

function authorize(options: AdminOptions, identity: Identity, { row, id }: Match, req: IncomingMessage): void {
  // The ARN by which the data plane knows a key: a Deny that names it must hold here too.
  const keyArn = options.keyArn ?? ((name) => `arn:aws:kms:${options.regions[0] ?? ''}:${ACCOUNT}:key/${name}`);
  const resources: Readonly<Record<Row['resource'], string>> = {
    service: 'arn:aws:kms:::service',
    key: keyArn(id ?? '*'),
    bucket: `arn:aws:s3:::${id ?? '*'}`,
  };
  const resource = resources[row.resource];
  const secure = (req.socket as Partial<TLSSocket>).encrypted === true;
  const context = {
    'aws:username': identity.name,
    'aws:sourceip': (req.socket.remoteAddress ?? '').replace(/^::ffff:(?=\d+\.)/, ''),
    'aws:securetransport': String(secure),
  };
  if (!options.allows(identity.policies, { action: row.action, resource, context })) {
    throw new ServiceError('AccessDenied', { reason: 'policy' });
  }
}

async function perform(
  { service, buckets }: AdminOptions,
  entry: AuditEntry,
  caller: Verified<Identity>,
  { row, id }: Match,
  { note, answer }: Parsed,
): Promise<AdminAnswer> {
  if (note !== undefined) entry.add({ note });
  try {
    entry.intend();
  } catch (err) {
    if (!row.exempt) throw err;
  }
  return within(row.timeoutMs, answer({ service, buckets, name: id ?? '', by: caller.identity.name }));
}

/** The work itself is not undone: a configure that is late may still take effect, and status tells. */
async function within<T>(timeoutMs: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const message = 'The answer took too long. The request may still take effect: ask for the status.';
      reject(new ServiceError('ServiceUnavailable', { message, reason: 'admin-timeout' }));
    }, timeoutMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
