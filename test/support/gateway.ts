import { randomBytes } from 'node:crypto';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { S3Client } from '@aws-sdk/client-s3';
import { createLog } from '../../src/log.ts';
import { parseConfig, type Config } from '../../src/config.ts';
import { initDeployment } from '../../src/commands/init.ts';
import type { ControlStore } from '../../src/control/port.ts';
import { openControl } from '../../src/open.ts';
import { startServer, type RunningServer } from '../../src/server.ts';
import type { StoreDetails } from '../stores/store.ts';
import { issue, makeCa } from './certs.ts';
import { startChildServer, type ChildServer } from './gateway-child.ts';
import { PREFIX, type OpenBao } from './openbao.ts';
import { adminCall, type AdminReply } from './admin-call.ts';
import type { RawStore } from './s3-raw.ts';

/** Access keys of the fixture: a data user with every S3 right and the use of keys, and an administrator. */
export const USER = { accessKeyId: 'TESTUSERACCESSKEY', secretAccessKey: randomBytes(30).toString('base64url') };
export const ADMIN = { accessKeyId: 'TESTADMINACCESSKEY', secretAccessKey: randomBytes(30).toString('base64url') };

export interface GatewayOptions {
  readonly store: Pick<StoreDetails, 'endpoint' | 'accessKeyId' | 'secretAccessKey' | 'region'>;
  /** A real OpenBao with the keys `data` and `s3` under its prefix; without it the local backend. */
  readonly vault?: { readonly bao: OpenBao; readonly roleId: string; readonly secretIdFile: string };
  readonly tls?: boolean;
  /** Names of the certificate beside `localhost` and `127.0.0.1`. */
  readonly tlsNames?: readonly string[];
  /** Merged into the configuration, section by section; what is no section takes its place. */
  readonly config?: Readonly<Record<string, object | string>>;
  /** Merged into the body of configure. */
  readonly kms?: Readonly<Record<string, unknown>>;
  /** A second gateway on a copy of another one's control store and keys: what a control store for replicas would give. */
  readonly replicaOf?: TestGateway;
  /** Serves in a process of its own, from the code that `transpile` made. */
  readonly child?: { readonly folder: string };
}

/** A whole gateway in this process, made as `init` and `serve` make one, over a real store. */
export interface TestGateway {
  /** The data plane, for the raw client. */
  readonly raw: RawStore;
  readonly adminUrl: string;
  readonly folder: string;
  readonly systemBucket: string;
  /** PEM of the certificate authority, with `tls`. */
  readonly ca: string | undefined;
  /** The process, with `child`. */
  readonly child: ChildServer;
  /** An AWS SDK client of the data user; destroyed with the gateway. */
  client(overrides?: object): S3Client;
  admin(method: 'GET' | 'POST', path: string, body?: unknown): Promise<AdminReply>;
  /** Stops the server and starts it again on the same folder. */
  restart(): Promise<void>;
  /** Stops the server, works on its control store, and starts it again. */
  offline<T>(work: (control: ControlStore) => Promise<T>): Promise<T>;
  /** Everything written so far: log lines, audit files, metrics, admin answers to status and config. */
  traces(): Promise<string>;
  auditRecords(): Record<string, unknown>[];
  auditFiles(): string[];
  stop(): Promise<void>;
}

export async function startGateway(options: GatewayOptions): Promise<TestGateway> {
  const gateway = new Gateway(options);
  await gateway.start(options.replicaOf === undefined);
  return gateway;
}

class Gateway implements TestGateway {
  readonly folder = mkdtempSync(join(tmpdir(), 'gateway-'));
  readonly systemBucket: string;
  readonly ca: string | undefined;
  readonly #config: Config;
  readonly #code: string | undefined;
  readonly #clients: S3Client[] = [];
  readonly #lines: string[] = [];
  #server: RunningServer | undefined;
  #child: ChildServer | undefined;

  constructor(options: GatewayOptions) {
    chmodSync(this.folder, 0o700);
    this.systemBucket = options.replicaOf?.systemBucket ?? `sse-system-${randomBytes(6).toString('hex')}`;
    this.#secret('user.secret', USER.secretAccessKey);
    this.#secret('admin.secret', ADMIN.secretAccessKey);
    this.#secret('store.secret', options.store.secretAccessKey);
    this.#secret('master.key', randomBytes(32).toString('base64'));
    mkdirSync(join(this.folder, 'audit'), { mode: 0o700 });
    this.ca = options.tls === true ? this.#certificates(options.tlsNames ?? []) : undefined;
    if (options.replicaOf !== undefined) this.#copy(options.replicaOf.folder);
    const value = this.#value(options);
    this.#config = parseConfig(value, { base: this.folder });
    this.#code = options.child?.folder;
    writeFileSync(join(this.folder, 'config.json'), JSON.stringify(value));
  }

  #secret(name: string, value: string): void {
    writeFileSync(join(this.folder, name), value, { mode: 0o600 });
  }

  #copy(from: string): void {
    const mine = (path: string): boolean => !path.endsWith('lock') && !path.includes('/audit');
    cpSync(from, this.folder, { recursive: true, filter: mine });
    mkdirSync(join(this.folder, 'audit'), { mode: 0o700, recursive: true });
  }

  #certificates(names: readonly string[]): string {
    const ca = makeCa('gateway test CA');
    const leaf = issue(ca, ['localhost', '127.0.0.1', ...names]);
    writeFileSync(join(this.folder, 'cert.pem'), leaf.cert);
    this.#secret('key.pem', leaf.key);
    return ca.cert;
  }

  #value({ store, vault, tls, config = {}, kms = {} }: GatewayOptions): object {
    const backend =
      vault === undefined
        ? {
            backend_type: 'local',
            key_dir: join(this.folder, 'keys'),
            master_key_file: join(this.folder, 'master.key'),
          }
        : {
            backend_type: 'vault',
            address: vault.bao.address,
            ca_file: vault.bao.caFile,
            key_prefix: PREFIX,
            auth_method: { approle: { role_id: vault.roleId, secret_id_file: vault.secretIdFile } },
            timeout_seconds: 4,
          };
    const keys = { default_key_id: 'data', sse_s3_key_id: 's3', create_default_key: vault === undefined };
    const sections: Record<string, unknown> = {
      data: { port: 0, ...(tls === true ? { tls: { certFile: 'cert.pem', keyFile: 'key.pem' } } : {}) },
      admin: { port: 0 },
      store: {
        endpoint: store.endpoint,
        region: store.region,
        accessKeyId: store.accessKeyId,
        secretFile: 'store.secret',
        systemBucket: this.systemBucket,
      },
      control: { directory: 'control', masterKeyFile: 'master.key' },
      kms: { config: { ...backend, ...keys, ...kms } },
      audit: { file: { path: 'audit/audit' } },
    };
    for (const [name, more] of Object.entries(config)) {
      const section = typeof more === 'object' && !Array.isArray(more);
      sections[name] = section ? { ...(sections[name] as object | undefined), ...more } : more;
    }
    const identities = [
      {
        name: 'user',
        accessKeyId: USER.accessKeyId,
        secretFile: 'user.secret',
        plane: 'data',
        policies: ['S3FullAccess', 'KMSUser'],
      },
      {
        name: 'administrator',
        accessKeyId: ADMIN.accessKeyId,
        secretFile: 'admin.secret',
        plane: 'admin',
        policies: ['KMSAdministrator'],
      },
    ];
    return { ...sections, identities: Array.isArray(config.identities) ? config.identities : identities };
  }

  get raw(): RawStore {
    const ca = this.ca === undefined ? {} : { ca: this.ca };
    return { endpoint: this.#running.dataUrl, region: 'us-east-1', ...USER, ...ca };
  }

  get adminUrl(): string {
    return this.#running.adminUrl;
  }

  get child(): ChildServer {
    if (this.#child === undefined) throw new Error('the gateway runs in this process');
    return this.#child;
  }

  get #running(): RunningServer {
    if (this.#server === undefined) throw new Error('the gateway is not running');
    return this.#server;
  }

  async start(fresh: boolean): Promise<void> {
    if (fresh) await initDeployment(this.#config);
    if (this.#code !== undefined) {
      const keep = (text: string): void => void this.#lines.push(text);
      this.#server = this.#child = await startChildServer(this.#code, join(this.folder, 'config.json'), keep);
      return;
    }
    const stream = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        this.#lines.push(chunk.toString('utf8'));
        done();
      },
    });
    this.#server = await startServer(this.#config, createLog('debug', stream));
    await this.#server.ready;
  }

  client(overrides: object = {}): S3Client {
    const ca = this.ca === undefined ? {} : { httpsAgent: new HttpsAgent({ ca: this.ca, keepAlive: true }) };
    const client = new S3Client({
      endpoint: this.raw.endpoint,
      region: 'us-east-1',
      forcePathStyle: true,
      credentials: USER,
      maxAttempts: 1,
      requestHandler: { httpAgent: new HttpAgent({ keepAlive: true }), ...ca },
      ...overrides,
    });
    this.#clients.push(client);
    return client;
  }

  admin(method: 'GET' | 'POST', path: string, body?: unknown): Promise<AdminReply> {
    return adminCall(this.adminUrl, ADMIN, method, path, body);
  }

  async restart(): Promise<void> {
    await this.#running.close(500);
    await this.start(false);
  }

  async offline<T>(work: (control: ControlStore) => Promise<T>): Promise<T> {
    await this.#running.close(500);
    const control = await openControl(this.#config);
    try {
      return await work(control);
    } finally {
      await control.close();
      await this.start(false);
    }
  }

  async traces(): Promise<string> {
    const metrics = await fetch(`${this.adminUrl}/metrics`).then((answer) => answer.text());
    const told = await Promise.all([this.admin('GET', '/kms/status'), this.admin('GET', '/kms/config')]);
    const audit = this.auditFiles().map((file) => readFileSync(file, 'utf8'));
    return [...this.#lines, ...audit, metrics, ...told.map(({ text }) => text)].join('\n');
  }

  auditFiles(): string[] {
    return readdirSync(join(this.folder, 'audit')).map((name) => join(this.folder, 'audit', name));
  }

  auditRecords(): Record<string, unknown>[] {
    const lines = this.auditFiles().flatMap((file) => readFileSync(file, 'utf8').trim().split('\n'));
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  async stop(): Promise<void> {
    for (const client of this.#clients) client.destroy();
    await this.#server?.close(200);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
