import type { Socket } from 'node:net';
import { Agent, buildConnector, Client, Pool, type Dispatcher } from 'undici';
import type { ConnectionUse, Exchange } from './response.ts';
import type { StoreTimeouts } from './timeouts.ts';

/** A request and the exchange that it begins. */
export interface Carried extends Dispatcher.DispatchOptions {
  readonly origin: string;
  readonly exchange: Exchange;
}

/** A connection that knows what it carries. One exchange at a time (`pipelining: 1`). */
class CountedClient extends Client {
  readonly #use: ConnectionUse;

  constructor(origin: URL | string, options: Client.Options, connect: buildConnector.connector) {
    const use: ConnectionUse = { served: false };
    super(origin, { ...options, connect: guarded(connect, use) });
    this.#use = use;
    this.on('connect', () => (use.served = false));
  }

  override dispatch(options: Carried | Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    // A pool hands its clients a wrapped handler, but the options as they are.
    if ('exchange' in options) options.exchange.connection = this.#use;
    return super.dispatch(options, handler);
  }
}

/**
 * undici 7 asserts that its parser does not stand still when a store ends the connection (nodejs/undici#5360; mended in
 * version 8, which Node 20 cannot run). An answer with `Connection: close` that meets a slow client, or a slow KMS,
 * would throw where nobody can catch it, and end the process. So the exchange moves on before undici sees the end:
 * all bytes have been read by then. A reset is never taken for an end, which is undici's other way to that assertion.
 */
function guarded(connect: buildConnector.connector, use: ConnectionUse): buildConnector.connector {
  return (options, done) => {
    connect(options, (...args) => {
      if (args[0] === null) guard(args[1], use);
      done(...args);
    });
  };
}

function guard(socket: Socket, use: ConnectionUse): void {
  socket.on('end', () => use.carries?.wake());
  socket.on('error', (err: NodeJS.ErrnoException) => {
    if (err.code === 'ECONNRESET') err.code = 'STORE_RESET';
  });
}

export interface Connections {
  dispatch(request: Carried, fresh: boolean): void;
  close(): Promise<void>;
}

export interface ConnectionOptions {
  readonly tls?: { readonly ca?: string | Buffer };
  readonly connections?: number;
}

/** Pools per host (virtual-host style has one host per bucket), and single connections for a second attempt. */
export function createConnections(timeouts: StoreTimeouts, options: ConnectionOptions): Connections {
  const clientOptions: Client.Options = {
    pipelining: 1,
    keepAliveTimeout: timeouts.keepAliveMs,
    keepAliveMaxTimeout: 60_000,
    maxHeaderSize: 64 * 1024,
  };
  const connect = buildConnector({ timeout: timeouts.connectMs, ...options.tls });
  const connections = options.connections ?? null;
  const agent = new Agent({
    factory: (origin) =>
      new Pool(origin, {
        ...clientOptions,
        connections,
        factory: (poolOrigin, poolOptions) => new CountedClient(poolOrigin, poolOptions, connect),
      }),
  });
  return {
    dispatch(request, fresh) {
      if (!fresh) {
        agent.dispatch(request, request.exchange);
        return;
      }
      const single = new CountedClient(request.origin, clientOptions, connect);
      single.dispatch({ ...request, reset: true }, request.exchange);
      void single.close();
    },
    close: () => agent.destroy(),
  };
}
