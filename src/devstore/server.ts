import { createSecretKey, randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { asServiceError, ServiceError } from '../errors.ts';
import type { Signer, VerifiedRequest } from '../sigv4/types.ts';
import { createVerifier, type Verifier } from '../sigv4/verify.ts';
import { openBody } from './body.ts';
import type { Reply } from './call.ts';
import { readRange } from './disk.ts';
import { decodeName } from './object-calls.ts';
import { DevDisk } from './objects.ts';
import { findRoute, type Target } from './routes.ts';
import { formatXml } from './xml.ts';

export interface DevStoreOptions {
  /** Made when it is not there. One running store per directory. */
  readonly directory: string;
  readonly host: string;
  /** 0: a free one. */
  readonly port: number;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  readonly region: string;
  readonly clock?: () => Date;
  /**
   * Files and folders are synced before a write is answered, so that it survives a power cut; default true. Without,
   * an answered write still survives the death of this program.
   */
  readonly fsync?: boolean;
}

export interface DevStore {
  readonly url: string;
  readonly port: number;
  /** Ends connections, and resolves when no request works on the directory any more. */
  close(): Promise<void>;
}

/** Told apart from a real store by its clients, and by the gateway, which looks at it before it trusts its traits. */
const SERVER = 'express-s3-sse-devstore';

/**
 * A development store, not for production: a small S3 service on one directory, for the quick start and the tests. It
 * checks signatures and digests, keeps any key, writes atomically and durably; it has one owner, no ACLs, no
 * versions, no encryption, and holds the index of all objects in memory. What it does not know it refuses (501).
 */
export async function startDevStore(options: DevStoreOptions): Promise<DevStore> {
  const { accessKeyId, secretAccessKey } = options.credentials;
  const signer: Signer = { accessKeyId, secret: createSecretKey(Buffer.from(`AWS4${secretAccessKey}`, 'utf8')) };
  const clock = options.clock ?? (() => new Date());
  const rooms: Rooms = {
    disk: new DevDisk(options.directory, { fsync: options.fsync ?? true }),
    verifier: createVerifier({
      lookup: (id) => (id === accessKeyId ? signer : undefined),
      regions: [options.region],
      services: ['s3'],
    }),
    clock,
    region: options.region,
  };
  const server = createServer();
  const active = new Set<Promise<void>>();
  const take = (req: IncomingMessage, res: ServerResponse, awaited: boolean): void => {
    const work = serve(rooms, req, res, awaited).finally(() => active.delete(work));
    active.add(work);
  };
  server.on('request', (req, res) => take(req, res, false));
  server.on('checkContinue', (req, res) => take(req, res, true));
  // Node counts the whole body against it; a long upload is no attack on a development store.
  server.requestTimeout = 0;
  const port = await listen(server, options);
  const host = options.host.includes(':') ? `[${options.host}]` : options.host;
  return {
    url: `http://${host}:${port}`,
    port,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
      await Promise.all(active);
    },
  };
}

interface Rooms {
  readonly disk: DevDisk;
  readonly verifier: Verifier<Signer>;
  readonly clock: () => Date;
  readonly region: string;
}

function listen(server: Server, { port, host }: DevStoreOptions): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

/** One request. Never rejects: what goes wrong is answered, or ends the connection when the answer has begun. */
async function serve(rooms: Rooms, req: IncomingMessage, res: ServerResponse, awaited: boolean): Promise<void> {
  const requestId = randomBytes(8).toString('hex').toUpperCase();
  res.setHeader('server', SERVER);
  res.setHeader('x-amz-request-id', requestId);
  let asks = awaited;
  const accept = (): void => {
    if (asks) res.writeContinue();
    asks = false;
  };
  try {
    const { method = '', url = '', rawHeaders } = req;
    const now = rooms.clock();
    const verified = rooms.verifier.verify({ method, target: url, rawHeaders }, now);
    const { request } = verified;
    const target = parseTarget(request);
    const handle = findRoute(request.method, target, request.query, request.headers);
    const body = openBody(req, verified, accept);
    const owner = verified.identity.accessKeyId;
    const { disk, region } = rooms;
    const reply = await handle({ disk, request, ...target, body, now: () => rooms.clock().getTime(), region, owner });
    await send(res, reply);
  } catch (err) {
    // A body that was not asked for may or may not follow: only a new connection is sure to begin with a request.
    if (asks && !res.headersSent) res.setHeader('connection', 'close');
    sendError(req, res, err, requestId);
  }
  // What is left of a body that was refused, or that the operation has no use for.
  if (!req.readableEnded) req.resume();
}

/** Path style only: `/bucket/key`, the key percent-encoded UTF-8 and nothing normalised. */
function parseTarget({ path }: VerifiedRequest): Target {
  const slash = path.indexOf('/', 1);
  const bucket = decodeName(slash < 0 ? path.slice(1) : path.slice(1, slash));
  const key = slash < 0 ? '' : decodeName(path.slice(slash + 1));
  if (bucket === '' && key !== '') throw new ServiceError('InvalidBucketName');
  return { bucket, key };
}

async function send(res: ServerResponse, { status, headers = {}, xml, file }: Reply): Promise<void> {
  if (xml !== undefined) {
    res.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(xml) }).end(xml);
    return;
  }
  const bytes = file && readRange(file.fd, file.start, file.end);
  res.writeHead(status, headers);
  if (bytes) await pipeline(bytes, res);
  else res.end();
}

function sendError(req: IncomingMessage, res: ServerResponse, err: unknown, requestId: string): void {
  const error = asServiceError(err);
  if (res.headersSent || res.destroyed) {
    res.destroy();
    return;
  }
  const { status, code: Code, message: Message } = error;
  const hasBody = req.method !== 'HEAD' && status !== 304;
  const xml = formatXml(
    'Error',
    { Code, Message, Resource: (req.url ?? '').replace(/\?.*$/, ''), RequestId: requestId },
    false,
  );
  const headers: Record<string, string | number> = { ...error.headers };
  if (hasBody) Object.assign(headers, { 'content-type': 'application/xml', 'content-length': Buffer.byteLength(xml) });
  res.writeHead(status, headers).end(hasBody ? xml : undefined);
}
