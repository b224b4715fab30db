import type { ServerResponse } from 'node:http';
import type { ServiceError } from '../errors.ts';
import type { AdminAnswer } from './types.ts';

/** The one place where the admin plane writes an answer. Nothing of it may be kept by a cache. */
export function respond(res: ServerResponse, requestId: string, answer: AdminAnswer, headers: Headers = {}): void {
  if (res.headersSent || res.destroyed) return;
  const error = answer.error === undefined ? {} : errorAnswer(answer.error, requestId).body;
  const body = Buffer.from(`${JSON.stringify({ ...answer.body, ...error })}\n`);
  res.writeHead(answer.status, {
    ...headers,
    'content-type': 'application/json',
    'content-length': body.length,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    'x-amz-request-id': requestId,
  });
  res.end(body);
}

type Headers = Readonly<Record<string, string>>;

/** The wire form of an error: code and message come from the table, the cause stays here. */
export function errorAnswer({ status, code, message }: ServiceError, requestId: string): AdminAnswer {
  return { status, body: { error: { code, message, requestId } } };
}
