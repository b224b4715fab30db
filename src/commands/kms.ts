import { createHash, createHmac } from 'node:crypto';
import { SignatureV4 } from '@smithy/signature-v4';
import { Agent, request } from 'undici';
import { readFileSync } from 'node:fs';
import { loadConfig, readSecret } from '../config.ts';
import { CommandError, say, text, type Arguments, type Command } from './command.ts';

const ROUTES: Readonly<Record<string, readonly [method: 'GET' | 'POST', path: string]>> = {
  status: ['GET', '/kms/status'],
  config: ['GET', '/kms/config'],
  start: ['POST', '/kms/start'],
  stop: ['POST', '/kms/stop'],
  'clear-cache': ['POST', '/kms/clear-cache'],
  configure: ['POST', '/kms/configure'],
  reconfigure: ['POST', '/kms/reconfigure'],
};

export const kms: Command = {
  usage: [
    ['kms status|config [--config FILE]', 'what the running gateway says of its key service'],
    ['kms stop --reason TEXT [--abort] [--all]', 'freeze: durable, at once; 503 for every managed object'],
    ['kms start', 'prove the KMS, then serve again'],
    ['kms clear-cache', 'drop every cached data key'],
    ['kms configure|reconfigure --file FILE', 'send a configuration (docs/ADMIN.md); a failing one changes nothing'],
  ],
  options: {
    config: { type: 'string' },
    identity: { type: 'string' },
    endpoint: { type: 'string' },
    reason: { type: 'string' },
    file: { type: 'string' },
    abort: { type: 'boolean' },
    all: { type: 'boolean' },
  },
  run: async (args) => {
    const [verb = ''] = args.positionals;
    const route = Object.hasOwn(ROUTES, verb) ? ROUTES[verb] : undefined;
    if (route === undefined) throw new CommandError(`usage: kms ${Object.keys(ROUTES).join('|')}`);
    const { status, body } = await call(args, route[0], route[1], bodyOf(verb, args));
    say(body.trimEnd());
    return status < 300 ? 0 : 1;
  },
};

function bodyOf(verb: string, args: Arguments): string {
  if (verb === 'stop') {
    const reason = text(args, 'reason');
    if (reason === undefined) throw new CommandError('kms stop needs --reason: it goes into the audit log');
    const streams = args.values.abort === true ? 'abort' : 'drain';
    return JSON.stringify({ reason, streams, scope: args.values.all === true ? 'all' : 'managed' });
  }
  if (verb !== 'configure' && verb !== 'reconfigure') return '';
  const file = text(args, 'file');
  if (file === undefined) throw new CommandError(`kms ${verb} needs --file`);
  return readFileSync(file, 'utf8');
}

/** Signs with the first admin identity of the configuration, or the one that is named. */
async function call(args: Arguments, method: string, path: string, body: string): Promise<Answer> {
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
  // The operator's own certificate, as the configuration names it: no public authority has to know it.
  const dispatcher = new Agent(tls === undefined ? {} : { connect: { ca: readFileSync(tls.certFile) } });
  try {
    const answer = await request(url, {
      method: method as 'GET',
      headers: signed.headers,
      body: body === '' ? null : body,
      dispatcher,
    });
    return { status: answer.statusCode, body: await answer.body.text() };
  } finally {
    await dispatcher.close();
  }
}

interface Answer {
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
