import { setMaxListeners } from 'node:events';
import { ServiceError } from '../errors.ts';
import type { Active } from './active.ts';
import type { Gate } from './gate.ts';
import type { KeyRecords } from './key-records.ts';
import type { ServiceState, StopRequest } from './ports.ts';
import type { StopNote } from './service-record.ts';

const NOT_RUNNING: Readonly<Record<ServiceState, string>> = {
  NotConfigured: 'kms-not-configured',
  Stopped: 'kms-stopped',
  Starting: 'kms-starting',
  Running: 'kms-epoch',
  Stopping: 'kms-stopped',
  Error: 'kms-error',
};

/**
 * What holds in this process at this moment. Every change is synchronous, so that no request ever sees half of one: a
 * stop is in force when `freeze` returns, whatever becomes of its marker and of the control store.
 */
export class LocalState {
  readonly #gate: Gate;
  readonly #records: KeyRecords;
  #state: ServiceState = 'Starting';
  #fault: string | undefined;
  #active: Active | undefined;
  #stop: StopNote | undefined;
  #intent = 0;
  /** Epochs below it may not commit any more. */
  #firstCommitEpoch = 0;
  #streams = newStreams();
  #allStreams = newStreams();
  #drain: NodeJS.Timeout | undefined;

  constructor(gate: Gate, records: KeyRecords) {
    this.#gate = gate;
    this.#records = records;
  }

  get state(): ServiceState {
    return this.#state;
  }

  /** Why it is Error, or why the last start failed: a class, never a message. */
  get fault(): string | undefined {
    return this.#fault;
  }

  get active(): Active | undefined {
    return this.#active;
  }

  get stop(): StopNote | undefined {
    return this.#stop;
  }

  /** Raised by stop and close: what began before must not take effect. */
  get intent(): number {
    return this.#intent;
  }

  get epoch(): number {
    return this.#gate.epoch;
  }

  get stopping(): AbortSignal {
    return this.#streams.signal;
  }

  get freezing(): AbortSignal {
    return this.#allStreams.signal;
  }

  settle(state: ServiceState, fault?: string): void {
    this.#state = state;
    this.#fault = fault;
  }

  /** Stopped by an earlier decision, found in the control store or the marker. */
  settleStopped(note: StopNote | undefined): void {
    this.#stop = note;
    this.settle('Stopped');
  }

  running(): Active {
    if (this.#state !== 'Running' || this.#active === undefined) throw this.notRunning();
    return this.#active;
  }

  notRunning(): ServiceError {
    return new ServiceError('ServiceUnavailable', {
      reason: NOT_RUNNING[this.#state],
      headers: { 'Retry-After': this.#state === 'Starting' ? '1' : '10' },
    });
  }

  /** A stream that began before a stop may commit while the stop drains, and never after. */
  assertMayCommit(epoch: number): void {
    const open = this.#state === 'Running' || this.#state === 'Stopping';
    if (epoch < this.#firstCommitEpoch || !open) throw this.notRunning();
  }

  /** From one configuration to the next: a new epoch, so that nothing of the old one is used on. */
  putInForce(active: Active): Active | undefined {
    const old = this.#active;
    this.#active = active;
    this.#stop = undefined;
    active.purge();
    clearTimeout(this.#drain);
    if (this.#streams.signal.aborted) this.#streams = newStreams();
    if (this.#allStreams.signal.aborted) this.#allStreams = newStreams();
    this.settle('Running');
    return old;
  }

  /** From here on no key is given out; calls under way are aborted, and what they bring is not used. */
  freeze(request: Pick<StopRequest, 'streams' | 'drainSeconds'>, note: StopNote | undefined): Promise<void> {
    this.#intent++;
    this.#stop = note;
    clearTimeout(this.#drain);
    const draining = request.streams === 'drain' && request.drainSeconds > 0 && this.#state !== 'Stopped';
    this.settle(draining ? 'Stopping' : 'Stopped');
    this.#gate.purge();
    this.#records.forget();
    const active = this.#active;
    this.#active = undefined;
    active?.purge();
    if (draining) {
      this.#drain = setTimeout(() => this.#endStreams(), request.drainSeconds * 1000);
      this.#drain.unref();
    } else this.#endStreams();
    // The backend's connections; no caller's answer depends on them.
    return active?.close() ?? Promise.resolve();
  }

  #endStreams(): void {
    this.settle('Stopped');
    this.#firstCommitEpoch = this.#gate.epoch;
    this.#streams.abort(this.notRunning());
    if (this.#stop?.scope === 'all') this.#allStreams.abort(this.notRunning());
  }
}

function newStreams(): AbortController {
  const controller = new AbortController();
  // Every stream in flight listens to it.
  setMaxListeners(0, controller.signal);
  return controller;
}
