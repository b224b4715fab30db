import { inspect } from 'node:util';
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { openVaultBackend } from '../../src/kms/backends/vault.ts';
import type { VaultConfig } from '../../src/kms/config-schema.ts';
import type { KmsBackend } from '../../src/kms/ports.ts';
import { startFakeVault, type FakeVault, type Script } from './fake-vault.ts';

/** Answers that one real server cannot be brought to give, from a fake. */
let fake: FakeVault;
const TOKEN = 's.the-token-of-this-test';
const context = Buffer.alloc(32, 'x');
const key = randomBytes(32);
const ciphertext = `vault:v3:${randomBytes(60).toString('base64')}`;
const WRAPPED = Buffer.from(ciphertext);

const KEY: Script = {
  body: {
    data: {
      type: 'aes256-gcm96',
      derived: true,
      exportable: false,
      allow_plaintext_backup: false,
      convergent_encryption: false,
      supports_encryption: true,
      supports_decryption: true,
      latest_version: 3,
      min_decryption_version: 1,
      min_encryption_version: 0,
      keys: { 1: 1_700_000_000 },
    },
  },
};
const DATA_KEY: Script = {
  body: { data: { plaintext: key.toString('base64'), ciphertext, key_version: 3 }, warnings: null },
};

function longer(chunked: boolean): Script {
  return { chunked, body: { note: 'n'.repeat(20_000), ...(DATA_KEY.body as object), more: 'm'.repeat(20_000) } };
}

beforeEach(async () => {
  fake = await startFakeVault();
  fake.script('sys/health', { body: { sealed: false } });
  fake.script('lookup-self', { body: { data: { ttl: 0, renewable: false, num_uses: 0 } } });
  fake.script('capabilities-self', { body: { data: {} } });
  fake.script('/keys/', KEY);
  fake.script('/datakey/', DATA_KEY);
  fake.script('/decrypt/', { body: { data: { plaintext: key.toString('base64') } } });
});

afterEach(() => fake.stop());

async function open(more: Partial<VaultConfig> = {}): Promise<KmsBackend> {
  const backend = await openVaultBackend({
    address: fake.address,
    mount_path: 'transit',
    skip_tls_verify: false,
    auth_method: { token: { token: TOKEN } },
    timeout_seconds: 2,
    retry_attempts: 2,
    key_prefix: '',
    ...more,
  });
  onTestFinished(() => backend.close());
  return backend;
}

function calls(part: string) {
  return fake.seen.filter(({ path }) => path.includes(part));
}

describe('what is sent', () => {
  test('X-Vault-Request always, the namespace everywhere but at sys/health, the token nowhere but in its header', async () => {
    const backend = await open({ namespace: 'team/a' });
    await backend.generateDataKey('k', context);
    for (const { path, headers, body } of fake.seen) {
      expect(headers['x-vault-request']).toBe('true');
      const health = path.includes('sys/health');
      expect(headers['x-vault-namespace']).toBe(health ? undefined : 'team/a');
      expect(headers['x-vault-token']).toBe(health ? undefined : TOKEN);
      expect(path + body).not.toContain(TOKEN);
    }
  });

  test('the context as base64, 256 bits, and no associated_data', async () => {
    const backend = await open();
    await backend.generateDataKey('k', context);
    expect(JSON.parse(calls('/datakey/')[0]?.body ?? '')).toEqual({ context: context.toString('base64'), bits: 256 });
    expect(calls('/datakey/')[0]?.path).toBe('/v1/transit/datakey/plaintext/k');
  });

  test('connections are kept: many calls in a row take one, or two that alternate', async () => {
    const backend = await open();
    for (let i = 0; i < 10; i++) await backend.generateDataKey('k', context);
    expect(new Set(fake.seen.map(({ connection }) => connection)).size).toBeLessThanOrEqual(2);
  });
});

describe('answers', () => {
  const ok = { code: undefined };
  const outage = { code: 'ServiceUnavailable', reason: 'kms-unavailable' };
  const rows: readonly (readonly [string, readonly Script[], object, number])[] = [
    ['412 once', [{ status: 412 }, DATA_KEY], ok, 2],
    ['412 always', [{ status: 412 }], outage, 3],
    ['500 once', [{ status: 500 }, DATA_KEY], ok, 2],
    ['502 always', [{ status: 502, body: '<html>' }], outage, 3],
    ['503 sealed, then another node', [{ status: 503, body: { errors: ['Vault is sealed'] } }, DATA_KEY], ok, 2],
    ['429 once', [{ status: 429 }, DATA_KEY], ok, 2],
    [
      '429 with a Retry-After that is too long',
      [{ status: 429, headers: { 'retry-after': '60' } }],
      { code: 'SlowDown' },
      1,
    ],
    ['too new once, a standby behind', [{ status: 400, body: { errors: ['version is too new'] } }, DATA_KEY], ok, 2],
    [
      'not found twice',
      [{ status: 400, body: { errors: ['encryption key not found'] } }],
      { code: 'KMS.NotFoundException' },
      2,
    ],
    ['a connection reset, once', [{ cutAfter: 0 }, DATA_KEY], ok, 2],
    ['an answer that ends early', [{ ...DATA_KEY, cutAfter: 60 }], outage, 3],
    ['a chunked answer, longer than the first buffer', [longer(true)], ok, 1],
    ['a long answer with its length', [longer(false)], ok, 1],
    ['a chunked answer too large', [{ body: 'x'.repeat(2 << 20), chunked: true }], outage, 3],
    ['a chunked 503, then another node', [{ status: 503, body: 'busy', chunked: true }, DATA_KEY], ok, 2],
    ['an answer too large', [{ body: 'x'.repeat(2 << 20) }], outage, 3],
    ['another 4xx', [{ status: 405 }], { code: 'InternalError', reason: 'kms-unexpected' }, 1],
    [
      'a warning',
      [
        {
          body: {
            ...(DATA_KEY.body as object),
            warnings: ['Endpoint ignored these unrecognized parameters: [context]'],
          },
        },
      ],
      { reason: 'kms-warning' },
      1,
    ],
    ['no plaintext', [{ body: { data: { ciphertext } } }], { reason: 'kms-unexpected' }, 1],
    [
      'an empty plaintext beside an error',
      [{ body: { data: { ciphertext, plaintext: '', error: 'x' } } }],
      { reason: 'kms-unexpected' },
      1,
    ],
    [
      'a ciphertext of another form',
      [{ body: { data: { ciphertext: 'k', plaintext: key.toString('base64') } } }],
      { reason: 'kms-unexpected' },
      1,
    ],
    ['broken JSON after a good key', [{ body: `{"plaintext":"${key.toString('base64')}",` }], outage, 1],
    ['JSON that is a list', [{ body: `[{"plaintext":"${key.toString('base64')}"}]` }], { reason: 'kms-unexpected' }, 1],
  ];

  test.each(rows)('%s', async (_, answers, outcome, sent) => {
    const backend = await open();
    fake.script('/datakey/', ...answers);
    const result = await backend.generateDataKey('k', context).then(
      () => ok,
      (err: unknown) => err as object,
    );
    expect(result).toMatchObject(outcome);
    expect(calls('/datakey/')).toHaveLength(sent);
  });

  test('an answer that never comes ends within the total timeout, retries included', async () => {
    const backend = await open({ timeout_seconds: 1 });
    await backend.describeKey('k');
    fake.script('/datakey/', { ...DATA_KEY, delay: 5000 });
    const started = Date.now();
    await expect(backend.generateDataKey('k', context)).rejects.toMatchObject(outage);
    expect(Date.now() - started).toBeLessThan(1500);
  });

  test('a first attempt that hangs leaves time for a second', async () => {
    const backend = await open({ timeout_seconds: 3 });
    fake.script('/datakey/', { ...DATA_KEY, delay: 5000 }, DATA_KEY);
    await backend.generateDataKey('k', context);
  });

  test('after five outages in a row nothing more is sent for a while', async () => {
    const backend = await open({ retry_attempts: 0 });
    fake.script('/decrypt/', { status: 500 });
    for (let i = 0; i < 8; i++) await expect(backend.unwrap('k', WRAPPED, context)).rejects.toMatchObject(outage);
    expect(calls('/decrypt/')).toHaveLength(5);
  });
});

describe('connections after 503 and 307', () => {
  /** A kept connection would stay open for half a minute. */
  async function expectClosed(call: { readonly connection: number } | undefined): Promise<void> {
    await vi.waitFor(() => expect(fake.isOpen(call?.connection ?? 0)).toBe(false), 1000);
    expect(call?.connection).toBeGreaterThan(0);
  }

  test('an ordinary connection is kept', async () => {
    const backend = await open();
    await backend.generateDataKey('k', context);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(fake.isOpen(calls('/datakey/')[0]?.connection ?? 0)).toBe(true);
  });

  test('a sealed node is left: the next attempt is on a new connection', async () => {
    const backend = await open();
    fake.script('/datakey/', { status: 503, body: { errors: ['Vault is sealed'] } }, DATA_KEY);
    await backend.generateDataKey('k', context);
    await expectClosed(calls('/datakey/')[0]);
  });

  test('a redirect to this origin is followed once, on a new connection, with the body', async () => {
    const backend = await open();
    fake.script(
      '/datakey/',
      { status: 307, headers: { location: `${fake.address}/v1/transit/datakey/active/k` } },
      DATA_KEY,
    );
    await backend.generateDataKey('k', context);
    const [first, second] = calls('/datakey/');
    expect(second?.path).toBe('/v1/transit/datakey/active/k');
    expect(second?.body).toBe(first?.body);
    await expectClosed(first);
  });

  test.each([
    ['another origin', (other: string) => `${other}/v1/transit/datakey/plaintext/k`],
    ['another scheme', (other: string) => other.replace('http:', 'https:')],
    ['nothing', () => ''],
    ['nonsense', () => 'http://['],
  ])('a redirect to %s is not followed: the token stays here', async (name, location) => {
    const other = await startFakeVault();
    onTestFinished(() => other.stop());
    const backend = await open();
    fake.script('/datakey/', { status: 307, headers: { location: location(other.address) } });
    await expect(backend.generateDataKey('k', context)).rejects.toMatchObject({ code: 'ServiceUnavailable' });
    expect(other.seen).toEqual([]);
    if (name === 'another origin') expect(calls('/datakey/')).toHaveLength(3);
  });

  test('a redirect that goes round ends', async () => {
    const backend = await open({ retry_attempts: 0 });
    fake.script('/datakey/', { status: 307, headers: { location: '/v1/transit/datakey/plaintext/k' } });
    await expect(backend.generateDataKey('k', context)).rejects.toMatchObject({ code: 'ServiceUnavailable' });
    expect(calls('/datakey/')).toHaveLength(2);
  });
});

describe('secrets', () => {
  test('neither key nor token is in any error, its cause or what inspection shows of the backend', async () => {
    const secrets = [TOKEN, key.toString('base64'), key.toString('hex'), key.toString('latin1')];
    const backend = await open();
    const bodies: readonly Script[] = [
      { body: `{"plaintext":"${key.toString('base64')}",` },
      { body: { errors: [key.toString('base64'), TOKEN] }, status: 400 },
      { body: { errors: [TOKEN] }, status: 500 },
      { body: { data: { plaintext: `${key.toString('base64')}AAAA` } } },
      { ...DATA_KEY, cutAfter: 80 },
    ];
    for (const script of bodies) {
      fake.script('/datakey/', script);
      const err: unknown = await backend.generateDataKey('k', context).catch((reason: unknown) => reason);
      expect(err).toBeInstanceOf(Error);
      const shown = inspect(err, { depth: 20, showHidden: true }) + JSON.stringify(err);
      for (const secret of secrets) expect(shown).not.toContain(secret);
    }
    const shown = inspect(backend, { depth: 20, showHidden: true });
    for (const secret of secrets) expect(shown).not.toContain(secret);
  });
});

describe('keys are read with care', () => {
  const data = (KEY.body as { data: Record<string, unknown> }).data;
  test.each([
    ['soft-deleted', { soft_deleted: true }],
    ['imported', { imported_key: true }],
    ['derived as a word', { derived: 'true' }],
    ['no word on exportable', { exportable: undefined }],
    ['no word on derived', { derived: undefined }],
    ['no word on plaintext backup', { allow_plaintext_backup: undefined }],
    ['decryption not supported', { supports_decryption: false }],
    ['another type', { type: 'aes128-gcm96' }],
  ])('%s is not fit', async (_, change) => {
    const backend = await open();
    fake.script('/keys/', { body: { data: { ...data, ...change } } });
    await expect(backend.generateDataKey('k', context)).rejects.toMatchObject({ reason: 'key-unfit' });
    expect(calls('/datakey/')).toEqual([]);
  });

  test('the record as it should be', async () => {
    const backend = await open();
    expect(await backend.describeKey('k')).toEqual({
      keyId: 'k',
      latestVersion: 3,
      minDecryptionVersion: 1,
      createdAt: '2023-11-14T22:13:20.000Z',
    });
  });
});
