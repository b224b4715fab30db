import { ServiceError } from '../errors.ts';
import type { Active } from './active.ts';
import type { Gate } from './gate.ts';
import type { KeyRecord, KeyRecords } from './key-records.ts';
import { KEY_ID, type BackendCapabilities, type KeyAdministration, type KeyDescription } from './ports.ts';
import { keyArn, notFound, type ArnScope } from './references.ts';

export interface KeyAdminOptions {
  readonly scope: ArnScope;
  readonly records: KeyRecords;
  readonly gate: Gate;
  /** Throws while the service is not Running. */
  readonly active: () => Active;
  readonly purge: () => void;
  readonly resolve: (reference: string) => Promise<string>;
}

/** Administration of the inventory's keys. Every change of a key is followed by a purge: nothing cached outlives it. */
export class KeyAdmin implements KeyAdministration {
  readonly #options: KeyAdminOptions;

  constructor(options: KeyAdminOptions) {
    this.#options = options;
  }

  async listKeys(): Promise<readonly KeyDescription[]> {
    const { records } = this.#options;
    const found = await Promise.all(
      (await records.ids()).map(async (keyId) => ({ keyId, record: await records.find(keyId) })),
    );
    return found.flatMap(({ keyId, record }) => (record === undefined ? [] : [this.#described(keyId, record)]));
  }

  async describeKey(reference: string): Promise<KeyDescription> {
    const keyId = await this.#options.resolve(reference);
    const record = await this.#options.records.find(keyId);
    if (record === undefined) throw notFound();
    return this.#described(keyId, record);
  }

  async createKey(keyId: string, description?: string): Promise<KeyDescription> {
    const { active, gate, records } = this.#options;
    if (!KEY_ID.test(keyId)) throw new ServiceError('ValidationException', { message: 'The key id is not valid.' });
    const { backend, inventory } = active();
    const create = backend.createKey?.bind(backend);
    if (create === undefined || !backend.capabilities.createKey) throw missing('createKey');
    // A key that is lost at the KMS is not made anew under its name: what is under it would look tampered with.
    if ((await records.find(keyId)) !== undefined) {
      throw new ServiceError('Conflict', { message: `The key ${keyId} exists already.`, reason: 'key-exists' });
    }
    await gate.run('create-key', (signal) => create(keyId, signal));
    inventory.forgetUnknown(keyId);
    return this.#described(keyId, await inventory.adopt(keyId, description));
  }

  async rotateKey(reference: string): Promise<KeyDescription> {
    const { active, gate, records, resolve } = this.#options;
    const { backend, inventory } = active();
    const rotate = backend.rotateKey?.bind(backend);
    if (rotate === undefined || !backend.capabilities.rotateKey) throw missing('rotateKey');
    const keyId = await resolve(reference);
    await records.usable(keyId);
    await gate.run('rotate-key', (signal) => rotate(keyId, signal));
    try {
      return this.#described(keyId, await inventory.raise(keyId));
    } finally {
      this.#options.purge();
    }
  }

  enableKey(reference: string): Promise<KeyDescription> {
    return this.#moved(reference, (keyId) => this.#options.records.enable(keyId));
  }

  disableKey(reference: string): Promise<KeyDescription> {
    return this.#moved(reference, (keyId) => this.#options.records.disable(keyId));
  }

  scheduleDeletion(reference: string, days: number): Promise<KeyDescription> {
    return this.#moved(reference, (keyId) => this.#options.records.scheduleDeletion(keyId, days));
  }

  cancelDeletion(reference: string): Promise<KeyDescription> {
    return this.#moved(reference, (keyId) => this.#options.records.cancelDeletion(keyId));
  }

  async #moved(reference: string, move: (keyId: string) => Promise<KeyRecord>): Promise<KeyDescription> {
    const keyId = await this.#options.resolve(reference);
    const record = await move(keyId);
    this.#options.purge();
    return this.#described(keyId, record);
  }

  #described(keyId: string, record: KeyRecord): KeyDescription {
    const { state, latestVersion, createdAt, deletionDate, description } = record;
    return {
      keyId,
      arn: keyArn(this.#options.scope, keyId),
      state,
      latestVersion,
      createdAt,
      ...(deletionDate === undefined ? {} : { deletionDate }),
      ...(description === undefined ? {} : { description }),
    };
  }
}

function missing(capability: keyof BackendCapabilities): ServiceError {
  return new ServiceError('NotImplemented', {
    message: `The KMS backend does not offer ${capability}.`,
    reason: 'kms-capability',
  });
}
