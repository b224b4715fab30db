import type { KeyObject } from 'node:crypto';
import { ServiceError } from '../errors.ts';
import { verdictError } from './answers.ts';
import { Deadline, type Attempts, type Settled } from './attempts.ts';
import type { Session } from './auth.ts';
import type { Chance } from './breaker.ts';
import type { VaultAnswer, VaultClient, VaultRequest } from './client.ts';
import { takeSecretField } from './secret-field.ts';

/** One authenticated call, from token to parsed answer, inside one total timeout. */

export type CallRequest = Pick<VaultRequest, 'method' | 'path' | 'body'>;

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** A field of `data` that holds a 32-byte key: it is taken from the bytes and is blank in `data`. */
  readonly secretField?: string;
  readonly repeatable?: boolean;
}

export interface Answered {
  readonly data: Readonly<Record<string, unknown>>;
  readonly key?: KeyObject | undefined;
}

export interface CallsOptions {
  readonly client: VaultClient;
  readonly attempts: Attempts;
  readonly session: Session;
  readonly chance: Chance;
  readonly timeoutMs: number;
}

/** Calls under way and waiting for a connection; more than these are told to slow down. */
const MOST_PENDING = 1024;
const DENIAL_HELD_MS = 10_000;
const MOST_DENIALS = 1000;

export class VaultCalls {
  readonly #options: CallsOptions;
  /** Paths that the policy denied, so that a storm of requests is not a storm of lookup-self. */
  readonly #denials = new Map<string, number>();
  #pending = 0;

  constructor(options: CallsOptions) {
    this.#options = options;
  }

  async call(request: CallRequest, options: CallOptions = {}): Promise<Answered> {
    if (this.#isDenied(request.path)) throw verdictError('forbidden');
    if (this.#pending >= MOST_PENDING) throw verdictError('throttled');
    this.#pending++;
    try {
      const deadline = new Deadline(this.#options.timeoutMs, options.signal);
      const settled = await this.#authenticated(request, deadline, options);
      if (settled.verdict !== 'ok') throw verdictError(settled.verdict, settled.cause);
      if (settled.answer === undefined) throw verdictError('unexpected');
      return read(settled.answer, options.secretField);
    } finally {
      this.#pending--;
    }
  }

  /** The 403 rule: at most one replay, and only under another token. */
  async #authenticated(request: CallRequest, deadline: Deadline, options: CallOptions): Promise<Settled> {
    const { session } = this.#options;
    const token = await session.token(deadline);
    const first = await this.#run(request, token, deadline, options);
    if (first.verdict !== 'forbidden') return first;
    if ((await session.forbidden(token, deadline)) === 'replay') {
      const fresh = await session.token(deadline);
      const second = await this.#run(request, fresh, deadline, options);
      if (second.verdict !== 'forbidden') return second;
      // Whether this one died too or is denied: one replay is all, and the next call asks again.
      return second;
    }
    this.#deny(request.path);
    return first;
  }

  #run(request: CallRequest, token: string, deadline: Deadline, options: CallOptions): Promise<Settled> {
    const { client, attempts } = this.#options;
    const send = (signal: AbortSignal) => client.send({ ...request, token }, signal);
    return attempts.run(send, deadline, { repeatable: options.repeatable ?? true });
  }

  #isDenied(path: string): boolean {
    const until = this.#denials.get(path);
    if (until === undefined) return false;
    if (this.#options.chance.now() < until) return true;
    this.#denials.delete(path);
    return false;
  }

  #deny(path: string): void {
    if (this.#denials.size >= MOST_DENIALS) this.#denials.clear();
    this.#denials.set(path, this.#options.chance.now() + DENIAL_HELD_MS);
  }

  /** `sys/health` of the cluster: answered by standbys too, without a token and outside every namespace. */
  async health(signal?: AbortSignal): Promise<void> {
    const { client, attempts } = this.#options;
    const request: VaultRequest = {
      method: 'GET',
      path: 'sys/health?standbyok=true&perfstandbyok=true',
      namespaced: false,
    };
    const deadline = new Deadline(this.#options.timeoutMs, signal);
    const { verdict, cause } = await attempts.run((abort) => client.send(request, abort), deadline);
    if (verdict !== 'ok') throw verdictError(verdict === 'unexpected' ? 'outage' : verdict, cause);
  }
}

/** Wipes the answer whatever happens. A warning means that something was ignored: a failure. */
function read(answer: VaultAnswer, secretField: string | undefined): Answered {
  const { body } = answer;
  try {
    const key = secretField === undefined ? undefined : takeSecretField(body, secretField);
    if (secretField !== undefined && key === undefined) throw verdictError('unexpected');
    const parsed: unknown = body.length === 0 ? {} : JSON.parse(body.toString('utf8'));
    if (!isObject(parsed)) throw verdictError('unexpected');
    if (Array.isArray(parsed['warnings']) && parsed['warnings'].length > 0) {
      throw new ServiceError('InternalError', { reason: 'kms-warning' });
    }
    return { data: isObject(parsed['data']) ? parsed['data'] : {}, key };
  } catch (err) {
    // A SyntaxError quotes the text that it stumbled over: it is dropped.
    throw err instanceof ServiceError ? err : verdictError('outage');
  } finally {
    body.fill(0);
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
