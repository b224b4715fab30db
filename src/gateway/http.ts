import { randomBytes } from 'node:crypto';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { BlockList, isIPv6 } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { ServiceError } from '../errors.ts';
import type { RequestHead } from '../sigv4/types.ts';

/** Addresses whose `X-Forwarded-*` headers are believed; nobody's by default. */
export type TrustedProxies = (address: string) => boolean;

/** From CIDR blocks or single addresses, IPv4 and IPv6. */
export function trustedProxies(blocks: readonly string[]): TrustedProxies {
  const list = new BlockList();
  for (const block of blocks) {
    const [address = '', bits] = block.split('/');
    const family = isIPv6(address) ? 'ipv6' : 'ipv4';
    if (bits === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(bits), family);
  }
  return (address) => {
    const plain = address.replace(/^::ffff:(?=\d+\.)/, '');
    return list.check(plain, isIPv6(plain) ? 'ipv6' : 'ipv4');
  };
}

/** What we know of a request before anything of it is believed. */
export interface Arrival {
  readonly requestId: string;
  /** The client's address: the peer's, or what a trusted proxy says. */
  readonly source: string;
  readonly secure: boolean;
  readonly head: RequestHead;
}

/** Reads the connection and the trusted proxy's headers. Decides nothing about the signature. */
export function arrive(req: IncomingMessage, target: string, trusted: TrustedProxies): Arrival {
  const peer = req.socket.remoteAddress ?? '';
  const believed = trusted(peer);
  const forwarded = (name: string): string | undefined => {
    const value = req.headers[name];
    return believed && typeof value === 'string' ? value.split(',').at(-1)?.trim() : undefined;
  };
  const host = forwarded('x-forwarded-host');
  return {
    requestId: randomBytes(8).toString('hex').toUpperCase(),
    source: forwarded('x-forwarded-for') ?? peer,
    secure: (req.socket as Partial<TLSSocket>).encrypted === true || forwarded('x-forwarded-proto') === 'https',
    head: {
      method: req.method ?? '',
      target,
      // The client signed the host that it saw, which a proxy may have replaced.
      rawHeaders: host === undefined ? req.rawHeaders : withHost(req.rawHeaders, host),
    },
  };
}

function withHost(rawHeaders: readonly string[], host: string): string[] {
  return rawHeaders.map((text, i) => (i % 2 === 1 && rawHeaders[i - 1]?.toLowerCase() === 'host' ? host : text));
}

/** Requests that wait for `100 Continue`: nothing of their body is asked for before the head has verified. */
const waiting = new WeakSet<IncomingMessage>();

/**
 * What a router cannot do for itself: hold `100 Continue` back (Node would send it unasked), and let slow uploads live.
 * Node's `requestTimeout` counts the whole body, which cuts a slow 5 GiB upload after 300 s; idle sockets are ended
 * by `idleMs` instead. A kept-alive connection outlives a balancer's (60 s by default on AWS).
 */
export function attachTo(server: Server, idleMs: number, keepAliveMs: number): void {
  server.on('checkContinue', (req: IncomingMessage, res: ServerResponse) => {
    waiting.add(req);
    server.emit('request', req, res);
  });
  server.requestTimeout = 0;
  server.headersTimeout = 30_000;
  server.keepAliveTimeout = keepAliveMs;
  server.timeout = idleMs;
}

/** Asks for the body (RFC 9110 section 10.1.1). */
export function acceptBody(req: IncomingMessage, res: ServerResponse): void {
  if (waiting.delete(req)) res.writeContinue();
}

/** A body parser of the host application that ran before us leaves nothing to verify: refuse, clearly. */
export function refuseEatenBody(req: IncomingMessage): void {
  if (req.readableDidRead || req.readableEnded)
    throw new ServiceError('InternalError', {
      message: 'The request body was read before s3Encryption saw it: mount it before any body parser.',
      reason: 'body-already-read',
    });
}

/** Bytes of a refused body that are read and thrown away, so that a client which writes first sees our answer. */
const LINGER_BYTES = 16 * 1024 * 1024;

/**
 * After an early refusal: reads the rest of the body for a while, then closes. Closing at once would reset the
 * connection under a client that is still writing, and it would never read the error.
 */
export function linger(req: IncomingMessage, res: ServerResponse): void {
  if (req.complete || waiting.has(req)) return;
  let left = LINGER_BYTES;
  const timer = setTimeout(() => req.destroy(), 5_000).unref();
  req.on('data', (chunk: Buffer) => {
    left -= chunk.length;
    if (left < 0) req.destroy();
  });
  req.on('error', () => undefined);
  req.on('close', () => clearTimeout(timer));
  res.on('finish', () => req.resume());
  req.resume();
}
