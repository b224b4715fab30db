import { createSecretKey, randomBytes, type KeyObject } from 'node:crypto';
import type { ControlStore, Json, Stored } from '../../src/control/port.ts';
import { integrityError, ServiceError } from '../../src/errors.ts';
import { KEY_ID, type BackendKey, type DataKey, type KmsBackend } from '../../src/kms/ports.ts';

/** A control store in memory that can be broken. For tests of what stands on the port; the real ones have their own. */
export class FakeControlStore implements ControlStore {
  readonly keepsSecrets = true;
  readonly records = new Map<string, Stored>();
  /** While set, every call fails with it. */
  broken: Error | undefined;
  /** While set, writes fail with it. */
  readOnly: Error | undefined;
  /** Called before each write, to put another writer between. */
  beforeWrite: ((name: string) => Promise<void>) | undefined;
  reads = 0;

  get(name: string): Promise<Stored> {
    this.reads++;
    if (this.broken !== undefined) return Promise.reject(this.broken);
    return Promise.resolve(this.records.get(name) ?? { value: null, version: 0 });
  }

  list(prefix: string): Promise<readonly string[]> {
    if (this.broken !== undefined) return Promise.reject(this.broken);
    const live = [...this.records].filter(([name, { value }]) => name.startsWith(prefix) && value !== null);
    return Promise.resolve(live.map(([name]) => name).sort());
  }

  async compareAndSet(name: string, value: Json, version: number): Promise<number> {
    await this.beforeWrite?.(name);
    const failure = this.broken ?? this.readOnly;
    if (failure !== undefined) throw failure;
    if ((this.records.get(name)?.version ?? 0) !== version) {
      throw new ServiceError('Conflict', { reason: 'control-cas' });
    }
    // A copy: what a caller changes later is not what was written.
    this.records.set(name, { value: JSON.parse(JSON.stringify(value)) as Json, version: version + 1 });
    return version + 1;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** What a KMS behind `FakeBackend` holds; two backends on one FakeKms are one KMS. */
export class FakeKms {
  /** Key id to its versions' secrets. */
  readonly keys = new Map<string, string[]>();
  readonly wrapped = new Map<string, { keyId: string; secret: string; context: string; key: KeyObject }>();
  calls: string[] = [];
  /** While set, every call fails with it. */
  down: Error | undefined;
  /** Ignores contexts, as a transit key without `derived` does. */
  ignoresContext = false;
  /** While set, calls wait for it. */
  hold: Promise<void> | undefined;
  open = 0;

  addKey(keyId: string): void {
    this.keys.set(keyId, [randomBytes(8).toString('hex')]);
  }

  rotate(keyId: string): void {
    this.keys.get(keyId)?.push(randomBytes(8).toString('hex'));
  }

  count(...operations: string[]): number {
    return this.calls.filter((call) => operations.includes(call)).length;
  }
}

export class FakeBackend implements KmsBackend {
  readonly kind = 'fake';
  readonly capabilities = { createKey: true, rotateKey: true, rewrap: false, listKeys: false };
  readonly #kms: FakeKms;
  #closed = false;

  constructor(kms: FakeKms) {
    this.#kms = kms;
    kms.open++;
  }

  async generateDataKey(keyId: string, context: Buffer, signal?: AbortSignal): Promise<DataKey> {
    const versions = await this.#call('generate', keyId, signal);
    const secret = versions.at(-1) ?? '';
    const key = createSecretKey(randomBytes(32));
    const form = `${versions.length}:${randomBytes(12).toString('hex')}`;
    this.#kms.wrapped.set(form, { keyId, secret, context: context.toString('hex'), key });
    return { key, wrapped: Buffer.from(form), version: versions.length };
  }

  async unwrap(keyId: string, wrapped: Buffer, context: Buffer, signal?: AbortSignal): Promise<KeyObject> {
    const versions = await this.#call('unwrap', keyId, signal);
    const found = this.#kms.wrapped.get(wrapped.toString());
    const right =
      found?.keyId === keyId &&
      versions.includes(found.secret) &&
      (this.#kms.ignoresContext || found.context === context.toString('hex'));
    if (!right) throw integrityError('kms-unwrap');
    return found.key;
  }

  wrappedVersion(wrapped: Buffer): number {
    const version = Number(wrapped.toString().split(':')[0]);
    if (!Number.isInteger(version)) throw integrityError('kms-unwrap');
    return version;
  }

  async describeKey(keyId: string, signal?: AbortSignal): Promise<BackendKey> {
    const versions = await this.#call('describe', keyId, signal);
    return { keyId, latestVersion: versions.length, minDecryptionVersion: 1 };
  }

  async createKey(keyId: string, signal?: AbortSignal): Promise<BackendKey> {
    this.#kms.calls.push('create');
    this.#kms.addKey(keyId);
    return this.describeKey(keyId, signal);
  }

  async rotateKey(keyId: string, signal?: AbortSignal): Promise<BackendKey> {
    this.#kms.calls.push('rotate');
    this.#kms.rotate(keyId);
    return this.describeKey(keyId, signal);
  }

  async check(): Promise<void> {
    await this.#answer('check');
  }

  close(): Promise<void> {
    if (!this.#closed) this.#kms.open--;
    this.#closed = true;
    return Promise.resolve();
  }

  async #call(operation: string, keyId: string, signal?: AbortSignal): Promise<string[]> {
    signal?.throwIfAborted();
    await this.#answer(operation);
    const versions = this.#kms.keys.get(keyId);
    if (!KEY_ID.test(keyId) || versions === undefined) throw new ServiceError('KMS.NotFoundException');
    return versions;
  }

  async #answer(operation: string): Promise<void> {
    this.#kms.calls.push(operation);
    await this.#kms.hold;
    if (this.#kms.down !== undefined) throw this.#kms.down;
    if (this.#closed) throw new Error('used after close');
  }
}

export const outage = (): ServiceError => new ServiceError('ServiceUnavailable', { reason: 'kms-unavailable' });
export const controlDown = (): ServiceError => new ServiceError('ServiceUnavailable', { reason: 'control-store' });
