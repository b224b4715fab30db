import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { ServiceError } from '../errors.ts';
import { addEnvelopeKey } from './envelope-keys.ts';
import { records, type ControlStore } from './port.ts';

/** The identity of a deployment: every envelope is bound to it. */
export interface Realm {
  /** 16 bytes. */
  readonly id: Buffer;
  readonly createdAt: string;
}

const realmSchema = z.strictObject({ id: z.base64().length(24), createdAt: z.iso.datetime() });

/**
 * Makes a deployment: the first envelope key, the service record, and last the realm id, without which nothing opens
 * the store. Refused where anything is: a second realm would make every old object look tampered with.
 */
export async function initControl(store: ControlStore, now: number): Promise<Realm> {
  const found = [records.realm, records.service, records.traits].map(async (name) => (await store.get(name)).version);
  const listed = [records.envelopeKeys, records.buckets, records.bucketKeys, records.keys, records.aliases].map(
    async (prefix) => (await store.list(prefix)).length,
  );
  if ((await Promise.all([...found, ...listed])).some((count) => count !== 0)) {
    throw new ServiceError('Conflict', {
      message: 'The control store is not empty; init is refused.',
      reason: 'control-exists',
    });
  }
  const createdAt = new Date(now).toISOString();
  const id = randomBytes(16);
  await addEnvelopeKey(store, now);
  await store.compareAndSet(records.service, { generation: 1, desired: 'stopped' }, 0);
  await store.compareAndSet(records.realm, { id: id.toString('base64'), createdAt }, 0);
  return { id, createdAt };
}

/** The realm of an initialised store. Never makes one: a missing one is an error (an unmounted volume, most often). */
export async function loadRealm(store: ControlStore): Promise<Realm> {
  const { value } = await store.get(records.realm);
  const parsed = realmSchema.safeParse(value);
  if (!parsed.success) {
    throw new ServiceError('ServiceUnavailable', {
      message: 'The control store is not initialised.',
      reason: 'control-missing',
      headers: { 'Retry-After': '2' },
    });
  }
  return { id: Buffer.from(parsed.data.id, 'base64'), createdAt: parsed.data.createdAt };
}
