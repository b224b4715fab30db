import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { openVaultBackend } from '../../src/kms/backends/vault.ts';
import { startOpenBao, type OpenBao } from '../support/openbao.ts';
import { approle, configFor, context, failure, INTEGRITY } from './backend.ts';

/** Create, list, rotate and rewrap: each with the role that has it, and absent without (501 to who asks). */
let bao: OpenBao;

beforeAll(async () => {
  bao = await startOpenBao();
  await bao.createKey('a');
  await bao.must('POST', 'transit/keys/other', { derived: true });
});

afterAll(() => bao.stop());

async function open(policies: readonly string[], admin?: readonly string[]) {
  const data = await approle(bao, await bao.appRole(policies.join('-'), { policies }));
  const deps = admin && { adminAuth: { token: { token: await bao.token(admin) } } };
  const backend = await openVaultBackend(configFor(bao, data.auth), deps);
  onTestFinished(() => backend.close());
  return backend;
}

describe('capabilities', () => {
  test('the data role has none of them, and the calls are not there', async () => {
    const backend = await open(['sse-data']);
    expect(backend.capabilities).toEqual({ createKey: false, rotateKey: false, rewrap: false, listKeys: false });
    for (const name of Object.keys(backend.capabilities)) expect(Reflect.get(backend, name)).toBeUndefined();
  });

  test('an admin credential of its own adds create, rotate and list; the job role adds rewrap', async () => {
    expect((await open(['sse-data'], ['sse-admin'])).capabilities).toEqual({
      createKey: true,
      rotateKey: true,
      listKeys: true,
      rewrap: false,
    });
    expect((await open(['sse-data', 'sse-job'])).capabilities).toMatchObject({ rewrap: true, createKey: false });
  });
});

describe('with the admin credential', () => {
  test('a key is created fit, listed without prefix, rotated, and others are not seen', async () => {
    const backend = await open(['sse-data'], ['sse-admin']);
    const made = await backend.createKey?.('fresh');
    expect(made).toMatchObject({ keyId: 'fresh', latestVersion: 1, minDecryptionVersion: 1 });
    expect(Math.abs(Date.parse(made?.createdAt ?? '') - Date.now())).toBeLessThan(60_000);
    await backend.generateDataKey('fresh', context('x'));
    expect(await backend.listKeys?.()).toEqual(['a', 'fresh']);
    expect(await backend.rotateKey?.('fresh')).toMatchObject({ latestVersion: 2 });
    expect((await backend.generateDataKey('fresh', context('x'))).version).toBe(2);
  });

  test('a name that is taken is a conflict, and the key stays as it is', async () => {
    const backend = await open(['sse-data'], ['sse-admin']);
    expect(await failure(backend.createKey?.('a') ?? Promise.resolve())).toEqual({
      code: 'Conflict',
      reason: 'kms-key-exists',
    });
    expect(await failure(backend.rotateKey?.('missing') ?? Promise.resolve())).toMatchObject({
      code: 'KMS.NotFoundException',
    });
    expect(await failure(backend.createKey?.('../seal') ?? Promise.resolve())).toMatchObject({
      code: 'KMS.NotFoundException',
    });
  });

  test('rotate is sent once', async () => {
    const backend = await open(['sse-data'], ['sse-admin']);
    const mark = await bao.auditMark();
    await backend.rotateKey?.('a');
    const rotations = (await bao.calls(mark)).filter((call) => call.endsWith('/rotate'));
    expect(rotations).toEqual(['update transit/keys/sse-a/rotate']);
  });
});

describe('with the job role', () => {
  test('rewrap brings a wrapped key to the latest version under the same context, and under no other', async () => {
    const backend = await open(['sse-data', 'sse-job']);
    const old = await backend.generateDataKey('a', context('x'));
    await bao.rotateKey('a');
    const fresh = await backend.rewrap?.('a', old.wrapped, context('x'));
    if (fresh === undefined) throw new Error('no rewrap');
    expect(backend.wrappedVersion(fresh)).toBe(old.version + 1);
    expect((await backend.unwrap('a', fresh, context('x'))).equals(old.key)).toBe(true);
    expect(await failure(backend.unwrap('a', fresh, context('y')))).toEqual(INTEGRITY);
    expect(await failure(backend.rewrap?.('a', old.wrapped, context('y')) ?? Promise.resolve())).toEqual(INTEGRITY);
  });
});
