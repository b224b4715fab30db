import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

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
