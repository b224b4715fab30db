import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KNOWN_ACTIONS } from '../../src/iam/actions.ts';
import { evaluate, parsePolicy } from '../../src/iam/policy.ts';
import { ROLES } from '../../src/iam/roles.ts';
import type { AccessRequest } from '../../src/iam/types.ts';
import { matchesWildcard } from '../../src/iam/wildcard.ts';
import { codeOf } from './errors.ts';

const REQUEST: AccessRequest = {
  action: 's3:GetObject',
  resource: 'arn:aws:s3:::photos/2026/a.jpg',
  context: { 'aws:sourceip': '192.0.2.7', 'aws:securetransport': 'true', 'aws:username': 'ann' },
};

const allow = { Effect: 'Allow', Action: 's3:GetObject', Resource: 'arn:aws:s3:::photos/*' } as const;
const policy = (...statements: object[]) => parsePolicy('p', { Version: '2012-10-17', Statement: statements });
const decide = (statements: object[], request: Partial<AccessRequest> = {}) =>
  evaluate([policy(...statements)], { ...REQUEST, ...request });

describe('a decision', () => {
  it('is deny without policies', () => expect(evaluate([], REQUEST)).toBe('deny'));

  it.each<[string, object[], 'allow' | 'deny']>([
    ['an Allow that matches', [allow], 'allow'],
    ['another action', [{ ...allow, Action: 's3:PutObject' }], 'deny'],
    ['one action of a list', [{ ...allow, Action: ['s3:PutObject', 's3:GetObject'] }], 'allow'],
    ['actions without regard to case', [{ ...allow, Action: 'S3:getobject' }], 'allow'],
    ['an action by wildcard', [{ ...allow, Action: 's3:Get*' }], 'allow'],
    ['an action by question mark', [{ ...allow, Action: 's3:GetObjec?' }], 'allow'],
    ['an action that only begins alike', [{ ...allow, Action: 's3:GetObjectAcl' }], 'deny'],
    ['another bucket', [{ ...allow, Resource: 'arn:aws:s3:::photo/*' }], 'deny'],
    ['a bucket that begins alike', [{ ...allow, Resource: 'arn:aws:s3:::photo*/*' }], 'allow'],
    ['resources with regard to case', [{ ...allow, Resource: 'arn:aws:s3:::Photos/*' }], 'deny'],
    ['the bucket is not its objects', [{ ...allow, Resource: 'arn:aws:s3:::photos' }], 'deny'],
    ['everything', [{ ...allow, Action: '*', Resource: '*' }], 'allow'],
    ['a Deny after an Allow', [allow, { ...allow, Effect: 'Deny' }], 'deny'],
    ['a Deny before an Allow', [{ ...allow, Effect: 'Deny' }, allow], 'deny'],
    ['a Deny of something else', [allow, { ...allow, Effect: 'Deny', Action: 's3:PutObject' }], 'allow'],
    ['a Deny alone', [{ ...allow, Effect: 'Deny', Action: 's3:PutObject' }], 'deny'],
    ['NotAction of another', [{ Effect: 'Allow', NotAction: 's3:PutObject', Resource: '*' }], 'allow'],
    ['NotAction of this', [{ Effect: 'Allow', NotAction: 's3:Get*', Resource: '*' }], 'deny'],
    ['NotResource of another', [{ Effect: 'Allow', Action: '*', NotResource: 'arn:aws:s3:::x/*' }], 'allow'],
    ['NotResource of this', [{ Effect: 'Allow', Action: '*', NotResource: 'arn:aws:s3:::photos/*' }], 'deny'],
    ['a Deny with NotResource', [allow, { Effect: 'Deny', Action: '*', NotResource: 'arn:aws:s3:::x/*' }], 'deny'],
  ])('%s', (_, statements, expected) => expect(decide(statements)).toBe(expected));

  it('of several values of one key: an Allow holds for each of them, a Deny for any', () => {
    const key = 'kms:EncryptionContext:Tenant';
    const context = { ...REQUEST.context, 'kms:encryptioncontext:tenant': ['a', 'b'] };
    const when = (value: string | string[], Effect = 'Allow') => ({
      ...allow,
      Effect,
      Condition: { StringEquals: { [key]: value } },
    });
    expect(decide([when('a')], { context })).toBe('deny');
    expect(decide([when('b')], { context })).toBe('deny');
    expect(decide([when(['a', 'b'])], { context })).toBe('allow');
    expect(decide([allow, when('a', 'Deny')], { context })).toBe('deny');
    expect(decide([allow, when('b', 'Deny')], { context })).toBe('deny');
    expect(decide([allow, when('c', 'Deny')], { context })).toBe('allow');
  });

  it('is deny when another policy denies', () => {
    expect(evaluate([policy(allow), policy({ ...allow, Effect: 'Deny' })], REQUEST)).toBe('deny');
  });

  it('knows RustFS\u2019s name for reading the service\u2019s state', () => {
    const info = { Effect: 'Allow', Action: 'ServerInfoAdminAction', Resource: '*' };
    const request = { action: 'admin:ServerInfo', resource: 'arn:aws:kms:::service' };
    expect(decide([info], request)).toBe('allow');
    expect(decide([{ ...info, Action: 'admin:ServerInfo' }], { ...request, action: 'ServerInfoAdminAction' })).toBe(
      'allow',
    );
  });
});

describe('conditions', () => {
  const holds = (operator: string, key: string, value: unknown, context: Record<string, string>) =>
    decide([{ ...allow, Condition: { [operator]: { [key]: value } } }], { context }) === 'allow';

  it.each<[string, string, unknown, Record<string, string>, boolean]>([
    ['StringEquals', 'aws:username', 'ann', { 'aws:username': 'ann' }, true],
    ['StringEquals', 'AWS:UserName', 'ann', { 'aws:username': 'ann' }, true],
    ['StringEquals', 'aws:username', ['bob', 'ann'], { 'aws:username': 'ann' }, true],
    ['StringEquals', 'aws:username', 'Ann', { 'aws:username': 'ann' }, false],
    ['StringEquals', 'aws:username', 'a*', { 'aws:username': 'ann' }, false],
    ['StringEquals', 'aws:username', 'ann', {}, false],
    ['StringEqualsIfExists', 'aws:username', 'ann', {}, true],
    ['StringEqualsIfExists', 'aws:username', 'ann', { 'aws:username': 'bob' }, false],
    ['StringNotEquals', 'aws:username', 'ann', { 'aws:username': 'ann' }, false],
    ['StringNotEquals', 'aws:username', ['bob', 'ann'], { 'aws:username': 'ann' }, false],
    ['StringNotEquals', 'aws:username', ['bob', 'eve'], { 'aws:username': 'ann' }, true],
    ['StringNotEquals', 'aws:username', 'ann', {}, true],
    ['StringEqualsIgnoreCase', 'aws:username', 'ANN', { 'aws:username': 'ann' }, true],
    ['StringNotEqualsIgnoreCase', 'aws:username', 'ANN', { 'aws:username': 'ann' }, false],
    ['StringLike', 's3:prefix', 'a/*', { 's3:prefix': 'a/b' }, true],
    ['StringLike', 's3:prefix', 'a/?', { 's3:prefix': 'a/bc' }, false],
    ['StringLike', 's3:prefix', '', { 's3:prefix': '' }, true],
    ['StringLike', 's3:prefix', '*', {}, false],
    ['StringNotLike', 's3:prefix', 'a/*', { 's3:prefix': 'a/b' }, false],
    ['StringNotLike', 's3:prefix', 'a/*', {}, true],
    ['Bool', 'aws:SecureTransport', 'true', { 'aws:securetransport': 'true' }, true],
    ['Bool', 'aws:SecureTransport', true, { 'aws:securetransport': 'true' }, true],
    ['Bool', 'aws:SecureTransport', 'false', { 'aws:securetransport': 'true' }, false],
    ['Bool', 'aws:SecureTransport', 'false', {}, false],
    ['Null', 'aws:username', 'true', {}, true],
    ['Null', 'aws:username', 'true', { 'aws:username': '' }, false],
    ['Null', 'aws:username', false, { 'aws:username': 'ann' }, true],
    ['Null', 's3:x-amz-server-side-encryption', 'false', {}, false],
    ['IpAddress', 'aws:SourceIp', '192.0.2.0/24', { 'aws:sourceip': '192.0.2.255' }, true],
    ['IpAddress', 'aws:SourceIp', '192.0.2.0/24', { 'aws:sourceip': '192.0.3.0' }, false],
    ['IpAddress', 'aws:SourceIp', '192.0.2.7', { 'aws:sourceip': '192.0.2.7' }, true],
    ['IpAddress', 'aws:SourceIp', '192.0.2.7', { 'aws:sourceip': '192.0.2.8' }, false],
    ['IpAddress', 'aws:SourceIp', '192.0.2.7', { 'aws:sourceip': '::ffff:192.0.2.7' }, true],
    ['IpAddress', 'aws:SourceIp', '0.0.0.0/0', { 'aws:sourceip': '2001:db8::1' }, false],
    ['IpAddress', 'aws:SourceIp', '2001:db8::/32', { 'aws:sourceip': '2001:db8:1::1' }, true],
    ['IpAddress', 'aws:SourceIp', '2001:db8::/32', { 'aws:sourceip': '2001:db9::1' }, false],
    ['IpAddress', 'aws:SourceIp', 'fe80::/10', { 'aws:sourceip': 'fe80::1%eth0' }, true],
    ['IpAddress', 'aws:SourceIp', '0.0.0.0/0', { 'aws:sourceip': 'unknown' }, false],
    ['IpAddress', 'aws:SourceIp', '0.0.0.0/0', {}, false],
    ['NotIpAddress', 'aws:SourceIp', '192.0.2.0/24', { 'aws:sourceip': '192.0.2.1' }, false],
    ['NotIpAddress', 'aws:SourceIp', '192.0.2.0/24', { 'aws:sourceip': '198.51.100.1' }, true],
    ['NumericLessThanEquals', 's3:max-keys', '10', { 's3:max-keys': '10' }, true],
    ['NumericLessThanEquals', 's3:max-keys', 10, { 's3:max-keys': '11' }, false],
    ['NumericLessThan', 's3:max-keys', '10', { 's3:max-keys': 'many' }, false],
    ['NumericEquals', 's3:max-keys', '010', { 's3:max-keys': '10' }, true],
    [
      'DateLessThan',
      'aws:CurrentTime',
      '2026-03-04T05:06:07Z',
      { 'aws:currenttime': '2026-03-04T05:06:06.999Z' },
      true,
    ],
    [
      'DateLessThan',
      'aws:CurrentTime',
      '2026-03-04T05:06:07Z',
      { 'aws:currenttime': '2026-03-04T05:06:07.000Z' },
      false,
    ],
    ['DateGreaterThan', 'aws:CurrentTime', '1772600000', { 'aws:currenttime': '2026-03-05T00:00:00.000Z' }, true],
    [
      'ArnLike',
      's3:x-amz-server-side-encryption-aws-kms-key-id',
      'arn:aws:kms:*:key/k*',
      { 's3:x-amz-server-side-encryption-aws-kms-key-id': 'arn:aws:kms:::key/k1' },
      true,
    ],
    ['StringEquals', 'kms:EncryptionContext:Tenant', 'a', { 'kms:encryptioncontext:tenant': 'a' }, true],
    ['StringEquals', 'kms:EncryptionContext:constructor', 'x', {}, false],
    ['Null', 'kms:EncryptionContext:constructor', 'true', {}, true],
  ])('%s %s %j in %j: %s', (operator, key, value, context, expected) => {
    expect(holds(operator, key, value, context)).toBe(expected);
  });

  it('must all hold', () => {
    const Condition = { StringEquals: { 'aws:username': 'ann' }, Bool: { 'aws:SecureTransport': 'true' } };
    expect(decide([{ ...allow, Condition }])).toBe('allow');
    expect(decide([{ ...allow, Condition }], { context: { 'aws:username': 'ann' } })).toBe('deny');
  });

  it('limit a Deny as they limit an Allow', () => {
    const plain = {
      Effect: 'Deny',
      Action: '*',
      Resource: '*',
      Condition: { Bool: { 'aws:SecureTransport': 'false' } },
    };
    expect(decide([allow, plain])).toBe('allow');
    expect(decide([allow, plain], { context: { 'aws:securetransport': 'false' } })).toBe('deny');
  });
});

describe('a policy that is not valid is refused', () => {
  const statement = (change: object) => ({ Version: '2012-10-17', Statement: [{ ...allow, ...change }] });
  const without = (name: string) => ({
    Statement: [Object.fromEntries(Object.entries(allow).filter(([key]) => key !== name))],
  });

  it.each<[string, unknown]>([
    ['nothing', undefined],
    ['a string', '{}'],
    ['no statement', { Version: '2012-10-17', Statement: [] }],
    ['another version', { Version: '2020-01-01', Statement: [allow] }],
    ['an unknown element', { Statement: [allow], Extra: 1 }],
    ['no effect', without('Effect')],
    ['an effect in lower case', statement({ Effect: 'allow' })],
    ['no action', without('Action')],
    ['Action and NotAction', statement({ NotAction: 's3:PutObject' })],
    ['no resource', without('Resource')],
    ['Resource and NotResource', statement({ NotResource: '*' })],
    ['no actions in a list', statement({ Action: [] })],
    ['an unknown action', statement({ Action: 's3:GetObjects' })],
    ['a pattern that stands for nothing', statement({ Action: 's3:Fetch*' })],
    ['an action of another service', statement({ Action: 'iam:PassRole' })],
    ['an empty action', statement({ Action: '' })],
    ['a resource of another service', statement({ Resource: 'arn:aws:sns:::x' })],
    ['a resource that is no ARN', statement({ Resource: 'photos/*' })],
    ['an empty resource', statement({ Resource: '' })],
    ['a policy variable', statement({ Resource: 'arn:aws:s3:::home/${aws:username}/*' })],
    [
      'a policy variable in a condition',
      statement({ Condition: { StringLike: { 's3:prefix': '${aws:username}/*' } } }),
    ],
    ['a Principal', statement({ Principal: '*' })],
    ['a NotPrincipal', statement({ NotPrincipal: '*' })],
    ['an unknown operator', statement({ Condition: { StringMatches: { 'aws:username': 'a' } } })],
    ['a set operator', statement({ Condition: { 'ForAllValues:StringEquals': { 'aws:username': 'a' } } })],
    ['an operator in lower case', statement({ Condition: { stringequals: { 'aws:username': 'a' } } })],
    ['NullIfExists', statement({ Condition: { NullIfExists: { 'aws:username': 'true' } } })],
    ['an unknown condition key', statement({ Condition: { StringEquals: { 'aws:UserNam': 'a' } } })],
    ['no condition value', statement({ Condition: { StringEquals: { 'aws:username': [] } } })],
    ['a condition value that is an object', statement({ Condition: { StringEquals: { 'aws:username': {} } } })],
    ['an address that is none', statement({ Condition: { IpAddress: { 'aws:SourceIp': '192.0.2' } } })],
    ['a network that is too narrow', statement({ Condition: { IpAddress: { 'aws:SourceIp': '192.0.2.0/33' } } })],
    ['a network without a width', statement({ Condition: { IpAddress: { 'aws:SourceIp': '192.0.2.0/' } } })],
    ['a Bool that is none', statement({ Condition: { Bool: { 'aws:SecureTransport': 'yes' } } })],
    ['a number that is none', statement({ Condition: { NumericEquals: { 's3:max-keys': '' } } })],
    ['a date that is none', statement({ Condition: { DateLessThan: { 'aws:CurrentTime': 'tomorrow' } } })],
  ])('%s', (_, document) => expect(codeOf(() => parsePolicy('p', document))).toBe('MalformedPolicy'));

  it.each<[string, object]>([
    ['one statement without a list', { Statement: allow }],
    ['with ids', { Version: '2012-10-17', Id: 'i', Statement: [{ Sid: 's', ...allow }] }],
    ['the older version', { Version: '2008-10-17', Statement: [allow] }],
  ])('but %s is taken', (_, document) => expect(evaluate([parsePolicy('p', document)], REQUEST)).toBe('allow'));
});

describe('a key policy', () => {
  const use = { Effect: 'Allow', Principal: { AWS: 'ann' }, Action: 'kms:Decrypt', Resource: '*' };
  const parse = (change: object) => parsePolicy('k', { Statement: [{ ...use, ...change }] }, 'key');
  const ask = (change: object, principal: string | undefined) =>
    evaluate([parse(change)], {
      action: 'kms:Decrypt',
      resource: 'arn:aws:kms:::key/k',
      context: {},
      ...(principal === undefined ? {} : { principal }),
    });

  it.each(['kms:*', '*', 's3:GetObject', 'kms:De*'])('does not allow %s', (Action) => {
    const code = codeOf(() => parse({ Action }));
    // `kms:De*` is Decrypt, DescribeKey (use) and DeleteAlias (administration).
    expect(code).toBe('MalformedPolicy');
  });

  it('does not allow use and administration together', () => {
    expect(codeOf(() => parse({ Action: ['kms:Decrypt', 'kms:RotateKey'] }))).toBe('MalformedPolicy');
    expect(codeOf(() => parse({ Action: ['kms:Decrypt', 'kms:Encrypt', 'kms:GenerateDataKey*'] }))).toBe('no error');
    expect(codeOf(() => parse({ Action: ['kms:RotateKey', 'kms:ScheduleKeyDeletion'] }))).toBe('no error');
    expect(codeOf(() => parse({ Action: 'kms:*', Effect: 'Deny' }))).toBe('no error');
  });

  it('has principals, and no NotAction', () => {
    expect(codeOf(() => parsePolicy('k', { Statement: [{ ...use, Principal: undefined }] }, 'key'))).toBe(
      'MalformedPolicy',
    );
    const rest = { Effect: 'Allow', Principal: { AWS: 'ann' }, Resource: '*' };
    expect(codeOf(() => parsePolicy('k', { Statement: [{ ...rest, NotAction: 'kms:Encrypt' }] }, 'key'))).toBe(
      'MalformedPolicy',
    );
  });

  it.each([
    [{}, 'ann', 'allow'],
    [{}, 'bob', 'deny'],
    [{}, undefined, 'deny'],
    [{ Principal: { AWS: ['bob', 'ann'] } }, 'ann', 'allow'],
    [{ Principal: '*' }, 'bob', 'allow'],
  ])('%j asked by %s: %s', (change, principal, expected) => expect(ask(change, principal)).toBe(expected));
});

describe('ready-made roles', () => {
  const may = (role: string, action: string) => {
    const resource = action.startsWith('s3:') ? 'arn:aws:s3:::b/k' : 'arn:aws:kms:::key/k';
    return evaluate([parsePolicy(role, ROLES[role])], { action, resource, context: {} }) === 'allow';
  };
  const rights = (role: string) => [...KNOWN_ACTIONS].filter((action) => may(role, action));

  it('separate the use of keys from the rule over them', () => {
    expect(rights('KMSUser').sort()).toEqual([
      'kms:decrypt',
      'kms:describekey',
      'kms:encrypt',
      'kms:generatedatakey',
      'kms:generatedatakeywithoutplaintext',
      'kms:reencryptfrom',
      'kms:reencryptto',
    ]);
    for (const action of ['kms:decrypt', 'kms:encrypt', 'kms:generatedatakey', 'kms:reencryptto', 's3:getobject']) {
      expect(rights('KMSAdministrator')).not.toContain(action);
    }
    expect(rights('KMSAdministrator')).toEqual(
      expect.arrayContaining([
        'kms:configure',
        'kms:servicecontrol',
        'kms:createkey',
        'kms:putkeypolicy',
        'admin:serverinfo',
      ]),
    );
  });

  it.each([
    ['KMSOperator', ['admin:serverinfo', 'kms:clearcache', 'kms:servicecontrol']],
    [
      'KMSAuditor',
      ['admin:serverinfo', 'kms:describekey', 'kms:getkeypolicy', 'kms:listaliases', 'kms:listbuckets', 'kms:listkeys'],
    ],
  ])('%s has exactly its rights', (role, expected) => expect(rights(role).sort()).toEqual(expected));

  it('of S3 have no right on keys', () => {
    expect(rights('S3FullAccess')).toEqual([...KNOWN_ACTIONS].filter((action) => action.startsWith('s3:')));
    expect(rights('S3ReadOnlyAccess').every((action) => /^s3:(get|list)/.test(action))).toBe(true);
  });
});

describe('wildcards', () => {
  it.each([
    ['', '', true],
    ['*', '', true],
    ['?', '', false],
    ['a*b*c', 'aXbYc', true],
    ['a*b*c', 'aXbYd', false],
    ['*a', 'ba', true],
    ['*aab', 'aaaab', true],
    ['a?c', 'abc', true],
    ['a.c', 'abc', false],
    ['a[b]c', 'a[b]c', true],
    ['a**b', 'ab', true],
    ['*', 'a/b\nc', true],
  ])('%j of %j: %s', (pattern, text, expected) => expect(matchesWildcard(pattern, text)).toBe(expected));

  it('are those of a regular expression', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', '*', '?'), maxLength: 8 });
    fc.assert(
      fc.property(letters, fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 10 }), (pattern, text) => {
        const expected = new RegExp(`^${pattern.replaceAll('*', '.*').replaceAll('?', '.')}$`).test(text);
        expect(matchesWildcard(pattern, text)).toBe(expected);
      }),
    );
  });

  it('do not run away', () => {
    const begun = performance.now();
    expect(matchesWildcard(`${'*a'.repeat(500)}b`, 'a'.repeat(2000))).toBe(false);
    expect(performance.now() - begun).toBeLessThan(500);
  });
});
