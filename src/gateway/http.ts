import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { BlockList, isIPv6 } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { ServiceError } from '../errors.ts';
import type { RequestHead } from '../sigv4/types.ts';

/** Addresses whose `X-Forwarded-*` headers are believed; nobody's by default. */
export type TrustedProxies = (address: string) => boolean;

/** From CIDR blocks or single addresses, IPv4 and IPv6. */
export function trustedProxies(blocks: readonly string[]): TrustedProxies {
  if (blocks.length === 0) return () => false;
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
  /** The host that the client asked. */
  readonly host: string;
  readonly head: RequestHead;
}

/** Reads the connection and the trusted proxy's headers. Decides nothing about the signature. */
export function arrive(
  req: IncomingMessage,
  target: string,
  trusted: TrustedProxies,
  entropy: (bytes: number) => Buffer,
): Arrival {
  const peer = req.socket.remoteAddress ?? '';
  const believed = trusted(peer);
  const forwarded = (name: string): string | undefined => {
    const value = req.headers[name];
    return believed && typeof value === 'string' ? value.split(',').at(-1)?.trim() : undefined;
  };
  const host = forwarded('x-forwarded-host');
  return {
    requestId: requestIdOf(entropy),
    source: forwarded('x-forwarded-for') ?? peer,
    secure: (req.socket as Partial<TLSSocket>).encrypted === true || forwarded('x-forwarded-proto') === 'https',
    host: host ?? req.headers.host ?? '',
    head: {
      method: req.method ?? '',
      target,
      // The client signed the host that it saw, which a proxy may have replaced.
      rawHeaders: host === undefined ? req.rawHeaders : withHost(req.rawHeaders, host),
    },
  };
}

export function requestIdOf(entropy: (bytes: number) => Buffer): string {
  return entropy(8).toString('hex').toUpperCase();
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
    // In somebody's application other routes read bodies too, and none of them knows that it has to ask.
    req.on('newListener', (event) => {
      if (event === 'data' || event === 'readable') acceptBody(req, res);
    });
    server.emit('request', req, res);
  });
  server.requestTimeout = 0;
  server.headersTimeout = 30_000;
  server.keepAliveTimeout = keepAliveMs;
  server.timeout = idleMs;
}

/** Asks for the body (RFC 9110 section 10.1.1). */
export function acceptBody(req: IncomingMessage, res: ServerResponse): void {
  if (waiting.delete(req) && !res.headersSent) res.writeContinue();
}

/**
 * Asks for the body, and counts: bytes of the body, and of the answer with its head. The socket's own counters are
 * asked, once: a listener of ours on every chunk would cost, and the data path could not free what it shares with it.
 */
export function countBytes(req: IncomingMessage, res: ServerResponse) {
  const { socket } = req;
  const [read, written] = [socket.bytesRead, socket.bytesWritten];
  let begun = false;
  const received = (): number => {
    if (!begun) return 0;
    const length = Number(req.headers['content-length']);
    // A body of unknown length, or one that was cut: without what came in one packet with the head.
    return req.complete && length >= 0 ? length : Math.max(0, socket.bytesRead - read);
  };
  return {
    begin(): void {
      acceptBody(req, res);
      begun = true;
    },
    figures: () => ({ received: received(), sent: Math.max(0, socket.bytesWritten - written) }),
  };
}

/** A body parser of the host application that ran before us leaves nothing to verify: refuse, clearly. */
export function refuseEatenBody(req: IncomingMessage): void {
  if (req.readableDidRead || req.readableEnded)
    throw new ServiceError('InternalError', {
      message: 'The request body was read before s3Encryption saw it: mount it before any body parser.',
      reason: 'body-already-read',
    });
}

/** A refused body is read and thrown away up to here, so that a client which writes first sees our answer. */
const LINGER_BYTES = 16 * 1024 * 1024;
const LINGER_MS = 5_000;

/** True when the client is sending, or about to send, a body that nobody will read. */
export function hasUnreadBody(req: IncomingMessage): boolean {
  const { 'content-length': length = '0', 'transfer-encoding': coding } = req.headers;
  const announced = coding !== undefined || length !== '0';
  return announced && !req.complete && !waiting.has(req);
}

/**
 * Calls `done` when the rest of a refused body has been read, or enough of it. Node closes the connection with the end
 * of such an answer; closing under a client that is still writing resets it, and the error is never read.
 */
export function linger(req: IncomingMessage, done: () => void): void {
  let left = LINGER_BYTES;
  const finish = (): void => {
    clearTimeout(timer);
    req.off('data', onData).off('end', finish).off('close', finish);
    done();
  };
  const onData = (chunk: Buffer): void => {
    left -= chunk.length;
    if (left < 0) finish();
  };
  const timer = setTimeout(finish, LINGER_MS).unref();
  req
    .on('data', onData)
    .on('end', finish)
    .on('close', finish)
    .on('error', () => undefined)
    .resume();
}
