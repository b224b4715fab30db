import { records, type ControlStore, type Json } from '../control/port.ts';
import { ServiceError } from '../errors.ts';
import type { StoreClient, StoreTraits } from './port.ts';
import { probeTraits, type Finding, type Findings, type ProbeOptions } from './probe.ts';
import { CAREFUL_TRAITS, TRAITS, traitsOf, type TraitName } from './traits.ts';

/** What the operator has set; it stands above what was found. */
export type TraitPins = Readonly<Partial<Record<TraitName, boolean>>>;

export interface StoreProfile {
  /** What the gateway goes by: the pin, else what was found, else the careful default. */
  readonly traits: StoreTraits;
  readonly found: Findings;
  readonly pins: TraitPins;
  /** The store's `Server` header when it was probed; empty where it sends none. */
  readonly server: string;
  /**
   * A marker (`photos/`, zero bytes) without an envelope may be read. Only the operator's own pin allows that: a store
   * that is not trusted could otherwise earn it by dropping metadata.
   */
  readonly bareMarkersReadable: boolean;
}

export interface ProfileOptions extends Pick<ProbeOptions, 'client' | 'systemBucket' | 'run'> {
  readonly control: ControlStore;
  readonly pins: TraitPins;
  readonly clock: () => Date;
  /** Probe even if a record is there (`doctor`). */
  readonly again?: boolean;
}

/** Reads the profile; probes at first start, after a change of the `Server` header, and for what stayed unknown. */
export async function loadProfile(options: ProfileOptions): Promise<StoreProfile> {
  const { control, pins } = options;
  const skip = new Set(TRAITS.map((row) => row.name).filter((name) => pins[name] !== undefined));
  const stored = await control.get(records.traits);
  const known = parseRecord(stored.value);
  if (skip.size === TRAITS.length) return profileOf(known?.found ?? NOTHING_FOUND, pins, known?.server ?? '');
  const server = await serverHeader(options.client(CAREFUL_TRAITS), options.systemBucket);
  if (known !== undefined && options.again !== true && known.server === server && settled(known.found, pins)) {
    return profileOf(known.found, pins, server);
  }
  const found = await probeTraits({ ...options, skip });
  const value: Json = { format: 1, server, probedAt: options.clock().toISOString(), found: { ...found } };
  try {
    await control.compareAndSet(records.traits, value, stored.version);
  } catch (err) {
    // Another replica probed at the same time. Each goes by what itself has found; the record is one of them.
    if (!(err instanceof ServiceError && err.code === 'Conflict')) throw err;
  }
  return profileOf(found, pins, server);
}

const NOTHING_FOUND = Object.freeze(
  Object.fromEntries(TRAITS.map((row) => [row.name, 'unknown'])),
) as unknown as Findings;

function settled(found: Findings, pins: TraitPins): boolean {
  return TRAITS.every(({ name }) => pins[name] !== undefined || found[name] !== 'unknown');
}

function profileOf(found: Findings, pins: TraitPins, server: string): StoreProfile {
  const traits = traitsOf(({ name, careful }) => {
    const finding = found[name];
    return pins[name] ?? (finding === 'unknown' ? careful : finding);
  });
  return Object.freeze({ traits, found, pins, server, bareMarkersReadable: pins.keepsSlashMetadata === false });
}

/** A record that is not of this format (none, an older one, one of other traits) counts as none: it is probed again. */
function parseRecord(value: Json): { server: string; found: Findings } | undefined {
  if (!isObject(value) || value['format'] !== 1) return undefined;
  const server = value['server'];
  const found = value['found'];
  if (typeof server !== 'string' || found === undefined || !isObject(found)) return undefined;
  const rows: [TraitName, Finding][] = [];
  for (const { name } of TRAITS) {
    const finding = found[name];
    rows.push([name, typeof finding === 'boolean' ? finding : 'unknown']);
  }
  return { server, found: Object.fromEntries(rows) as unknown as Findings };
}

function isObject(value: Json): value is Readonly<Record<string, Json>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

async function serverHeader(client: StoreClient, bucket: string): Promise<string> {
  try {
    const response = await client.request({ method: 'HEAD', bucket });
    response.discard();
    return (response.headers['server'] ?? '').slice(0, 256);
  } finally {
    await client.close();
  }
}
