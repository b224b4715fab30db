import { describe, expect, it } from 'vitest';
import { ROUTES } from '../../src/admin/routes.ts';
import { evaluate, parsePolicy } from '../../src/iam/policy.ts';
import { ROLES } from '../../src/iam/roles.ts';
import type { Policy } from '../../src/iam/types.ts';
import { bench, identity, send } from './fixture.ts';

const role = (name: string): Policy => parsePolicy(name, ROLES[name]);

const IDENTITIES = [
  identity('ADMIN', 'admin', [role('KMSAdministrator')]),
  identity('OPERATOR', 'admin', [role('KMSOperator')]),
  identity('AUDITOR', 'admin', [role('KMSAuditor')]),
  identity('NOBODY', 'admin', []),
];

const allows = (policies: readonly Policy[], request: Parameters<typeof evaluate>[1]) =>
  evaluate(policies, request) === 'allow';

/** Which of administrator, operator and auditor may; an identity without a policy never may. */
const MATRIX: Readonly<Record<string, string>> = {
  'kms:Configure': 'A',
  'kms:ServiceControl': 'AO',
  'kms:ClearCache': 'AO',
  'admin:ServerInfo': 'AOU',
  'kms:ListBuckets': 'AU',
  'kms:AdoptBucket': 'A',
  'kms:ReleaseBucket': 'A',
  'kms:ListKeys': 'AU',
  'kms:DescribeKey': 'AU',
  'kms:GetKeyPolicy': 'AU',
  'kms:CreateKey': 'A',
  'kms:UpdateKeyDescription': 'A',
  'kms:ScheduleKeyDeletion': 'A',
  'kms:RotateKey': 'A',
  'kms:EnableKey': 'A',
  'kms:DisableKey': 'A',
  'kms:CancelKeyDeletion': 'A',
  'kms:PutKeyPolicy': 'A',
  'kms:Rewrap': 'A',
  // Who rules keys does not use them.
  'kms:Encrypt': '',
  'kms:Decrypt': '',
  'kms:GenerateDataKey': '',
};

const BODIES: Readonly<Record<string, string>> = {
  'POST /kms/stop': '{"reason":"x"}',
  'POST /kms/configure': '{}',
  'POST /kms/buckets/:name/adopt': '{"mode":"mixed"}',
  'POST /kms/reconfigure': '{}',
};

const rows = ROUTES.flatMap((row) =>
  (
    [
      ['ADMIN', 'A'],
      ['OPERATOR', 'O'],
      ['AUDITOR', 'U'],
      ['NOBODY', 'none'],
    ] as const
  ).map(([as, letter]) => [row, as, MATRIX[row.action]?.includes(letter) === true] as const),
);

describe('an administrator of some buckets', () => {
  const Resource = 'arn:aws:s3:::mine-*';
  const some = parsePolicy('some', { Statement: { Effect: 'Allow', Action: 'kms:AdoptBucket', Resource } });

  it.each([
    ['another of them', { bucket: 'mine-2' }, 200],
    ["a part of somebody else's", { bucket: 'payroll', prefix: 'mine/' }, 403],
  ])('maps one into %s: %o is %i', async (_, target, status) => {
    const { app, service, last } = bench([identity('ADMIN', 'admin', [some])], allows);
    const body = JSON.stringify({ mode: 'mixed', target });
    const answer = await send(app, { method: 'POST', path: '/kms/buckets/mine-1/adopt', as: 'ADMIN', body });
    expect(answer.status).toBe(status);
    expect(service.calls).toHaveLength(status === 200 ? 1 : 0);
    if (status === 200) expect(last().fields.note).toBe('mixed before now, at mine-2/');
  });
});

describe('every route by every role', () => {
  it('knows the action of every route', () => {
    expect(ROUTES.filter(({ action }) => !(action in MATRIX))).toEqual([]);
  });

  it.each(rows.map(([row, as, may]) => [`${row.method} ${row.path}`, as, may ? 'may' : 'may not', row, may] as const))(
    '%s: %s %s',
    async (name, as, _, row, may) => {
      const { app, service, last } = bench(IDENTITIES, allows);
      const body = BODIES[name];
      const path = row.path.replace(/:id|:name/, 'main');
      const answer = await send(app, { method: row.method, path, as, ...(body === undefined ? {} : { body }) });
      expect(answer.status).toBe(may ? (row.built ? 200 : 501) : 403);
      expect(service.calls).toHaveLength(may && row.built ? 1 : 0);
      expect(last()).toMatchObject({ fields: { principal: as.toLowerCase(), operation: name } });
      if (!may) expect(last().finished).toEqual(['denied', 403, 'policy']);
    },
  );
});

describe('a policy of one’s own', () => {
  const only = (statement: object) => [
    identity('ADMIN', 'admin', [parsePolicy('own', { Version: '2012-10-17', Statement: statement })]),
  ];
  const rotate = (key: string) => ({ path: `/kms/keys/${key}/rotate` });

  it('names a key: others stay closed', async () => {
    const { app } = bench(
      only({ Effect: 'Allow', Action: 'kms:RotateKey', Resource: 'arn:aws:kms:us-east-1:000000000000:key/main' }),
      allows,
    );
    expect((await send(app, rotate('main'))).status).toBe(501);
    expect((await send(app, rotate('other'))).status).toBe(403);
  });

  it('of a key opens no route of the service', async () => {
    const { app } = bench(only({ Effect: 'Allow', Action: 'kms:*', Resource: 'arn:aws:kms:*:*:key/*' }), allows);
    expect((await send(app, { path: '/kms/start' })).status).toBe(403);
  });

  it('of the service opens its routes', async () => {
    const { app } = bench(
      only({ Effect: 'Allow', Action: 'kms:ServiceControl', Resource: 'arn:aws:kms:::service' }),
      allows,
    );
    expect((await send(app, { path: '/kms/start' })).status).toBe(200);
  });

  it('denies what another one allows', async () => {
    const deny = { Effect: 'Deny', Action: 'kms:ServiceControl', Resource: '*' };
    const { app } = bench(only([{ Effect: 'Allow', Action: 'kms:*', Resource: '*' }, deny]), allows);
    expect((await send(app, { path: '/kms/start' })).status).toBe(403);
    expect((await send(app, { path: '/kms/clear-cache' })).status).toBe(200);
  });

  it.each([
    ['the address', { IpAddress: { 'aws:SourceIp': '127.0.0.0/8' } }, 200],
    ['another address', { IpAddress: { 'aws:SourceIp': '10.0.0.0/8' } }, 403],
    ['TLS, on a plain listener', { Bool: { 'aws:SecureTransport': 'true' } }, 403],
    ['plain HTTP, on a plain listener', { Bool: { 'aws:SecureTransport': 'false' } }, 200],
  ])('may depend on %s', async (_, condition, status) => {
    const { app } = bench(
      only({ Effect: 'Allow', Action: 'kms:ServiceControl', Resource: '*', Condition: condition }),
      allows,
    );
    expect((await send(app, { path: '/kms/start' })).status).toBe(status);
  });
});
