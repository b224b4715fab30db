import { openVaultBackend } from '../../src/kms/backends/vault.ts';
import { kmsConformance, type BackendUnderTest } from '../kms/conformance.ts';
import { startOpenBao } from '../support/openbao.ts';
import { approle, configFor } from './backend.ts';

/** The suite that every backend passes: once as the gateway runs, once with the administrator's and the job's rights. */
async function onOpenBao(policies: readonly string[], administrator: boolean): Promise<BackendUnderTest> {
  const bao = await startOpenBao();
  try {
    const { auth } = await approle(bao, await bao.appRole('data', { policies }));
    await bao.createKey('first');
    await bao.createKey('second');
    const deps = administrator ? { adminAuth: { token: { token: await bao.token(['sse-admin']) } } } : {};
    return {
      backend: await openVaultBackend(configFor(bao, auth), deps),
      keyId: 'first',
      otherKeyId: 'second',
      missingKeyId: 'third',
      rotate: (keyId) => bao.rotateKey(keyId),
      end: () => bao.stop(),
    };
  } catch (err) {
    await bao.stop();
    throw err;
  }
}

kmsConformance('vault, data role', () => onOpenBao(['sse-data'], false));
kmsConformance('vault, data, job and admin roles', () => onOpenBao(['sse-data', 'sse-job'], true));
