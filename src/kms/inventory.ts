import { LRUCache } from 'lru-cache';
import { asServiceError, ServiceError } from '../errors.ts';
import { makeCanary } from './canary.ts';
import type { Gate } from './gate.ts';
import type { KeyRecord, KeyRecords } from './key-records.ts';
import { type KmsBackend } from './ports.ts';
import { proveKey, StepFailure } from './probe.ts';
import { notFound } from './references.ts';

const UNKNOWN_MS = 10_000;

/** The inventory joined with the backend in force: how a key enters it, and what a new version of one means. */
export class Inventory {
  readonly #records: KeyRecords;
  readonly #backend: KmsBackend;
  readonly #gate: Gate;
  readonly #unknown: LRUCache<string, true>;
  readonly #adoptions = new Map<string, Promise<KeyRecord>>();

  constructor(records: KeyRecords, backend: KmsBackend, gate: Gate, clock: () => number) {
    this.#records = records;
    this.#backend = backend;
    this.#gate = gate;
    this.#unknown = new LRUCache({ max: 1000, ttl: UNKNOWN_MS, ttlResolution: 0, perf: { now: clock } });
  }

  /**
   * The record of a key that may wrap. A key that the backend has and the inventory does not is proven and taken in,
   * once: `key_prefix` and the token's policy say which keys are this service's.
   */
  async forWrap(keyId: string): Promise<KeyRecord> {
    if ((await this.#records.find(keyId)) === undefined) {
      if (this.#unknown.has(keyId)) throw notFound();
      await this.adopt(keyId);
    }
    return this.#records.usable(keyId);
  }

  /** Proves a key of the backend and takes it in, with a canary under its newest version. */
  adopt(keyId: string, description?: string): Promise<KeyRecord> {
    let adoption = this.#adoptions.get(keyId);
    if (adoption === undefined) {
      adoption = this.#adopt(keyId, description).finally(() => this.#adoptions.delete(keyId));
      this.#adoptions.set(keyId, adoption);
    }
    return adoption;
  }

  async #adopt(keyId: string, description?: string): Promise<KeyRecord> {
    const backend = this.#backend;
    try {
      const { described, made } = await this.#gate.run('adopt', async (signal) => {
        const described = await backend.describeKey(keyId, signal);
        await proveKey(backend, keyId, undefined, signal);
        return { described, made: await makeCanary(backend, keyId, signal) };
      });
      this.#unknown.delete(keyId);
      return await this.#records.adopt(described, made, description);
    } catch (err) {
      const failure = err instanceof StepFailure ? err.failure : asServiceError(err);
      if (failure.code === 'KMS.NotFoundException') this.#unknown.set(keyId, true);
      throw failure;
    }
  }

  /** Compares the version that just wrapped with the recorded one: an older one is refused, a newer one recorded. */
  async seen(keyId: string, version: number, record: KeyRecord): Promise<void> {
    if (version === record.latestVersion && record.canaries[version] !== undefined) return;
    if (version < record.latestVersion) {
      throw new ServiceError('ServiceUnavailable', { reason: 'kms-version-behind', headers: { 'Retry-After': '30' } });
    }
    await this.raise(keyId);
  }

  /** Records the newest version, with a canary under it. */
  async raise(keyId: string): Promise<KeyRecord> {
    const made = await this.#gate.run('canary', (signal) => makeCanary(this.#backend, keyId, signal));
    return this.#records.raise(keyId, made);
  }

  forgetUnknown(keyId: string): void {
    this.#unknown.delete(keyId);
  }
}
