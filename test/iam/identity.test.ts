import { createSecretKey } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { buildIdentities, type IdentityEntry } from '../../src/iam/identity.ts';
import { evaluate } from '../../src/iam/policy.ts';
import { codeOf } from './errors.ts';

const readKey = (ref: string) => createSecretKey(Buffer.from(`AWS4${ref}`));

const entry = (change: Partial<IdentityEntry<string>> = {}): IdentityEntry<string> => ({
  name: 'ann',
  accessKeyId: 'AKANN',
  secret: 'secret-of-ann',
  plane: 'data',
  breakGlass: false,
  policies: ['S3FullAccess'],
  ...change,
});
const build = (identities: readonly IdentityEntry<string>[], policies: Record<string, unknown> = {}) =>
  buildIdentities({ identities, policies }, readKey);

const READ = { action: 's3:GetObject', resource: 'arn:aws:s3:::b/k', context: {} };
const READ_ONLY = { Statement: { Effect: 'Allow', Action: 's3:GetObject', Resource: '*' } };

describe('identities', () => {
  it('are found by access key on their own plane only', () => {
    const directory = build([
      entry(),
      entry({ name: 'adm', accessKeyId: 'AKADM', plane: 'admin', policies: ['KMSOperator'] }),
      entry({ name: 'glass', accessKeyId: 'AKGLASS', plane: 'both', breakGlass: true }),
    ]);
    const found = (accessKeyId: string, plane: 'data' | 'admin') => directory.lookup(accessKeyId, plane)?.name;
    expect([found('AKANN', 'data'), found('AKANN', 'admin')]).toEqual(['ann', undefined]);
    expect([found('AKADM', 'data'), found('AKADM', 'admin')]).toEqual([undefined, 'adm']);
    expect([found('AKGLASS', 'data'), found('AKGLASS', 'admin')]).toEqual(['glass', 'glass']);
    expect([found('akann', 'data'), found('', 'data'), found('constructor', 'data')]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });

  it('hold the key over AWS4 and the secret, and that of their store credentials', () => {
    const store = { accessKeyId: 'STOREKEY', secret: 'secret-at-store' };
    const identity = build([entry({ store })]).lookup('AKANN', 'data');
    expect(identity?.secret.export().toString()).toBe('AWS4secret-of-ann');
    expect(identity?.store?.accessKeyId).toBe('STOREKEY');
    expect(identity?.store?.secret.export().toString()).toBe('AWS4secret-at-store');
    expect(JSON.stringify(identity)).not.toContain('secret-');
  });

  it.each<[string, IdentityEntry<string>, Record<string, unknown>, 'allow' | 'deny']>([
    ['a ready-made role', entry(), {}, 'allow'],
    ['a named policy', entry({ policies: ['mine'] }), { mine: READ_ONLY }, 'allow'],
    ['a document', entry({ policies: [READ_ONLY] }), {}, 'allow'],
    ['none', entry({ policies: [] }), {}, 'deny'],
    ['a role of keys', entry({ policies: ['KMSUser'] }), {}, 'deny'],
  ])('have the rights of %s', (_, one, policies, expected) => {
    const identity = build([one], policies).lookup('AKANN', 'data');
    expect(evaluate(identity?.policies ?? [], READ)).toBe(expected);
  });

  it.each<[string, readonly IdentityEntry<string>[], Record<string, unknown>, string]>([
    ['an access key used twice', [entry(), entry({ name: 'bob' })], {}, 'ValidationException'],
    ['a name used twice', [entry(), entry({ accessKeyId: 'AKBOB' })], {}, 'ValidationException'],
    ['both planes without breakGlass', [entry({ plane: 'both' })], {}, 'ValidationException'],
    ['breakGlass on one plane', [entry({ breakGlass: true })], {}, 'ValidationException'],
    ['an unknown policy', [entry({ policies: ['mine'] })], {}, 'ValidationException'],
    ['a policy name that every object has', [entry({ policies: ['constructor'] })], {}, 'ValidationException'],
    ['a policy with the name of a role', [entry()], { KMSUser: READ_ONLY }, 'ValidationException'],
    ['a named policy that is not valid', [entry()], { mine: {} }, 'MalformedPolicy'],
    ['a document that is not valid', [entry({ policies: [{ Statement: [] }] })], {}, 'MalformedPolicy'],
  ])('%s is refused', (_, identities, policies, code) => {
    expect(codeOf(() => build(identities, policies))).toBe(code);
  });
});
