import { randomBytes, type KeyObject } from 'node:crypto';
import { z } from 'zod';
import { takeKey } from '../bytes.ts';
import { ServiceError } from '../errors.ts';
import { records, type ControlStore } from './port.ts';

/**
 * The envelope keys: they MAC every envelope and record at the untrusted store (docs/FORMAT.md). Each version is a
 * create-only record; old versions are never deleted, because objects stay bound to the version that sealed them.
 */
export interface EnvelopeKeys {
  current(): { readonly version: number; readonly key: KeyObject };
  get(version: number): KeyObject | undefined;
}

const schema = z.strictObject({ key: z.base64().length(44), createdAt: z.iso.datetime() });

function damaged(message: string): ServiceError {
  return new ServiceError('ServiceUnavailable', {
    message,
    reason: 'control-damaged',
    headers: { 'Retry-After': '2' },
  });
}

/** Loads all versions; a store without a first one, or with a gap, is not one that `init` made. */
export async function loadEnvelopeKeys(store: ControlStore): Promise<EnvelopeKeys> {
  const versions = (await store.list(records.envelopeKeys))
    .map((name) => Number(name.slice(records.envelopeKeys.length)))
    .sort((a, b) => a - b);
  const keys = new Map<number, KeyObject>();
  for (const [index, version] of versions.entries()) {
    if (version !== index + 1) throw damaged('A version of the envelope key is missing.');
    keys.set(version, parseKey((await store.get(records.envelopeKey(version))).value));
  }
  const newest = keys.get(versions.length);
  if (newest === undefined) throw damaged('The control store has no envelope key.');
  const current = Object.freeze({ version: versions.length, key: newest });
  return { current: () => current, get: (version) => keys.get(version) };
}

/**
 * The record's value passes through JSON, so its base64 is a string until it is collected: the price of one port for
 * every control store. It happens at start and at a rotation only.
 */
function parseKey(value: unknown): KeyObject {
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw damaged('An envelope key is damaged.');
  const bytes = Buffer.allocUnsafeSlow(32);
  if (bytes.write(parsed.data.key, 'base64') !== 32) throw damaged('An envelope key is damaged.');
  return takeKey(bytes);
}

/** Adds the next version; the loser of a race gets Conflict. Returns its number. */
export async function addEnvelopeKey(store: ControlStore, now: number): Promise<number> {
  const version = (await store.list(records.envelopeKeys)).length + 1;
  const bytes = randomBytes(32);
  const value = { key: bytes.toString('base64'), createdAt: new Date(now).toISOString() };
  bytes.fill(0);
  await store.compareAndSet(records.envelopeKey(version), value, 0);
  return version;
}
