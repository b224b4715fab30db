import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { equalBytes } from '../bytes.ts';
import { ServiceError } from '../errors.ts';
import { unavailable, verdictError } from './answers.ts';
import type { Attempts, Deadline } from './attempts.ts';
import type { VaultClient, VaultRequest } from './client.ts';

/** The ways to a token, one row each. */

export interface Grant {
  readonly token: string;
  /** 0: it does not expire by our clock. */
  readonly leaseSeconds: number;
  readonly renewable: boolean;
  /** Whether our login made it, so that we may revoke it. */
  readonly own: boolean;
}

export interface LoginMethod {
  readonly kind: string;
  /** A token, new or the one given. Throws AccessDenied (kms-denied) when refused, ServiceUnavailable in an outage. */
  login(deadline: Deadline): Promise<Grant>;
  /** Set where somebody else renews the token and writes it to a file: how often to look. */
  readonly pollSeconds?: number;
}

export interface LoginTransport {
  readonly client: VaultClient;
  readonly attempts: Attempts;
  readonly refused: RefusedSecrets;
}

const MOST_REFUSED = 1000;

/**
 * SecretIDs that a server has refused, as digests. It outlives a backend, for a candidate that is built anew at every
 * retry would otherwise send the bad one until the role is locked.
 */
export class RefusedSecrets {
  readonly #digests = new Set<string>();

  has(digest: string): boolean {
    return this.#digests.has(digest);
  }

  add(digest: string): void {
    if (this.#digests.size >= MOST_REFUSED) this.#digests.clear();
    this.#digests.add(digest);
  }
}

/** The shape of `auth_method` in the configuration. */
export type AuthSettings =
  | { readonly approle: AppRoleSettings }
  | { readonly kubernetes: { readonly role: string; readonly jwt_path: string; readonly mount: string } }
  | { readonly token_file: { readonly path: string; readonly poll_interval_secs: number } }
  | { readonly cert: { readonly name?: string | undefined; readonly mount: string } }
  | { readonly token: { readonly token?: string | undefined } };

export interface AppRoleSettings {
  readonly role_id: string;
  readonly secret_id?: string | undefined;
  readonly secret_id_file?: string | undefined;
  readonly secret_id_wrapped?: boolean | undefined;
  readonly mount: string;
}

export function loginMethod(settings: AuthSettings, transport: LoginTransport): LoginMethod {
  if ('approle' in settings) return new AppRoleLogin(settings.approle, transport);
  if ('kubernetes' in settings) {
    const { role, jwt_path, mount } = settings.kubernetes;
    // Kubernetes itself makes that file 0644.
    const body = async () => ({ role, jwt: await readSecret(jwt_path, 0) });
    return { kind: 'kubernetes', login: async (deadline) => logIn(transport, mount, await body(), deadline) };
  }
  if ('cert' in settings) {
    const { name, mount } = settings.cert;
    const body = name === undefined ? {} : { name };
    return { kind: 'cert', login: (deadline) => logIn(transport, mount, body, deadline) };
  }
  if ('token_file' in settings) {
    const { path, poll_interval_secs } = settings.token_file;
    // Its renewal is somebody else's; our clock knows nothing of it.
    const login = async (deadline: Deadline) => ({
      ...(await lookUp(transport, await readSecret(path), deadline)),
      leaseSeconds: 0,
      renewable: false,
    });
    return { kind: 'token_file', login, pollSeconds: poll_interval_secs };
  }
  const { token } = settings.token;
  if (token === undefined) throw new ServiceError('ValidationException', { reason: 'kms-configuration' });
  return { kind: 'token', login: (deadline) => lookUp(transport, token, deadline) };
}

/**
 * AppRole. Five bad SecretIDs lock the role for 15 minutes, for the good one too: one that was refused is never sent
 * again, until the file has another.
 */
class AppRoleLogin implements LoginMethod {
  readonly kind = 'approle';
  readonly #settings: AppRoleSettings;
  readonly #transport: LoginTransport;
  /** What a wrapping token was spent for, and that token's digest. */
  #unwrapped: { readonly of: Buffer; readonly secretId: string } | undefined;

  constructor(settings: AppRoleSettings, transport: LoginTransport) {
    this.#settings = settings;
    this.#transport = transport;
  }

  async login(deadline: Deadline): Promise<Grant> {
    const { role_id, mount, secret_id, secret_id_file } = this.#settings;
    const given = secret_id_file === undefined ? secret_id : await readSecret(secret_id_file);
    if (given === undefined) throw new ServiceError('ValidationException', { reason: 'kms-configuration' });
    const identity = createHash('sha256').update(given).digest();
    const { client, refused } = this.#transport;
    // Of this server and this role: another one may take it.
    const attempt = createHash('sha256')
      .update(JSON.stringify([client.origin, client.namespace ?? '', mount, role_id]))
      .update(identity)
      .digest('base64');
    if (refused.has(attempt)) throw verdictError('bad-credentials');
    try {
      const secretId =
        this.#settings.secret_id_wrapped === true ? await this.#unwrap(given, identity, deadline) : given;
      return await logIn(this.#transport, mount, { role_id, secret_id: secretId }, deadline, () => {
        refused.add(attempt);
      });
    } catch (err) {
      if (err instanceof ServiceError) throw err;
      throw unavailable(err);
    }
  }

  /** A wrapping token works once, and one made for anything but a SecretID of this mount has been tampered with. */
  async #unwrap(wrapping: string, identity: Buffer, deadline: Deadline): Promise<string> {
    if (this.#unwrapped !== undefined && equalBytes(this.#unwrapped.of, identity)) return this.#unwrapped.secretId;
    const origin = await ask(
      this.#transport,
      { method: 'POST', path: 'sys/wrapping/lookup', body: { token: wrapping } },
      deadline,
    );
    const made = field(origin, 'data', 'creation_path');
    const expected = new RegExp(`^auth/${this.#settings.mount}/role/[^/]+/secret-id$`);
    if (typeof made !== 'string' || !expected.test(made)) throw verdictError('bad-credentials');
    const spend: VaultRequest = { method: 'POST', path: 'sys/wrapping/unwrap', token: wrapping };
    const secretId = field(await ask(this.#transport, spend, deadline, false), 'data', 'secret_id');
    if (typeof secretId !== 'string') throw verdictError('bad-credentials');
    this.#unwrapped = { of: identity, secretId };
    return secretId;
  }
}

async function logIn(
  transport: LoginTransport,
  mount: string,
  body: Readonly<Record<string, unknown>>,
  deadline: Deadline,
  onRefused?: () => void,
): Promise<Grant> {
  const request: VaultRequest = { method: 'POST', path: `auth/${encodePath(mount)}/login`, body };
  const answer = await ask(transport, request, deadline, true, onRefused);
  const token = field(answer, 'auth', 'client_token');
  const lease = field(answer, 'auth', 'lease_duration');
  if (typeof token !== 'string' || token === '' || typeof lease !== 'number') throw verdictError('unexpected');
  refuseCountedUses(field(answer, 'auth', 'num_uses'));
  return { token, leaseSeconds: lease, renewable: field(answer, 'auth', 'renewable') === true, own: true };
}

/** What a token that we were given is good for. */
async function lookUp(transport: LoginTransport, token: string, deadline: Deadline): Promise<Grant> {
  const answer = await ask(transport, { method: 'GET', path: 'auth/token/lookup-self', token }, deadline);
  const ttl = field(answer, 'data', 'ttl');
  if (typeof ttl !== 'number') throw verdictError('unexpected');
  refuseCountedUses(field(answer, 'data', 'num_uses'));
  return { token, leaseSeconds: ttl, renewable: field(answer, 'data', 'renewable') === true, own: false };
}

/** A token with counted uses would end in the middle of the work. */
function refuseCountedUses(uses: unknown): void {
  if (uses === undefined || uses === 0) return;
  throw new ServiceError('ValidationException', {
    message: 'The Vault token has a limited number of uses; give its role token_num_uses=0.',
    reason: 'kms-token-num-uses',
  });
}

/** A request of the session's own. The parsed answer may hold a token: it goes no further than this folder. */
export async function ask(
  transport: LoginTransport,
  request: VaultRequest,
  deadline: Deadline,
  repeatable = true,
  onRefused?: () => void,
): Promise<unknown> {
  const { client, attempts } = transport;
  const settled = await attempts.run((signal) => client.send(request, signal), deadline, { repeatable });
  const { verdict, answer } = settled;
  if (verdict !== 'ok' || answer === undefined) {
    if (verdict === 'bad-credentials') onRefused?.();
    // A refusal to log in or to unwrap comes as 400 too, in words that depend on the method.
    const refused = answer !== undefined && answer.status === 400;
    throw verdictError(verdict === 'ok' || refused ? 'bad-credentials' : verdict, settled.cause);
  }
  try {
    return answer.body.length === 0 ? {} : (JSON.parse(answer.body.toString('utf8')) as unknown);
  } catch {
    throw unavailable();
  } finally {
    answer.body.fill(0);
  }
}

export function field(json: unknown, ...path: readonly string[]): unknown {
  let at = json;
  for (const name of path) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, name)) return undefined;
    at = (at as Record<string, unknown>)[name];
  }
  return at;
}

export function encodePath(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/');
}

const MAX_SECRET_BYTES = 64 * 1024;

/** Others on the machine. A group may read: agents write their sinks 0640, orchestrators mount secrets by group. */
const OTHERS = 0o007;

/** One line of a file. Its absence is the operator's error, not an outage. Never printed, not even in part. */
async function readSecret(path: string, openTo = OTHERS): Promise<string> {
  let file;
  try {
    file = await open(path, 'r');
    if (((await file.stat()).mode & openTo) !== 0) throw openToOthers();
    const { bytesRead, buffer } = await file.read(Buffer.alloc(MAX_SECRET_BYTES), 0, MAX_SECRET_BYTES, 0);
    const secret = buffer.toString('utf8', 0, bytesRead).trim();
    buffer.fill(0);
    if (/^[\x21-\x7e]+$/.test(secret)) return secret;
  } catch (err) {
    throw err instanceof ServiceError ? err : verdictError('bad-credentials', err);
  } finally {
    await file?.close();
  }
  throw verdictError('bad-credentials');
}

function openToOthers(): ServiceError {
  const message = 'secret_id_file or token_file is open to others on this machine; set its mode to 0600.';
  return new ServiceError('ValidationException', { message, reason: 'kms-secret-file' });
}
