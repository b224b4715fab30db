import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/**
 * A TCP link to a store that can be made to stand still: each connection then takes no more than `allowance` bytes
 * from its client. SigV4 holds, because the bytes go through as they are.
 */
export interface SlowLink {
  readonly endpoint: string;
  hold(allowance: number): void;
  release(): void;
  /** Connections that stand still now. */
  held(): number;
  /** Cuts every connection. */
  cut(): void;
  stop(): Promise<void>;
}

export async function startSlowLink(endpoint: string): Promise<SlowLink> {
  const { hostname, port } = new URL(endpoint);
  const links = new Map<Socket, Socket>();
  let allowance = Infinity;
  const server = createServer((client) => {
    const store = connect(Number(port), hostname);
    links.set(client, store);
    let taken = 0;
    client.on('data', (chunk) => {
      taken += chunk.length;
      if (!store.write(chunk) || taken > allowance) client.pause();
    });
    store.on('drain', () => {
      if (taken <= allowance) client.resume();
    });
    store.pipe(client);
    for (const [one, other] of [
      [client, store],
      [store, client],
    ] as const) {
      one.on('error', () => undefined);
      one.on('close', () => {
        links.delete(client);
        other.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const cut = (): void => {
    for (const client of links.keys()) client.destroy();
  };
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    hold: (bytes) => (allowance = bytes),
    release() {
      allowance = Infinity;
      for (const client of links.keys()) client.resume();
    },
    held: () => [...links.keys()].filter((client) => client.isPaused()).length,
    cut,
    stop() {
      cut();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
