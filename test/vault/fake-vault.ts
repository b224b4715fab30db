import { createServer, type IncomingHttpHeaders } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { issue, makeCa } from '../support/certs.ts';

/**
 * A fake: it answers what it is told, for answers that one real server cannot be brought to give (412, 307, cut JSON,
 * warnings). Everything a real server can show is tested on a real one, in test/e2e-vault.
 */
export interface Script {
  readonly status?: number;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
  /** Without a Content-Length. */
  readonly chunked?: boolean;
  /** Milliseconds before the answer. */
  readonly delay?: number;
  /** Destroys the socket instead of answering, or after this many bytes of the body. */
  readonly cutAfter?: number;
}

export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** A number per connection, from 1. */
  readonly connection: number;
}

export interface FakeVault {
  readonly address: string;
  readonly ca: string | undefined;
  readonly seen: readonly Seen[];
  /** The script of the n-th call to a path that contains the key; the last one stays. */
  script(path: string, ...answers: readonly Script[]): void;
  /** Whether a connection is still open. */
  isOpen(connection: number): boolean;
  stop(): Promise<void>;
}

export async function startFakeVault(options: { tls?: boolean } = {}): Promise<FakeVault> {
  const seen: Seen[] = [];
  const scripts = new Map<string, Script[]>();
  const sockets = new Map<Socket, number>();
  let connections = 0;
  const ca = makeCa('fake CA');
  const server = options.tls === true ? createTlsServer(issue(ca)) : createServer();
  server.on(options.tls === true ? 'secureConnection' : 'connection', (socket: Socket) => {
    sockets.set(socket, ++connections);
    socket.once('close', () => sockets.delete(socket));
  });
  server.on('request', (req, res) => {
    let body = '';
    req.on('data', (chunk: Buffer) => (body += chunk.toString()));
    req.on('end', () => {
      const path = req.url ?? '';
      const connection = sockets.get(req.socket) ?? 0;
      seen.push({ method: req.method ?? '', path, headers: req.headers, body, connection });
      const answer = next(scripts, path);
      const bytes = Buffer.from(typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body ?? {}));
      setTimeout(() => {
        if (answer.cutAfter === 0) {
          req.socket.destroy();
          return;
        }
        const length = answer.chunked === true ? {} : { 'content-length': bytes.length };
        res.writeHead(answer.status ?? 200, { ...length, ...answer.headers });
        if (answer.cutAfter === undefined) res.end(bytes);
        else res.write(bytes.subarray(0, answer.cutAfter), () => req.socket.destroy());
      }, answer.delay ?? 0);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    address: `${options.tls === true ? 'https' : 'http'}://127.0.0.1:${port}`,
    ca: options.tls === true ? ca.cert : undefined,
    seen,
    script: (path, ...answers) => void scripts.set(path, [...answers]),
    isOpen: (connection) => [...sockets.values()].includes(connection),
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets.keys()) socket.destroy();
      }),
  };
}

function next(scripts: Map<string, Script[]>, path: string): Script {
  for (const [key, answers] of scripts) {
    if (!path.includes(key)) continue;
    return (answers.length > 1 ? answers.shift() : answers[0]) ?? {};
  }
  return { status: 404, body: { errors: [] } };
}
