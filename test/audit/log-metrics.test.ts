import { describe, expect, it } from 'vitest';
import { ServiceError } from '../../src/errors.ts';
import { createLog, type LogFields } from '../../src/log.ts';
import { createMetrics } from '../../src/metrics.ts';

function capture(level: Parameters<typeof createLog>[0] = 'info') {
  const lines: string[] = [];
  const log = createLog(level, { write: (line) => void lines.push(line) });
  return { log, lines, last: () => JSON.parse(lines.at(-1) ?? '{}') as Record<string, unknown> };
}

describe('the log', () => {
  it('writes the event and the fields that it knows', () => {
    const { log, last } = capture();
    log.info('listener ready', { port: 9400, listener: 'data' });
    expect(last()).toMatchObject({ msg: 'listener ready', port: 9400, listener: 'data', level: 30 });
  });

  it('writes no field that it does not know, nor a value that is no plain one', () => {
    const { log, lines } = capture();
    const smuggled = {
      port: 1,
      secret: 'hunter2',
      headers: { authorization: 'hunter2' },
      file: { toString: () => 'hunter2' },
    };
    log.info('x', smuggled as unknown as LogFields);
    expect(lines.join()).not.toMatch(/hunter2|secret|headers/);
  });

  it('writes an error as its name, code and reason, never its message, stack or cause', () => {
    const { log, lines, last } = capture();
    const cause = Object.assign(new Error('token hunter2'), { code: 'ECONNREFUSED', config: { token: 'hunter2' } });
    log.error('kms call failed', {}, new ServiceError('ServiceUnavailable', { reason: 'kms-unavailable', cause }));
    expect(last().error).toEqual({ name: 'ServiceError', code: 'ServiceUnavailable', reason: 'kms-unavailable' });
    log.warn('x', {}, cause);
    expect(last().error).toEqual({ name: 'Error', code: 'ECONNREFUSED' });
    log.warn('x', {}, Object.assign(new Error('hunter2'), { name: 'hunter2 !', code: 'hunter2 \n' }));
    log.warn('x', {}, 'hunter2');
    expect(lines.join()).not.toMatch(/hunter2/);
  });

  it('writes what is at its level or above', () => {
    const { log, lines } = capture('warn');
    log.debug('a');
    log.info('b');
    log.warn('c');
    log.error('d');
    expect(lines.map((line) => (JSON.parse(line) as { msg: string }).msg)).toEqual(['c', 'd']);
  });
});

describe('the metrics', () => {
  it('count what the service did', async () => {
    const metrics = createMetrics();
    metrics.request('PutObject', 'SSE-KMS', 'success', 0.02);
    metrics.bytesIn(11);
    metrics.bytesOut(7);
    metrics.inFlight(1);
    metrics.authFailure('admin', 'SignatureDoesNotMatch');
    metrics.cache('stale_hit');
    metrics.cacheSize(3);
    metrics.kmsCall('vault', 'unwrap', 0.004, 'SlowDown');
    metrics.serviceState('Running');
    metrics.auditFailure('file');
    metrics.certificateDaysLeft('data', 29.5);
    const text = await metrics.render();
    for (const line of [
      's3sse_requests_total{operation="PutObject",mode="SSE-KMS",outcome="success"} 1',
      's3sse_request_seconds_bucket{le="0.025",operation="PutObject"} 1',
      's3sse_bytes_in_total 11',
      's3sse_bytes_out_total 7',
      's3sse_requests_in_flight 1',
      's3sse_auth_failures_total{plane="admin",code="SignatureDoesNotMatch"} 1',
      's3sse_data_key_cache_events_total{event="stale_hit"} 1',
      's3sse_data_key_cache_entries 3',
      's3sse_kms_call_seconds_count{backend="vault",call="unwrap"} 1',
      's3sse_kms_call_failures_total{backend="vault",call="unwrap",code="SlowDown"} 1',
      's3sse_service_state{state="Running"} 1',
      's3sse_service_state{state="NotConfigured"} 0',
      's3sse_audit_failures_total{sink="file"} 1',
      's3sse_certificate_days_left{listener="data"} 29.5',
    ]) {
      expect(text.split('\n')).toContain(line);
    }
  });

  it('of two services do not meet', async () => {
    const [one, two] = [createMetrics(), createMetrics()];
    one.bytesIn(5);
    expect(await two.render()).toContain('s3sse_bytes_in_total 0');
  });

  it('are in exactly one state', async () => {
    const metrics = createMetrics();
    metrics.serviceState('Running');
    metrics.serviceState('Stopped');
    const ones = (await metrics.render()).match(/s3sse_service_state\{.*\} 1/g);
    expect(ones).toEqual(['s3sse_service_state{state="Stopped"} 1']);
  });
});
