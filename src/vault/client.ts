import { Pool, type Dispatcher } from 'undici';

/** The transport to Vault or OpenBao: bytes out, bytes in. What an answer means is answers.ts's business. */

export interface VaultEndpoint {
  /** An origin, such as `https://vault.example:8200`. */
  readonly address: string;
  readonly namespace?: string | undefined;
  /** PEM. Replaces the system's CAs. */
  readonly ca?: string | undefined;
  /** PEM: the client's certificate and key. */
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  /** Development only; the configuration refuses it elsewhere. */
  readonly skipTlsVerify?: boolean | undefined;
}

export interface VaultRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'LIST' | 'DELETE';
  /** Below `/v1/`, already percent-encoded. */
  readonly path: string;
  /** JSON. */
  readonly body?: Readonly<Record<string, unknown>> | undefined;
  readonly token?: string | undefined;
  /** False for `sys/health`, which belongs to the root namespace. */
  readonly namespaced?: boolean | undefined;
}

export interface VaultAnswer {
  readonly status: number;
  readonly retryAfterSeconds?: number | undefined;
  /** Solely owned and never pooled: it may hold a key in plaintext, and whoever reads it wipes it. */
  readonly body: Buffer;
}

export type FailureKind = 'aborted' | 'connection' | 'malformed' | 'redirect';

/** No answer, or none that may be used. Its message and cause never hold a token or a body. */
export class VaultFailure extends Error {
  readonly kind: FailureKind;
  constructor(kind: FailureKind, cause?: unknown) {
    super(`vault: ${kind}`, { cause });
    this.name = 'VaultFailure';
    this.kind = kind;
  }
}

const CONNECT_TIMEOUT_MS = 2000;
/** Below the 60 s at which common balancers drop an idle connection without a word. */
const KEEP_ALIVE_MS = 30_000;
const CONNECTIONS = 32;
/** Room for a list of some ten thousand keys; anything larger is not an answer of Vault. */
const MAX_ANSWER_BYTES = 1 << 20;

export class VaultClient {
  readonly origin: string;
  readonly namespace: string | undefined;
  readonly #pool: Pool;

  constructor(endpoint: VaultEndpoint) {
    this.origin = new URL(endpoint.address).origin;
    this.namespace = endpoint.namespace;
    this.#pool = new Pool(this.origin, {
      connections: CONNECTIONS,
      pipelining: 1,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connect: {
        timeout: CONNECT_TIMEOUT_MS,
        rejectUnauthorized: endpoint.skipTlsVerify !== true,
        ...(endpoint.ca === undefined ? {} : { ca: endpoint.ca }),
        ...(endpoint.cert === undefined ? {} : { cert: endpoint.cert }),
        ...(endpoint.key === undefined ? {} : { key: endpoint.key }),
      },
    });
  }

  /** One attempt, plus one hop if the server redirects to this very origin. Throws VaultFailure. */
  async send(request: VaultRequest, signal: AbortSignal): Promise<VaultAnswer> {
    const first = await this.#exchange(request, `/v1/${request.path}`, signal);
    if (first.location === undefined) return first;
    // A standby names the active node. The token must not travel to an origin that nobody configured.
    const target = URL.canParse(first.location, this.origin) ? new URL(first.location, this.origin) : undefined;
    if (target?.origin !== this.origin || !target.pathname.startsWith('/v1/')) throw new VaultFailure('redirect');
    const second = await this.#exchange(request, target.pathname + target.search, signal);
    if (second.location !== undefined) throw new VaultFailure('redirect');
    return second;
  }

  #exchange(request: VaultRequest, path: string, signal: AbortSignal): Promise<Exchanged> {
    if (signal.aborted) return Promise.reject(new VaultFailure('aborted'));
    const options: Dispatcher.DispatchOptions = {
      method: request.method,
      path,
      headers: this.#headers(request),
      body: request.body === undefined ? null : JSON.stringify(request.body),
      // The caller's signal is the timeout.
      headersTimeout: 0,
      bodyTimeout: 0,
    };
    return new Promise((resolve, reject) => {
      this.#pool.dispatch(options, new Exchange(signal, resolve, reject));
    });
  }

  #headers(request: VaultRequest): Record<string, string> {
    // Always: agents and proxies may be told to refuse requests without it (they answer 412).
    const headers: Record<string, string> = { 'x-vault-request': 'true' };
    if (request.body !== undefined) headers['content-type'] = 'application/json';
    if (request.token !== undefined) headers['x-vault-token'] = request.token;
    if (this.namespace !== undefined && request.namespaced !== false) {
      headers['x-vault-namespace'] = this.namespace;
    }
    return headers;
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }
}

interface Exchanged extends VaultAnswer {
  readonly location?: string | undefined;
}

/** Statuses after which the connection must not be used again: a balancer would keep us at the same bad node. */
const DESTROYS = new Set([307, 503]);

/** Collects one answer into one buffer of its own, wiping the socket's chunks behind it. */
class Exchange implements Dispatcher.DispatchHandler {
  readonly #signal: AbortSignal;
  readonly #resolve: (answer: Exchanged) => void;
  readonly #reject: (failure: VaultFailure) => void;
  readonly #onAbort: () => void;
  #controller: Dispatcher.DispatchController | undefined;
  #status = 0;
  #retryAfter: number | undefined;
  #location: string | undefined;
  #declared: number | undefined;
  #body = Buffer.alloc(0);
  #length = 0;
  #settled = false;

  constructor(signal: AbortSignal, resolve: (answer: Exchanged) => void, reject: (failure: VaultFailure) => void) {
    this.#signal = signal;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#onAbort = () => this.#fail(new VaultFailure('aborted'));
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#settled) controller.abort(new VaultFailure('aborted'));
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    if (status < 200) return;
    this.#status = status;
    this.#retryAfter = seconds(headers['retry-after']);
    const declared = headers['content-length'];
    this.#declared = typeof declared === 'string' && /^\d{1,9}$/.test(declared) ? Number(declared) : undefined;
    if (status === 307) this.#location = typeof headers['location'] === 'string' ? headers['location'] : '';
    if ((this.#declared ?? 0) > MAX_ANSWER_BYTES) {
      this.#fail(new VaultFailure('malformed'));
      return;
    }
    this.#body = Buffer.allocUnsafeSlow(this.#declared ?? 4096);
    // Without a length one cannot know the last byte before the parser hands the connection back to the pool.
    if (DESTROYS.has(status) && (this.#declared ?? 0) === 0) this.#finish(true);
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#settled) return;
    const length = this.#length + chunk.length;
    if (length > MAX_ANSWER_BYTES) {
      this.#fail(new VaultFailure('malformed'));
      return;
    }
    if (length > this.#body.length) this.#grow(length);
    chunk.copy(this.#body, this.#length);
    // The socket's own buffer; the parser has read past it and nobody else holds it.
    chunk.fill(0);
    this.#length = length;
    if (DESTROYS.has(this.#status) && length === this.#declared) this.#finish(true);
  }

  onResponseEnd(): void {
    if (this.#status < 200) return;
    this.#finish(false);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    // undici's errors name addresses and sockets, never headers or bodies.
    this.#fail(new VaultFailure('connection', error));
  }

  #grow(needed: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#body.length * 2));
    this.#body.copy(larger, 0, 0, this.#length);
    this.#body.fill(0);
    this.#body = larger;
  }

  #finish(destroy: boolean): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#signal.removeEventListener('abort', this.#onAbort);
    this.#resolve({
      status: this.#status,
      retryAfterSeconds: this.#retryAfter,
      location: this.#location,
      body: this.#body.subarray(0, this.#length),
    });
    if (destroy) this.#controller?.abort(new VaultFailure('aborted'));
  }

  #fail(failure: VaultFailure): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#signal.removeEventListener('abort', this.#onAbort);
    this.#body.fill(0);
    this.#reject(failure);
    this.#controller?.abort(failure);
  }
}

/** Retry-After in seconds (RFC 9110 10.2.3); the date form is not used by Vault and is ignored. */
function seconds(header: string | string[] | undefined): number | undefined {
  return typeof header === 'string' && /^\d{1,5}$/.test(header) ? Number(header) : undefined;
}
