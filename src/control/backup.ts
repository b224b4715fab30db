import { randomBytes, type KeyObject } from 'node:crypto';
import { z } from 'zod';
import { ServiceError } from '../errors.ts';
import { readPrivate, replaceFile } from './files.ts';
import { records, type ControlStore, type Json } from './port.ts';
import { deriveSealKey, open, seal } from './seal.ts';

/**
 * Backup and restore of a control store: one file, sealed under the master key, which it does not contain.
 *
 *     "ESSB" ‖ 1 ‖ backup id (16) ‖ nonce (12) ‖ AES-256-GCM(JSON of all records) ‖ tag (16)
 */
const MAGIC = Buffer.from('ESSB\x01', 'latin1');
const HEADER = MAGIC.byteLength + 16;
const LARGEST = 1 << 28;

const backupSchema = z.strictObject({
  createdAt: z.iso.datetime(),
  records: z.array(z.strictObject({ name: z.string(), value: z.json() })),
});

const PREFIXES = [records.envelopeKeys, records.buckets, records.bucketKeys, records.keys, records.aliases, 'secrets/'];
/** The realm last: a restore that is cut short leaves a store that does not open. */
const SINGLES = [records.traits, records.service, records.realm];

function refused(message: string): ServiceError {
  return new ServiceError('ValidationException', { message, reason: 'control-backup' });
}

export async function backupControl(
  store: ControlStore,
  path: string,
  master: KeyObject,
  now: number,
): Promise<number> {
  const names = (await Promise.all(PREFIXES.map((prefix) => store.list(prefix)))).flat();
  const all: { name: string; value: Json }[] = [];
  for (const name of [...names, ...SINGLES]) {
    const { value } = await store.get(name);
    if (value !== null) all.push({ name, value });
  }
  const plaintext = Buffer.from(JSON.stringify({ createdAt: new Date(now).toISOString(), records: all }));
  const header = Buffer.concat([MAGIC, randomBytes(16)]);
  const sealed = seal(backupKey(master), plaintext, header);
  plaintext.fill(0);
  await replaceFile(path, Buffer.concat([header, sealed]));
  return all.length;
}

/** Fills an empty store. The service comes back stopped: an old desired state is nobody's decision of today. */
export async function restoreControl(store: ControlStore, path: string, master: KeyObject): Promise<number> {
  const bytes = await readPrivate(path, LARGEST);
  const header = bytes.subarray(0, HEADER);
  if (bytes.byteLength <= HEADER || !header.subarray(0, MAGIC.byteLength).equals(MAGIC)) {
    throw refused(`${path} is not a backup of a control store.`);
  }
  const plaintext = open(backupKey(master), bytes.subarray(HEADER), header);
  if (plaintext === undefined) throw refused(`${path} does not open under this master key.`);
  const parsed = backupSchema.safeParse(JSON.parse(plaintext.toString('utf8')));
  plaintext.fill(0);
  if (!parsed.success) throw refused(`${path} is not a backup of this version.`);
  const entries = parsed.data.records;
  if (!entries.some(({ name }) => name === records.realm)) throw refused(`${path} has no realm.`);
  for (const { name } of entries) {
    if ((await store.get(name)).version !== 0) {
      throw new ServiceError('Conflict', { message: 'The control store is not empty.', reason: 'control-exists' });
    }
  }
  for (const { name, value } of entries) {
    await store.compareAndSet(name, name === records.service ? stopped(value) : value, 0);
  }
  return entries.length;
}

function stopped(value: Json): Json {
  const { generation, settings, secret } = z.looseObject({ generation: z.int() }).parse(value) as Record<string, Json>;
  const stop = { reason: 'restored from a backup', by: 'restore', scope: 'managed' };
  const kept = Object.entries({ generation, settings, secret }).filter(([, field]) => field !== undefined);
  return { ...(Object.fromEntries(kept) as Record<string, Json>), desired: 'stopped', stop };
}

function backupKey(master: KeyObject): KeyObject {
  return deriveSealKey(master, 'control-backup');
}
