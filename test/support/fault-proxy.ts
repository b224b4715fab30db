import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { freePort } from './free-port.ts';
import type { RawStore } from './s3-raw.ts';
import type { StoreAnswer, StoreCall } from './store-proxy.ts';

/** One request that a fault befalls, and what can be done to it. */
export interface Victim {
  readonly call: StoreCall;
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly socket: Socket;
  /** No connection is taken any more, and none is kept, until the fault has been disarmed. */
  refuse(): void;
}

/**
 * What goes wrong with one request. `before` spoils it on its way, and the store never sees it; `after` spoils the
 * answer to what the store has done. False: this request cannot be spoilt in this way.
 */
export type Fault =
  | { readonly before: (victim: Victim) => unknown }
  | { readonly after: (victim: Victim, answer: StoreAnswer) => unknown };

/** A fake: a proxy in front of a real store, in which one fault befalls the n-th request from now on. */
export class FaultProxy {
  readonly #target: URL;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #details: RawStore;
  readonly #port: number;
  #calls: StoreCall[] = [];
  #armed: { readonly at: number; readonly fault: Fault } | undefined;
  #meanwhile: { readonly at: number; readonly work: () => Promise<unknown> } | undefined;
  #befallen = false;
  #open = 0;

  private constructor(store: RawStore, port: number) {
    this.#details = store;
    this.#port = port;
    this.#target = new URL(store.endpoint);
    this.#server = createServer((req, res) => void this.#take(req, res));
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  static async start(store: RawStore): Promise<FaultProxy> {
    const proxy = new FaultProxy(store, await freePort());
    await proxy.#listen();
    return proxy;
  }

  /** The store's details with the proxy's endpoint. */
  get store(): RawStore {
    return { ...this.#details, endpoint: `http://127.0.0.1:${this.#port}` };
  }

  /** Requests that have no answer yet, and whose connection is still open. */
  get open(): number {
    return this.#open;
  }

  /** From now on requests are counted, from 0, and `fault` befalls the one at `at`. */
  arm(at: number, fault: Fault): void {
    this.#calls = [];
    this.#befallen = false;
    this.#armed = { at, fault };
  }

  /** From now on requests are counted, and `work` is done before the one at `at` goes on. */
  interrupt(at: number, work: () => Promise<unknown>): void {
    this.#calls = [];
    this.#meanwhile = { at, work };
  }

  /** The requests since `arm` or `record`, and whether the fault befell one. */
  async disarm(): Promise<{ readonly calls: readonly StoreCall[]; readonly befallen: boolean }> {
    this.#armed = undefined;
    this.#meanwhile = undefined;
    if (!this.#server.listening) await this.#listen();
    return { calls: this.#calls.splice(0), befallen: this.#befallen };
  }

  record(): void {
    this.#calls = [];
  }

  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }

  async #listen(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject).listen(this.#port, '127.0.0.1', () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
  }

  async #take(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const at = this.#calls.length;
    const call = { method: req.method ?? '', target: req.url ?? '', headers: req.headers };
    this.#calls.push(call);
    this.#open += 1;
    res.on('close', () => (this.#open -= 1));
    req.on('error', () => undefined);
    if (this.#meanwhile?.at === at) await this.#meanwhile.work();
    const victim = { call, req, res, socket: req.socket, refuse: () => this.#refuse() };
    const fault = this.#armed?.at === at ? this.#armed.fault : undefined;
    if (fault !== undefined && 'before' in fault && this.#did(fault.before(victim))) return;
    const answered = fault !== undefined && 'after' in fault ? fault.after : undefined;
    this.#forward(victim, answered);
  }

  #did(outcome: unknown): boolean {
    this.#befallen = outcome !== false;
    return this.#befallen;
  }

  #forward(victim: Victim, fault: ((victim: Victim, answer: StoreAnswer) => unknown) | undefined): void {
    const { call, req, res } = victim;
    const { hostname, port } = this.#target;
    const options = { hostname, port, method: call.method, path: call.target, headers: req.rawHeaders };
    const onward = request({ ...options, setHost: false, agent: false }, (answer) => {
      if (fault === undefined) {
        res.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
        answer.pipe(res);
        return;
      }
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('end', () => {
        const { statusCode: status = 502, headers } = answer;
        const whole = { status, headers, body: Buffer.concat(chunks) };
        if (!this.#did(fault(victim, whole))) sendAnswer(victim, whole);
      });
    });
    onward.on('error', () => res.destroy());
    // The store ends what it has begun: a gateway that gives up must not take back what was asked for.
    if (fault === undefined) res.on('close', () => onward.destroy());
    req.pipe(onward);
  }

  #refuse(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** An answer as it is; its connection is kept. A body's length is its own, but for the answer to a HEAD. */
export function sendAnswer({ call, res }: Victim, { status, headers, body }: StoreAnswer): void {
  const kept = withoutHeaders(headers, 'connection', 'transfer-encoding', 'content-length');
  const own =
    call.method === 'HEAD'
      ? headers['content-length']
      : status === 204 || status === 304
        ? undefined
        : String(body.length);
  res.writeHead(status, own === undefined ? kept : { ...kept, 'content-length': own });
  res.end(call.method === 'HEAD' ? undefined : body);
}

export function withoutHeaders(headers: StoreAnswer['headers'], ...names: readonly string[]): StoreAnswer['headers'] {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !names.includes(name)));
}
