import { Counter, Gauge, Histogram, Registry } from 'prom-client';

export type EncryptionMode = 'SSE-S3' | 'SSE-KMS' | 'SSE-C' | 'none';
export type CacheEvent = 'hit' | 'miss' | 'load' | 'eviction' | 'stale_hit';
export type KmsCall = 'generate' | 'unwrap' | 'rewrap' | 'describe' | 'admin' | 'login' | 'renew' | 'health';
export type RequestOutcome = 'success' | 'denied' | 'failed';

/**
 * What the service counts. Labels come from closed sets: no key id, object name, bucket, principal or address is one,
 * for a scrape is often open to more people than the audit log.
 */
export interface Metrics {
  /** One request has ended. `seconds` is from its head to the end of its answer. */
  request(operation: string, mode: EncryptionMode, outcome: RequestOutcome, seconds: number): void;
  /** Bytes of bodies from clients, and of answers to clients. */
  bytesIn(count: number): void;
  bytesOut(count: number): void;
  /** A request has begun (+1) or ended (-1). */
  inFlight(change: 1 | -1): void;
  /** Bytes that the files of browsers' forms hold now. */
  formBytes(held: number): void;
  authFailure(plane: 'data' | 'admin', code: string): void;
  cache(event: CacheEvent): void;
  cacheSize(entries: number): void;
  /** A call to the KMS has ended; `failure` is a ServiceError's code, absent on success. */
  kmsCall(backend: string, call: KmsCall, seconds: number, failure?: string): void;
  serviceState(state: ServiceState): void;
  auditFailure(sink: 'file' | 'stdout'): void;
  certificateDaysLeft(listener: 'data' | 'admin' | 'kms' | 'store', days: number): void;
  /** The Prometheus text format, and its content type. */
  render(): Promise<string>;
  readonly contentType: string;
}

// kms/ports.ts has the same words; a driver may not import a later one, and the types meet where they are used.
const STATES = ['NotConfigured', 'Stopped', 'Starting', 'Running', 'Stopping', 'Error'] as const;
type ServiceState = (typeof STATES)[number];
const KMS_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const REQUEST_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

/** Metrics on a registry of their own: two services in one process do not meet. */
export function createMetrics(): Metrics {
  const registry = new Registry();
  const traffic = trafficMetrics(registry);
  const keys = keyMetrics(registry);
  return { ...traffic, ...keys, render: () => registry.metrics(), contentType: registry.contentType };
}

type TrafficMetrics = Pick<
  Metrics,
  'request' | 'bytesIn' | 'bytesOut' | 'inFlight' | 'formBytes' | 'authFailure' | 'auditFailure' | 'certificateDaysLeft'
>;

function trafficMetrics(registry: Registry): TrafficMetrics {
  const registers = [registry];
  const counter = <L extends string>(name: string, help: string, labelNames: L[] = []) =>
    new Counter<L>({ name: `s3sse_${name}`, help, labelNames, registers });
  const requests = counter('requests_total', 'Requests by operation, encryption mode and outcome.', [
    'operation',
    'mode',
    'outcome',
  ]);
  const seconds = new Histogram({
    name: 's3sse_request_seconds',
    help: 'Time from the head of a request to the end of its answer.',
    labelNames: ['operation'],
    buckets: REQUEST_SECONDS,
    registers,
  });
  const bytesIn = counter('bytes_in_total', 'Bytes of request bodies received from clients, framing included.');
  const bytesOut = counter('bytes_out_total', 'Bytes of answers sent to clients, heads included.');
  const inFlight = new Gauge({ name: 's3sse_requests_in_flight', help: 'Requests being served now.', registers });
  const formBytes = new Gauge({
    name: 's3sse_form_bytes',
    help: "Bytes that the files of browsers' forms hold now.",
    registers,
  });
  const authFailures = counter('auth_failures_total', 'Requests refused for their signature or their rights.', [
    'plane',
    'code',
  ]);
  const auditFailures = counter('audit_failures_total', 'Records that an audit sink did not take.', ['sink']);
  const days = new Gauge({
    name: 's3sse_certificate_days_left',
    help: 'Days until the certificate expires.',
    labelNames: ['listener'],
    registers,
  });
  return {
    request: (operation, mode, outcome, duration) => {
      requests.inc({ operation, mode, outcome });
      seconds.observe({ operation }, duration);
    },
    bytesIn: (count) => bytesIn.inc(count),
    bytesOut: (count) => bytesOut.inc(count),
    inFlight: (change) => inFlight.inc(change),
    formBytes: (held) => formBytes.set(held),
    authFailure: (plane, code) => authFailures.inc({ plane, code }),
    auditFailure: (sink) => auditFailures.inc({ sink }),
    certificateDaysLeft: (listener, left) => days.set({ listener }, left),
  };
}

type KeyMetrics = Pick<Metrics, 'cache' | 'cacheSize' | 'kmsCall' | 'serviceState'>;

function keyMetrics(registry: Registry): KeyMetrics {
  const registers = [registry];
  const cache = new Counter({
    name: 's3sse_data_key_cache_events_total',
    help: 'Data-key cache: hits, misses, loads, evictions, hits past the soft lifetime.',
    labelNames: ['event'],
    registers,
  });
  const size = new Gauge({ name: 's3sse_data_key_cache_entries', help: 'Data keys held in memory.', registers });
  const callSeconds = new Histogram({
    name: 's3sse_kms_call_seconds',
    help: 'Time of a call to the KMS, retries included.',
    labelNames: ['backend', 'call'],
    buckets: KMS_SECONDS,
    registers,
  });
  const callFailures = new Counter({
    name: 's3sse_kms_call_failures_total',
    help: 'Calls to the KMS that failed, by error code.',
    labelNames: ['backend', 'call', 'code'],
    registers,
  });
  const state = new Gauge({
    name: 's3sse_service_state',
    help: 'State of the key service: 1 for the one it is in.',
    labelNames: ['state'],
    registers,
  });
  for (const name of STATES) state.set({ state: name }, name === 'NotConfigured' ? 1 : 0);
  return {
    cache: (event) => cache.inc({ event }),
    cacheSize: (entries) => size.set(entries),
    kmsCall: (backend, call, seconds, failure) => {
      callSeconds.observe({ backend, call }, seconds);
      if (failure !== undefined) callFailures.inc({ backend, call, code: failure });
    },
    serviceState: (current) => {
      for (const name of STATES) state.set({ state: name }, name === current ? 1 : 0);
    },
  };
}
