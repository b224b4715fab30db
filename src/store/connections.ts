import { Agent, Client, Pool, type Dispatcher } from 'undici';
import type { Exchange } from './response.ts';
import type { StoreTimeouts } from './timeouts.ts';

/** A request and the exchange that it begins. */
export interface Carried extends Dispatcher.DispatchOptions {
  readonly origin: string;
  readonly exchange: Exchange;
}

/** A connection that knows whether it has served: only such a one can have been closed by the store while it was idle. */
class CountedClient extends Client {
  readonly #use = { served: false };

  constructor(origin: URL | string, options: Client.Options) {
    super(origin, options);
    this.on('connect', () => (this.#use.served = false));
  }

  override dispatch(options: Carried | Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    // A pool hands its clients a wrapped handler, but the options as they are.
    if ('exchange' in options) options.exchange.connection = this.#use;
    return super.dispatch(options, handler);
  }
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
    connect: { timeout: timeouts.connectMs, ...options.tls },
  };
  const connections = options.connections ?? null;
  const agent = new Agent({
    factory: (origin) =>
      new Pool(origin, {
        ...clientOptions,
        connections,
        factory: (poolOrigin, poolOptions) => new CountedClient(poolOrigin, poolOptions),
      }),
  });
  return {
    dispatch(request, fresh) {
      if (!fresh) {
        agent.dispatch(request, request.exchange);
        return;
      }
      const single = new CountedClient(request.origin, clientOptions);
      single.dispatch({ ...request, reset: true }, request.exchange);
      void single.close();
    },
    close: () => agent.destroy(),
  };
}
