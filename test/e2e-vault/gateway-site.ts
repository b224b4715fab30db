import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, inject, onTestFinished } from 'vitest';
import { startGateway, type GatewayOptions, type TestGateway } from '../support/gateway.ts';
import type { AppRoleOptions, OpenBao } from '../support/openbao.ts';
import { s3, type RawRequest, type RawResponse } from '../support/s3-raw.ts';

/** A gateway in front of a real OpenBao under a least-privilege role of its own, with a bucket to try it on. */
export interface Site {
  readonly server: TestGateway;
  readonly role: string;
  readonly roleId: string;
  readonly secretIdFile: string;
  readonly bucket: string;
  call(request: RawRequest): Promise<RawResponse>;
  put(key: string, headers?: Readonly<Record<string, string>>, body?: Buffer | string): Promise<RawResponse>;
  get(key: string, headers?: Readonly<Record<string, string>>): Promise<RawResponse>;
  status(): Promise<Record<string, unknown>>;
  health(path: string): Promise<number>;
}

export interface SiteOptions extends Partial<Pick<GatewayOptions, 'config' | 'kms' | 'tls'>> {
  readonly role?: AppRoleOptions;
}

export const BODY = 'eleven byte';
export const KMS = { 'x-amz-server-side-encryption': 'aws:kms' };
export const SSE_S3 = { 'x-amz-server-side-encryption': 'AES256' };
export const OK = { status: 200 };
export const UNAVAILABLE = {
  status: 503,
  headers: { 'retry-after': expect.stringMatching(/^\d+$/) as string },
  text: expect.stringContaining('<Code>ServiceUnavailable</Code>') as string,
};

let sites = 0;

type Vault = NonNullable<GatewayOptions['vault']>;

/** A role and its SecretID in a file. */
export async function credential(bao: OpenBao, role: string, options: AppRoleOptions = {}): Promise<Vault> {
  const { roleId, secretId } = await bao.appRole(role, options);
  const secretIdFile = join(bao.folder, `secret-id-${role}`);
  await writeFile(secretIdFile, secretId, { mode: 0o600 });
  return { bao, roleId, secretIdFile };
}

export async function openSite(bao: OpenBao, { role: roleOptions = {}, ...options }: SiteOptions = {}): Promise<Site> {
  const role = `site-${sites++}`;
  return siteOf(await credential(bao, role, roleOptions), role, options);
}

/** Stopped at the end of the test: no other gateway's calls are in OpenBao's audit file meanwhile. */
export async function siteOf(vault: Vault, role: string, options: Omit<SiteOptions, 'role'> = {}): Promise<Site> {
  // What is tested is the way to the keys: one store is enough.
  const [store] = inject('stores');
  if (store === undefined) throw new Error('the run has no store');
  const server = await startGateway({ store, vault, ...options });
  onTestFinished(() => server.stop());
  const bucket = `vault-${randomBytes(6).toString('hex')}`;
  const call = (request: RawRequest) =>
    s3({ ...server.raw, ...(server.ca === undefined ? {} : { ca: server.ca }) }, { bucket, ...request });
  await call({ method: 'PUT' });
  return {
    server,
    role,
    roleId: vault.roleId,
    secretIdFile: vault.secretIdFile,
    bucket,
    call,
    put: (key, headers = KMS, body = BODY) => call({ method: 'PUT', key, headers, body }),
    get: (key, headers = {}) => call({ method: 'GET', key, headers }),
    status: async () => (await server.admin('GET', '/kms/status')).body,
    health: async (path) => (await fetch(`${server.adminUrl}/health/${path}`)).status,
  };
}

export const DATA_KEY = (key: string): string => `update transit/datakey/plaintext/sse-${key}`;
export const DECRYPT = (key: string): string => `update transit/decrypt/sse-${key}`;
export const LOGIN = 'update auth/approle/login';

export function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
