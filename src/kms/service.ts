import { asServiceError, ServiceError } from '../errors.ts';
import { Active } from './active.ts';
import { proveCandidate } from './candidate.ts';
import { mergeConfig, redactConfig } from './config-merge.ts';
import { parseConfig, type KmsConfig, type ParseOptions } from './config-schema.ts';
import { DurableStop } from './durable-stop.ts';
import { Gate } from './gate.ts';
import { KeyAdmin } from './key-admin.ts';
import { KeyRecords } from './key-records.ts';
import { KeyUse } from './key-use.ts';
import { LocalState } from './local-state.ts';
import { frozenOptions, type KeyServiceOptions, type ServiceParts } from './options.ts';
import type {
  Applied,
  KeyAdministration,
  KeyService,
  KmsBackend,
  ServiceControl,
  ServiceState,
  StopRequest,
} from './ports.ts';
import {
  asRunning,
  asStopped,
  persistConfig,
  readConfig,
  readService,
  writeService,
  type ReadService,
  type StopNote,
} from './service-record.ts';
import { statusOf } from './status.ts';
import { readMarker, removeMarker, writeMarker } from './stop-marker.ts';

/**
 * The key service: `NotConfigured → Stopped → Starting → Running → Stopping → Stopped`, and `Error` with a reason.
 * Its desired state and configuration live in the control store; nothing here outlives the process but the marker.
 */
export interface OpenKeyService extends KeyService, ServiceControl {
  readonly keys: KeyAdministration;
}

/** Comes up in the state that the control store asks for; a backend or store that is down is Error, and is retried. */
export async function openKeyService(given: KeyServiceOptions): Promise<OpenKeyService> {
  const options = frozenOptions(given);
  const { control, clock, concurrency, queue, metrics, recordFreshMs: freshMs } = options;
  const gate = new Gate({ concurrency, queue, timeoutMs: 15_000, metrics });
  let staleSeconds = 300;
  const records = new KeyRecords({ store: control, clock, freshMs, staleMs: () => staleSeconds * 1000 });
  const local = new LocalState(gate, records);
  const service = new Service({ options, gate, records, local, setStale: (seconds) => (staleSeconds = seconds) });
  let limit: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => (limit = setTimeout(resolve, options.comeUpMs)));
  await Promise.race([service.comeUp(), late]);
  clearTimeout(limit);
  return service;
}

const LONGEST_RETRY_MS = 30_000;

function conflict(message: string, reason: string): ServiceError {
  return new ServiceError('Conflict', { message, reason });
}

function stoppedMeanwhile(): ServiceError {
  return conflict('The service was stopped meanwhile.', 'kms-stopped');
}

/** Long file: one state machine, whose transitions are read against each other. */
class Service extends KeyUse implements OpenKeyService {
  readonly keys: KeyAdministration;
  readonly #parts: ServiceParts;
  readonly #parse: ParseOptions;
  readonly #durable: DurableStop;
  #read: ReadService | undefined;
  #config: KmsConfig | undefined;
  #proof: AbortController | undefined;
  #retry: NodeJS.Timeout | undefined;
  #failures = 0;
  /** configure, reconfigure, start and recovery take turns; stop waits for nobody. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(parts: ServiceParts) {
    const { options, records, gate, local } = parts;
    super(local, records, options);
    this.#parts = parts;
    this.#parse = { development: options.development, inlineSecrets: options.control.keepsSecrets === true };
    const { control: store, controlTimeoutMs: limitMs, retryMs, log } = options;
    this.#durable = new DurableStop({ store, limitMs, retryMs, log, written: (read) => this.#stopWritten(read) });
    this.keys = new KeyAdmin({
      scope: options,
      records,
      gate,
      active: () => local.running(),
      purge: () => void local.active?.purge(),
      resolve: (reference) => this.keyId(reference),
    });
  }

  state = (): ServiceState => this.local.state;

  frozen = (): boolean => this.local.stop?.scope === 'all';

  config(): Readonly<Record<string, unknown>> {
    return this.#config === undefined ? {} : redactConfig(this.#config);
  }

  status(): Promise<Readonly<Record<string, unknown>>> {
    const durable = !this.#durable.pending;
    return Promise.resolve(statusOf(this.local, this.#read?.record, this.#config, durable));
  }

  configure(body: unknown, by: string): Promise<Applied> {
    return this.#inTurn(() => this.#reconfigured(parseConfig(body, this.#parse), by));
  }

  reconfigure(body: unknown, by: string): Promise<Applied> {
    return this.#inTurn(async () => {
      const { control } = this.#parts.options;
      const current = await readConfig(control, (await readService(control)).record, this.#parse);
      if (current === undefined) throw conflict('The service is not configured.', 'kms-not-configured');
      return this.#reconfigured(mergeConfig(current, body, this.#parse), by);
    });
  }

  /** Proves, persists, swaps; a failure leaves what is in force untouched. */
  async #reconfigured(config: KmsConfig, by: string): Promise<Applied> {
    const { control, log } = this.#parts.options;
    const { intent } = this.local;
    const found = await readService(control);
    const backend = await this.#prove(config);
    let swapped = false;
    try {
      if (intent !== this.local.intent) throw stoppedMeanwhile();
      // A stop that the control store has not taken yet goes with it, or the new generation would outvote its marker.
      const { stop } = this.local;
      const record = stop === undefined ? found.record : asStopped(found.record, stop);
      const written = await persistConfig(control, { ...found, record }, config);
      this.#read = written;
      this.#config = config;
      log('kms-configured', { by, generation: written.record.generation });
      if (intent === this.local.intent && written.record.desired === 'running') {
        swapped = true;
        await this.#putInForce(config, backend, written);
      } else if (intent !== this.local.intent) await this.#overtaken();
      else if (['NotConfigured', 'Error'].includes(this.local.state)) this.local.settle('Stopped');
    } finally {
      if (!swapped) await backend.close().catch(() => undefined);
    }
    return this.#applied();
  }

  start(by: string): Promise<Applied> {
    return this.#inTurn(async () => {
      const before = this.local.state;
      if (before === 'Running') return this.#applied();
      const { intent } = this.local;
      try {
        await this.#started(intent);
        this.#parts.options.log('kms-started', { by });
        return this.#applied();
      } catch (err) {
        if (intent === this.local.intent) {
          this.#durable.resume();
          if (before === 'Error') this.#fail(asServiceError(err));
          else this.local.settle(before, asServiceError(err).reason);
        }
        throw err;
      }
    });
  }

  /** Proves the backend, then asks the control store, then gives keys out: in this order, and not after a stop. */
  async #started(intent: number): Promise<void> {
    const { control, markerFile, log } = this.#parts.options;
    await this.#durable.suspend();
    const found = await readService(control);
    const config = await readConfig(control, found.record, this.#parse);
    if (config === undefined) throw conflict('The service is not configured.', 'kms-not-configured');
    if (this.local.state !== 'Stopping') this.local.settle('Starting');
    const backend = await this.#prove(config);
    try {
      const written = await writeService(control, asRunning(found.record), found.version);
      this.#read = written;
      if (intent !== this.local.intent) throw await this.#overtaken();
      this.#durable.cancel();
      await removeMarker(markerFile).catch(() => log('kms-marker-not-removed'));
      if (intent !== this.local.intent) throw stoppedMeanwhile();
      await this.#putInForce(config, backend, written);
    } finally {
      if (this.local.active?.backend !== backend) await backend.close().catch(() => undefined);
    }
  }

  /** Of a service that was never configured too: what is stopped is not started by its first configuration. */
  async stop(request: StopRequest): Promise<Applied> {
    const { options } = this.#parts;
    const at = new Date(options.clock()).toISOString();
    const { scope } = request;
    const note = { reason: request.reason.slice(0, 1024), by: request.by.slice(0, 1024), scope, at };
    // In force before the first await.
    this.local.freeze(request, note).catch(() => undefined);
    clearTimeout(this.#retry);
    this.#proof?.abort(stoppedMeanwhile());
    options.log('kms-stopped', { by: note.by, scope });
    await this.#mark(note);
    await this.#durable.begin(note);
    return this.#applied();
  }

  /** Newer than what the control store is known to hold; newer than anything where it has not been read. */
  async #mark(note: StopNote): Promise<void> {
    const { markerFile, log } = this.#parts.options;
    const generation = this.#read === undefined ? Number.MAX_SAFE_INTEGER : this.#read.record.generation + 1;
    try {
      await writeMarker(markerFile, { generation, ...note });
    } catch (err) {
      log('kms-marker-not-written', { reason: asServiceError(err).reason });
    }
  }

  /** A stop came while a new generation was being written: its marker must not be the older one now. */
  async #overtaken(): Promise<ServiceError> {
    const { stop } = this.local;
    if (stop !== undefined && this.#durable.pending) await this.#mark(stop);
    return stoppedMeanwhile();
  }

  #stopWritten(read: ReadService): void {
    this.#read = read;
    // The control store says it now; a marker that stays is not newer than its generation.
    removeMarker(this.#parts.options.markerFile).catch(() => undefined);
  }

  clearCache(by: string): Promise<{ readonly dropped: number }> {
    const dropped = this.local.active?.purge() ?? 0;
    this.#parts.options.log('kms-cache-cleared', { by, dropped });
    return Promise.resolve({ dropped });
  }

  async close(): Promise<void> {
    const closing = this.local.freeze({ streams: 'abort', drainSeconds: 0 }, this.local.stop);
    this.#proof?.abort(stoppedMeanwhile());
    clearTimeout(this.#retry);
    this.#durable.cancel();
    await closing;
  }

  /** The state that the control store and the marker ask for. Never throws: what fails is Error, and tried again. */
  comeUp(): Promise<void> {
    return this.#inTurn(async () => {
      const { intent } = this.local;
      try {
        await this.#cameUp(intent);
      } catch (err) {
        if (intent === this.local.intent) this.#fail(asServiceError(err));
      }
    });
  }

  async #cameUp(intent: number): Promise<void> {
    const { control, markerFile } = this.#parts.options;
    const read = await readService(control);
    const marker = await readMarker(markerFile);
    const config = await readConfig(control, read.record, this.#parse);
    if (intent !== this.local.intent) return;
    this.#read = read;
    this.#config = config;
    if (marker !== undefined && marker.generation > read.record.generation) {
      const { reason, by, scope, at } = marker;
      const note = { reason, by, scope, ...(at === undefined ? {} : { at }) };
      this.local.settleStopped(note);
      await this.#durable.begin(note);
    } else if (config === undefined && read.record.stop === undefined) this.local.settle('NotConfigured');
    else if (config === undefined || read.record.desired === 'stopped') this.local.settleStopped(read.record.stop);
    else {
      this.local.settle('Starting');
      const backend = await this.#prove(config);
      if (intent === this.local.intent) await this.#putInForce(config, backend, read);
      else await backend.close();
    }
  }

  #fail(err: ServiceError): void {
    const { retryMs, random, log } = this.#parts.options;
    this.local.settle('Error', err.reason);
    log('kms-error', { reason: err.reason });
    const wait = Math.min(LONGEST_RETRY_MS, retryMs * 2 ** Math.min(this.#failures++, 10));
    clearTimeout(this.#retry);
    this.#retry = setTimeout(
      () => {
        if (this.local.state === 'Error') void this.comeUp();
      },
      wait * (0.75 + 0.25 * random()),
    );
    this.#retry.unref();
  }

  async #prove(config: KmsConfig): Promise<KmsBackend> {
    const proof = new AbortController();
    this.#proof = proof;
    const { backends, clock, environment, development, log, proofMs } = this.#parts.options;
    const deps = { clock, environment, development, log };
    try {
      return await proveCandidate(backends, config, deps, this.#parts.records, proof, proofMs);
    } finally {
      this.#proof = undefined;
    }
  }

  /** Swaps: from one configuration to the next there is no stopped interval. */
  async #putInForce(config: KmsConfig, backend: KmsBackend, read: ReadService): Promise<void> {
    const { options, gate, records, setStale } = this.#parts;
    const { control: store, clock, random, metrics, probeMs, log } = options;
    const { generation } = read.record;
    this.#read = read;
    this.#config = config;
    this.#failures = 0;
    gate.setTimeoutMs(config.timeout_seconds * 1000 + 1_000);
    setStale(config.control_stale_seconds);
    const shared = { store, clock, random, metrics, probeMs, log, gate, records };
    const active = new Active({ config, backend, generation, ...shared });
    const old = this.local.putInForce(active);
    await old?.close().catch(() => undefined);
    await active.checkHealth();
  }

  #applied(): Applied {
    const durable = !this.#durable.pending;
    const generation = this.#read?.record.generation ?? 0;
    return { state: this.local.state, applied: durable ? 'cluster' : 'local', durable, generation };
  }

  #inTurn<T>(call: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(call);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}
