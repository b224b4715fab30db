import { LRUCache } from 'lru-cache';
import { asServiceError } from '../errors.ts';
import type { ControlStore, Json } from './port.ts';

/** A record as it was last read, parsed; `value` is undefined where there is none. */
export interface Reading<T> {
  readonly value: T | undefined;
  readonly version: number;
}

export interface RecordCacheOptions<T> {
  readonly store: ControlStore;
  /** Called with the value of a live record; throws when it is not what we wrote. */
  readonly parse: (value: Json, name: string) => T;
  readonly clock: () => number;
  /** How long a reading is used without asking. */
  readonly freshMs: number;
  /** How long it is used while the control store cannot be read (`control_stale_seconds`). */
  readonly staleMs: () => number;
  readonly max?: number;
}

interface Kept<T> {
  readonly reading: Reading<T>;
  readonly readAt: number;
  /** When the store was last asked, in vain or not. */
  readonly askedAt: number;
}

/** Short-lived readings of control records: what decides about a request is at most `freshMs` old while all is well. */
export class RecordCache<T> {
  readonly #options: RecordCacheOptions<T>;
  readonly #kept: LRUCache<string, Kept<T>>;
  readonly #reads = new Map<string, Promise<Reading<T>>>();
  #generation = 0;

  constructor(options: RecordCacheOptions<T>) {
    this.#options = options;
    this.#kept = new LRUCache({ max: options.max ?? 10_000 });
  }

  async get(name: string): Promise<Reading<T>> {
    const { clock, freshMs } = this.#options;
    const kept = this.#kept.get(name);
    if (kept !== undefined && clock() - kept.askedAt < freshMs) return kept.reading;
    let reading = this.#reads.get(name);
    if (reading === undefined) {
      reading = this.#read(name, kept).finally(() => this.#reads.delete(name));
      this.#reads.set(name, reading);
    }
    return reading;
  }

  /** Reads past the cache, for a change that is to be written. */
  async fresh(name: string): Promise<Reading<T>> {
    const { store, parse, clock } = this.#options;
    const generation = this.#generation;
    const { value, version } = await store.get(name);
    const reading = { value: value === null ? undefined : parse(value, name), version };
    const now = clock();
    if (generation === this.#generation) this.#kept.set(name, { reading, readAt: now, askedAt: now });
    return reading;
  }

  /** Drops one reading, or all; a read that is under way is not kept. */
  forget(name?: string): void {
    this.#generation++;
    if (name === undefined) {
      this.#kept.clear();
      this.#reads.clear();
    } else {
      this.#kept.delete(name);
      this.#reads.delete(name);
    }
  }

  async #read(name: string, kept: Kept<T> | undefined): Promise<Reading<T>> {
    try {
      return await this.fresh(name);
    } catch (err) {
      const { clock, staleMs } = this.#options;
      const { code, reason } = asServiceError(err);
      // A damaged record or a lost lock is not an outage: nothing covers those.
      const outage = code === 'ServiceUnavailable' && reason === 'control-store';
      if (!outage || kept === undefined || clock() - kept.readAt >= staleMs()) throw err;
      this.#kept.set(name, { ...kept, askedAt: clock() });
      return kept.reading;
    }
  }
}
