import { asServiceError, ServiceError } from '../errors.ts';
import { openCanary } from './canary.ts';
import type { KmsConfig, LocalConfig, VaultConfig } from './config-schema.ts';
import type { KeyRecord, KeyRecords } from './key-records.ts';
import type { BackendDeps, KmsBackend } from './ports.ts';
import { proveKey, StepFailure } from './probe.ts';

/** The backends that exist, by the type that names them; none stands in for another. */
export interface Backends {
  readonly local: (config: LocalConfig, deps: BackendDeps) => Promise<KmsBackend>;
  readonly vault: (config: VaultConfig, deps: BackendDeps) => Promise<KmsBackend>;
}

function openBackend(backends: Backends, config: KmsConfig, deps: BackendDeps): Promise<KmsBackend> {
  return config.backend_type === 'local' ? backends.local(config, deps) : backends.vault(config, deps);
}

/** The keys that a configuration names. */
export function namedKeys(config: KmsConfig): readonly string[] {
  return [...new Set([config.default_key_id, config.sse_s3_key_id])].filter((id) => id !== undefined);
}

const AT_ONCE = 8;

/** `openCandidate` under a limit and the caller's abort; a backend that comes up after that is closed again. */
export async function proveCandidate(
  backends: Backends,
  config: KmsConfig,
  deps: BackendDeps,
  inventory: KeyRecords,
  proof: AbortController,
  limitMs: number,
): Promise<KmsBackend> {
  const late = setTimeout(() => proof.abort(tooLate()), limitMs);
  const ended = new Promise<never>((_resolve, reject) => {
    proof.signal.addEventListener('abort', () => reject(asServiceError(proof.signal.reason)));
  });
  const opening = openCandidate(backends, config, deps, inventory, proof.signal);
  try {
    return await Promise.race([opening, ended]);
  } catch (err) {
    opening.then((backend) => backend.close()).catch(() => undefined);
    throw proof.signal.aborted ? asServiceError(proof.signal.reason) : err;
  } finally {
    clearTimeout(late);
  }
}

function tooLate(): ServiceError {
  return new ServiceError('ServiceUnavailable', { reason: 'kms-unavailable', headers: { 'Retry-After': '5' } });
}

/**
 * Proves a configuration before anything depends on it: the backend answers, the named keys are there (or are made),
 * are fit, wrap, unwrap and refuse a wrong context, and the canaries of the whole inventory open. The backend is
 * closed again when any of it fails.
 */
async function openCandidate(
  backends: Backends,
  config: KmsConfig,
  deps: BackendDeps,
  inventory: KeyRecords,
  signal: AbortSignal,
): Promise<KmsBackend> {
  const backend = await openBackend(backends, config, deps);
  try {
    await backend.check(signal);
    for (const keyId of namedKeys(config)) {
      const record = await inventory.find(keyId);
      if (record === undefined && config.create_default_key) await createMissing(backend, keyId, signal);
      await proveNamed(backend, keyId, record, signal);
    }
    await proveInventory(backend, namedKeys(config), inventory, signal);
    signal.throwIfAborted();
    return backend;
  } catch (err) {
    await backend.close().catch(() => undefined);
    throw err;
  }
}

/** Only for a key that the inventory does not have: a known one that is missing is a lost or other KMS. */
async function createMissing(backend: KmsBackend, keyId: string, signal: AbortSignal): Promise<void> {
  try {
    await backend.describeKey(keyId, signal);
  } catch (err) {
    if (asServiceError(err).code !== 'KMS.NotFoundException') throw err;
    if (backend.createKey === undefined || !backend.capabilities.createKey) {
      throw new ServiceError('NotImplemented', {
        message: `The backend ${backend.kind} cannot create the key ${keyId}; create it there.`,
        reason: 'kms-capability',
      });
    }
    await backend.createKey(keyId, signal);
  }
}

async function proveNamed(
  backend: KmsBackend,
  keyId: string,
  record: KeyRecord | undefined,
  signal: AbortSignal,
): Promise<void> {
  try {
    await proveKey(backend, keyId, record, signal);
  } catch (err) {
    const failure = err instanceof StepFailure ? err.failure : asServiceError(err);
    if (failure.code !== 'KMS.NotFoundException') throw failure;
    if (record !== undefined) throw lost(keyId, failure);
    throw new ServiceError('ValidationException', {
      message: `The key ${keyId} does not exist at the KMS.`,
      reason: 'kms-key',
      cause: failure,
    });
  }
}

function lost(keyId: string, cause: unknown): ServiceError {
  return new ServiceError('Conflict', {
    message: `The KMS does not hold the key ${keyId} that this deployment's objects are under.`,
    reason: 'kms-canary',
    cause,
  });
}

/** Every other key that objects may be under: its newest canary. */
async function proveInventory(
  backend: KmsBackend,
  proven: readonly string[],
  inventory: KeyRecords,
  signal: AbortSignal,
): Promise<void> {
  const others = (await inventory.ids()).filter((keyId) => !proven.includes(keyId));
  for (let i = 0; i < others.length; i += AT_ONCE) {
    await Promise.all(
      others.slice(i, i + AT_ONCE).map(async (keyId) => {
        const record = await inventory.find(keyId);
        const canary = record?.canaries[record.latestVersion];
        if (record?.state === 'PendingDeletion' || canary === undefined) return;
        await openCanary(backend, keyId, canary, signal);
      }),
    );
  }
}
