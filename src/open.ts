import { createSecretKey, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { openAudit } from './audit/open.ts';
import type { Audit } from './audit.ts';
import { readMasterKey, readSecret, readSigningKey, type Config } from './config.ts';
import { OwnSecrets } from './config/own-secrets.ts';
import { BucketRecords } from './control/buckets.ts';
import { openControlDirectory } from './control/directory.ts';
import { loadEnvelopeKeys } from './control/envelope-keys.ts';
import { loadRealm } from './control/init.ts';
import type { ControlStore } from './control/port.ts';
import { startDevStore } from './devstore/server.ts';
import { pooledEntropy } from './entropy.ts';
import { ServiceError } from './errors.ts';
import type { Rooms } from './gateway/exchange.ts';
import { COMPATIBILITY } from './gateway/compatibility.ts';
import { FormMemory } from './gateway/objects/form-memory.ts';
import { Manifests } from './gateway/objects/manifests.ts';
import { Sweep } from './gateway/uploads/sweep.ts';
import { SystemObjects } from './gateway/system-objects.ts';
import { Uploads } from './gateway/uploads/records.ts';
import { openLocalBackend } from './kms/backends/local.ts';
import { openVaultBackend } from './kms/backends/vault.ts';
import { noKmsMetrics } from './kms/options.ts';
import type { KmsMetrics, ServiceControl } from './kms/ports.ts';
import { openKeyService, type OpenKeyService } from './kms/service.ts';
import { Seed } from './kms/seed.ts';
import type { Log } from './log.ts';
import { measuredBackend } from './measured-backend.ts';
import type { Metrics } from './metrics.ts';
import { createStoreClient, type StoreClientOptions } from './store/client.ts';
import type { StoreClient, StoreTraits } from './store/port.ts';
import { loadProfile, type StoreProfile } from './store/profile.ts';
import { checkRealmMarker } from './store/system-bucket.ts';
import { RefusedSecrets } from './vault/login.ts';

/** Account in ARNs of KMS keys: there is none behind this service. */
const ACCOUNT = '000000000000';

/** How long a start waits for the KMS before the listeners serve what needs none. */
const KMS_WAIT_MS = 5_000;

export interface Opened {
  readonly rooms: Rooms;
  /** The administrator's side; configure answers 409 where the configuration file rules. */
  readonly service: ServiceControl;
  readonly profile: StoreProfile;
  /** Of the system bucket; somebody has to run it now and then. */
  readonly sweep: Sweep;
  close(): Promise<void>;
}

export interface OpenOptions {
  readonly config: Config;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** The store as the configuration names it: an endpoint, or the embedded one started on a free loopback port. */
export interface StorePlace {
  client(traits: StoreTraits): StoreClient;
  readonly region: string;
  close(): Promise<void>;
}

/** Opens every room that the gateway needs, in the order in which they need each other, and closes all on a failure. */
export async function openRooms(options: OpenOptions): Promise<Opened> {
  const closers: (() => Promise<void>)[] = [];
  const keep = <T extends { close(): Promise<void> }>(room: T): T => {
    closers.unshift(() => room.close());
    return room;
  };
  const close = async (): Promise<void> => {
    for (const closer of closers.splice(0)) await closer().catch(() => undefined);
  };
  try {
    return { ...(await open(options, keep)), close };
  } catch (err) {
    await close();
    throw err;
  }
}

type Keep = <T extends { close(): Promise<void> }>(room: T) => T;

async function open({ config, log, metrics }: OpenOptions, keep: Keep): Promise<Omit<Opened, 'close'>> {
  const clock = (): Date => new Date();
  const control = keep(await openControl(config));
  const realm = await loadRealm(control);
  const envelopeKeys = await loadEnvelopeKeys(control);
  const audit = keep(openAuditSinks(config, metrics));
  const place = keep(await openStorePlace(config));
  const profile = await openProfile(config, place, control, realm.id);
  for (const [trait, held] of Object.entries(profile.traits)) if (!held) log.info('store trait missing', { trait });
  const store = keep(place.client(profile.traits));
  const keys = keep(await openKeys(config, control, metrics, log));
  keep(await seedKeys(config, keys, log));
  const objects = new SystemObjects(store, config.store.systemBucket);
  const buckets = new BucketRecords({ store: control, clock: Date.now });
  const sweep = new Sweep({ objects, store, keys: envelopeKeys, buckets: () => buckets.byId(), clock });
  const rooms: Rooms = {
    store,
    keys,
    buckets,
    uploads: new Uploads({ objects, keys: envelopeKeys, entropy: pooledEntropy(), clock }),
    manifests: new Manifests(),
    formMemory: new FormMemory(config.data.formMemoryMiB * 1024 ** 2, (held) => metrics.formBytes(held)),
    envelopeKeys,
    realmId: realm.id,
    audit,
    entropy: pooledEntropy(),
    clock,
    settings: {
      region: config.data.region,
      storeRegion: place.region,
      systemBucket: config.store.systemBucket,
      baseHosts: config.data.baseHosts,
      allowInsecureSseC: config.development.allowInsecureSseC,
      metadataIntegrity: config.metadataIntegrity,
      compatibility: COMPATIBILITY[config.compatibility],
      blockedEncryptionTypes: config.blockedEncryptionTypes,
      bareMarkersReadable: profile.bareMarkersReadable,
      largestCopy: config.store.largestCopy,
      slowReplyMs: config.data.slowReplySeconds * 1000,
    },
  };
  return { rooms, service: config.kms.source === 'file' ? ruledByFile(keys) : keys, profile, sweep };
}

export function openControl(config: Config, create = false): Promise<ControlStore> {
  const { directory, masterKey } = config.control;
  return openControlDirectory({ path: directory, masterKey: readMasterKey(masterKey), ...(create ? { create } : {}) });
}

function openAuditSinks(config: Config, metrics: Metrics): Audit {
  return openAudit({ ...config.audit, clock: Date.now, onFailure: (sink) => metrics.auditFailure(sink) });
}

/** The embedded store listens on loopback with credentials that live as long as the process. */
export async function openStorePlace({ store, data }: Config): Promise<StorePlace> {
  if (store.kind === 's3') {
    const tls = store.caFile === undefined ? {} : { tls: { ca: readFileSync(store.caFile) } };
    const credentials = { accessKeyId: store.accessKeyId, secret: readSigningKey(store.secret) };
    const { endpoint, region, pathStyle, timeouts } = store;
    return storePlace({ endpoint: new URL(endpoint), region, pathStyle, credentials, timeouts, ...tls });
  }
  const secretAccessKey = randomBytes(30).toString('base64url');
  const accessKeyId = `EMBEDDED${randomBytes(6).toString('hex').toUpperCase()}`;
  const { region } = data;
  const embedded = await startDevStore({
    directory: store.directory,
    host: '127.0.0.1',
    port: 0,
    region,
    credentials: { accessKeyId, secretAccessKey },
  });
  const secret = createSecretKey(Buffer.from(`AWS4${secretAccessKey}`));
  const credentials = { accessKeyId, secret };
  const { timeouts } = store;
  return {
    ...storePlace({ endpoint: new URL(embedded.url), region, pathStyle: true, credentials, timeouts }),
    close: () => embedded.close(),
  };
}

function storePlace(options: Omit<StoreClientOptions, 'traits' | 'clock'>): StorePlace {
  return {
    client: (traits) => createStoreClient({ ...options, traits, clock: () => new Date() }),
    region: options.region,
    close: () => Promise.resolve(),
  };
}

async function openProfile(
  config: Config,
  place: StorePlace,
  control: ControlStore,
  realmId: Buffer,
): Promise<StoreProfile> {
  const { systemBucket, traits: pins } = config.store;
  const profile = await loadProfile({
    control,
    pins,
    client: (traits) => place.client(traits),
    systemBucket,
    run: randomBytes(8).toString('hex'),
    clock: () => new Date(),
  });
  const client = place.client(profile.traits);
  try {
    await checkRealmMarker(client, systemBucket, realmId);
  } finally {
    await client.close();
  }
  return profile;
}

function openKeys(config: Config, control: ControlStore, metrics: Metrics, log: Log): Promise<OpenKeyService> {
  const refused = new RefusedSecrets();
  const own = new OwnSecrets(config);
  return openKeyService({
    control,
    backends: {
      local: async (section, deps) => {
        own.addLocal(section);
        return measuredBackend(await openLocalBackend(section, deps), metrics);
      },
      vault: async (section) => {
        own.refuseIn(section.auth_method);
        return measuredBackend(await openVaultBackend(section, { refused }), metrics);
      },
    },
    clock: Date.now,
    markerFile: config.control.markerFile,
    metrics: kmsMetrics(metrics),
    log: (event, fields) => log.info(event, fields),
    region: config.data.region,
    account: ACCOUNT,
    comeUpMs: KMS_WAIT_MS,
    development: config.development.skipTlsVerify,
    environment: (name) => readSecret({ kind: 'env', name }),
  });
}

function kmsMetrics(metrics: Metrics): KmsMetrics {
  return {
    ...noKmsMetrics,
    cacheHit: () => metrics.cache('hit'),
    cacheMiss: () => metrics.cache('miss'),
    cacheLoad: () => metrics.cache('load'),
    cacheEvicted: () => metrics.cache('eviction'),
    cacheStaleHit: () => metrics.cache('stale_hit'),
    cacheSize: (size) => metrics.cacheSize(size),
  };
}

/** The KMS may be down at this moment: SSE-C and reads of settings go on, and the seed is tried in the background. */
function seedKeys(config: Config, service: OpenKeyService, log: Log): Promise<{ close(): Promise<void> }> {
  const { config: section, source } = config.kms;
  if (section === undefined) return Promise.resolve({ close: () => Promise.resolve() });
  return Seed.begin({
    service,
    section,
    source,
    log: (event, err) => log.error(event, {}, err),
    retryMs: 1_000,
    waitMs: KMS_WAIT_MS,
    random: Math.random,
  });
}

function ruledByFile(service: OpenKeyService): ServiceControl {
  const refuse = (): Promise<never> =>
    Promise.reject(
      new ServiceError('Conflict', {
        message: 'The configuration file rules here (kms.source).',
        reason: 'kms-source',
      }),
    );
  return {
    state: service.state,
    frozen: service.frozen,
    status: () => service.status(),
    config: () => service.config(),
    start: (by) => service.start(by),
    stop: (request) => service.stop(request),
    clearCache: (by) => service.clearCache(by),
    close: () => service.close(),
    configure: refuse,
    reconfigure: refuse,
  };
}
