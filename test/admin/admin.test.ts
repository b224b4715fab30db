import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import request from 'supertest';
import { describe, expect, it } from 'vitest';
import { ServiceError } from '../../src/errors.ts';
import { kmsAdmin } from '../../src/admin/index.ts';
import { bench, HOST, identity, NOW, send, transmit, type Call } from './fixture.ts';

const everything = () => true;
const admin = identity('ADMIN', 'admin', []);
const open = (mount?: string) =>
  bench([admin, identity('DATA', 'data', []), identity('BREAKGLASS', 'both', [])], everything, mount);

const STOP: Call = { path: '/kms/stop', body: '{"reason":"incident 7"}' };
const START: Call = { path: '/kms/start' };
const STATUS: Call = { method: 'GET', path: '/kms/status' };

describe('each route asks the service', () => {
  it('configure and reconfigure pass the body on, with who asked', async () => {
    const { app, service } = open();
    const body = { backend_type: 'vault', auth_method: { approle: { role_id: 'r' } } };
    for (const route of ['configure', 'reconfigure']) {
      const answer = await send(app, { path: `/kms/${route}`, body: JSON.stringify(body) });
      expect(answer.status).toBe(200);
      expect(answer.body).toEqual({ state: 'Running', applied: 'cluster', durable: true, generation: 7 });
      expect(service.calls.at(-1)).toEqual([route, body, 'admin']);
    }
  });

  it('stop has defaults', async () => {
    const { app, service } = open();
    expect((await send(app, STOP)).status).toBe(200);
    expect(service.calls).toEqual([
      ['stop', { reason: 'incident 7', by: 'admin', streams: 'drain', drainSeconds: 30, scope: 'managed' }],
    ]);
  });

  it('stop takes its choices', async () => {
    const { app, service } = open();
    const body = JSON.stringify({ reason: 'x', streams: 'abort', drain_seconds: 0, scope: 'all' });
    await send(app, { ...STOP, body });
    expect(service.calls).toEqual([
      ['stop', { reason: 'x', by: 'admin', streams: 'abort', drainSeconds: 0, scope: 'all' }],
    ]);
  });

  it('start, clear-cache, status and config', async () => {
    const { app, service } = open();
    expect((await send(app, START)).status).toBe(200);
    expect((await send(app, { path: '/kms/clear-cache', body: '{}' })).body).toEqual({ dropped: 3 });
    expect((await send(app, STATUS)).body).toEqual({ state: 'Running' });
    expect((await send(app, { method: 'GET', path: '/kms/config' })).body).toMatchObject({ backend_type: 'vault' });
    expect(service.calls).toEqual([['start', 'admin'], ['clearCache', 'admin'], ['status'], ['config']]);
  });

  it.each(['stop', 'start', 'configure', 'reconfigure'])(
    '%s that the control store has not taken is 503, says what holds, and is recorded as failed',
    async (route) => {
      const { app, service, last } = open();
      service.applied = { state: 'Stopped', applied: 'local', durable: false, generation: 8 };
      const body = route === 'start' ? '{}' : '{"reason":"incident"}';
      const answer = await send(app, { path: `/kms/${route}`, body });
      expect(answer.status).toBe(503);
      expect(answer.body).toMatchObject({ state: 'Stopped', applied: 'local', durable: false, generation: 8 });
      expect(answer.body).toMatchObject({ error: { code: 'ServiceUnavailable', requestId: last().fields.requestId } });
      expect(last().finished).toEqual(['failed', 503, 'not-durable']);
    },
  );

  it.each([
    [400, 'ValidationException'],
    [409, 'Conflict'],
    [501, 'NotImplemented'],
    [503, 'ServiceUnavailable'],
  ] as const)('the service’s refusal keeps its status %i', async (status, code) => {
    const { app, service, last } = open();
    service.failure = new ServiceError(code, { reason: 'a-reason', headers: { 'Retry-After': '9' } });
    const answer = await send(app, { path: '/kms/configure', body: '{}' });
    expect(answer.status).toBe(status);
    expect(answer.headers['retry-after']).toBe('9');
    expect(answer.body).toMatchObject({ error: { code } });
    expect(last().finished).toEqual(['failed', status, 'a-reason']);
  });

  it('an error of another kind is 500 and tells nothing', async () => {
    const { app, service, last } = open();
    service.failure = new Error('token hvs.hunter2');
    const answer = await send(app, START);
    expect(answer.status).toBe(500);
    expect(answer.text).not.toMatch(/hunter2/);
    expect(last().finished).toEqual(['failed', 500, 'unexpected']);
  });

  it('answers JSON that no cache keeps, with the request’s id', async () => {
    const { app, last } = open();
    const answer = await send(app, STATUS);
    expect(answer.headers).toMatchObject({ 'content-type': 'application/json', 'cache-control': 'no-store' });
    expect(answer.headers['x-amz-request-id']).toBe(last().fields.requestId);
  });
});

describe('who may call', () => {
  const FORGED = /^(SignatureDoesNotMatch|XAmzContentSHA256Mismatch)$/;

  it.each(['s3', 'execute-api'])('a request signed for %s is taken', async (service) => {
    expect((await send(open().app, { ...STOP, service })).status).toBe(200);
  });

  it('nobody without a signature: 401', async () => {
    const { app, service, last } = open();
    const answer = await transmit(app, 'POST', '/kms/stop', { host: HOST }, STOP.body);
    expect(answer.status).toBe(401);
    expect(answer.body).toMatchObject({ error: { code: 'Unauthorized' } });
    expect(service.calls).toEqual([]);
    expect(last().finished).toEqual(['denied', 401, 'unsigned']);
    expect(last().fields.principal).toBeUndefined();
  });

  it.each<[string, Partial<Call>, number, string | RegExp]>([
    ['an unknown access key', { as: 'STRANGER' }, 403, 'InvalidAccessKeyId'],
    ['an identity of the data plane', { as: 'DATA' }, 403, 'AccessDenied'],
    ['another region', { region: 'eu-west-1' }, 400, 'AuthorizationHeaderMalformed'],
    ['another service', { service: 'iam' }, 400, 'AuthorizationHeaderMalformed'],
    ['a signature 16 minutes old', { date: new Date(NOW.getTime() - 960_000) }, 403, 'RequestTimeTooSkewed'],
    ['a signature 16 minutes ahead', { date: new Date(NOW.getTime() + 960_000) }, 403, 'RequestTimeTooSkewed'],
    [
      'another body than was signed',
      { tamper: (sent) => (sent.body = '{"reason":"incident 8"}') },
      400,
      'XAmzContentSHA256Mismatch',
    ],
    [
      'another body and its digest',
      {
        tamper: (sent) => {
          sent.body = '';
          sent.headers['x-amz-content-sha256'] = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
        },
      },
      403,
      FORGED,
    ],
    ['another path', { tamper: (sent) => (sent.path = '/kms/start') }, 403, 'SignatureDoesNotMatch'],
    ['another host', { tamper: (sent) => (sent.headers.host = 'other.test') }, 403, 'SignatureDoesNotMatch'],
    [
      'a signature with one digit changed',
      {
        tamper: ({ headers }) =>
          (headers.authorization = (headers.authorization ?? '').replace(/.$/, (digit) => (digit === '0' ? '1' : '0'))),
      },
      403,
      'SignatureDoesNotMatch',
    ],
    ['an unsigned x-amz header', { tamper: (sent) => (sent.headers['x-amz-meta-x'] = 'y') }, 403, 'AccessDenied'],
    [
      'an authorization of another kind',
      { tamper: (sent) => (sent.headers.authorization = 'Basic YWRtaW46YWRtaW4=') },
      400,
      /./,
    ],
    [
      'an unsigned payload',
      { service: 's3', headers: { 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' } },
      400,
      'InvalidRequest',
    ],
  ])('not with %s', async (_, change, status, code) => {
    const { app, service, last } = open();
    const answer = await send(app, { ...STOP, ...change });
    expect(answer.status).toBe(status);
    const { error } = answer.body as { error: { code: string } };
    if (typeof code === 'string') expect(error.code).toBe(code);
    else expect(error.code).toMatch(code);
    expect(service.calls).toEqual([]);
    expect(last().finished?.[0]).toBe(status === 403 ? 'denied' : 'failed');
    expect(last().intended).toBe(false);
  });

  it('not by a presigned URL, good or bad', async () => {
    const { app, service, last } = open();
    const answer = await send(app, { ...START, path: '/kms/start?X-Amz-Algorithm=AWS4-HMAC-SHA256' });
    expect(answer.status).toBe(403);
    expect(last().finished).toEqual(['denied', 403, 'admin-presigned']);
    expect(service.calls).toEqual([]);
  });

  it('an identity of both planes, which is break-glass, may', async () => {
    expect((await send(open().app, { ...START, as: 'BREAKGLASS' })).status).toBe(200);
  });

  it('counts what was refused, by its code', async () => {
    const { app, options } = open();
    await send(app, { ...STOP, as: 'STRANGER' });
    await send(app, { ...STOP, tamper: (sent) => (sent.body = '{"reason":"incident 8"}') });
    const text = await options.metrics.render();
    expect(text).toContain('s3sse_auth_failures_total{plane="admin",code="InvalidAccessKeyId"} 1');
    expect(text).toContain('s3sse_auth_failures_total{plane="admin",code="XAmzContentSHA256Mismatch"} 1');
    expect(text).toContain('s3sse_requests_total{operation="POST /kms/stop",mode="none",outcome="denied"} 1');
  });
});

describe('a body', () => {
  it.each([
    ['is missing', undefined, /is required/],
    ['is not JSON', 'reason=x', /not valid JSON/],
    ['is cut', '{"reason":"x"', /not valid JSON/],
    ['is an array', '[]', /expected object/],
    ['is a string', '"stop"', /expected object/],
    ['is null', 'null', /expected object/],
    ['has no reason', '{}', /reason: is required \(string\)/],
    ['has an empty reason', '{"reason":"  "}', /reason: expected 1 to 256/],
    ['has a long reason', JSON.stringify({ reason: 'x'.repeat(257) }), /reason: expected 1 to 256/],
    ['has a reason that is a number', '{"reason":1}', /reason: expected string/],
    ['has an unknown field', '{"reason":"x","stream":"abort"}', /unknown field "stream"; did you mean "streams"\?/],
    ['has another streams', '{"reason":"x","streams":"kill"}', /streams: Invalid option/],
    ['has another scope', '{"reason":"x","scope":"everything"}', /scope: Invalid option/],
    ['has a negative drain', '{"reason":"x","drain_seconds":-1}', /drain_seconds: Too small/],
    ['has half a second', '{"reason":"x","drain_seconds":0.5}', /drain_seconds: expected int/],
    ['has too long a drain', '{"reason":"x","drain_seconds":3601}', /drain_seconds: Too big/],
    ['has a name twice', '{"reason":"x","reason":"y"}', /"reason" is given twice/],
    ['has a name twice, once escaped', '{"reason":"x","re\\u0061son":"y"}', /"reason" is given twice/],
    ['has __proto__', '{"reason":"x","__proto__":{"scope":"all"}}', /"__proto__" is refused/],
    ['is too deep', `{"reason":${'['.repeat(20)}${']'.repeat(20)}}`, /nested deeper/],
  ])('that %s is 400, changes nothing and is recorded', async (_, body, message) => {
    const { app, service, last } = open();
    const answer = await send(app, { path: '/kms/stop', ...(body === undefined ? {} : { body }) });
    expect(answer.status).toBe(400);
    const { error } = answer.body as { error: { code: string; message: string } };
    expect(error.code).toBe('ValidationException');
    expect(error.message).toMatch(message);
    expect(service.calls).toEqual([]);
    expect(last().finished).toEqual(['failed', 400, 'admin-body']);
    expect(last().fields.principal).toBe('admin');
  });

  it.each(['start', 'clear-cache'])('%s takes none but {}', async (route) => {
    const { app, service } = open();
    expect((await send(app, { path: `/kms/${route}`, body: '{"force":true}' })).status).toBe(400);
    expect(service.calls).toEqual([]);
  });

  it('with a secret in a wrong field is refused without repeating it', async () => {
    const answer = await send(open().app, { path: '/kms/stop', body: '{"reason":["hunter2"],"streams":"hunter2"}' });
    expect(answer.status).toBe(400);
    expect(answer.text).not.toMatch(/hunter2/);
  });

  it('that is too long is refused before it is read', async () => {
    const { app, service, last } = open();
    const answer = await send(app, { path: '/kms/stop', body: JSON.stringify({ reason: 'x'.repeat(5000) }) });
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({ error: { code: 'MaxMessageLengthExceeded' } });
    expect(answer.headers.connection).toBe('close');
    expect(service.calls).toEqual([]);
    expect(last().finished).toEqual(['failed', 400, 'admin-body-size']);
  });

  it('that is too long is cut off when its length was not given', async () => {
    const { app, service, last } = open();
    const server = app.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    // Without a Content-Length, Node sends chunks (RFC 9112 section 7.1).
    const client = httpRequest({ port, method: 'POST', path: '/kms/stop', headers: { host: HOST } });
    client.write('x'.repeat(3000));
    client.end('x'.repeat(3000));
    const [answer] = (await once(client, 'response')) as [IncomingMessage];
    expect(answer.statusCode).toBe(400);
    answer.resume();
    server.close();
    expect(last().finished).toEqual(['failed', 400, 'admin-body-size']);
    expect(service.calls).toEqual([]);
  });

  it('that a body parser has eaten is refused, and says why', async () => {
    const { options, service } = open();
    const app = express();
    app.use(express.json());
    app.use(kmsAdmin(options));
    const answer = await send(app, { ...STOP, headers: { 'content-type': 'application/json' } });
    expect(answer.status).toBe(500);
    expect(answer.text).toMatch(/mount it before any body parser/);
    expect(service.calls).toEqual([]);
  });

  it('of a query parameter there is none', async () => {
    const { app, service } = open();
    expect((await send(app, { ...START, path: '/kms/start?force=true' })).status).toBe(400);
    expect(service.calls).toEqual([]);
  });
});

describe('a path', () => {
  it.each(['/kms/unknown', '/kms/stop/', '/kms', '/api/v1/kms/unknown'])('%s is 404, to who is known', async (path) => {
    const { app, last } = open();
    expect((await send(app, { path })).status).toBe(404);
    expect(last().finished).toEqual(['failed', 404, 'route']);
    expect(last().fields.operation).toBe('unknown');
    expect((await transmit(app, 'POST', path, { host: HOST })).status).toBe(401);
  });

  it('has its methods: another is 405 and names them', async () => {
    const { app, service } = open();
    const answer = await send(app, { method: 'GET', path: '/kms/stop' });
    expect(answer.status).toBe(405);
    expect(answer.headers.allow).toBe('POST');
    expect((await send(app, { method: 'PUT', path: '/kms/keys/a' })).headers.allow).toBe('GET, PATCH, DELETE');
    expect((await transmit(app, 'GET', '/kms/stop', { host: HOST })).status).toBe(401);
    expect(service.calls).toEqual([]);
  });

  it('outside of ours is the next one’s', async () => {
    const { app, audit } = open();
    app.use((_, res) => void res.status(418).end());
    for (const path of ['/', '/kmsx', '/photos/kms/stop', '/api/v1', '/health/live']) {
      expect((await request(app).get(path)).status).toBe(418);
    }
    expect(audit.entries).toEqual([]);
  });

  it.each([
    ['/', '/kms/stop'],
    ['/kms', '/kms/stop'],
    ['/internal/kms', '/internal/kms/stop'],
    ['/internal', '/internal/kms/stop'],
  ])('mounted at %s, stop is %s', async (mount, path) => {
    const { app, service } = open(mount);
    expect((await send(app, { ...STOP, path })).status).toBe(200);
    expect(service.calls).toHaveLength(1);
  });
});

describe('the audit log', () => {
  it('has the intent before the service is asked, and why it was stopped', async () => {
    const { app, audit, last } = open();
    await send(app, STOP);
    expect(audit.callsAtIntent).toBe(0);
    expect(last()).toMatchObject({
      intended: true,
      finished: ['success', 200],
      fields: { operation: 'POST /kms/stop', principal: 'admin', note: 'incident 7' },
    });
    expect(last().fields.source).toMatch(/127\.0\.0\.1|::1/);
  });

  it.each<[string, Call, number]>([
    ['start', START, 503],
    ['configure', { path: '/kms/configure', body: '{}' }, 503],
    ['reconfigure', { path: '/kms/reconfigure', body: '{}' }, 503],
    ['clear-cache', { path: '/kms/clear-cache' }, 503],
    ['config', { method: 'GET', path: '/kms/config' }, 503],
    ['stop', STOP, 200],
    ['status', STATUS, 200],
  ])('that takes no intent: %s', async (_, call, status) => {
    const { app, audit, service, last } = open();
    audit.broken = true;
    expect((await send(app, call)).status).toBe(status);
    expect(service.calls).toHaveLength(status === 200 ? 1 : 0);
    expect(last().finished?.[1]).toBe(status);
  });

  it('has one entry for every call, of whatever end', async () => {
    const { app, audit } = open();
    await send(app, STATUS);
    await send(app, { ...STOP, as: 'STRANGER' });
    await transmit(app, 'GET', '/kms/status', { host: HOST });
    await send(app, { ...STOP, body: '{' });
    expect(audit.entries.map(({ finished }) => finished?.[1])).toEqual([200, 403, 401, 400]);
  });
});

describe('kmsAdmin', () => {
  const { options } = open();

  it('takes a good set of options, and does not see what is changed in them later', async () => {
    const { service } = open();
    const mine = { ...options, service, regions: ['us-east-1'] };
    const app = express();
    app.use(kmsAdmin(mine));
    mine.identity = () => undefined;
    mine.regions.length = 0;
    expect((await send(app, START)).status).toBe(200);
  });

  it.each([
    ['an unknown option', { ...options, alows: () => true }, /unknown option "alows"/],
    ['no policy', { ...options, allows: undefined }, /allows must be a function/],
    ['no service', { ...options, service: undefined }, /service must be an object/],
    ['no audit log', { ...options, audit: null }, /audit must be an object/],
    ['no region', { ...options, regions: [] }, /regions must name at least one/],
  ])('refuses %s at start', (_, bad, message) => {
    expect(() => kmsAdmin(bad as never)).toThrow(message);
  });
});
