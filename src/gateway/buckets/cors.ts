import type { IncomingMessage, ServerResponse } from 'node:http';
import { ServiceError } from '../../errors.ts';
import { corsHeaders, formatCors, parseCors, type CorsRule } from '../../s3/cors.ts';
import type { DeleteBucketCors, GetBucketCors, PutBucketCors } from '../../s3/operation.ts';
import { smallBody } from '../calls.ts';
import type { BucketExchange, Reply, Rooms } from '../exchange.ts';
import { bucketAsked, type Asked } from '../identify.ts';
import { XML } from '../xml-body.ts';

/** AWS's own limit. */
const BODY_LIMIT = 64 * 1024;

/**
 * The rules lie in the control store: a preflight is asked by anybody, and should neither cost a request to the store
 * nor be decided by whoever can write there; they hold on stores without CORS, and for buckets that are mapped.
 */
export async function putBucketCors(x: BucketExchange<PutBucketCors>): Promise<Reply> {
  const cors = parseCors(await smallBody(x, BODY_LIMIT));
  await x.rooms.buckets.update(x.op.bucket, (record) => ({ ...record, cors }));
  return { status: 200, headers: {} };
}

export function getBucketCors(x: BucketExchange<GetBucketCors>): Promise<Reply> {
  const { cors } = x.bucket;
  if (cors === undefined) throw new ServiceError('NoSuchCORSConfiguration');
  return Promise.resolve({ status: 200, headers: XML, body: formatCors(cors) });
}

export async function deleteBucketCors(x: BucketExchange<DeleteBucketCors>): Promise<Reply> {
  await x.rooms.buckets.update(x.op.bucket, (record) => {
    const { cors, ...rest } = record;
    return cors === undefined ? record : rest;
  });
  return { status: 204, headers: {} };
}

/** Whether a request has anything to do with CORS: every other one passes by at the cost of this look. */
export function isCors({ method, headers }: IncomingMessage): boolean {
  return headers.origin !== undefined || method === 'OPTIONS';
}

/**
 * Puts the CORS headers on whatever the answer will be, errors included. A preflight is never signed (Fetch, "CORS
 * preflight"), and is answered here.
 */
export async function answerCors(
  rooms: Rooms,
  asked: Asked,
  req: IncomingMessage,
  res: ServerResponse,
): Promise<Reply | undefined> {
  const { origin } = req.headers;
  const preflight = req.method === 'OPTIONS';
  if (!preflight && origin === undefined) return undefined;
  const method = preflight ? req.headers['access-control-request-method'] : req.method;
  if (origin === undefined || method === undefined) {
    const missing = origin === undefined ? 'Origin' : 'Access-Control-Request-Method';
    throw new ServiceError('BadRequest', {
      message: `Insufficient information. ${missing} request header needed.`,
      reason: 'cors-preflight',
    });
  }
  const rules = preflight ? await rulesOf(rooms, asked) : await rulesOf(rooms, asked).catch(() => []);
  const headers = corsHeaders(rules, { origin, method, headers: preflight ? namesAsked(req) : [] });
  if (headers !== undefined) for (const [name, value] of Object.entries(headers)) res.setHeader(name, value);
  if (!preflight) return undefined;
  if (headers === undefined) throw forbidden(rules.length > 0);
  return { status: 200, headers: {} };
}

/** A bucket that there is not has no rules either: nobody learns here which there are. */
async function rulesOf(rooms: Rooms, asked: Asked): Promise<readonly CorsRule[]> {
  const bucket = bucketAsked(asked);
  return (bucket === '' ? undefined : await rooms.buckets.get(bucket))?.cors ?? [];
}

function namesAsked({ headers }: IncomingMessage): string[] {
  const names = headers['access-control-request-headers'];
  const text = Array.isArray(names) ? names.join(',') : (names ?? '');
  return text
    .split(',')
    .map((name) => name.trim().toLowerCase())
    .filter((name) => name !== '');
}

function forbidden(enabled: boolean): ServiceError {
  return new ServiceError('AccessForbidden', {
    message: enabled
      ? "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec."
      : 'CORSResponse: CORS is not enabled for this bucket.',
    reason: 'cors',
  });
}
