/** Time and chance as parameters, so that tests hold them. */
export interface Chance {
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
  /** In [0, 1). For jitter only. */
  readonly random: () => number;
}

const FAILURES_TO_OPEN = 5;
const FIRST_COOL_DOWN_MS = 1000;
const LONGEST_COOL_DOWN_MS = 4000;

/**
 * Spares a KMS that is down, and its callers their timeouts. Counts whole operations, retries included: a blip that
 * retries ride out never opens it. While open one trial passes per cool-down; its success closes it.
 */
export class Breaker {
  readonly #chance: Chance;
  #failures = 0;
  #coolDown = FIRST_COOL_DOWN_MS;
  #closedUntilTrial = 0;

  constructor(chance: Chance) {
    this.#chance = chance;
  }

  get open(): boolean {
    return this.#failures >= FAILURES_TO_OPEN;
  }

  /** Whether an operation may be tried. Asking while a trial is due makes the asker the trial. */
  admits(): boolean {
    if (!this.open) return true;
    const now = this.#chance.now();
    if (now < this.#closedUntilTrial) return false;
    this.#closedUntilTrial = now + this.#coolDown;
    return true;
  }

  succeeded(): void {
    this.#failures = 0;
    this.#coolDown = FIRST_COOL_DOWN_MS;
  }

  failed(): void {
    this.#failures++;
    if (!this.open) return;
    const jitter = 0.75 + this.#chance.random() / 2;
    this.#closedUntilTrial = this.#chance.now() + this.#coolDown * jitter;
    this.#coolDown = Math.min(this.#coolDown * 2, LONGEST_COOL_DOWN_MS);
  }
}
