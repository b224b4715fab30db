import express from 'express';
import request from 'supertest';
import { describe, expect, it } from 'vitest';
import { healthRouter } from '../../src/admin/index.ts';
import type { ServiceState } from '../../src/kms/ports.ts';
import { createMetrics } from '../../src/metrics.ts';

function serve(ready: boolean, state: ServiceState) {
  const app = express();
  app.use(healthRouter({ ready: () => ready, state: () => state, metrics: createMetrics() }));
  return request(app);
}

const STATES: readonly ServiceState[] = ['NotConfigured', 'Stopped', 'Starting', 'Running', 'Stopping', 'Error'];

describe('health', () => {
  it.each(STATES)('is live and ready while the KMS is %s, and ready for the KMS only when it runs', async (state) => {
    expect((await serve(false, state).get('/health/live')).status).toBe(200);
    expect((await serve(true, state).get('/health/ready')).status).toBe(200);
    expect((await serve(true, state).get('/health/ready?kms=1')).status).toBe(state === 'Running' ? 200 : 503);
  });

  it('is not ready while the control store has not been read', async () => {
    expect((await serve(false, 'Running').get('/health/ready')).status).toBe(503);
    expect((await serve(false, 'Running').get('/health/ready?kms=1')).status).toBe(503);
  });

  it('answers HEAD without a body, and no other method', async () => {
    const head = await serve(true, 'Running').head('/health/ready');
    expect(head.status).toBe(200);
    expect(head.headers['content-length']).not.toBe('0');
    expect(head.text).toBeFalsy();
    const post = await serve(true, 'Running').post('/health/live');
    expect(post.status).toBe(405);
    expect(post.headers.allow).toBe('GET, HEAD');
  });

  it('gives the metrics as Prometheus reads them', async () => {
    const answer = await serve(true, 'Running').get('/metrics');
    expect(answer.headers['content-type']).toMatch(/^text\/plain; version=0\.0\.4/);
    expect(answer.text).toContain('# TYPE s3sse_requests_total counter');
    expect(answer.text).toContain('s3sse_service_state{state="Running"} 1');
  });

  it.each(['/', '/health', '/health/', '/Health/live', '/metrics/', '/constructor', '/kms/status'])(
    'leaves %s to the next one',
    async (path) => {
      expect((await serve(true, 'Running').get(path)).status).toBe(404);
    },
  );
});
