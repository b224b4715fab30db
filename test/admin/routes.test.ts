import { describe, expect, it } from 'vitest';
import { matchPath, ROUTES } from '../../src/admin/routes.ts';

describe('the route table', () => {
  it('is exactly this', () => {
    const rows = ROUTES.map(({ method, path, action, resource, maxBody, exempt }) =>
      [method, path, action, resource, `${maxBody}`, ...(exempt ? ['exempt'] : [])].join(' '),
    );
    expect(rows).toEqual([
      'POST /kms/configure kms:Configure service 65536',
      'POST /kms/reconfigure kms:Configure service 65536',
      'POST /kms/start kms:ServiceControl service 4096',
      'POST /kms/stop kms:ServiceControl service 4096 exempt',
      'GET /kms/status admin:ServerInfo service 4096 exempt',
      'GET /kms/config kms:Configure service 4096',
      'POST /kms/clear-cache kms:ClearCache service 4096',
      'GET /kms/buckets kms:ListBuckets service 4096',
      'POST /kms/buckets/:name/adopt kms:AdoptBucket bucket 4096',
      'POST /kms/buckets/:name/seal kms:AdoptBucket bucket 4096',
      'POST /kms/buckets/:name/release kms:ReleaseBucket bucket 4096',
      'GET /kms/keys kms:ListKeys key 4096',
      'POST /kms/keys kms:CreateKey key 4096',
      'GET /kms/keys/:id kms:DescribeKey key 4096',
      'PATCH /kms/keys/:id kms:UpdateKeyDescription key 4096',
      'DELETE /kms/keys/:id kms:ScheduleKeyDeletion key 4096',
      'POST /kms/keys/:id/rotate kms:RotateKey key 4096',
      'POST /kms/keys/:id/enable kms:EnableKey key 4096',
      'POST /kms/keys/:id/disable kms:DisableKey key 4096',
      'POST /kms/keys/:id/cancel-deletion kms:CancelKeyDeletion key 4096',
      'GET /kms/keys/:id/policy kms:GetKeyPolicy key 4096',
      'PUT /kms/keys/:id/policy kms:PutKeyPolicy key 65536',
      'POST /kms/rewrap kms:Rewrap service 4096',
      'GET /kms/rewrap/:id kms:Rewrap service 4096',
      'DELETE /kms/rewrap/:id kms:Rewrap service 4096',
      'POST /api/v1/kms/encrypt kms:Encrypt key 4096',
      'POST /api/v1/kms/decrypt kms:Decrypt key 4096',
      'POST /api/v1/kms/generate-key kms:GenerateDataKey key 4096',
      'GET /api/v1/kms/status admin:ServerInfo service 4096 exempt',
      'GET /api/v1/kms/health admin:ServerInfo service 4096 exempt',
    ]);
  });

  it('bounds the body and the time of every route, and needs an action for each', () => {
    for (const row of ROUTES) {
      expect(row.maxBody).toBeLessThanOrEqual(65_536);
      expect(row.timeoutMs).toBeLessThanOrEqual(60_000);
      expect(row.action).toMatch(/^(kms|admin):[A-Za-z]+$/);
      expect(Object.isFrozen(row)).toBe(true);
    }
  });

  it('has no row twice', () => {
    const names = ROUTES.map(({ method, path }) => `${method} ${path}`);
    expect(new Set(names).size).toBe(names.length);
  });
});

describe('a path', () => {
  const found = (path: string) => matchPath(path).map(({ row, id }) => `${row.method} ${row.path} ${id ?? ''}`.trim());

  it('finds its rows, and the key that it names', () => {
    expect(found('/kms/stop')).toEqual(['POST /kms/stop']);
    expect(found('/kms/keys')).toEqual(['GET /kms/keys', 'POST /kms/keys']);
    expect(found('/kms/buckets/my.bucket/seal')).toEqual(['POST /kms/buckets/:name/seal my.bucket']);
    expect(found('/kms/keys/my-key_1/rotate')).toEqual(['POST /kms/keys/:id/rotate my-key_1']);
  });

  it.each([
    '/',
    '/kms',
    '/kms/',
    '/kms/stop/',
    '/KMS/stop',
    '/kms/Stop',
    '/kms//stop',
    '/kms/keys/',
    '/kms/keys/..',
    '/kms/keys/%2e%2e',
    '/kms/keys/-x',
    '/kms/keys/a.b',
    '/kms/buckets/../seal',
    '/kms/buckets/a%2fb/seal',
    '/kms/buckets/a/seal',
    `/kms/keys/${'a'.repeat(65)}`,
    '/kms/keys/a/rotate/b',
    '/kms/keys/a/unknown',
    '/a/b/c/d/e/f/g/h/i/j',
  ])('%s is none', (path) => {
    expect(found(path)).toEqual([]);
  });
});
