import { ServiceError } from '../../errors.ts';

/** Bytes that the files of browsers' forms may hold together: of each, up to 8 MiB wait until its length is known. */
export class FormMemory {
  readonly #limit: number;
  readonly #observe: (held: number) => void;
  #held = 0;

  constructor(limit: number, observe: (held: number) => void) {
    this.#limit = limit;
    this.#observe = observe;
  }

  /** @throws ServiceError SlowDown, reason `form-memory`; nothing is taken then */
  take(bytes: number): void {
    if (this.#held + bytes > this.#limit) {
      throw new ServiceError('SlowDown', { reason: 'form-memory', headers: { 'Retry-After': '1' } });
    }
    this.#add(bytes);
  }

  give(bytes: number): void {
    this.#add(-bytes);
  }

  #add(bytes: number): void {
    this.#held += bytes;
    this.#observe(this.#held);
  }
}
