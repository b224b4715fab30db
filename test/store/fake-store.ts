import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';

/**
 * A fake: no store at all, but a script of bytes over TCP, for what real stores do only on bad days (stalls, resets,
 * early answers, bodies that are too short). What stores do on good days is tested on real ones.
 */
export interface FakeStore {
  readonly endpoint: URL;
  readonly connections: readonly FakeConnection[];
  close(): Promise<void>;
}

export interface FakeHead {
  readonly line: string;
  readonly headers: Readonly<Record<string, string>>;
}

export class FakeConnection {
  readonly socket: Socket;
  /** Position among the connections, from 0. */
  readonly index: number;
  /** Everything that came after the last head that was read, and was not read yet. */
  #buffer = Buffer.alloc(0);
  #ended = false;
  #wake: (() => void) | undefined;

  constructor(socket: Socket, index: number) {
    this.socket = socket;
    this.index = index;
    const over = (): void => {
      this.#ended = true;
      this.#wake?.();
    };
    socket.on('data', (chunk) => {
      this.#buffer = Buffer.concat([this.#buffer, chunk]);
      this.#wake?.();
    });
    socket.on('end', over);
    socket.on('close', over);
    socket.on('error', over);
  }

  /** The next request's head; undefined when the client closed instead. */
  async head(): Promise<FakeHead | undefined> {
    await this.#until(() => this.#buffer.includes('\r\n\r\n'));
    const at = this.#buffer.indexOf('\r\n\r\n');
    if (at < 0) return undefined;
    const [line = '', ...fields] = this.#buffer.subarray(0, at).toString('latin1').split('\r\n');
    this.#buffer = this.#buffer.subarray(at + 4);
    const headers: Record<string, string> = {};
    for (const field of fields) {
      const colon = field.indexOf(':');
      headers[field.slice(0, colon).toLowerCase()] = field.slice(colon + 1).trim();
    }
    return { line, headers };
  }

  /** `length` body bytes, or fewer when the client closed before. */
  async read(length: number): Promise<Buffer> {
    await this.#until(() => this.#buffer.byteLength >= length);
    const out = this.#buffer.subarray(0, length);
    this.#buffer = this.#buffer.subarray(out.byteLength);
    return out;
  }

  /** Bytes that arrived and were not read. */
  get pending(): number {
    return this.#buffer.byteLength;
  }

  /** The client's side of the connection is over. */
  get ended(): boolean {
    return this.#ended;
  }

  async closed(): Promise<void> {
    await this.#until(() => false);
  }

  send(...parts: (string | Buffer)[]): void {
    for (const part of parts) this.socket.write(part);
  }

  /** An answer with Content-Length. */
  answer(status: number, body: string | Buffer = '', headers = ''): void {
    this.send(`HTTP/1.1 ${status} X\r\ncontent-length: ${Buffer.byteLength(body)}\r\n${headers}\r\n`, body);
  }

  async #until(done: () => boolean): Promise<void> {
    while (!done() && !this.#ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

/** Runs `script` once for every connection. */
export async function startFakeStore(script: (connection: FakeConnection) => Promise<void>): Promise<FakeStore> {
  const connections: FakeConnection[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const connection = new FakeConnection(socket, connections.length);
    connections.push(connection);
    void script(connection).catch((err: unknown) => socket.destroy(err instanceof Error ? err : undefined));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    endpoint: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
    connections,
    close: async () => {
      for (const { socket } of connections) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
