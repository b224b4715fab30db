import type { ClientRequest, IncomingMessage } from 'node:http';
import { release } from '../bytes.ts';
import type { BodyFrames } from '../sigv4/framing.ts';
import { aborted, brokenBody, brokenOff, misuse, unreachable } from './faults.ts';
import type { StoreResponse, StoreUpload } from './port.ts';
import { bodyless, plainHeaders, PushedResponse } from './response.ts';
import type { StoreTimeouts } from './timeouts.ts';

/** Bytes between us and the kernel before a writer has to wait, and where it may go on: memory per stream. */
const HIGH_WATER = 256 * 1024;
const LOW_WATER = 128 * 1024;

/** Above this a body waits for `100 Continue`: a connection that died idle is then noticed before a byte is spent. */
export const EXPECT_ABOVE = 1024 * 1024;

export interface UploadParts {
  readonly length: number;
  /** The framed body, begun with the seed of the request that `open` sends. */
  readonly frames: BodyFrames;
  readonly wireLength: number;
  readonly timeouts: StoreTimeouts;
  readonly signal: AbortSignal | undefined;
  /** A conditional request is never sent twice by itself. */
  readonly replayable: boolean;
  /** Makes the signed request; `fresh` asks for a connection that nobody used before. */
  open(expectContinue: boolean, fresh: boolean): ClientRequest;
}

type Phase = 'opening' | 'sending' | 'ended' | 'answered' | 'failed';

/**
 * A large PUT over `http.request`: only there does a write callback say when a sealed buffer may be freed. The last
 * buffer is held back until `end`, so that nothing short of `end` can make a whole message.
 */
export class HttpUpload implements StoreUpload {
  readonly response: Promise<StoreResponse>;
  readonly #parts: UploadParts;
  #request: ClientRequest | undefined;
  #phase: Phase = 'opening';
  #settle!: { resolve: (response: StoreResponse) => void; reject: (err: Error) => void };
  #failure: Error | undefined;
  #replayed = false;
  /** Payload bytes that the caller gave. */
  #given = 0;
  #last: Buffer | undefined;
  /** Wire buffers that wait for `100 Continue`. */
  #queued: { readonly wire: Buffer; readonly owned: boolean }[] = [];
  #outstanding = 0;
  #endGiven = false;
  #corked = false;
  #waiters: { resolve: () => void; reject: (err: Error) => void }[] = [];
  #timer: NodeJS.Timeout | undefined;
  readonly #onAbort = (): void => this.#fail(aborted(this.#parts.signal?.reason));

  constructor(parts: UploadParts) {
    this.#parts = parts;
    this.response = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    // A caller that destroys the upload need not look at its answer.
    this.response.catch(() => undefined);
    if (parts.signal?.aborted === true) this.#onAbort();
    else parts.signal?.addEventListener('abort', this.#onAbort, { once: true });
    // The head of an empty body is a whole message: it waits for `end`.
    if (parts.length > 0 && this.#phase === 'opening') this.#open();
  }

  get answered(): boolean {
    return this.#phase === 'answered';
  }

  write(bytes: Buffer): boolean {
    if (this.#endGiven) throw misuse('write after end');
    this.#given += bytes.byteLength;
    if (this.#given > this.#parts.length) {
      const err = misuse('more bytes than were announced');
      this.#fail(err);
      throw err;
    }
    if (this.#phase === 'answered' || this.#phase === 'failed') {
      release(bytes);
      return this.#phase === 'answered';
    }
    if (bytes.byteLength === 0) return this.#outstanding < HIGH_WATER;
    if (this.#given === this.#parts.length) this.#last = bytes;
    else this.#frame(bytes);
    return this.#outstanding < HIGH_WATER;
  }

  drained(): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#outstanding < HIGH_WATER || this.#phase === 'answered') return Promise.resolve();
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  end(): void {
    if (this.#endGiven || this.#phase === 'answered' || this.#phase === 'failed') return;
    if (this.#given !== this.#parts.length) {
      const err = misuse('fewer bytes than were announced');
      this.#fail(err);
      throw err;
    }
    // Before the end is given: the frame around an empty body is still to come.
    if (this.#request === undefined) this.#open();
    this.#endGiven = true;
    if (this.#last !== undefined) this.#frame(this.#last);
    this.#last = undefined;
    for (const wire of this.#parts.frames.end()) this.#send(wire, false);
    if (this.#phase === 'sending') this.#finish();
  }

  destroy(): void {
    this.#fail(aborted());
  }

  #open(): void {
    const { timeouts } = this.#parts;
    const expect = this.#parts.wireLength > EXPECT_ABOVE;
    let request: ClientRequest;
    try {
      request = this.#parts.open(expect, this.#replayed);
    } catch (err) {
      this.#fail(err instanceof Error ? err : misuse('open'));
      return;
    }
    this.#request = request;
    request.setTimeout(timeouts.idleMs, () => this.#silence(request));
    request.on('socket', (socket) => {
      if (!socket.connecting) return;
      const timer = setTimeout(() => {
        // After a stall of our own the connection may be there already: its event comes first.
        setImmediate(() => {
          if (socket.connecting) request.destroy(new Error('connect timeout'));
        });
      }, timeouts.connectMs);
      const connected = 'encrypted' in socket ? 'secureConnect' : 'connect';
      socket.once(connected, () => clearTimeout(timer));
      socket.once('close', () => clearTimeout(timer));
      if (expect) socket.once(connected, () => this.#waitForContinue());
    });
    request.on('error', (err) => this.#broken(request, err));
    request.on('close', () => this.#broken(request, new Error('closed without an answer')));
    request.on('response', (message) => this.#answer(request, message));
    if (!expect) this.#begin();
    else {
      request.on('continue', () => this.#begin());
      request.on('socket', (socket) => {
        if (!socket.connecting) this.#waitForContinue();
      });
    }
  }

  #waitForContinue(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#begin(), this.#parts.timeouts.continueMs);
  }

  /** The store takes the body (or says nothing about it, which RFC 9110 lets us take for yes). */
  #begin(): void {
    clearTimeout(this.#timer);
    if (this.#phase !== 'opening') return;
    this.#phase = 'sending';
    const queued = this.#queued;
    this.#queued = [];
    for (const { wire, owned } of queued) this.#transmit(wire, owned);
    if (this.#endGiven) this.#finish();
  }

  #finish(): void {
    this.#phase = 'ended';
    this.#request?.setTimeout(this.#parts.timeouts.slowHeadersMs);
    this.#request?.end();
  }

  #frame(payload: Buffer): void {
    // Only the caller's whole buffer is ours to free: frames also bring shared constants and slices.
    for (const wire of this.#parts.frames.frame(payload)) this.#send(wire, wire === payload);
  }

  #send(wire: Buffer, owned: boolean): void {
    if (this.#phase === 'answered' || this.#phase === 'failed') return;
    this.#outstanding += wire.byteLength;
    if (this.#phase === 'opening') this.#queued.push({ wire, owned });
    else this.#transmit(wire, owned);
  }

  #transmit(wire: Buffer, owned: boolean): void {
    const request = this.#request;
    if (request === undefined) return;
    if (!this.#corked) {
      // One writev for everything that is written in this turn.
      this.#corked = true;
      request.cork();
      process.nextTick(() => {
        this.#corked = false;
        request.uncork();
      });
    }
    const size = wire.byteLength;
    request.write(wire, (err) => {
      // After an error the kernel or the TLS layer may still hold the buffer: the collector takes it.
      if (owned && (err === null || err === undefined)) release(wire);
      this.#outstanding -= size;
      if (this.#outstanding < LOW_WATER) this.#wake();
    });
  }

  #wake(): void {
    const waiters = this.#waiters;
    if (waiters.length === 0) return;
    this.#waiters = [];
    for (const waiter of waiters) {
      if (this.#failure === undefined) waiter.resolve();
      else waiter.reject(this.#failure);
    }
  }

  /** The socket was idle. That is the store's fault only if we wait for it. */
  #silence(request: ClientRequest): void {
    if (this.#phase === 'sending' && this.#outstanding === 0) return;
    request.destroy(new Error('the store is silent'));
  }

  #broken(request: ClientRequest, err: Error): void {
    if (request !== this.#request || this.#phase === 'answered' || this.#phase === 'failed') return;
    if (this.#phase === 'opening' && request.reusedSocket && this.#parts.replayable && !this.#replayed) {
      // The kept-alive connection had died, and no byte of the body was sent: begin again on a new one.
      this.#replayed = true;
      clearTimeout(this.#timer);
      this.#open();
      return;
    }
    this.#fail(this.#phase === 'ended' ? unreachable(err) : brokenOff(err));
  }

  #answer(request: ClientRequest, message: IncomingMessage): void {
    const status = message.statusCode ?? 0;
    const headers = plainHeaders(message.headers);
    const early = this.#phase !== 'ended';
    if (early && status < 300) {
      // It claims to have what it cannot have.
      this.#fail(unreachable(new Error('success before the end of the body')));
      return;
    }
    const response = new PushedResponse(status, headers, {
      pause: () => message.pause(),
      resume: () => message.resume(),
      abort: (reason) => request.destroy(reason),
    });
    message.on('data', (chunk: Buffer) => response.data(chunk));
    message.pause();
    message.on('end', () => {
      // The rest of an unfinished body can never be sent: the connection is of no more use.
      if (early) request.destroy();
      if (message.complete) response.end();
      else response.fail(brokenBody(new Error('short body')));
    });
    message.on('error', (err) => response.fail(brokenBody(err)));
    message.on('close', () => response.fail(brokenBody(new Error('short body'))));
    this.#stop('answered');
    if (bodyless('PUT', status, headers)) message.resume();
    this.#settle.resolve(response);
  }

  #fail(err: Error): void {
    if (this.#phase === 'answered' || this.#phase === 'failed') return;
    this.#failure = err;
    this.#stop('failed');
    this.#settle.reject(err);
    this.#request?.destroy();
  }

  /** No more writing, whatever the reason. */
  #stop(phase: 'answered' | 'failed'): void {
    this.#phase = phase;
    clearTimeout(this.#timer);
    this.#parts.signal?.removeEventListener('abort', this.#onAbort);
    this.#queued = [];
    this.#last = undefined;
    this.#wake();
  }
}
