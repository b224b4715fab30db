import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { initDeployment } from '../src/commands/init.ts';
import { loadConfig } from '../src/config.ts';
import type { StoreTraits } from '../src/store/port.ts';
import { TRAITS } from '../src/store/traits.ts';

export interface Login {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

export interface StoreAddress extends Login {
  readonly endpoint: string;
  readonly region: string;
}

/** What the sink is taken for: a store that does all that AWS does. */
export const ALL_TRAITS = Object.fromEntries(TRAITS.map(({ name }) => [name, true])) as unknown as StoreTraits;

export const USER: Login = { accessKeyId: 'BENCHUSER', secretAccessKey: randomBytes(30).toString('base64url') };

/** A deployment as an operator makes one: local keys, SSE-KMS with bucket keys, an audit file. Returns its config file. */
export async function makeDeployment(
  folder: string,
  store: StoreAddress,
  ports: readonly [number, number],
  /** Pins the store's traits instead of probing them: the sink has no behaviour to probe. */
  pin: boolean,
): Promise<string> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const secret = (name: string, value: string): string => {
    writeFileSync(join(folder, name), value, { mode: 0o600 });
    return name;
  };
  const masterKeyFile = secret('master.key', randomBytes(32).toString('base64'));
  const config = {
    data: { port: ports[0] },
    admin: { port: ports[1] },
    store: {
      endpoint: store.endpoint,
      region: store.region,
      accessKeyId: store.accessKeyId,
      secretFile: secret('store.secret', store.secretAccessKey),
      systemBucket: `bench-system-${randomBytes(6).toString('hex')}`,
      traits: pin ? ALL_TRAITS : {},
    },
    control: { directory: 'control', masterKeyFile },
    kms: {
      config: {
        backend_type: 'local',
        key_dir: join(folder, 'keys'),
        master_key_file: join(folder, masterKeyFile),
        default_key_id: 'data',
        sse_s3_key_id: 's3',
        create_default_key: true,
      },
    },
    audit: { file: { path: 'audit/audit' } },
    identities: [
      {
        name: 'bench',
        accessKeyId: USER.accessKeyId,
        secretFile: secret('user.secret', USER.secretAccessKey),
        plane: 'data',
        policies: ['S3FullAccess', 'KMSUser'],
      },
    ],
  };
  mkdirSync(join(folder, 'audit'), { mode: 0o700 });
  const file = join(folder, 'config.json');
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
  await initDeployment(loadConfig(file));
  return file;
}
