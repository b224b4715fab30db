import { createHash, createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { SignatureV4 } from '@smithy/signature-v4';
import { Agent, request } from 'undici';
import { loadConfig, readSecret } from '../config.ts';
import { CommandError, text, type Arguments } from './command.ts';

/** What every command takes that calls the admin API of a running gateway. */
export const ADMIN_OPTIONS = {
  config: { type: 'string' },
  identity: { type: 'string' },
  endpoint: { type: 'string' },
} as const;

/** Signs with the first admin identity of the configuration, or the one that is named. */
export async function callAdmin(args: Arguments, method: string, path: string, body: string): Promise<AdminAnswer> {
  const config = loadConfig(text(args, 'config'));
  const name = text(args, 'identity');
  const identity = config.identities.find((one) => one.plane !== 'data' && (name === undefined || one.name === name));
  if (identity === undefined) throw new CommandError('the configuration names no such admin identity');
  const scheme = config.admin.tls === undefined ? 'http' : 'https';
  const url = new URL(path, text(args, 'endpoint') ?? `${scheme}://${config.admin.host}:${config.admin.port}`);
  const secret = readSecret(identity.secret);
  const signer = new SignatureV4({
    service: 'execute-api',
    region: config.data.region,
    credentials: { accessKeyId: identity.accessKeyId, secretAccessKey: secret.toString('utf8').trimEnd() },
    sha256: Sha256,
  });
  secret.fill(0);
  const signed = await signer.sign({
    method,
    protocol: url.protocol,
    hostname: url.hostname,
    port: Number(url.port),
    path,
    query: {},
    headers: { host: url.host, 'content-type': 'application/json' },
    body,
  });
  const tls = config.admin.tls;
  const dispatcher = new Agent(tls === undefined ? {} : { connect: trust(tls.certFile) });
  try {
    const answer = await request(url, {
      method: method as 'GET',
      headers: signed.headers,
      body: body === '' ? null : body,
      dispatcher,
    });
    return { status: answer.statusCode, body: await answer.body.text() };
  } catch (err) {
    const why = (err as { code?: string }).code ?? 'failed';
    throw new Error(`no answer from ${url.origin} (${why}): is the gateway running?`, { cause: err });
  } finally {
    await dispatcher.close();
  }
}

/** The operator's own certificate, as the configuration names it: no public authority has to know it. */
export function trust(certFile: string): { readonly ca: Buffer; readonly allowPartialTrustChain: true } {
  return { ca: readFileSync(certFile), allowPartialTrustChain: true };
}

export interface AdminAnswer {
  readonly status: number;
  readonly body: string;
}

/** The hash that the signer wants, over node:crypto. */
class Sha256 {
  readonly #hash;

  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash = secret === undefined ? createHash('sha256') : createHmac('sha256', secret as string);
  }

  update(data: Uint8Array): void {
    this.#hash.update(data);
  }

  digest(): Promise<Uint8Array> {
    return Promise.resolve(this.#hash.digest());
  }
}
