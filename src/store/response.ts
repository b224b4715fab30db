import type { Dispatcher } from 'undici';
import { aborted, answerTooLong, brokenBody, misuse } from './faults.ts';
import type { BodySink, StoreHeaders, StoreResponse } from './port.ts';

/** A body up to this is read to its end when it is given up, so that its connection is used again. */
export const DRAIN_LIMIT = 64 * 1024;

/** The flow control of a transport: undici's controller or an IncomingMessage. */
export interface BodySource {
  pause(): void;
  resume(): void;
  /** Destroys the connection. */
  abort(reason: Error): void;
}

/** RFC 9110 section 6.4.1: answers that never have a body. They are over with their head. */
export function bodyless(method: string, status: number, headers: StoreHeaders): boolean {
  return method === 'HEAD' || status === 204 || status === 304 || headers['content-length'] === '0';
}

export function plainHeaders(headers: Readonly<Record<string, string | string[] | undefined>>): StoreHeaders {
  // No prototype: names come from an untrusted store.
  const out = Object.create(null) as Record<string, string>;
  for (const name of Object.keys(headers)) {
    const value = headers[name];
    if (value !== undefined) out[name] = typeof value === 'string' ? value : value.join(', ');
  }
  return out;
}

/**
 * One answer, pushed from its transport into a sink. It stands still between its head and `pump`: nothing is read from
 * the socket that nobody has asked for, so a slow client costs the socket's own buffer and no more.
 */
export class PushedResponse implements StoreResponse {
  readonly status: number;
  readonly headers: StoreHeaders;
  readonly #source: BodySource;
  #sink: BodySink | undefined;
  #claimed = false;
  #ended = false;
  #failure: Error | undefined;
  #settle: { resolve: () => void; reject: (err: Error) => void } | undefined;
  #writing = false;
  #resumedWhileWriting = false;

  constructor(status: number, headers: StoreHeaders, source: BodySource) {
    this.status = status;
    this.headers = headers;
    this.#source = source;
  }

  /** From the transport: body bytes. */
  data(chunk: Buffer): void {
    if (this.#failure !== undefined || this.#sink === undefined) return;
    this.#writing = true;
    this.#resumedWhileWriting = false;
    let more = false;
    try {
      more = this.#sink.write(chunk);
    } catch (err) {
      // The reader's own error (a tag that does not verify) is what the caller must see, not a broken connection.
      this.fail(err instanceof Error ? err : misuse('a sink threw what is not an error'));
      this.#source.abort(aborted(err));
    } finally {
      this.#writing = false;
    }
    if (!more && this.#stillWanted()) this.#source.pause();
  }

  #stillWanted(): boolean {
    return !this.#resumedWhileWriting && this.#failure === undefined;
  }

  /** From the transport: the whole body was received. */
  end(): void {
    this.#ended = true;
    this.#settle?.resolve();
  }

  /** From the transport: the connection broke. */
  fail(err: Error): void {
    if (this.#ended || this.#failure !== undefined) return;
    this.#failure = err;
    this.#settle?.reject(err);
  }

  pump(sink: BodySink): Promise<void> {
    if (this.#claimed) return Promise.reject(misuse('a body is read once'));
    this.#claimed = true;
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#ended) return Promise.resolve();
    this.#sink = sink;
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      this.#source.resume();
    });
  }

  resume(): void {
    if (this.#writing) {
      this.#resumedWhileWriting = true;
      return;
    }
    // Later, never inside somebody else's data callback: undici's parser is not re-entrant.
    queueMicrotask(() => {
      if (this.#failure === undefined && !this.#ended) this.#source.resume();
    });
  }

  async collect(limit: number): Promise<Buffer> {
    if (Number(this.headers['content-length'] ?? 0) > limit && !this.#ended) {
      this.#claimed = true;
      this.#source.abort(answerTooLong());
      throw answerTooLong();
    }
    const chunks: Buffer[] = [];
    let size = 0;
    await this.pump({
      write: (chunk) => {
        size += chunk.byteLength;
        if (size > limit) throw answerTooLong();
        chunks.push(chunk);
        return true;
      },
    });
    return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks, size);
  }

  discard(): void {
    if (this.#claimed || this.#ended || this.#failure !== undefined) return;
    if (Number(this.headers['content-length'] ?? 0) > DRAIN_LIMIT) {
      this.#claimed = true;
      this.#source.abort(aborted());
      return;
    }
    let size = 0;
    const write = (chunk: Buffer): boolean => {
      size += chunk.byteLength;
      if (size > DRAIN_LIMIT) throw answerTooLong();
      return true;
    };
    // Nobody waits for this body: how it ends is nobody's error.
    this.pump({ write }).catch(() => undefined);
  }
}

/** What becomes of a dispatched request: an answer's head, or none. `reused` says that its connection had served before. */
export interface ExchangeOutcome {
  answered(response: StoreResponse): void;
  unanswered(err: Error, reused: boolean): void;
}

/** What is known of one connection while it lives. */
export interface ConnectionUse {
  /** It has carried an exchange to its end: only such a one can have been closed by the store while it was idle. */
  served: boolean;
  /** The exchange that it carries now. */
  carries?: { wake(): void };
}

/** undici's side of an exchange. One request on one connection. */
export class Exchange implements Dispatcher.DispatchHandler {
  readonly #method: string;
  readonly #outcome: ExchangeOutcome;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => this.#controller?.abort(aborted(this.#signal?.reason));
  #controller: Dispatcher.DispatchController | undefined;
  #response: PushedResponse | undefined;
  #awake = false;
  /** Set by the connection that carries this exchange. */
  connection: ConnectionUse | undefined;

  constructor(method: string, signal: AbortSignal | undefined, outcome: ExchangeOutcome) {
    this.#method = method;
    this.#signal = signal;
    this.#outcome = outcome;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.connection !== undefined) this.connection.carries = this;
    if (this.#signal?.aborted === true) this.#onAbort();
    else this.#signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** The store has ended the connection: nothing is held back any longer, so that the answer ends or fails. */
  wake(): void {
    this.#awake = true;
    if (this.#controller?.paused === true) this.#controller.resume();
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    rawHeaders: Readonly<Record<string, string | string[] | undefined>>,
  ): void {
    if (status < 200) return;
    const headers = plainHeaders(rawHeaders);
    const response = new PushedResponse(status, headers, {
      pause: () => {
        if (!this.#awake) controller.pause();
      },
      resume: () => controller.resume(),
      abort: (reason) => controller.abort(reason),
    });
    this.#response = response;
    if (!bodyless(this.#method, status, headers)) controller.pause();
    this.#outcome.answered(response);
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#response?.data(chunk);
  }

  onResponseEnd(): void {
    this.#over();
    if (this.connection !== undefined) this.connection.served = true;
    this.#response?.end();
  }

  onResponseError(_controller: Dispatcher.DispatchController, err: Error): void {
    this.#over();
    if (this.#response !== undefined) this.#response.fail(brokenBody(err));
    else this.#outcome.unanswered(err, this.connection?.served === true);
  }

  #over(): void {
    if (this.connection?.carries === this) delete this.connection.carries;
    this.#signal?.removeEventListener('abort', this.#onAbort);
  }
}
