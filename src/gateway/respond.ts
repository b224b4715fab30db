import type { IncomingMessage, ServerResponse } from 'node:http';
import { asServiceError, type ServiceError } from '../errors.ts';
import { formatError } from '../s3/xml.ts';
import type { Reply } from './exchange.ts';
import { linger } from './http.ts';

/** Sends an answer. A stream writes its own body and is awaited; its failure is the caller's to handle. */
export async function respond(res: ServerResponse, reply: Reply, requestId: string): Promise<void> {
  if (reply.stream) {
    // The stream itself writes the head, after the first verified segment.
    await reply.stream(res, requestId);
    return;
  }
  const body = reply.body ?? '';
  writeHead(res, reply, requestId, Buffer.byteLength(body));
  res.end(body);
}

/** The head of an answer: every one carries the request's id (AWS "Common response headers"). */
export function writeHead(res: ServerResponse, reply: Reply, requestId: string, length: number | undefined): void {
  res.statusCode = reply.status;
  for (const [name, value] of Object.entries(reply.headers)) res.setHeader(name, value);
  res.setHeader('x-amz-request-id', requestId);
  if (length !== undefined && reply.status !== 204 && reply.status !== 304 && !res.hasHeader('content-length')) {
    res.setHeader('content-length', length);
  }
}

/**
 * Sends an error: XML with Code, Message, Resource and RequestId, without a body for HEAD and 304. Once the head has
 * gone there is one honest thing left: the connection is destroyed, so that the client sees a short body.
 */
export function respondError(res: ServerResponse, err: unknown, about: ErrorPlace): ServiceError {
  const error = asServiceError(err);
  if (res.headersSent || res.destroyed) {
    res.destroy();
    return error;
  }
  // What CORS let a page see it may see of an error too.
  for (const name of res.getHeaderNames()) if (!/^access-control-|^vary$/.test(name)) res.removeHeader(name);
  const headers: Record<string, string> = { ...error.headers };
  if (error.status === 503 && headers['Retry-After'] === undefined) headers['Retry-After'] = '1';
  if (about.unread !== undefined) headers.Connection = 'close';
  const silent = about.method === 'HEAD' || error.status === 304;
  const body = silent ? '' : formatError(error, { resource: about.resource, requestId: about.requestId });
  if (body !== '') headers['Content-Type'] = 'application/xml';
  writeHead(res, { status: error.status, headers }, about.requestId, silent ? undefined : Buffer.byteLength(body));
  if (about.unread === undefined) {
    res.end(body);
    return error;
  }
  res.flushHeaders();
  if (body !== '') res.write(body);
  linger(about.unread, () => res.end());
  return error;
}

export interface ErrorPlace {
  readonly method: string;
  /** The path of the request, as the client wrote it. */
  readonly resource: string;
  readonly requestId: string;
  /** The request, when the rest of its body has not been read: the connection cannot be used again. */
  readonly unread: IncomingMessage | undefined;
}
