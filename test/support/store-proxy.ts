import { createServer, request, type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { RawStore } from './s3-raw.ts';

/** A request as it came to the store. */
export interface StoreCall {
  readonly method: string;
  /** Path and query as they were on the wire. */
  readonly target: string;
  readonly headers: IncomingMessage['headers'];
}

export interface StoreAnswer {
  readonly status: number;
  readonly headers: OutgoingHttpHeaders;
  readonly body: Buffer;
}

/** What the store says instead; the answer itself where it does not lie this time. */
export type Lie = (call: StoreCall, answer: StoreAnswer) => StoreAnswer;

/**
 * A fake: a proxy in front of a real store that records what it is asked, and lies about the answers when it is told
 * to. The signature holds, because Host goes on as it came.
 */
export interface StoreProxy {
  /** The store's details with the proxy's endpoint. */
  readonly store: RawStore;
  readonly calls: StoreCall[];
  /** Bytes of bodies that passed in both directions while `work` ran. */
  bytesOf(work: () => Promise<unknown>): Promise<number>;
  /** Forgets the calls, runs `work`, and gives back what was asked meanwhile. */
  callsOf(work: () => Promise<unknown>): Promise<StoreCall[]>;
  /** Lies while `work` runs. */
  lying<T>(lie: Lie, work: () => Promise<T>): Promise<T>;
  /** Answers in the store's place, which is not asked, while `work` runs; undefined asks it. */
  refusing<T>(refuse: (call: StoreCall) => StoreAnswer | undefined, work: () => Promise<T>): Promise<T>;
  /** Holds the answers to these calls back for so long while `work` runs. */
  delaying<T>(calls: (call: StoreCall) => boolean, ms: number, work: () => Promise<T>): Promise<T>;
  stop(): Promise<void>;
}

export async function startStoreProxy(store: RawStore): Promise<StoreProxy> {
  const { hostname, port } = new URL(store.endpoint);
  const calls: StoreCall[] = [];
  let lie: Lie | undefined;
  let refuse: ((call: StoreCall) => StoreAnswer | undefined) | undefined;
  let delay: { calls: (call: StoreCall) => boolean; ms: number } | undefined;
  let bytes = 0;
  const count = (chunk: Buffer): void => void (bytes += chunk.length);
  const server = createServer((req, res) => {
    const call = { method: req.method ?? '', target: req.url ?? '', headers: req.headers };
    calls.push(call);
    const refusal = refuse?.(call);
    if (refusal !== undefined) {
      req.resume().once('end', () => res.writeHead(refusal.status, refusal.headers).end(refusal.body));
      return;
    }
    const onward = request(
      { hostname, port, method: call.method, path: call.target, headers: req.rawHeaders, setHost: false, agent: false },
      (answer) => {
        const late = delay?.calls(call) === true ? delay.ms : 0;
        const pass = (): void => {
          answer.on('data', count);
          relay(answer, res, call, lie);
        };
        if (late === 0) pass();
        else setTimeout(pass, late);
      },
    );
    req.on('data', count);
    // OpenStack Swift sends a last chunk behind the head that answers a HEAD: an error after the whole answer.
    onward.on('error', () => (call.method === 'HEAD' && res.headersSent) || res.destroy());
    req.on('error', () => onward.destroy());
    res.on('close', () => onward.destroy());
    req.pipe(onward);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    store: { ...store, endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}` },
    calls,
    async delaying(slow, ms, work) {
      delay = { calls: slow, ms };
      try {
        return await work();
      } finally {
        delay = undefined;
      }
    },
    async bytesOf(work) {
      bytes = 0;
      await work();
      return bytes;
    },
    async callsOf(work) {
      calls.length = 0;
      await work();
      return calls.splice(0);
    },
    async lying(told, work) {
      lie = told;
      try {
        return await work();
      } finally {
        lie = undefined;
      }
    },
    async refusing(told, work) {
      refuse = told;
      try {
        return await work();
      } finally {
        refuse = undefined;
      }
    },
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function relay(answer: IncomingMessage, res: ServerResponse, call: StoreCall, lie: Lie | undefined): void {
  if (lie === undefined) {
    res.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
    answer.pipe(res);
    return;
  }
  const chunks: Buffer[] = [];
  answer.on('data', (chunk: Buffer) => chunks.push(chunk));
  answer.on('end', () => {
    const { statusCode: status = 502, headers } = answer;
    const told = lie(call, { status, headers, body: Buffer.concat(chunks) });
    // A lie about the length must not leave the connection waiting for the rest.
    res.writeHead(told.status, { ...told.headers, connection: 'close' });
    res.end(told.body);
  });
}
