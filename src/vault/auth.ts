import { asServiceError } from '../errors.ts';
import { verdictError } from './answers.ts';
import { Deadline } from './attempts.ts';
import type { Chance } from './breaker.ts';
import { ask, field, type Grant, type LoginMethod, type LoginTransport } from './login.ts';

/**
 * The token in use and its care: renewal, login again, and the answer to 403, where a policy's denial and a dead token
 * look alike. A failed login never discards a token that still lives.
 */
export interface SessionOptions {
  readonly transport: LoginTransport;
  readonly method: LoginMethod;
  readonly chance: Chance;
  readonly timeoutMs: number;
}

interface Held extends Grant {
  /** Milliseconds of the clock; Infinity where it does not expire. */
  readonly expiresAt: number;
  /** The lease that the login granted; a renewal that grants much less says that the maximum is near. */
  readonly firstLease: number;
}

const LOGIN_GAP_MS = 10_000;
const LONGEST_REFUSAL_GAP_MS = 60_000;
/** A renewal that grants less than this share of the first lease was capped: the token's maximum is near. */
const CAPPED_BELOW = 0.9;
const RETRY_RENEWAL_MS = 30_000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export class Session {
  readonly #options: SessionOptions;
  #held: Held | undefined;
  #loggingIn: Promise<Held> | undefined;
  #deciding: Promise<'replay' | 'denied'> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #poll: NodeJS.Timeout | undefined;
  /** The token in hand, once the server has said that it knows it no more: it is not sent again. */
  #dead: string | undefined;
  /** No login before this time: the last one was refused. */
  #refusedUntil = -Infinity;
  #refusalGap = LOGIN_GAP_MS;
  /** No login for a dead token before this time: one was replaced just now. */
  #replacedUntil = -Infinity;
  #closed = false;

  constructor(options: SessionOptions) {
    this.#options = options;
    const { pollSeconds } = options.method;
    if (pollSeconds === undefined) return;
    this.#poll = setInterval(() => void this.#refreshQuietly(), pollSeconds * 1000);
    this.#poll.unref();
  }

  /** The token to send; logs in where there is none that lives. */
  async token(deadline: Deadline): Promise<string> {
    const held = this.#held;
    if (held === undefined || held.expiresAt <= this.#options.chance.now()) {
      return (await abortable(this.#logIn(), deadline)).token;
    }
    if (held.token !== this.#dead) return held.token;
    return (await abortable(this.#replace(), deadline)).token;
  }

  /**
   * What a 403 means for a call that was sent with `used`. If the token has changed since, replay; else one shared
   * lookup-self decides: 200 is the policy's denial, 403 a dead token, which is replaced if it may be.
   */
  async forbidden(used: string, deadline: Deadline): Promise<'replay' | 'denied'> {
    if (this.#held?.token !== used) return 'replay';
    // Shared from the question to the new token: a 403 that comes in between asks nothing of its own.
    this.#deciding ??= this.#decide(used).finally(() => (this.#deciding = undefined));
    return abortable(this.#deciding, deadline);
  }

  async #decide(used: string): Promise<'replay' | 'denied'> {
    if (await this.#isAlive(used)) return 'denied';
    // Renewal may have brought another one meanwhile.
    if (this.#held?.token !== used) return 'replay';
    this.#dead = used;
    const fresh = await this.#replace();
    return fresh.token === used ? 'denied' : 'replay';
  }

  /** A token that dies young, again and again, is somebody's decision: no storm of logins answers it. */
  #replace(): Promise<Held> {
    if (this.#options.chance.now() < this.#replacedUntil) return Promise.reject(verdictError('forbidden'));
    return this.#logIn();
  }

  async #isAlive(token: string): Promise<boolean> {
    try {
      await ask(this.#options.transport, selfCall('GET', 'lookup-self', token), this.#deadline());
      return true;
    } catch (err) {
      if (asServiceError(err).code === 'AccessDenied') return false;
      throw err;
    }
  }

  /** Single flight, and ever more rarely while it is refused. */
  #logIn(): Promise<Held> {
    if (this.#loggingIn !== undefined) return this.#loggingIn;
    const { chance, method } = this.#options;
    if (this.#closed || chance.now() < this.#refusedUntil) return Promise.reject(verdictError('forbidden'));
    const login = async () => {
      try {
        const grant = await method.login(this.#deadline());
        this.#refusalGap = LOGIN_GAP_MS;
        if (this.#dead !== undefined) this.#replacedUntil = chance.now() + this.#jittered(LOGIN_GAP_MS);
        this.#dead = undefined;
        return this.#hold(grant, grant.leaseSeconds);
      } catch (err) {
        // An outage is paced by retries and the breaker; only a refusal must not be repeated soon.
        if (asServiceError(err).code !== 'ServiceUnavailable') {
          this.#refusedUntil = chance.now() + this.#jittered(this.#refusalGap);
          this.#refusalGap = Math.min(this.#refusalGap * 2, LONGEST_REFUSAL_GAP_MS);
        }
        throw err;
      }
    };
    this.#loggingIn = login().finally(() => (this.#loggingIn = undefined));
    return this.#loggingIn;
  }

  #jittered(ms: number): number {
    return ms * (1 + this.#options.chance.random() / 4);
  }

  #hold(grant: Grant, firstLease: number): Held {
    const { now } = this.#options.chance;
    const expiresAt = grant.leaseSeconds > 0 ? now() + grant.leaseSeconds * 1000 : Infinity;
    const held = { ...grant, expiresAt, firstLease };
    this.#held = held;
    if (grant.leaseSeconds > 0) this.#schedule(grant.leaseSeconds * 1000 * this.#twoThirds());
    return held;
  }

  #twoThirds(): number {
    return (2 / 3) * (0.9 + this.#options.chance.random() / 5);
  }

  #schedule(ms: number): void {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    this.#timer = setTimeout(() => void this.#care(), Math.min(ms, LONGEST_TIMER_MS));
    this.#timer.unref();
  }

  /** Renews, or logs in again where renewal no longer helps; on failure tries again while the token lives. */
  async #care(): Promise<void> {
    const held = this.#held;
    if (held === undefined || this.#closed) return;
    try {
      if (held.renewable && held.leaseSeconds >= held.firstLease * CAPPED_BELOW) await this.#renew(held);
      else await this.#logIn();
    } catch {
      const left = held.expiresAt - this.#options.chance.now();
      if (this.#held === held && left > 0) this.#schedule(Math.min(Math.max(left / 3, 1000), RETRY_RENEWAL_MS));
    }
  }

  async #renew(held: Held): Promise<void> {
    let answer: unknown;
    try {
      answer = await ask(this.#options.transport, selfCall('POST', 'renew-self', held.token), this.#deadline());
    } catch (err) {
      if (asServiceError(err).code !== 'AccessDenied') throw err;
      await this.#logIn();
      return;
    }
    const lease = field(answer, 'auth', 'lease_duration');
    if (typeof lease !== 'number') throw verdictError('unexpected');
    if (this.#held !== held) return;
    if (lease <= 0) {
      await this.#logIn();
      return;
    }
    const renewable = field(answer, 'auth', 'renewable') === true;
    this.#hold({ ...held, leaseSeconds: lease, renewable }, held.firstLease);
  }

  /** A token file may have another token; the one in hand stays while the new one is not proven. */
  async #refreshQuietly(): Promise<void> {
    if (this.#held === undefined || this.#closed) return;
    try {
      const grant = await this.#options.method.login(this.#deadline());
      if (grant.token !== this.#held.token || this.#dead !== undefined) {
        this.#dead = undefined;
        this.#hold(grant, grant.leaseSeconds);
      }
    } catch {
      // The token in hand goes on; a dead one shows at its next use.
    }
  }

  #deadline(): Deadline {
    return new Deadline(this.#options.timeoutMs);
  }

  /** Stops timers and revokes what our own login made; nothing else. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearInterval(this.#poll);
    const held = this.#held;
    this.#held = undefined;
    if (held?.own !== true) return;
    const deadline = new Deadline(1000);
    await ask(this.#options.transport, selfCall('POST', 'revoke-self', held.token), deadline, false).catch(
      () => undefined,
    );
  }
}

function selfCall(method: 'GET' | 'POST', name: string, token: string) {
  return { method, path: `auth/token/${name}`, token } as const;
}

/** Shared work goes on when one of its callers leaves. */
async function abortable<T>(shared: Promise<T>, deadline: Deadline): Promise<T> {
  const { signal } = deadline;
  let leave: (() => void) | undefined;
  const left = new Promise<never>((_, reject) => {
    leave = () => reject(verdictError('outage'));
    if (signal.aborted) leave();
    signal.addEventListener('abort', leave, { once: true });
  });
  try {
    return await Promise.race([shared, left]);
  } catch (err) {
    deadline.throwIfCallerLeft();
    throw err;
  } finally {
    if (leave !== undefined) signal.removeEventListener('abort', leave);
  }
}
