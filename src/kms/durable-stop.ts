import type { ControlStore } from '../control/port.ts';
import { asServiceError } from '../errors.ts';
import type { KmsLog } from './ports.ts';
import { asStopped, readService, writeService, type ReadService, type StopNote } from './service-record.ts';

/** Brings a stop that already holds here into the control store, now or as soon as that answers again. */
export interface DurableStopOptions {
  readonly store: ControlStore;
  /** How long the answer to `/kms/stop` may wait for the control store. */
  readonly limitMs: number;
  readonly retryMs: number;
  readonly log: KmsLog;
  /** Called once the control store has it. */
  readonly written: (read: ReadService) => void;
}

const LONGEST_WAIT_MS = 30_000;
const ATTEMPTS = 5;

export class DurableStop {
  readonly #options: DurableStopOptions;
  #pending: StopNote | undefined;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<boolean> | undefined;
  #failures = 0;

  constructor(options: DurableStopOptions) {
    this.#options = options;
  }

  get pending(): boolean {
    return this.#pending !== undefined;
  }

  /** True when the stop is durable by the time the limit has passed; otherwise it goes on in the background. */
  async begin(note: StopNote): Promise<boolean> {
    this.#pending = note;
    this.#failures = 0;
    clearTimeout(this.#timer);
    let limit: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((resolve) => {
      limit = setTimeout(() => resolve(false), this.#options.limitMs);
    });
    try {
      return await Promise.race([this.#settle(), late]);
    } finally {
      clearTimeout(limit);
    }
  }

  /** Holds the background attempts, so that `start` can write; `resume` when that failed, `cancel` when it worked. */
  async suspend(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#writing;
  }

  resume(): void {
    if (this.#pending !== undefined) this.#later();
  }

  cancel(): void {
    this.#pending = undefined;
    clearTimeout(this.#timer);
  }

  /** One attempt at a time; a note that came meanwhile is written by the next. */
  async #settle(): Promise<boolean> {
    while (this.#writing !== undefined) await this.#writing;
    this.#writing = this.#write().finally(() => (this.#writing = undefined));
    return this.#writing;
  }

  async #write(): Promise<boolean> {
    const note = this.#pending;
    if (note === undefined) return true;
    try {
      this.#options.written(await this.#writeOnTop(note));
      if (this.#pending === note) this.#pending = undefined;
      return true;
    } catch (err) {
      this.#options.log('kms-stop-not-durable', { reason: asServiceError(err).reason });
      this.#later();
      return false;
    }
  }

  /** Another writer being first does not undo a stop: it is written on top of what that one wrote. */
  async #writeOnTop(note: StopNote): Promise<ReadService> {
    const { store } = this.#options;
    for (let attempt = 1; ; attempt++) {
      const { record, version } = await readService(store);
      const { generation } = record;
      try {
        return await writeService(store, { ...asStopped(record, note), generation: generation + 1 }, version);
      } catch (err) {
        if (asServiceError(err).code !== 'Conflict' || attempt >= ATTEMPTS) throw err;
      }
    }
  }

  #later(): void {
    clearTimeout(this.#timer);
    const backoff = Math.min(LONGEST_WAIT_MS, this.#options.retryMs * 2 ** Math.min(this.#failures++, 10));
    this.#timer = setTimeout(() => void this.#settle(), backoff);
    this.#timer.unref();
  }
}
