import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openVaultBackend } from '../../src/kms/backends/vault.ts';
import type { KmsBackend } from '../../src/kms/ports.ts';
import { makeCa } from '../support/certs.ts';
import { startOpenBao, type OpenBao } from '../support/openbao.ts';
import { approle, configFor, context, failure, INTEGRITY, THROTTLED, UNAVAILABLE } from './backend.ts';

/** What a real server does when it is sealed, killed, over its quota or restored; the backend is never rebuilt. */
let bao: OpenBao;
let backend: KmsBackend;

beforeAll(async () => {
  bao = await startOpenBao();
  const { auth } = await approle(bao, await bao.appRole('data'));
  await bao.createKey('a');
  backend = await openVaultBackend(configFor(bao, auth));
  await backend.describeKey('a');
});

afterAll(async () => {
  await backend.close();
  await bao.stop();
});

/** The breaker lets a trial through after its pause; nobody touches the backend meanwhile. */
async function recovered(): Promise<number> {
  const started = Date.now();
  for (;;) {
    try {
      await backend.generateDataKey('a', context('x'));
      return Date.now() - started;
    } catch (err) {
      if (Date.now() - started > 15_000) throw err;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

describe('outages', () => {
  test('sealed: unavailable within the timeout, and served again once unsealed', async () => {
    const { wrapped, key } = await backend.generateDataKey('a', context('x'));
    await bao.seal();
    const started = Date.now();
    expect(await failure(backend.unwrap('a', wrapped, context('x')))).toEqual(UNAVAILABLE);
    expect(await failure(backend.check())).toEqual(UNAVAILABLE);
    expect(Date.now() - started).toBeLessThan(8000);
    await bao.unseal();
    expect(await recovered()).toBeLessThan(10_000);
    expect((await backend.unwrap('a', wrapped, context('x'))).equals(key)).toBe(true);
  });

  test('killed: unavailable; after many failures at once, without waiting; served again after a restart', async () => {
    const { wrapped, key } = await backend.generateDataKey('a', context('x'));
    await bao.kill();
    const all = await Promise.all(Array.from({ length: 8 }, () => failure(backend.unwrap('a', wrapped, context('x')))));
    expect(all).toEqual(all.map(() => UNAVAILABLE));
    const started = Date.now();
    expect(await failure(backend.unwrap('a', wrapped, context('x')))).toEqual(UNAVAILABLE);
    expect(Date.now() - started).toBeLessThan(100); // the breaker is open
    await bao.restart();
    expect(await recovered()).toBeLessThan(10_000);
    expect((await backend.unwrap('a', wrapped, context('x'))).equals(key)).toBe(true);
  });

  test('a caller who leaves hears his own reason, and at once', async () => {
    const leaving = new AbortController();
    const pending = backend.generateDataKey('a', context('x'), leaving.signal);
    leaving.abort(new Error('gone'));
    await expect(pending).rejects.toThrow('gone');
    await backend.generateDataKey('a', context('x'));
  });

  test('a certificate of another CA is refused before anything is sent', async () => {
    const stranger = join(bao.folder, 'stranger.pem');
    await writeFile(stranger, makeCa('stranger').cert);
    const { auth } = await approle(bao, await bao.appRole('other'));
    const mark = await bao.auditMark();
    expect(await failure(openVaultBackend(configFor(bao, auth, { ca_file: stranger })))).toEqual(UNAVAILABLE);
    expect(await bao.calls(mark)).toEqual([]);
  });
});

describe('quota', () => {
  test('429 is SlowDown, never an outage: however many, the next call after it is served', async () => {
    await bao.quota('tight', 'transit', 1, 60);
    await failure(Promise.all(Array.from({ length: 3 }, () => backend.generateDataKey('a', context('x')))));
    const all = await Promise.all(Array.from({ length: 8 }, () => failure(backend.generateDataKey('a', context('x')))));
    await bao.dropQuota('tight');
    expect(all).toEqual(all.map(() => THROTTLED));
    await backend.generateDataKey('a', context('x'));
  });

  test('a short burst over the quota is ridden out', async () => {
    const { auth } = await approle(bao, await bao.appRole('patient'));
    const patient = await openVaultBackend(configFor(bao, auth, { retry_attempts: 3 }));
    await bao.quota('burst', 'transit', 4, 1);
    try {
      for (let i = 0; i < 8; i++) await patient.generateDataKey('a', context('x'));
    } finally {
      await bao.dropQuota('burst');
      await patient.close();
    }
  });
});

describe('a restored snapshot', () => {
  test('what was wrapped since is an integrity error, before and after the next rotation', async () => {
    const before = await backend.generateDataKey('a', context('x'));
    const snapshot = await bao.snapshot();
    await bao.rotateKey('a');
    const since = await backend.generateDataKey('a', context('x'));
    expect(since.version).toBe(before.version + 1);

    await bao.restore(snapshot);
    await recovered();
    const mark = await bao.auditMark();
    expect(await failure(backend.unwrap('a', since.wrapped, context('x')))).toEqual(INTEGRITY); // version is too new
    expect(await bao.calls(mark)).toEqual(['update transit/decrypt/sse-a', 'update transit/decrypt/sse-a']);
    expect((await backend.describeKey('a')).latestVersion).toBe(before.version);

    await bao.rotateKey('a');
    expect((await backend.generateDataKey('a', context('x'))).version).toBe(since.version);
    expect(await failure(backend.unwrap('a', since.wrapped, context('x')))).toEqual(INTEGRITY); // other key material
    expect((await backend.unwrap('a', before.wrapped, context('x'))).equals(before.key)).toBe(true);
  });
});
