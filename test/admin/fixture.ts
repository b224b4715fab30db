import { createSecretKey } from 'node:crypto';
import { Sha256 } from '@aws-crypto/sha256-js';
import { SignatureV4 } from '@smithy/signature-v4';
import express, { type Express } from 'express';
import request, { type Response } from 'supertest';
import { kmsAdmin } from '../../src/admin/index.ts';
import type { BucketAdministration } from '../../src/admin/buckets.ts';
import type { AdminOptions } from '../../src/admin/types.ts';
import type { Audit, AuditEntry, AuditFields } from '../../src/audit.ts';
import { ServiceError } from '../../src/errors.ts';
import type { Identity, Policy } from '../../src/iam/types.ts';
import type { Applied, ServiceControl, StopRequest } from '../../src/kms/ports.ts';
import { createMetrics } from '../../src/metrics.ts';

export const HOST = 'admin.test';
export const NOW = new Date('2026-03-04T05:06:07Z');

/** Secret access keys by access key id. */
export const SECRETS: Readonly<Record<string, string>> = {
  ADMIN: 'admin-secret-access-key-0001',
  OPERATOR: 'operator-secret-access-key-02',
  AUDITOR: 'auditor-secret-access-key-003',
  NOBODY: 'nobody-secret-access-key-0004',
  DATA: 'data-plane-secret-access-key-5',
  BREAKGLASS: 'break-glass-secret-access-key6',
};

export function identity(accessKeyId: string, plane: Identity['plane'], policies: readonly Policy[]): Identity {
  const secret = createSecretKey(Buffer.from(`AWS4${SECRETS[accessKeyId] ?? ''}`));
  return { name: accessKeyId.toLowerCase(), accessKeyId, secret, plane, policies };
}

/** A fake of the key service: it records what it was asked and answers what it was told. */
export class FakeService implements ServiceControl {
  readonly calls: (readonly [string, ...unknown[]])[] = [];
  applied: Applied = { state: 'Running', applied: 'cluster', durable: true, generation: 7 };
  failure: Error | undefined;
  delay: Promise<void> = Promise.resolve();

  async #call<T>(answer: T, ...call: readonly [string, ...unknown[]]): Promise<T> {
    this.calls.push(call);
    await this.delay;
    if (this.failure !== undefined) throw this.failure;
    return answer;
  }

  readonly state = () => this.applied.state;
  readonly frozen = () => false;
  status = () => this.#call({ state: this.applied.state }, 'status');
  config = () => {
    this.calls.push(['config']);
    return { backend_type: 'vault', auth_method: { approle: { secret_id: { set: true } } } };
  };
  configure = (body: unknown, by: string) => this.#call(this.applied, 'configure', body, by);
  reconfigure = (body: unknown, by: string) => this.#call(this.applied, 'reconfigure', body, by);
  start = (by: string) => this.#call(this.applied, 'start', by);
  stop = (stop: StopRequest) => this.#call(this.applied, 'stop', stop);
  clearCache = (by: string) => this.#call({ dropped: 3 }, 'clearCache', by);
  close = () => Promise.resolve();

  /** Of buckets, in the same list of calls. */
  readonly buckets: BucketAdministration = {
    list: () => this.#call([], 'buckets'),
    adopt: (name, adoption) => this.#call({ name, record: RECORD }, 'adopt', name, adoption),
    seal: (name) => this.#call({ name, record: RECORD }, 'seal', name),
    release: (name) => this.#call({ name, record: RECORD }, 'release', name),
  };
}

const RECORD = {
  bucketId: 'AAAAAAAAAAAAAAAAAAAAAA',
  arnName: 'main',
  target: { bucket: 'main', prefix: '' },
  mode: 'encrypted-only',
  createdAt: NOW.toISOString(),
} as const;

export interface Recorded {
  fields: AuditFields;
  intended: boolean;
  finished: readonly [outcome: string, status: number, error?: string] | undefined;
}

/** A fake of the audit log that keeps what it was given, and can refuse intents. */
export class FakeAudit implements Audit {
  readonly entries: Recorded[] = [];
  /** How many service calls had been made when the intent was written. */
  callsAtIntent: number | undefined;
  broken = false;
  readonly #service: FakeService;

  constructor(service: FakeService) {
    this.#service = service;
  }

  begin(fields: AuditFields): AuditEntry {
    const entry: Recorded = { fields, intended: false, finished: undefined };
    this.entries.push(entry);
    return {
      get fields() {
        return entry.fields;
      },
      add: (more) => {
        entry.fields = { ...entry.fields, ...more };
      },
      intend: () => {
        if (this.broken) throw new ServiceError('ServiceUnavailable', { reason: 'audit-sink' });
        entry.intended = true;
        this.callsAtIntent = this.#service.calls.length;
      },
      finish: (outcome, status, error) => {
        entry.finished = error === undefined ? [outcome, status] : [outcome, status, error];
      },
    };
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

export interface Bench {
  readonly service: FakeService;
  readonly audit: FakeAudit;
  readonly options: AdminOptions;
  readonly app: Express;
  readonly last: () => Recorded;
}

export function bench(identities: readonly Identity[], allows: AdminOptions['allows'], mount = '/'): Bench {
  const service = new FakeService();
  const audit = new FakeAudit(service);
  const options: AdminOptions = {
    service,
    buckets: service.buckets,
    audit,
    allows,
    identity: (id) => identities.find(({ accessKeyId }) => accessKeyId === id),
    metrics: createMetrics(),
    clock: () => NOW,
    regions: ['us-east-1'],
  };
  const app = express();
  app.use(mount, kmsAdmin(options));
  const last = () => {
    const entry = audit.entries.at(-1);
    if (entry === undefined) throw new Error('nothing was recorded');
    return entry;
  };
  return { service, audit, options, app, last };
}

export interface Call {
  readonly method?: string;
  readonly path: string;
  readonly body?: string;
  readonly as?: string;
  readonly service?: string;
  readonly region?: string;
  readonly date?: Date;
  readonly headers?: Readonly<Record<string, string>>;
  /** Changes what is sent after it was signed. */
  readonly tamper?: (sent: { path: string; body: string | undefined; headers: Record<string, string> }) => void;
}

/** Signs with the AWS SDK's own signer, and sends. */
export async function send(app: Express, call: Call): Promise<Response> {
  const { method = 'POST', path, body, as = 'ADMIN', service = 'execute-api', region = 'us-east-1' } = call;
  const signer = new SignatureV4({
    service,
    region,
    sha256: Sha256,
    uriEscapePath: service !== 's3',
    credentials: { accessKeyId: as, secretAccessKey: SECRETS[as] ?? 'unknown-secret-access-key' },
  });
  const [pathname = '', search = ''] = path.split('?');
  const signed = await signer.sign(
    {
      method,
      protocol: 'http:',
      hostname: HOST,
      path: pathname,
      query: Object.fromEntries(new URLSearchParams(search)),
      headers: { host: HOST, ...call.headers },
      ...(body === undefined ? {} : { body }),
    },
    { signingDate: call.date ?? NOW },
  );
  const sent = { path, body, headers: { ...signed.headers } };
  call.tamper?.(sent);
  return transmit(app, method, sent.path, sent.headers, sent.body);
}

export function transmit(
  app: Express,
  method: string,
  path: string,
  headers: Readonly<Record<string, string>>,
  body?: string,
): Promise<Response> {
  const verb = method.toLowerCase() as 'get' | 'post' | 'put' | 'patch' | 'delete';
  const pending = request(app)[verb](path).set(headers);
  if (body === undefined) return Promise.resolve(pending);
  // As bytes: superagent would otherwise make JSON of it again.
  return Promise.resolve(
    pending
      .type(headers['content-type'] ?? 'application/json')
      .serialize(String)
      .send(body),
  );
}
