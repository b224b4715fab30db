import { setTimeout as sleep } from 'node:timers/promises';
import { ACTIONS, classify, errorMessages, OUTAGES, type Verdict } from './answers.ts';
import type { Breaker, Chance } from './breaker.ts';
import { VaultFailure, type VaultAnswer } from './client.ts';

/** The total time that one operation has, login and retries included. */
export class Deadline {
  readonly signal: AbortSignal;
  readonly #until: number;
  readonly #caller: AbortSignal | undefined;

  constructor(totalMs: number, caller?: AbortSignal) {
    this.#until = performance.now() + totalMs;
    this.#caller = caller;
    const timer = AbortSignal.timeout(totalMs);
    this.signal = caller === undefined ? timer : AbortSignal.any([timer, caller]);
  }

  remainingMs(): number {
    return Math.max(0, this.#until - performance.now());
  }

  /** A caller who has gone hears his own reason, never an outage. */
  throwIfCallerLeft(): void {
    this.#caller?.throwIfAborted();
  }
}

export interface Settled {
  readonly verdict: Verdict;
  readonly answer?: VaultAnswer;
  readonly cause?: unknown;
}

export interface AttemptOptions {
  /** False where a lost answer may have done its work (rotate): then only plain refusals are tried again. */
  readonly repeatable?: boolean;
}

const ONCE_MORE_MS = 200;
const FIRST_PAUSE_MS = 100;
/** Quotas are counted by the second: three such pauses outlast one. */
const FIRST_THROTTLED_PAUSE_MS = 300;
const LONGEST_PAUSE_MS = 2000;
/** A first attempt may not spend the whole time of the operation on a connection that is dead. */
const SHORTEST_ATTEMPT_MS = 1000;

/** Verdicts that say that the server has done nothing. */
const NOT_DONE: ReadonlySet<Verdict> = new Set<Verdict>(['throttled', 'sealed', 'lagging']);

/** Sends one request, again where its answer says so, and tells the breaker how it went. */
export class Attempts {
  readonly #retries: number;
  readonly #breaker: Breaker;
  readonly #chance: Chance;

  constructor(retries: number, breaker: Breaker, chance: Chance) {
    this.#retries = retries;
    this.#breaker = breaker;
    this.#chance = chance;
  }

  async run(
    send: (signal: AbortSignal) => Promise<VaultAnswer>,
    deadline: Deadline,
    options: AttemptOptions = {},
  ): Promise<Settled> {
    deadline.throwIfCallerLeft();
    if (!this.#breaker.admits()) return { verdict: 'outage' };
    const settled = await this.#settle(send, deadline, options.repeatable ?? true);
    deadline.throwIfCallerLeft();
    if (OUTAGES.has(settled.verdict)) this.#breaker.failed();
    else if (settled.verdict !== 'throttled') this.#breaker.succeeded();
    return settled;
  }

  async #settle(
    send: (signal: AbortSignal) => Promise<VaultAnswer>,
    deadline: Deadline,
    repeatable: boolean,
  ): Promise<Settled> {
    let askedAgain = false;
    for (let retry = 0; ;) {
      const settled = await attempt(send, deadline, retry >= this.#retries);
      switch (ACTIONS[settled.verdict]) {
        case 'once-more':
          if (askedAgain || !(await pause(ONCE_MORE_MS, deadline))) return settled;
          askedAgain = true;
          break;
        case 'retry': {
          const again = retry < this.#retries && (repeatable || NOT_DONE.has(settled.verdict));
          if (!again || !(await pause(this.#pauseMs(retry, settled), deadline))) return settled;
          retry++;
          break;
        }
        default:
          return settled;
      }
    }
  }

  #pauseMs(retry: number, settled: Settled): number {
    const first = settled.verdict === 'throttled' ? FIRST_THROTTLED_PAUSE_MS : FIRST_PAUSE_MS;
    const longest = Math.min(first * 2 ** retry, LONGEST_PAUSE_MS);
    const own = longest * (0.5 + this.#chance.random() / 2);
    return Math.max(own, (settled.answer?.retryAfterSeconds ?? 0) * 1000);
  }
}

async function attempt(
  send: (signal: AbortSignal) => Promise<VaultAnswer>,
  deadline: Deadline,
  last: boolean,
): Promise<Settled> {
  const remaining = deadline.remainingMs();
  const share = last ? remaining : Math.max(remaining / 2, Math.min(remaining, SHORTEST_ATTEMPT_MS));
  try {
    const signal = AbortSignal.any([deadline.signal, AbortSignal.timeout(Math.ceil(share))]);
    const answer = await send(signal);
    const verdict = classify(answer.status, answer.status < 300 ? [] : errorMessages(answer.body));
    return { verdict, answer };
  } catch (err) {
    if (!(err instanceof VaultFailure)) throw err;
    return { verdict: 'outage', cause: err };
  }
}

/** Waits, or says false at once when the operation has not that much time. */
async function pause(ms: number, deadline: Deadline): Promise<boolean> {
  if (ms >= deadline.remainingMs()) return false;
  return sleep(ms, true, { signal: deadline.signal }).catch(() => false);
}
