import { z } from 'zod';
import { records, type ControlStore, type Json } from '../control/port.ts';
import { ServiceError } from '../errors.ts';
import { joinSecrets, splitSecrets } from './config-merge.ts';
import type { KmsConfig, ParseOptions } from './config-schema.ts';

/** The `service` record: the desired state and the configuration, without secrets. It outlives every process. */
const stopSchema = z.strictObject({
  reason: z.string().max(1024),
  by: z.string().max(1024),
  scope: z.enum(['managed', 'all']),
  at: z.string().max(64).optional(),
});
export type StopNote = Readonly<z.infer<typeof stopSchema>>;

const serviceSchema = z.strictObject({
  /** Counts changes of desired state and configuration; bucket keys of another generation end. */
  generation: z.int().positive(),
  desired: z.enum(['running', 'stopped']),
  stop: stopSchema.optional(),
  settings: z.record(z.string(), z.json()).optional(),
  /** Name of the sealed record with the inline secrets of `settings`. */
  secret: z.string().max(64).optional(),
});
export type ServiceRecord = Readonly<z.infer<typeof serviceSchema>>;

const secretsSchema = z.strictObject({ secret_id: z.string().optional(), token: z.string().optional() });

export interface ReadService {
  readonly record: ServiceRecord;
  /** For the next check-and-set. */
  readonly version: number;
}

function damaged(message: string, reason = 'control-damaged'): ServiceError {
  return new ServiceError('ServiceUnavailable', { message, reason, headers: { 'Retry-After': '2' } });
}

/** Reads the record; a missing one is an error, because only `init` makes it. */
export async function readService(store: ControlStore): Promise<ReadService> {
  const { value, version } = await store.get(records.service);
  if (value === null) throw damaged('The control store is not initialised.', 'control-missing');
  const parsed = serviceSchema.safeParse(value);
  if (!parsed.success) throw damaged('The service record is damaged.');
  return { record: parsed.data, version };
}

export async function writeService(store: ControlStore, record: ServiceRecord, version: number): Promise<ReadService> {
  return { record, version: await store.compareAndSet(records.service, record as Json, version) };
}

/** The configuration of a record with its secrets put back; undefined where none was ever given. */
export async function readConfig(
  store: ControlStore,
  record: ServiceRecord,
  options: ParseOptions,
): Promise<KmsConfig | undefined> {
  if (record.settings === undefined) return undefined;
  const secrets =
    record.secret === undefined
      ? {}
      : secretsSchema.safeParse((await store.get(records.secret(record.secret))).value).data;
  if (secrets === undefined) throw damaged('The secrets of the service are damaged.');
  const { secret_id, token } = secrets;
  const given = {
    ...(secret_id === undefined ? {} : { secret_id }),
    ...(token === undefined ? {} : { token }),
  };
  return joinSecrets(record.settings, given, options);
}

/**
 * Persists a configuration: the secrets first, under a name of this generation, then the record that points at them.
 * Whoever loses the race leaves the secrets of the winner as they are.
 */
export async function persistConfig(store: ControlStore, found: ReadService, config: KmsConfig): Promise<ReadService> {
  const { settings, secrets } = splitSecrets(config);
  const { generation: oldGeneration, secret: oldSecret, desired, stop } = found.record;
  const generation = oldGeneration + 1;
  let secret: string | undefined;
  if (Object.keys(secrets).length > 0) {
    secret = `kms.${generation}`;
    const name = records.secret(secret);
    await store.compareAndSet(name, { ...secrets }, (await store.get(name)).version);
  }
  const record = {
    generation,
    desired,
    ...(stop === undefined ? {} : { stop }),
    settings: settings as NonNullable<ServiceRecord['settings']>,
    ...(secret === undefined ? {} : { secret }),
  };
  const written = await writeService(store, record, found.version);
  if (oldSecret !== undefined && oldSecret !== secret) {
    const name = records.secret(oldSecret);
    // Nothing points at it any more; a failure to remove it now leaves it sealed.
    await store
      .get(name)
      .then(({ version }) => store.compareAndSet(name, null, version))
      .catch(() => undefined);
  }
  return written;
}

/** Desired running, and what it was stopped for forgotten. */
export function asRunning({ generation, settings, secret }: ServiceRecord): ServiceRecord {
  return {
    generation: generation + 1,
    desired: 'running',
    ...(settings === undefined ? {} : { settings }),
    ...(secret === undefined ? {} : { secret }),
  };
}

/** Desired stopped; the generation is the writer's to raise. */
export function asStopped(record: ServiceRecord, stop: StopNote): ServiceRecord {
  return { ...record, desired: 'stopped', stop };
}
