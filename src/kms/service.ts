import { setMaxListeners } from 'node:events';
import { asServiceError, ServiceError, type ErrorCode } from '../errors.ts';
import { Active, healthReason } from './active.ts';
import { openCandidate } from './candidate.ts';
import { mergeConfig, redactConfig } from './config-merge.ts';
import { parseConfig, type KmsConfig, type ParseOptions } from './config-schema.ts';
import { DurableStop } from './durable-stop.ts';
import { Gate, purged } from './gate.ts';
import { KeyAdmin } from './key-admin.ts';
import { KeyRecords } from './key-records.ts';
import type { KeyServiceOptions } from './options.ts';
import type {
  Applied,
  BucketKeyScope,
  KeyAdministration,
  KeyInUse,
  KeyService,
  KmsBackend,
  KmsLog,
  ServiceControl,
  ServiceState,
  StopRequest,
} from './ports.ts';
import { keyArn, notFound, parseReference } from './references.ts';
import {
  persistConfig,
  readConfig,
  readService,
  writeService,
  type ReadService,
  type ServiceRecord,
  type StopNote,
} from './service-record.ts';
import { readMarker, removeMarker, writeMarker } from './stop-marker.ts';

/**
 * The key service: `NotConfigured → Stopped → Starting → Running → Stopping → Stopped`, and `Error` with a reason.
 * Its desired state and configuration live in the control store; nothing here outlives the process but the marker.
 */
export interface OpenKeyService extends KeyService, ServiceControl {
  readonly keys: KeyAdministration;
}

/** Comes up in the state that the control store asks for; a backend or store that is down is Error and is retried. */
export async function openKeyService(options: KeyServiceOptions): Promise<OpenKeyService> {
  const service = new Service(options);
  await service.boot();
  return service;
}

const LONGEST_RETRY_MS = 30_000;
/** What a proof may take in all: its calls have the backend's own timeouts within. */
const PROOF_MS = 45_000;

const NOT_RUNNING: Readonly<Record<ServiceState, string>> = {
  NotConfigured: 'kms-not-configured',
  Stopped: 'kms-stopped',
  Starting: 'kms-starting',
  Running: 'kms-epoch',
  Stopping: 'kms-stopped',
  Error: 'kms-error',
};

function conflict(message: string, reason: string): ServiceError {
  return new ServiceError('Conflict', { message, reason });
}

class Service implements OpenKeyService {
  readonly keys: KeyAdministration;
  readonly #options: KeyServiceOptions;
  readonly #parse: ParseOptions;
  readonly #log: KmsLog;
  readonly #gate: Gate;
  readonly #records: KeyRecords;
  readonly #durable: DurableStop;
  #state: ServiceState = 'Starting';
  #fault: string | undefined;
  #read: ReadService | undefined;
  #config: KmsConfig | undefined;
  #active: Active | undefined;
  #stop: StopNote | undefined;
  /** Raised by stop and close: what began before must not take effect. */
  #intent = 0;
  #proof: AbortController | undefined;
  /** Epochs below it may not commit any more. */
  #firstCommitEpoch = 0;
  #streams = newStreams();
  #drain: NodeJS.Timeout | undefined;
  #retry: NodeJS.Timeout | undefined;
  #failures = 0;
  /** configure, reconfigure, start and recovery take turns; stop waits for nobody. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: KeyServiceOptions) {
    this.#options = options;
    this.#log = options.log ?? (() => undefined);
    this.#parse = {
      development: options.development ?? false,
      inlineSecrets: options.control.keepsSecrets === true,
    };
    const { concurrency = 32, queue = 1000, metrics, clock, control } = options;
    this.#gate = new Gate({ concurrency, queue, timeoutMs: 15_000, metrics });
    this.#records = new KeyRecords({
      store: control,
      clock,
      freshMs: options.recordFreshMs ?? 1_000,
      staleMs: () => (this.#config?.control_stale_seconds ?? 300) * 1000,
    });
    this.#durable = new DurableStop({
      store: control,
      limitMs: options.controlTimeoutMs ?? 5_000,
      retryMs: options.retryMs ?? 1_000,
      log: this.#log,
      written: (read) => this.#stopWritten(read),
    });
    this.keys = new KeyAdmin({
      scope: options,
      records: this.#records,
      gate: this.#gate,
      active: () => this.#running(),
      purge: () => void this.#active?.purge(),
      resolve: (reference) => this.#keyId(reference),
    });
  }

  // --- KeyService

  async resolve(reference: string | undefined): Promise<string> {
    const active = this.#running();
    const keyId = reference === undefined ? active.config.default_key_id : await this.#keyId(reference);
    if (keyId === undefined) throw notFound();
    await active.inventory.forWrap(keyId);
    return keyId;
  }

  sseS3KeyId = (): string => {
    const keyId = this.#running().config.sse_s3_key_id;
    if (keyId === undefined) {
      throw new ServiceError('InvalidRequest', { message: 'No key is configured for SSE-S3.', reason: 'sse-s3-key' });
    }
    return keyId;
  };

  arn(keyId: string): string {
    return keyArn(this.#options, keyId);
  }

  generate(keyId: string, context: Buffer, bucketKey?: BucketKeyScope): Promise<KeyInUse> {
    return this.#used((active) => active.generate(keyId, context, bucketKey));
  }

  unwrap(keyId: string, wrapped: Buffer, context: Buffer): Promise<KeyInUse> {
    return this.#used((active) => active.unwrap(keyId, wrapped, context));
  }

  epoch(): number {
    return this.#gate.epoch;
  }

  assertRunning(epoch: number): void {
    const draining = this.#state === 'Stopping';
    if (epoch < this.#firstCommitEpoch || !(draining || this.#state === 'Running')) throw this.#notRunning();
  }

  get stopping(): AbortSignal {
    return this.#streams.signal;
  }

  async #keyId(reference: string): Promise<string> {
    const parsed = parseReference(reference, this.#options);
    return parsed.kind === 'key' ? parsed.keyId : this.#records.aliasTarget(parsed.name);
  }

  /** A purge that is no stop (clear-cache, rotate, reconfigure) drops what was under way: once more, with what is in force. */
  async #used(use: (active: Active) => Promise<KeyInUse>): Promise<KeyInUse> {
    for (let attempt = 1; ; attempt++) {
      const active = this.#running();
      const epoch = this.#gate.epoch;
      try {
        const result = await use(active);
        if (epoch === this.#gate.epoch) return result;
        throw purged();
      } catch (err) {
        this.#running();
        if (asServiceError(err).reason !== 'kms-epoch' || attempt >= 3) throw err;
      }
    }
  }

  #running(): Active {
    if (this.#state !== 'Running' || this.#active === undefined) throw this.#notRunning();
    return this.#active;
  }

  #notRunning(): ServiceError {
    return new ServiceError('ServiceUnavailable', {
      reason: NOT_RUNNING[this.#state],
      headers: { 'Retry-After': this.#state === 'Starting' ? '1' : '10' },
    });
  }

  // --- ServiceControl

  state = (): ServiceState => this.#state;

  frozen = (): boolean => this.#stop?.scope === 'all';

  config(): Readonly<Record<string, unknown>> {
    return this.#config === undefined ? {} : redactConfig(this.#config);
  }

  status(): Promise<Readonly<Record<string, unknown>>> {
    const health = this.#active?.health;
    const degraded = health?.ok === false;
    return Promise.resolve({
      state: this.#state,
      health: this.#state !== 'Running' ? 'none' : degraded ? 'degraded' : 'healthy',
      reason: this.#fault ?? (health === undefined ? undefined : healthReason(health)),
      checkedAt: health?.checkedAt,
      keys: health?.keys,
      backend: this.#config?.backend_type,
      generation: this.#read?.record.generation,
      desired: this.#stop !== undefined ? 'stopped' : this.#read?.record.desired,
      durable: !this.#durable.pending,
      stop: this.#stop,
      epoch: this.#gate.epoch,
      cache: this.#active?.cacheFigures(),
    });
  }

  configure(body: unknown, by: string): Promise<Applied> {
    return this.#inTurn(() => this.#reconfigured(parseConfig(body, this.#parse), by));
  }

  reconfigure(body: unknown, by: string): Promise<Applied> {
    return this.#inTurn(async () => {
      const { record } = await readService(this.#options.control);
      const current = await readConfig(this.#options.control, record, this.#parse);
      if (current === undefined) throw conflict('The service is not configured.', 'kms-not-configured');
      return this.#reconfigured(mergeConfig(current, body, this.#parse), by);
    });
  }

  /** Proves, persists, swaps; a failure leaves what is in force untouched. */
  async #reconfigured(config: KmsConfig, by: string): Promise<Applied> {
    const { control } = this.#options;
    const intent = this.#intent;
    const found = await readService(control);
    const backend = await this.#prove(config);
    let swapped = false;
    try {
      // A stop that the control store has not taken yet goes with it, or the new generation would outvote its marker.
      const stop = this.#stop;
      const record = stop === undefined ? found.record : { ...found.record, desired: 'stopped' as const, stop };
      const written = await persistConfig(control, { ...found, record }, config);
      this.#read = written;
      this.#config = config;
      this.#log('kms-configured', { by, generation: written.record.generation });
      if (intent === this.#intent && written.record.desired === 'running') {
        swapped = true;
        await this.#putInForce(config, backend, written);
      } else if (this.#state === 'NotConfigured' || this.#state === 'Error') {
        this.#settle('Stopped');
      }
    } finally {
      if (!swapped) await backend.close().catch(() => undefined);
    }
    return this.#applied();
  }

  start(by: string): Promise<Applied> {
    return this.#inTurn(async () => {
      if (this.#state === 'Running') return this.#applied();
      const { control, markerFile } = this.#options;
      const intent = this.#intent;
      const before = this.#state;
      const found = await readService(control);
      const config = await readConfig(control, found.record, this.#parse);
      if (config === undefined) throw conflict('The service is not configured.', 'kms-not-configured');
      if (before !== 'Stopping') this.#state = 'Starting';
      let backend: KmsBackend | undefined;
      try {
        backend = await this.#prove(config);
        await this.#durable.suspend();
        if (intent !== this.#intent) throw conflict('The service was stopped meanwhile.', 'kms-stopped');
        // The proof may have taken long: what is written stands on what is there now.
        const { record, version } = await readService(control);
        if (record.generation !== found.record.generation && !this.#durable.pending) {
          throw conflict('The service was changed meanwhile.', 'control-cas');
        }
        const written = await writeService(control, asRunning(record), version);
        if (intent !== this.#intent) throw conflict('The service was stopped meanwhile.', 'kms-stopped');
        this.#durable.cancel();
        await removeMarker(markerFile).catch(() => this.#log('kms-marker-not-removed'));
        this.#stop = undefined;
        this.#config = config;
        await this.#putInForce(config, backend, written);
        this.#log('kms-started', { by });
        return this.#applied();
      } catch (err) {
        if (this.#active?.backend !== backend) await backend?.close().catch(() => undefined);
        if (intent === this.#intent) {
          this.#durable.resume();
          if (this.#state === 'Starting') this.#backTo(before, asServiceError(err));
        }
        throw err;
      }
    });
  }

  async stop(request: StopRequest): Promise<Applied> {
    if (this.#state === 'NotConfigured') throw conflict('The service is not configured.', 'kms-not-configured');
    const { reason, by, scope } = request;
    const at = new Date(this.#options.clock()).toISOString();
    const note = { reason: reason.slice(0, 1024), by: by.slice(0, 1024), scope, at };
    this.#freeze(request, note);
    this.#log('kms-stopped', { by: note.by, scope });
    const generation = (this.#read?.record.generation ?? 0) + 1;
    try {
      await writeMarker(this.#options.markerFile, { generation, ...note });
    } catch (err) {
      this.#log('kms-marker-not-written', { reason: asServiceError(err).reason });
    }
    await this.#durable.begin(note);
    return this.#applied();
  }

  /** Takes effect before the first await of `stop`: from here on no key is given out. */
  #freeze(request: StopRequest, note: StopNote): void {
    this.#intent++;
    this.#stop = note;
    clearTimeout(this.#retry);
    clearTimeout(this.#drain);
    const draining = request.streams === 'drain' && request.drainSeconds > 0 && this.#state !== 'Stopped';
    this.#settle(draining ? 'Stopping' : 'Stopped');
    this.#proof?.abort(conflict('The service was stopped meanwhile.', 'kms-stopped'));
    this.#gate.purge();
    this.#records.forget();
    const active = this.#active;
    this.#active = undefined;
    active?.purge();
    void active?.close().catch(() => undefined);
    if (!draining) this.#endStreams();
    else {
      this.#drain = setTimeout(() => {
        this.#settle('Stopped');
        this.#endStreams();
      }, request.drainSeconds * 1000);
      this.#drain.unref();
    }
  }

  #endStreams(): void {
    this.#firstCommitEpoch = this.#gate.epoch;
    this.#streams.abort(this.#notRunning());
  }

  #stopWritten(read: ReadService): void {
    this.#read = read;
    // The control store says it now; a marker that stays is not newer than its generation.
    removeMarker(this.#options.markerFile).catch(() => undefined);
  }

  clearCache(by: string): Promise<{ readonly dropped: number }> {
    const dropped = this.#active?.purge() ?? 0;
    this.#log('kms-cache-cleared', { by, dropped });
    return Promise.resolve({ dropped });
  }

  async close(): Promise<void> {
    this.#intent++;
    this.#proof?.abort(purged());
    clearTimeout(this.#retry);
    clearTimeout(this.#drain);
    this.#durable.cancel();
    this.#gate.purge();
    const active = this.#active;
    this.#active = undefined;
    this.#settle('Stopped');
    await active?.close();
  }

  // --- coming up

  boot(): Promise<void> {
    return this.#inTurn(() => this.#comeUp());
  }

  async #comeUp(): Promise<void> {
    const intent = this.#intent;
    const { control, markerFile } = this.#options;
    try {
      const read = await readService(control);
      const marker = await readMarker(markerFile);
      const config = await readConfig(control, read.record, this.#parse);
      if (intent !== this.#intent) return;
      this.#read = read;
      this.#config = config;
      if (marker !== undefined && marker.generation > read.record.generation) {
        const { reason, by, scope, at } = marker;
        this.#stop = { reason, by, scope, ...(at === undefined ? {} : { at }) };
        this.#settle('Stopped');
        await this.#durable.begin(this.#stop);
      } else if (config === undefined) this.#settle('NotConfigured');
      else if (read.record.desired === 'stopped') {
        this.#stop = read.record.stop;
        this.#settle('Stopped');
      } else {
        this.#settle('Starting');
        const backend = await this.#prove(config);
        if (intent === this.#intent) await this.#putInForce(config, backend, read);
        else await backend.close();
      }
    } catch (err) {
      if (intent === this.#intent) this.#fail(asServiceError(err));
    }
  }

  #fail(err: ServiceError): void {
    this.#settle('Error', err.reason);
    this.#log('kms-error', { reason: err.reason });
    const wait = Math.min(LONGEST_RETRY_MS, (this.#options.retryMs ?? 1_000) * 2 ** Math.min(this.#failures++, 10));
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => void this.#recover(), wait * (0.75 + 0.25 * this.#random()));
    this.#retry.unref();
  }

  #recover(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#state === 'Error') await this.#comeUp();
    });
  }

  /** After a start that failed: the state that was there before, Error being retried as before. */
  #backTo(before: ServiceState, err: ServiceError): void {
    if (before === 'Error') this.#fail(err);
    else this.#settle(before, err.reason);
  }

  #settle(state: ServiceState, fault?: string): void {
    this.#state = state;
    this.#fault = fault;
  }

  async #prove(config: KmsConfig): Promise<KmsBackend> {
    const proof = new AbortController();
    this.#proof = proof;
    const late = setTimeout(() => proof.abort(unreachable()), this.#options.proofMs ?? PROOF_MS);
    const { backends, clock, environment = () => undefined } = this.#options;
    const deps = { clock, environment, development: this.#parse.development, log: this.#log };
    const opening = openCandidate(backends, config, deps, this.#records, proof.signal);
    const ended = new Promise<never>((_resolve, reject) => {
      proof.signal.addEventListener('abort', () => reject(asServiceError(proof.signal.reason)));
    });
    try {
      return await Promise.race([opening, ended]);
    } catch (err) {
      // One that comes up after all is not wanted any more.
      opening.then((backend) => backend.close()).catch(() => undefined);
      throw proof.signal.aborted ? asServiceError(proof.signal.reason) : err;
    } finally {
      clearTimeout(late);
      this.#proof = undefined;
    }
  }

  /** Swaps: from one configuration to the next there is no stopped interval, and nothing of the old one is used on. */
  async #putInForce(config: KmsConfig, backend: KmsBackend, read: ReadService): Promise<void> {
    const { control: store, clock, metrics, probeMs = 30_000 } = this.#options;
    const old = this.#active;
    const { generation } = read.record;
    const shared = { gate: this.#gate, records: this.#records, random: this.#random, log: this.#log };
    this.#gate.setTimeoutMs(config.timeout_seconds * 1000 + 1_000);
    this.#read = read;
    this.#config = config;
    const active = new Active({ config, backend, generation, store, clock, metrics, probeMs, ...shared });
    this.#active = active;
    active.purge();
    clearTimeout(this.#drain);
    if (this.#streams.signal.aborted) this.#streams = newStreams();
    this.#failures = 0;
    this.#settle('Running');
    await old?.close().catch(() => undefined);
    await active.checkHealth();
  }

  #random = (): number => (this.#options.random ?? Math.random)();

  #applied(): Applied {
    const durable = !this.#durable.pending;
    const generation = this.#read?.record.generation ?? 0;
    return { state: this.#state, applied: durable ? 'cluster' : 'local', durable, generation };
  }

  #inTurn<T>(call: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(call);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

/** Desired running, and what it was stopped for forgotten. */
function asRunning({ generation, settings, secret }: ServiceRecord): ServiceRecord {
  return {
    generation: generation + 1,
    desired: 'running',
    ...(settings === undefined ? {} : { settings }),
    ...(secret === undefined ? {} : { secret }),
  };
}

function unreachable(): ServiceError {
  const code: ErrorCode = 'ServiceUnavailable';
  return new ServiceError(code, { reason: 'kms-unavailable', headers: { 'Retry-After': '5' } });
}

function newStreams(): AbortController {
  const controller = new AbortController();
  // Every stream in flight listens to it.
  setMaxListeners(0, controller.signal);
  return controller;
}
