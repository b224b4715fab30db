import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { loadConfig } from '../config.ts';
import { createLog } from '../log.ts';
import { startServer } from '../server.ts';
import { CommandError, say, text, type Command } from './command.ts';
import { initDeployment } from './init.ts';
import { untilSignalled } from './serve.ts';

export const quickstart: Command = {
  usage: [
    ['quickstart [--dir FOLDER] [--port N] [--admin-port N]', 'embedded store and local keys: try it, on loopback'],
  ],
  options: { dir: { type: 'string' }, port: { type: 'string' }, 'admin-port': { type: 'string' } },
  run: async (args) => {
    const folder = text(args, 'dir') ?? 'quickstart';
    const port = (name: string, fallback: number): number => {
      const given = text(args, name) ?? String(fallback);
      if (!/^\d{1,5}$/.test(given)) throw new CommandError(`--${name} needs a port number`);
      return Number(given);
    };
    const prepared = prepareQuickStart(folder, { data: port('port', 9400), admin: port('admin-port', 9401) });
    const config = loadConfig(prepared.configFile);
    if (prepared.fresh) await initDeployment(config);
    const server = await startServer(config, createLog('warn'));
    await server.ready;
    greet(folder, prepared, server.dataUrl, server.adminUrl);
    await untilSignalled(server);
    return 0;
  },
};

/** What to do next, ready to paste; the credentials are in a file that only the owner reads. */
function greet(folder: string, prepared: QuickStart, dataUrl: string, adminUrl: string): void {
  const { user } = prepared;
  const environment = join(folder, 'env.sh');
  const lines = {
    AWS_ACCESS_KEY_ID: user.accessKeyId,
    AWS_SECRET_ACCESS_KEY: user.secretAccessKey,
    AWS_DEFAULT_REGION: 'us-east-1',
    AWS_REGION: 'us-east-1',
    AWS_ENDPOINT_URL: dataUrl,
    S3SSE_CONFIG: resolve(prepared.configFile),
  };
  const script = Object.entries(lines).map(([name, value]) => `export ${name}='${value}'`);
  writeFileSync(environment, `${script.join('\n')}\n`, { mode: 0o600 });
  say(`express-s3-sse is ready: S3 at ${dataUrl}, administration at ${adminUrl}`);
  say(`Everything is kept in ${resolve(folder)}; the embedded store is for trying out, not for production.`);
  say();
  say(`  access key ${user.accessKeyId}   secret key ${user.secretAccessKey}`);
  say();
  say('In another terminal:');
  say(`  . ${environment}`);
  say('  aws s3 mb s3://photos');
  say('  aws s3 cp README.md s3://photos/ && aws s3 ls s3://photos/');
  say("  npx express-s3-sse kms stop --reason 'a drill'   # then: aws s3 cp s3://photos/README.md -");
  say('  npx express-s3-sse kms start');
}

/** A credential pair of the quick start, kept 0600 and shown once per start. */
interface Credential {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

export interface QuickStart {
  readonly configFile: string;
  /** Nothing was there before: the control store is still to be initialised. */
  readonly fresh: boolean;
  readonly user: Credential;
  readonly administrator: Credential;
}

/**
 * Lays the folder of the quick start out: a configuration with embedded defaults, random secrets (0600), nothing
 * else. A second start finds it and changes nothing, so that what was stored stays readable.
 */
export function prepareQuickStart(folder: string, ports: { data: number; admin: number }): QuickStart {
  const configFile = join(folder, 'config.json');
  const fresh = !existsSync(configFile);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  chmodSync(folder, 0o700);
  const secret = (name: string, bytes: number): string => {
    const file = join(folder, name);
    if (!existsSync(file)) writeFileSync(file, randomBytes(bytes).toString('base64url'), { mode: 0o600, flag: 'wx' });
    return readFileSync(file, 'utf8');
  };
  const user = { accessKeyId: 'QUICKSTARTUSER', secretAccessKey: secret('user.secret', 30) };
  const administrator = { accessKeyId: 'QUICKSTARTADMIN', secretAccessKey: secret('admin.secret', 30) };
  if (fresh) {
    const key = join(folder, 'master.key');
    if (!existsSync(key)) writeFileSync(key, randomBytes(32).toString('base64'), { mode: 0o600, flag: 'wx' });
    writeFileSync(configFile, `${JSON.stringify(quickStartConfig(resolve(folder), ports), null, 2)}\n`, {
      mode: 0o600,
      flag: 'wx',
    });
  }
  return { configFile, fresh, user, administrator };
}

/** Paths are relative to the configuration file, but for those of the key service, which are absolute (docs/ADMIN.md). */
function quickStartConfig(folder: string, ports: { data: number; admin: number }): object {
  return {
    data: { port: ports.data },
    admin: { port: ports.admin },
    store: { embedded: { directory: 'store' } },
    control: { directory: 'control', masterKeyFile: 'master.key' },
    kms: {
      config: {
        backend_type: 'local',
        key_dir: join(folder, 'keys'),
        master_key_file: join(folder, 'master.key'),
        default_key_id: 'quickstart',
        sse_s3_key_id: 'sse-s3',
        create_default_key: true,
      },
    },
    identities: [
      {
        name: 'quickstart-user',
        accessKeyId: 'QUICKSTARTUSER',
        secretFile: 'user.secret',
        plane: 'data',
        policies: ['S3FullAccess', 'KMSUser'],
      },
      {
        name: 'quickstart-admin',
        accessKeyId: 'QUICKSTARTADMIN',
        secretFile: 'admin.secret',
        plane: 'admin',
        policies: ['KMSAdministrator'],
      },
    ],
    audit: { file: { path: 'audit/audit' } },
  };
}
