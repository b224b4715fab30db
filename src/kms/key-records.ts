import { z } from 'zod';
import { records, type ControlStore, type Json } from '../control/port.ts';
import { RecordCache, type Reading } from '../control/record-cache.ts';
import { ServiceError } from '../errors.ts';
import { canarySchema, type NewCanary } from './canary.ts';
import { KEY_ID, type BackendKey } from './ports.ts';
import { notFound } from './references.ts';

/**
 * What this deployment knows of its KMS keys: the inventory. A state lives here because transit has none; it is
 * checked before the cache is asked. It binds this gateway only (SECURITY.md).
 */
const keySchema = z.strictObject({
  state: z.enum(['Enabled', 'Disabled', 'PendingDeletion']),
  /** Before it, the deletion can be cancelled; after it, the key is refused for ever. */
  deletionDate: z.iso.datetime().optional(),
  /** The newest version that was seen at the KMS. */
  latestVersion: z.int().positive(),
  /** Counts rotations and changes of state: bucket keys of an earlier count are not used for new objects. */
  generation: z.int().positive(),
  canaries: z.record(z.string().regex(/^[1-9]\d{0,14}$/), canarySchema),
  description: z.string().max(8192).optional(),
  createdAt: z.iso.datetime(),
});
export type KeyRecord = Readonly<z.infer<typeof keySchema>>;

const aliasSchema = z.strictObject({ keyId: z.string().regex(KEY_ID) });

export interface KeyRecordsOptions {
  readonly store: ControlStore;
  readonly clock: () => number;
  /** How long a disabled key may go on where the change was made by another process. */
  readonly freshMs: number;
  readonly staleMs: () => number;
}

const ATTEMPTS = 5;

export class KeyRecords {
  readonly #store: ControlStore;
  readonly #clock: () => number;
  readonly #keys: RecordCache<KeyRecord>;
  readonly #aliases: RecordCache<string>;

  constructor(options: KeyRecordsOptions) {
    this.#store = options.store;
    this.#clock = options.clock;
    this.#keys = new RecordCache({ ...options, parse: (value) => parsed(keySchema, value) });
    this.#aliases = new RecordCache({ ...options, parse: (value) => parsed(aliasSchema, value).keyId });
  }

  /** The record, or undefined where the key is not in the inventory. */
  async find(keyId: string): Promise<KeyRecord | undefined> {
    if (!KEY_ID.test(keyId)) return undefined;
    return (await this.#keys.get(records.key(keyId))).value;
  }

  /** The record of a key that may be used now; the errors of AWS KMS otherwise. */
  async usable(keyId: string): Promise<KeyRecord> {
    const record = await this.find(keyId);
    if (record === undefined) throw notFound();
    if (record.state === 'Disabled') throw new ServiceError('KMS.DisabledException');
    if (record.state === 'PendingDeletion') throw new ServiceError('KMS.KMSInvalidStateException');
    return record;
  }

  async ids(): Promise<readonly string[]> {
    return (await this.#store.list(records.keys)).map((name) => name.slice(records.keys.length));
  }

  /** Takes a key of the backend into the inventory; what is there already stays. */
  adopt(described: BackendKey, { version, canary }: NewCanary, description?: string): Promise<KeyRecord> {
    return this.#change(described.keyId, (found) => {
      return (
        found ?? {
          state: 'Enabled',
          latestVersion: Math.max(version, described.latestVersion),
          generation: 1,
          canaries: { [version]: canary },
          ...(description === undefined ? {} : { description }),
          createdAt: described.createdAt ?? new Date(this.#clock()).toISOString(),
        }
      );
    });
  }

  /** Records a version that was seen at the KMS, with its canary. */
  raise(keyId: string, { version, canary }: NewCanary): Promise<KeyRecord> {
    return this.#change(keyId, (found) => {
      if (found === undefined) throw notFound();
      if (found.canaries[version] !== undefined && found.latestVersion >= version) return found;
      const newer = version > found.latestVersion;
      return {
        ...found,
        latestVersion: Math.max(version, found.latestVersion),
        generation: found.generation + (newer ? 1 : 0),
        canaries: { ...found.canaries, [version]: canary },
      };
    });
  }

  enable(keyId: string): Promise<KeyRecord> {
    return this.#move(keyId, (found) => {
      if (found.state === 'PendingDeletion') throw new ServiceError('KMS.KMSInvalidStateException');
      return { ...found, state: 'Enabled' };
    });
  }

  disable(keyId: string): Promise<KeyRecord> {
    return this.#move(keyId, (found) => {
      if (found.state === 'PendingDeletion') throw new ServiceError('KMS.KMSInvalidStateException');
      return { ...found, state: 'Disabled' };
    });
  }

  scheduleDeletion(keyId: string, days: number): Promise<KeyRecord> {
    if (!Number.isInteger(days) || days < 7 || days > 30) {
      throw new ServiceError('ValidationException', { message: 'A deletion is scheduled in 7 to 30 days.' });
    }
    return this.#move(keyId, (found) => {
      if (found.state === 'PendingDeletion') throw new ServiceError('KMS.KMSInvalidStateException');
      const deletionDate = new Date(this.#clock() + days * 86_400_000).toISOString();
      return { ...found, state: 'PendingDeletion', deletionDate };
    });
  }

  /** As AWS has it, the key comes back disabled. */
  cancelDeletion(keyId: string): Promise<KeyRecord> {
    return this.#move(keyId, (found) => {
      const { deletionDate, ...rest } = found;
      const due = deletionDate === undefined || Date.parse(deletionDate) <= this.#clock();
      if (found.state !== 'PendingDeletion' || due) throw new ServiceError('KMS.KMSInvalidStateException');
      return { ...rest, state: 'Disabled' };
    });
  }

  /** The key behind an alias. */
  async aliasTarget(alias: string): Promise<string> {
    const { value } = await this.#aliases.get(records.alias(alias));
    if (value === undefined) throw notFound();
    return value;
  }

  /** Points an alias at a key of the inventory; undefined removes it. */
  async setAlias(alias: string, keyId: string | undefined): Promise<void> {
    if (!KEY_ID.test(alias)) throw new ServiceError('ValidationException', { message: 'The alias is not valid.' });
    if (keyId !== undefined && (await this.find(keyId)) === undefined) throw notFound();
    const name = records.alias(alias);
    const { value, version } = await this.#aliases.fresh(name);
    if (keyId === undefined && value === undefined) throw notFound();
    await this.#store.compareAndSet(name, keyId === undefined ? null : { keyId }, version);
    this.#aliases.forget(name);
  }

  forget(): void {
    this.#keys.forget();
    this.#aliases.forget();
  }

  #move(keyId: string, change: (found: KeyRecord) => KeyRecord): Promise<KeyRecord> {
    return this.#change(keyId, (found) => {
      if (found === undefined) throw notFound();
      return { ...change(found), generation: found.generation + 1 };
    });
  }

  /** Reads, changes and writes until no other writer was between. */
  async #change(keyId: string, change: (found: KeyRecord | undefined) => KeyRecord): Promise<KeyRecord> {
    if (!KEY_ID.test(keyId)) throw notFound();
    const name = records.key(keyId);
    for (let attempt = 1; ; attempt++) {
      const { value, version }: Reading<KeyRecord> = await this.#keys.fresh(name);
      const next = change(value);
      if (next === value) return value;
      try {
        await this.#store.compareAndSet(name, next as Json, version);
        return next;
      } catch (err) {
        if (!(err instanceof ServiceError && err.code === 'Conflict') || attempt >= ATTEMPTS) throw err;
      } finally {
        this.#keys.forget(name);
      }
    }
  }
}

function parsed<T>(schema: z.ZodType<T>, value: Json): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new ServiceError('ServiceUnavailable', {
    message: 'A key record is damaged.',
    reason: 'control-damaged',
    cause: result.error,
  });
}
