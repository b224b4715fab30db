import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openVaultBackend } from '../../src/kms/backends/vault.ts';
import type { KmsBackend } from '../../src/kms/ports.ts';
import { startOpenBao, type OpenBao } from '../support/openbao.ts';
import { approle, configFor, context, failure, INTEGRITY, UNFIT } from './backend.ts';

/** The backend on a real OpenBao over TLS, with the least-privilege policy of docker/vault/data-role.hcl. */
let bao: OpenBao;
let backend: KmsBackend;

beforeAll(async () => {
  bao = await startOpenBao();
  const { auth } = await approle(bao, await bao.appRole('data'));
  await bao.createKey('a');
  await bao.createKey('b');
  backend = await openVaultBackend(configFor(bao, auth));
});

afterAll(async () => {
  await backend.close();
  await bao.stop();
});

describe('data keys', () => {
  test('a data key opens under its own key and context, and is 32 bytes that the server knows', async () => {
    const made = await backend.generateDataKey('a', context('x'));
    const opened = await backend.unwrap('a', made.wrapped, context('x'));
    expect(made.key.symmetricKeySize).toBe(32);
    expect(opened.equals(made.key)).toBe(true);
    const direct = await bao.must('POST', 'transit/decrypt/sse-a', {
      ciphertext: made.wrapped.toString(),
      context: context('x').toString('base64'),
    });
    expect((direct['data'] as { plaintext: string }).plaintext).toBe(made.key.export().toString('base64'));
  });

  test('two data keys of one context differ', async () => {
    const [one, two] = await Promise.all([
      backend.generateDataKey('a', context('x')),
      backend.generateDataKey('a', context('x')),
    ]);
    expect(one.key.equals(two.key)).toBe(false);
  });

  test.each([
    ['another context', 'a', (wrapped: Buffer) => wrapped, 'y'],
    ['another key', 'b', (wrapped: Buffer) => wrapped, 'x'],
    ['a flipped bit', 'a', (wrapped: Buffer) => flip(wrapped, 40), 'x'],
    ['a version that never was', 'a', (wrapped: Buffer) => renumber(wrapped, 7), 'x'],
    ['version 0', 'a', (wrapped: Buffer) => renumber(wrapped, 0), 'x'],
    ['a cut end', 'a', (wrapped: Buffer) => wrapped.subarray(0, -4), 'x'],
    ['something else', 'a', () => Buffer.from('{"ciphertext":"vault:v1:"}'), 'x'],
  ])('%s is an integrity error, not an outage', async (_, keyId, change, letter) => {
    const { wrapped } = await backend.generateDataKey('a', context('x'));
    expect(await failure(backend.unwrap(keyId, change(wrapped), context(letter)))).toEqual(INTEGRITY);
  });

  test('a context that is not a digest is never sent', async () => {
    await expect(backend.generateDataKey('a', Buffer.alloc(0))).rejects.toThrow(TypeError);
  });

  test('N data keys are N entries in the audit file and nothing else', async () => {
    await backend.describeKey('a');
    const mark = await bao.auditMark();
    for (let i = 0; i < 5; i++) await backend.generateDataKey('a', context('x'));
    expect(await bao.calls(mark)).toEqual(Array.from({ length: 5 }, () => 'update transit/datakey/plaintext/sse-a'));
  });
});

describe('key versions', () => {
  test('after a rotation new keys have the new version and old ones still open', async () => {
    const old = await backend.generateDataKey('b', context('x'));
    await bao.rotateKey('b');
    const fresh = await backend.generateDataKey('b', context('x'));
    expect([old.version, fresh.version]).toEqual([1, 2]);
    expect([backend.wrappedVersion(old.wrapped), backend.wrappedVersion(fresh.wrapped)]).toEqual([1, 2]);
    expect((await backend.unwrap('b', old.wrapped, context('x'))).equals(old.key)).toBe(true);
    expect(await backend.describeKey('b')).toMatchObject({ keyId: 'b', latestVersion: 2, minDecryptionVersion: 1 });
  });

  test('a version below min_decryption_version is permanent, and no integrity error', async () => {
    await bao.createKey('old');
    const { wrapped } = await backend.generateDataKey('old', context('x'));
    await bao.rotateKey('old');
    await bao.must('POST', 'transit/keys/sse-old/config', { min_decryption_version: 2 });
    expect(await failure(backend.unwrap('old', wrapped, context('x')))).toEqual({
      code: 'KMS.KMSInvalidStateException',
      reason: 'kms-version-too-old',
    });
  });
});

describe('keys that are not fit are never used', () => {
  const unfit: readonly (readonly [string, Record<string, unknown>])[] = [
    ['not-derived', {}],
    ['exportable', { derived: true, exportable: true }],
    ['backup', { derived: true, allow_plaintext_backup: true }],
    ['convergent', { derived: true, convergent_encryption: true }],
    ['chacha', { derived: true, type: 'chacha20-poly1305' }],
    ['rsa', { type: 'rsa-2048' }],
  ];

  test.each(unfit)('%s', async (name, parameters) => {
    await bao.createKey(name, parameters);
    expect(await failure(backend.describeKey(name))).toEqual(UNFIT);
    const mark = await bao.auditMark();
    expect(await failure(backend.generateDataKey(name, context('x')))).toEqual(UNFIT);
    const asked = await bao.calls(mark);
    expect(asked.filter((call) => call.includes('datakey'))).toEqual([]);
  });

  test('a key that turns exportable is refused from the next reading on', async () => {
    await bao.createKey('turns');
    await backend.generateDataKey('turns', context('x'));
    await bao.must('POST', 'transit/keys/sse-turns/config', { exportable: true });
    expect(await failure(backend.describeKey('turns'))).toEqual(UNFIT);
    expect(await failure(backend.generateDataKey('turns', context('x')))).toEqual(UNFIT);
  });

  test.each(['missing', '../../sys/seal', 'a/../../b', '', 'a%2f', 'x'.repeat(65)])(
    'key id %j is not found, and nothing strange is asked',
    async (keyId) => {
      const mark = await bao.auditMark();
      expect(await failure(backend.generateDataKey(keyId, context('x')))).toMatchObject({
        code: 'KMS.NotFoundException',
      });
      const asked = await bao.calls(mark);
      expect(asked.filter((call) => call !== 'read transit/keys/sse-missing')).toEqual([]);
    },
  );
});

function flip(wrapped: Buffer, at: number): Buffer {
  const out = Buffer.from(wrapped);
  out[at] = out[at] === 0x41 ? 0x42 : 0x41;
  return out;
}

function renumber(wrapped: Buffer, version: number): Buffer {
  return Buffer.from(wrapped.toString().replace('vault:v1:', `vault:v${version}:`));
}
