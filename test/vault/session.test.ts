import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { openVaultBackend } from '../../src/kms/backends/vault.ts';
import type { VaultConfig } from '../../src/kms/config-schema.ts';
import type { KmsBackend } from '../../src/kms/ports.ts';
import { startFakeVault, type FakeVault, type Script } from './fake-vault.ts';

/** The token's care where the moment matters: a fake names the leases. The real ones are in test/e2e-vault. */
let fake: FakeVault;

beforeEach(async () => {
  fake = await startFakeVault();
  fake.script('sys/health', {});
  fake.script('capabilities-self', { body: { data: ALL } });
  fake.script('lookup-self', { body: { data: { ttl: 0, num_uses: 0 } } });
  fake.script('revoke-self', { status: 204, body: '' });
});

afterEach(() => fake.stop());

const ALL = {
  'transit/keys/capability-probe': ['create'],
  'transit/keys/capability-probe/rotate': ['update'],
  'transit/keys': ['list'],
  'transit/rewrap/capability-probe': ['update'],
};
const APPROLE = { approle: { role_id: 'r', secret_id: 's', secret_id_wrapped: false, mount: 'approle' } };
const REFUSED: Script = { status: 400, body: { errors: ['invalid role or secret ID'] } };

function granted(token: string, lease: number, renewable: boolean): Script {
  return { body: { auth: { client_token: token, lease_duration: lease, renewable, num_uses: 0 } } };
}

async function open(auth: VaultConfig['auth_method']): Promise<KmsBackend> {
  const config = { address: fake.address, mount_path: 'transit', skip_tls_verify: false, key_prefix: '' };
  const chance = { now: () => 0, random: () => 0.5 };
  const backend = await openVaultBackend(
    { ...config, auth_method: auth, timeout_seconds: 2, retry_attempts: 2 },
    { chance },
  );
  onTestFinished(() => backend.close());
  return backend;
}

function calls(part: string) {
  return fake.seen.filter(({ path }) => path.includes(part));
}

describe('care of the token', () => {
  test('a login that fails at renewal leaves the token in use that still lives', async () => {
    fake.script('approle/login', granted('first', 1, false), REFUSED);
    const backend = await open(APPROLE);
    await vi.waitFor(() => expect(calls('approle/login')).toHaveLength(2), 3000);
    await backend.check();
    expect(calls('lookup-self').at(-1)?.headers['x-vault-token']).toBe('first');
    expect(calls('approle/login')).toHaveLength(2);
  });

  test('a renewal that was capped is followed by a login, not by another renewal', async () => {
    fake.script('approle/login', granted('first', 1, true), granted('second', 3600, true));
    fake.script('renew-self', granted('first', 0.5, true));
    const backend = await open(APPROLE);
    await vi.waitFor(() => expect(calls('approle/login')).toHaveLength(2), 3000);
    expect(calls('renew-self')).toHaveLength(1);
    await backend.check();
    expect(calls('lookup-self').at(-1)?.headers['x-vault-token']).toBe('second');
  });

  test('a renewal that meets an outage is tried again', async () => {
    fake.script('approle/login', granted('first', 1, true));
    fake.script('renew-self', { status: 500 }, { status: 500 }, { status: 500 }, granted('first', 3600, true));
    await open(APPROLE);
    await vi.waitFor(() => expect(calls('renew-self')).toHaveLength(4), 5000);
    expect(calls('approle/login')).toHaveLength(1);
  });

  test('an inline SecretID that was refused is sent once, whoever asks', async () => {
    fake.script('approle/login', granted('first', 3600, true), REFUSED);
    const backend = await open(APPROLE);
    fake.script('lookup-self', { status: 403, body: { errors: ['permission denied'] } });
    const denied = { code: 'AccessDenied', reason: 'kms-denied' };
    for (let i = 0; i < 3; i++) await expect(backend.check()).rejects.toMatchObject(denied);
    expect(calls('approle/login')).toHaveLength(2);
    // The call and the question whether the token lives; a token known to be dead is not sent again.
    expect(calls('lookup-self')).toHaveLength(2);
  });

  test('login during an outage is an outage, and is not held against the next try', async () => {
    fake.script('approle/login', { status: 503, body: { errors: ['Vault is sealed'] } });
    await expect(open(APPROLE)).rejects.toMatchObject({ code: 'ServiceUnavailable', reason: 'kms-unavailable' });
  });

  test.each<[string, Script]>([
    ['no token', { body: { auth: { lease_duration: 60, renewable: true } } }],
    ['an empty token', granted('', 60, true)],
    ['no lease', { body: { auth: { client_token: 't' } } }],
    ['cut JSON', { body: '{"auth":{"client_token":"' }],
  ])('a login answered with %s fails', async (_, script) => {
    fake.script('approle/login', script);
    await expect(open(APPROLE)).rejects.toMatchObject({ name: 'ServiceError' });
  });
});

describe('kubernetes', () => {
  test('sends the role and the JWT, read anew at each login; the file may be open, as Kubernetes makes it', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'jwt-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const jwt_path = join(folder, 'token');
    await writeFile(jwt_path, 'jwt-1\n');
    await chmod(jwt_path, 0o644);
    fake.script('kubernetes/login', granted('first', 1, false), granted('second', 3600, false));
    await open({ kubernetes: { role: 'gateway', jwt_path, mount: 'kubernetes' } });
    await writeFile(jwt_path, 'jwt-2\n');
    await vi.waitFor(() => expect(calls('kubernetes/login')).toHaveLength(2), 3000);
    expect(calls('kubernetes/login').map(({ path }) => path)).toEqual(Array(2).fill('/v1/auth/kubernetes/login'));
    expect(calls('kubernetes/login').map(({ body }) => JSON.parse(body) as unknown)).toEqual([
      { role: 'gateway', jwt: 'jwt-1' },
      { role: 'gateway', jwt: 'jwt-2' },
    ]);
  });
});

describe('what must not be repeated', () => {
  const KEY = {
    type: 'aes256-gcm96',
    derived: true,
    exportable: false,
    allow_plaintext_backup: false,
    convergent_encryption: false,
    supports_encryption: true,
    supports_decryption: true,
    latest_version: 1,
    min_decryption_version: 1,
    min_encryption_version: 0,
  };

  test.each<[string, readonly Script[], number]>([
    ['a lost answer', [{ cutAfter: 0 }, {}], 1],
    ['500', [{ status: 500 }, {}], 1],
    ['503 sealed, which says that nothing was done', [{ status: 503, body: { errors: ['Vault is sealed'] } }, {}], 2],
    ['429, likewise', [{ status: 429 }, {}], 2],
  ])('rotate after %s', async (_, answers, sent) => {
    fake.script('/k/rotate', ...answers);
    fake.script('/keys/k', { body: { data: KEY } });
    const backend = await open({ token: { token: 't' } });
    await backend.rotateKey?.('k').catch(() => undefined);
    expect(calls('/k/rotate')).toHaveLength(sent);
  });
});
