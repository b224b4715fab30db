import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { openVaultBackend, type VaultBackendDeps } from '../../src/kms/backends/vault.ts';
import type { VaultConfig } from '../../src/kms/config-schema.ts';
import type { KmsBackend } from '../../src/kms/ports.ts';
import { issue } from '../support/certs.ts';
import { startOpenBao, type AppRoleOptions, type OpenBao } from '../support/openbao.ts';
import { approle, configFor, context, DENIED, failure } from './backend.ts';

/** Tokens: how they are had, renewed, lost and replaced, on a real server. */
let bao: OpenBao;

beforeAll(async () => {
  bao = await startOpenBao();
  await bao.createKey('a');
});

afterAll(() => bao.stop());

async function open(auth: VaultConfig['auth_method'], more: Partial<VaultConfig> = {}, deps?: VaultBackendDeps) {
  const backend = await openVaultBackend(configFor(bao, auth, more), deps);
  onTestFinished(() => backend.close());
  await backend.describeKey('a').catch(() => undefined);
  return backend;
}

let roles = 0;
async function openRole(options: AppRoleOptions = {}, deps?: VaultBackendDeps) {
  const role = `role-${roles++}`;
  const { auth, path } = await approle(bao, await bao.appRole(role, options));
  return { backend: await open(auth, {}, deps), role, path, auth };
}

const LOGIN = 'update auth/approle/login';
const LOOKUP = 'read auth/token/lookup-self';
const DATA_KEY = 'update transit/datakey/plaintext/sse-a';
const DECRYPT = 'update transit/decrypt/sse-a';

const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const use = (backend: KmsBackend) => backend.generateDataKey('a', context('x'));

/** A clock that tests can put forward. */
function clock() {
  let ahead = 0;
  return {
    chance: { now: () => performance.now() + ahead, random: () => 0.5 },
    forward: (ms: number) => (ahead += ms),
  };
}

describe('a token that dies', () => {
  test('revoked: one lookup-self, one login, one replay, for however many callers', async () => {
    const { backend } = await openRole();
    await bao.revokeLogins();
    const mark = await bao.auditMark();
    await Promise.all(Array.from({ length: 10 }, () => use(backend)));
    const calls = await bao.calls(mark);
    expect(calls.filter((call) => call === LOOKUP)).toHaveLength(1);
    expect(calls.filter((call) => call === LOGIN)).toHaveLength(1);
    expect(calls.filter((call) => call === DATA_KEY).length).toBeLessThanOrEqual(20);
  });

  test('revoked again at once: refused without a second login, and served after the pause', async () => {
    const { chance, forward } = clock();
    const { backend } = await openRole({}, { chance });
    await bao.revokeLogins();
    await use(backend);
    await bao.revokeLogins();
    const mark = await bao.auditMark();
    expect(await failure(use(backend))).toEqual(DENIED);
    expect(await failure(use(backend))).toEqual(DENIED);
    expect((await bao.calls(mark)).filter((call) => call === LOGIN)).toEqual([]);
    forward(13_000);
    await use(backend);
  });

  test('expired while our clock did not know: found out by the 403 rule', async () => {
    const frozen = { now: () => 0, random: () => 0.5 };
    const { backend } = await openRole({ ttl: 1, maxTtl: 1 }, { chance: frozen });
    const mark = await bao.auditMark();
    // As when a machine sleeps: no timer of ours runs while the lease ends at the server.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2000);
    await use(backend);
    const calls = (await bao.calls(mark)).filter((call) => call !== 'update auth/token/renew-self');
    expect(calls[0]).toBe(DATA_KEY);
    expect(calls.filter((call) => call === LOGIN)).toHaveLength(1);
    expect(calls.filter((call) => call === LOOKUP).length).toBeLessThanOrEqual(1);
    expect(calls.at(-1)).toBe(DATA_KEY);
    expect(calls.length).toBeLessThanOrEqual(4);
  });

  test('a given token that is revoked is a denial: there is nothing to log in with', async () => {
    const token = await bao.token(['sse-data']);
    const backend = await open({ token: { token } });
    await bao.revoke(token);
    expect(await failure(use(backend))).toEqual(DENIED);
  });
});

describe('renewal', () => {
  test.each<[string, number, AppRoleOptions]>([
    ['a renewable token', 2, { ttl: 2, maxTtl: 60 }],
    ['one at its maximum', 2, { ttl: 2, maxTtl: 3 }],
    // Its times are whole seconds, so that it may live for one less than it says.
    ['a batch token', 1, { ttl: 5, maxTtl: 60, tokenType: 'batch' }],
  ])('%s is replaced or renewed in time: no call ever meets 403', async (_, atLeast, options) => {
    const { backend } = await openRole(options, { chance: clock().chance });
    const mark = await bao.auditMark();
    const until = Date.now() + 5000;
    while (Date.now() < until) {
      await use(backend);
      await wait(100);
    }
    const calls = await bao.calls(mark);
    expect(calls.filter((call) => call === LOOKUP)).toEqual([]);
    const cared = calls.filter((call) => call === LOGIN || call === 'update auth/token/renew-self');
    expect(cared.length).toBeGreaterThanOrEqual(atLeast);
    expect(cared.length).toBeLessThanOrEqual(8);
  });

  test('tokens with counted uses are refused', async () => {
    const { auth } = await approle(bao, await bao.appRole('counted', { numUses: 5 }));
    expect(await failure(openVaultBackend(configFor(bao, auth)))).toEqual({
      code: 'ValidationException',
      reason: 'kms-token-num-uses',
    });
    const token = await bao.token(['sse-data'], { num_uses: 5 });
    expect(await failure(openVaultBackend(configFor(bao, { token: { token } })))).toMatchObject({
      reason: 'kms-token-num-uses',
    });
  });
});

describe('a policy that says no', () => {
  test('without decrypt: denied, one lookup-self, no login, and silence for the next ten seconds', async () => {
    await bao.writePolicy('no-decrypt', policyWithout('decrypt'));
    const { chance, forward } = clock();
    const { backend } = await openRole({ policies: ['no-decrypt'] }, { chance });
    const { wrapped } = await use(backend);
    const mark = await bao.auditMark();
    for (let i = 0; i < 5; i++) expect(await failure(backend.unwrap('a', wrapped, context('x')))).toEqual(DENIED);
    expect(await bao.calls(mark)).toEqual([DECRYPT, LOOKUP]);
    await use(backend); // other rights are as they were
    await bao.writePolicy('no-decrypt', policyWithout('nothing'));
    forward(11_000);
    await backend.unwrap('a', wrapped, context('x'));
  });
});

describe('bad SecretIDs', () => {
  test('a configure candidate gets one try', async () => {
    const credential = await bao.appRole('candidate');
    const { auth } = await approle(bao, { ...credential, secretId: 'wrong' });
    const mark = await bao.auditMark();
    expect(await failure(openVaultBackend(configFor(bao, auth)))).toEqual(DENIED);
    expect(await bao.calls(mark)).toEqual([LOGIN]);
  });

  test('one that was refused is never sent again until its file changes', async () => {
    const { chance, forward } = clock();
    const { backend, role, path } = await openRole({}, { chance });
    await writeFile(path, 'wrong');
    await bao.revokeLogins();
    const mark = await bao.auditMark();
    for (let i = 0; i < 6; i++) {
      expect(await failure(use(backend))).toEqual(DENIED);
      forward(120_000);
    }
    expect((await bao.calls(mark)).filter((call) => call === LOGIN)).toHaveLength(1);
    await writeFile(path, await bao.secretId(role));
    await use(backend);
  });

  test('a SecretID that everybody on the machine may read is refused before it is sent', async () => {
    const { auth, path } = await approle(bao, await bao.appRole('open-file'));
    await chmod(path, 0o644);
    const mark = await bao.auditMark();
    expect(await failure(openVaultBackend(configFor(bao, auth)))).toEqual({
      code: 'ValidationException',
      reason: 'kms-secret-file',
    });
    expect(await bao.calls(mark)).toEqual([]);
    await chmod(path, 0o640);
    await use(await open(auth));
  });

  test('a role locked by others: the token that lives goes on, and the good SecretID comes into its own later', async () => {
    const { backend, auth } = await openRole();
    const bad = { role_id: auth.approle.role_id, secret_id: 'wrong' };
    for (let i = 0; i < 5; i++) await bao.api('POST', 'auth/approle/login', bad, { token: '' });
    expect(await failure(openVaultBackend(configFor(bao, auth)))).toEqual(DENIED); // locked: the good one too
    await use(backend);
    await backend.check();
  });
});

describe('other ways to a token', () => {
  test('token_file: read again when it changes, and only looked at', async () => {
    const path = join(bao.folder, 'token-file');
    const first = await bao.token(['sse-data']);
    await writeFile(path, `${first}\n`, { mode: 0o600 });
    const backend = await open({ token_file: { path, poll_interval_secs: 1 } });
    await writeFile(path, `${await bao.token(['sse-data'])}\n`);
    await wait(1500);
    await bao.revoke(first);
    const mark = await bao.auditMark();
    await use(backend);
    expect((await bao.calls(mark)).filter((call) => !call.includes('lookup-self'))).toEqual([DATA_KEY]);
  });

  test('token_file: a dead token is replaced from the file without waiting for the next look', async () => {
    const path = join(bao.folder, 'token-file-slow');
    const first = await bao.token(['sse-data']);
    await writeFile(path, first, { mode: 0o600 });
    const backend = await open({ token_file: { path, poll_interval_secs: 3600 } });
    await writeFile(path, await bao.token(['sse-data']));
    await bao.revoke(first);
    await use(backend);
  });

  test('a wrapped SecretID is unwrapped once and used for later logins', async () => {
    const credential = await bao.appRole('wrapped');
    const wrapping = await wrappedSecretId('auth/approle/role/wrapped/secret-id');
    const { auth } = await approle(bao, { ...credential, secretId: wrapping });
    const backend = await open({ approle: { ...auth.approle, secret_id_wrapped: true } });
    await bao.revokeLogins();
    const mark = await bao.auditMark();
    await use(backend);
    expect((await bao.calls(mark)).filter((call) => call.includes('wrapping'))).toEqual([]);
  });

  test('a wrapping token that was spent, or made elsewhere, is refused and not spent', async () => {
    const credential = await bao.appRole('wrapped-badly');
    const spent = await wrappedSecretId('auth/approle/role/wrapped-badly/secret-id');
    await bao.must('POST', 'sys/wrapping/unwrap', undefined, { token: spent });
    const forged = await bao.must('POST', 'sys/wrapping/wrap', { secret_id: credential.secretId }, { wrapSeconds: 60 });
    const elsewhere = (forged['wrap_info'] as { token: string }).token;
    for (const secretId of [spent, elsewhere]) {
      const { auth } = await approle(bao, { ...credential, secretId });
      const settings = { approle: { ...auth.approle, secret_id_wrapped: true } };
      expect(await failure(openVaultBackend(configFor(bao, settings)))).toEqual(DENIED);
    }
    await bao.must('POST', 'sys/wrapping/unwrap', undefined, { token: elsewhere });
  });

  test('a client certificate logs in', async () => {
    await bao.must('POST', 'sys/auth/cert', { type: 'cert' });
    const trusted = { certificate: bao.ca.cert, token_policies: 'sse-data', token_no_default_policy: true };
    await bao.must('POST', 'auth/cert/certs/gateway', trusted);
    const leaf = issue(bao.ca, ['gateway']);
    const files = { client_cert_file: join(bao.folder, 'client.pem'), client_key_file: join(bao.folder, 'client.key') };
    await writeFile(files.client_cert_file, leaf.cert);
    await writeFile(files.client_key_file, leaf.key);
    await use(await open({ cert: { name: 'gateway', mount: 'cert' } }, files));
    expect(await failure(openVaultBackend(configFor(bao, { cert: { name: 'gateway', mount: 'cert' } })))).toEqual(
      DENIED,
    );
  });

  async function wrappedSecretId(path: string): Promise<string> {
    const answer = await bao.must('POST', path, {}, { wrapSeconds: 60 });
    return (answer['wrap_info'] as { token: string }).token;
  }
});

describe('closing', () => {
  test('revokes the token that its own login made, and never one that was given', async () => {
    const credential = await bao.appRole('closing');
    const { auth } = await approle(bao, credential);
    const given = await bao.token(['sse-data']);
    for (const method of [auth, { token: { token: given } }]) {
      const backend = await openVaultBackend(configFor(bao, method));
      const mark = await bao.auditMark();
      await backend.close();
      expect(await bao.calls(mark)).toEqual('approle' in method ? ['update auth/token/revoke-self'] : []);
    }
    expect((await bao.api('GET', 'auth/token/lookup-self', undefined, { token: given })).status).toBe(200);
  });
});

describe('namespaces', () => {
  test('every call but sys/health carries the namespace: keys of the same name are other keys', async () => {
    await bao.must('POST', 'sys/namespaces/team');
    const inTeam = { namespace: 'team' };
    await bao.must('POST', 'sys/mounts/transit', { type: 'transit' }, inTeam);
    await bao.must('POST', 'transit/keys/sse-a', { derived: true }, inTeam);
    await bao.must('PUT', 'sys/policies/acl/data', { policy: policyWithout('nothing') }, inTeam);
    const { auth } = await bao.must('POST', 'auth/token/create', { policies: ['data'], no_parent: true }, inTeam);
    const token = (auth as { client_token: string }).client_token;
    const root = await open({ token: { token: await bao.token(['sse-data']) } });
    const team = await open({ token: { token } }, inTeam);
    await team.check();
    const made = await team.generateDataKey('a', context('x'));
    expect((await team.unwrap('a', made.wrapped, context('x'))).equals(made.key)).toBe(true);
    expect(await failure(root.unwrap('a', made.wrapped, context('x')))).toMatchObject({
      reason: 'integrity:kms-unwrap',
    });
  });
});

function policyWithout(operation: string): string {
  const rules = [
    ['datakey', 'transit/datakey/plaintext/sse-*', 'update'],
    ['decrypt', 'transit/decrypt/sse-*', 'update'],
    ['keys', 'transit/keys/sse-*', 'read'],
    ['lookup', 'auth/token/lookup-self', 'read'],
    ['capabilities', 'sys/capabilities-self', 'update'],
  ] as const;
  return rules
    .filter(([name]) => name !== operation)
    .map(([, path, capability]) => `path "${path}" { capabilities = ["${capability}"] }`)
    .join('\n');
}
