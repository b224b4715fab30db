import { ServiceError } from '../errors.ts';
import type { KmsMetrics } from './ports.ts';

/**
 * The one way to the KMS: at most `concurrency` calls at a time, at most `queue` that wait, each with a signal of its
 * own. A purge begins a new epoch: calls under way are aborted, and what they bring is not used.
 */
export interface GateOptions {
  readonly concurrency: number;
  readonly queue: number;
  /** The backend's total timeout with some grace: a call that ignores it all the same is given up. */
  readonly timeoutMs: number;
  readonly metrics: KmsMetrics;
}

interface Waiting {
  admit(): void;
  refuse(err: ServiceError): void;
}

export function purged(): ServiceError {
  return new ServiceError('ServiceUnavailable', { reason: 'kms-epoch', headers: { 'Retry-After': '1' } });
}

export class Gate {
  #options: GateOptions;
  #epoch = 0;
  #running = 0;
  #waiting: Waiting[] = [];
  readonly #calls = new Set<AbortController>();

  constructor(options: GateOptions) {
    this.#options = options;
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** Takes effect for calls that begin from now on. */
  setTimeoutMs(timeoutMs: number): void {
    this.#options = { ...this.#options, timeoutMs };
  }

  /** Begins a new epoch: drops everything that waits or is under way. */
  purge(): void {
    this.#epoch++;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const call of waiting) call.refuse(purged());
    for (const call of this.#calls) call.abort(purged());
    this.#options.metrics.queued(0);
  }

  async run<T>(operation: string, call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const epoch = this.#epoch;
    await this.#admission();
    if (epoch !== this.#epoch) {
      this.#leave();
      throw purged();
    }
    const began = performance.now();
    let outcome = 'success';
    try {
      const result = await this.#bounded(call);
      if (epoch !== this.#epoch) throw purged();
      return result;
    } catch (err) {
      outcome = err instanceof ServiceError ? err.code : 'InternalError';
      throw err;
    } finally {
      this.#options.metrics.backendCall(operation, outcome, (performance.now() - began) / 1000);
    }
  }

  /** The caller is let go at the timeout or purge even if the backend is deaf; its turn is free when it returns. */
  async #bounded<T>(call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    this.#calls.add(controller);
    const timer = setTimeout(() => controller.abort(timedOut()), this.#options.timeoutMs);
    timer.unref();
    const ended = new Promise<never>((_resolve, reject) => {
      controller.signal.addEventListener('abort', () => reject(whyEnded(controller.signal)));
    });
    const working = callNow(call, controller.signal).finally(() => this.#leave());
    try {
      return await Promise.race([working, ended]);
    } catch (err) {
      // The backend may answer an abort with an error of its own: say why it was aborted.
      throw controller.signal.aborted ? whyEnded(controller.signal) : err;
    } finally {
      clearTimeout(timer);
      this.#calls.delete(controller);
    }
  }

  #admission(): Promise<void> {
    if (this.#running < this.#options.concurrency) {
      this.#running++;
      return Promise.resolve();
    }
    if (this.#waiting.length >= this.#options.queue) {
      throw new ServiceError('SlowDown', { reason: 'kms-queue', headers: { 'Retry-After': '1' } });
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ admit: resolve, refuse: reject });
      this.#options.metrics.queued(this.#waiting.length);
    });
  }

  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#running--;
    else {
      next.admit();
      this.#options.metrics.queued(this.#waiting.length);
    }
  }
}

function whyEnded(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : purged();
}

/** An error that a backend throws before it returns a promise is one that its promise rejects with. */
async function callNow<T>(call: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
  return call(signal);
}

function timedOut(): ServiceError {
  return new ServiceError('ServiceUnavailable', { reason: 'kms-unavailable', headers: { 'Retry-After': '2' } });
}
