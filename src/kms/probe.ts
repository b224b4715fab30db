import { createHash } from 'node:crypto';
import { asServiceError, ServiceError } from '../errors.ts';
import { openCanary, versionBehind } from './canary.ts';
import type { KeyRecord } from './key-records.ts';
import type { KmsBackend } from './ports.ts';

/** What a probe of one key found: each step is an audit-safe class, never a message from outside. */
export interface KeyHealth {
  readonly keyId: string;
  readonly ok: boolean;
  /** The step that failed: `describe`, `version`, `wrap`, `unwrap`, `context`, `canary`. */
  readonly step?: string;
  readonly reason?: string;
  /** The newest version at the KMS. */
  readonly version?: number;
}

export interface Health {
  readonly ok: boolean;
  readonly checkedAt: string;
  /** Why the backend as a whole failed. */
  readonly reason?: string;
  readonly keys: readonly KeyHealth[];
}

function probeContext(keyId: string, which: string): Buffer {
  return createHash('sha256').update(`express-s3-sse/1/probe/${which}/${keyId}`).digest();
}

/**
 * Proves a key: it is fit, not older than what was seen, wraps and unwraps, opens its canaries, and refuses a wrong
 * context; returns its newest version. The last one is what tells a transit key without `derived`, which ignores the context and answers 200.
 */
export async function proveKey(
  backend: KmsBackend,
  keyId: string,
  record: KeyRecord | undefined,
  signal?: AbortSignal,
): Promise<number> {
  let version = 0;
  const steps: readonly (readonly [string, () => Promise<void>])[] = [
    ['version', async () => void (version = await proveVersion(backend, keyId, record, signal))],
    ['canary', () => proveCanaries(backend, keyId, record, signal)],
    ['context', () => proveContext(backend, keyId, signal)],
  ];
  for (const [step, prove] of steps) {
    try {
      await prove();
    } catch (err) {
      throw new StepFailure(step, asServiceError(err));
    }
  }
  return version;
}

/** Says which step failed beside the error that the caller answers with. */
export class StepFailure extends Error {
  readonly step: string;
  readonly failure: ServiceError;

  constructor(step: string, failure: ServiceError) {
    super(`probe: ${step}`, { cause: failure });
    this.step = step;
    this.failure = failure;
  }
}

async function proveVersion(
  backend: KmsBackend,
  keyId: string,
  record: KeyRecord | undefined,
  signal?: AbortSignal,
): Promise<number> {
  const { latestVersion } = await backend.describeKey(keyId, signal);
  if (record !== undefined && latestVersion < record.latestVersion) throw versionBehind(keyId);
  return latestVersion;
}

async function proveCanaries(
  backend: KmsBackend,
  keyId: string,
  record: KeyRecord | undefined,
  signal?: AbortSignal,
): Promise<void> {
  const newest = record?.canaries[record.latestVersion] ?? Object.values(record?.canaries ?? {}).at(-1);
  if (newest !== undefined) await openCanary(backend, keyId, newest, signal);
}

async function proveContext(backend: KmsBackend, keyId: string, signal?: AbortSignal): Promise<void> {
  const right = probeContext(keyId, 'right');
  const made = await backend.generateDataKey(keyId, right, signal);
  const opened = await backend.unwrap(keyId, made.wrapped, right, signal);
  if (!opened.equals(made.key)) throw unfit('does not give back what it wrapped', keyId);
  if (backend.wrappedVersion(made.wrapped) !== made.version) throw unfit('misreports its version', keyId);
  try {
    await backend.unwrap(keyId, made.wrapped, probeContext(keyId, 'wrong'), signal);
  } catch (err) {
    if (asServiceError(err).reason.startsWith('integrity:')) return;
    throw err;
  }
  throw unfit('is not bound to its context', keyId);
}

function unfit(why: string, keyId: string): ServiceError {
  return new ServiceError('ValidationException', { message: `The key ${keyId} ${why}.`, reason: 'key-unfit' });
}

/** One round over the keys in use. Never throws: what failed is in the result. */
export async function probe(
  backend: KmsBackend,
  keys: ReadonlyMap<string, KeyRecord | undefined>,
  now: () => number,
  signal?: AbortSignal,
): Promise<Health> {
  try {
    await backend.check(signal);
  } catch (err) {
    return { ok: false, checkedAt: at(now), reason: asServiceError(err).reason, keys: [] };
  }
  const results: KeyHealth[] = [];
  for (const [keyId, record] of keys) results.push(await keyHealth(backend, keyId, record, signal));
  return { ok: results.every(({ ok }) => ok), checkedAt: at(now), keys: results };
}

async function keyHealth(
  backend: KmsBackend,
  keyId: string,
  record: KeyRecord | undefined,
  signal?: AbortSignal,
): Promise<KeyHealth> {
  try {
    return { keyId, ok: true, version: await proveKey(backend, keyId, record, signal) };
  } catch (err) {
    const failed = err instanceof StepFailure ? err : new StepFailure('probe', asServiceError(err));
    return { keyId, ok: false, step: failed.step, reason: failed.failure.reason };
  }
}

function at(now: () => number): string {
  return new Date(now()).toISOString();
}
