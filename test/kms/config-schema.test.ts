import { describe, expect, it } from 'vitest';
import { mergeConfig, redactConfig, splitSecrets, joinSecrets } from '../../src/kms/config-merge.ts';
import { parseConfig, type ParseOptions } from '../../src/kms/config-schema.ts';

const strict: ParseOptions = { development: false, inlineSecrets: false };
const inline: ParseOptions = { development: false, inlineSecrets: true };
const local = { backend_type: 'local', key_dir: '/keys', master_key_file: '/master' };
const approle = { approle: { role_id: 'r', secret_id_file: '/secret' } };
const vault = { backend_type: 'vault', address: 'https://vault.example:8200', auth_method: approle };

function without(body: Record<string, unknown>, field: string): Record<string, unknown> {
  return Object.fromEntries(Object.entries(body).filter(([name]) => name !== field));
}

describe('defaults', () => {
  it('are those of the reference', () => {
    expect(parseConfig(local, strict)).toEqual({
      ...local,
      create_default_key: false,
      key_prefix: '',
      timeout_seconds: 10,
      retry_attempts: 3,
      bucket_key_seconds: 86_400,
      control_stale_seconds: 300,
      enable_cache: true,
      max_cached_keys: 1000,
      cache_ttl_seconds: 300,
      cache_stale_seconds: 0,
    });
    expect(parseConfig(vault, strict)).toMatchObject({ mount_path: 'transit', skip_tls_verify: false });
  });
});

describe('spellings', () => {
  it.each(['vault', 'Vault', 'vault-transit', 'vault_transit', 'VaultTransit', 'VAULT'])('vault as %s', (type) => {
    expect(parseConfig({ ...vault, backend_type: type }, strict).backend_type).toBe('vault');
  });
  it.each(['Local', 'LOCAL'])('local as %s', (type) => {
    expect(parseConfig({ ...local, backend_type: type }, strict).backend_type).toBe('local');
  });
  it.each(['AppRole', 'app_role', 'approle', 'app-role'])('approle as %s', (method) => {
    const parsed = parseConfig({ ...vault, auth_method: { [method]: approle.approle } }, strict);
    expect(parsed).toMatchObject({ auth_method: approle });
  });
  it.each(['Token', 'token'])('token as %s', (method) => {
    const parsed = parseConfig({ ...vault, auth_method: { [method]: { token: 't' } } }, inline);
    expect(parsed).toMatchObject({ auth_method: { token: { token: 't' } } });
  });
});

describe('refused as not implemented, never replaced by another', () => {
  it.each(['aws', 'AwsKms', 'age', 'pkcs11', 'Pkcs11', 'cosmian', 'rustyvault', 'RustyVault'])('%s', (type) => {
    expect(() => parseConfig({ ...local, backend_type: type }, strict)).toThrow(
      expect.objectContaining({ code: 'NotImplemented', status: 501 }),
    );
  });
});

describe('unknown fields', () => {
  it.each([
    ['default_key', 'default_key_id'],
    ['cache_ttl', 'cache_ttl_seconds'],
    ['max_cache_keys', 'max_cached_keys'],
    ['keydir', 'key_dir'],
    ['masterKeyFile', 'master_key_file'],
    ['timeout', 'timeout_seconds'],
  ])('%s: did you mean %s?', (given, meant) => {
    expect(() => parseConfig({ ...local, [given]: 1 }, strict)).toThrow(
      `Unknown field ${given}: did you mean ${meant}?`,
    );
  });
  it('a nested one names its place', () => {
    const auth_method = { approle: { ...approle.approle, secret_id_fil: '/x' } };
    expect(() => parseConfig({ ...vault, auth_method }, strict)).toThrow(
      'Unknown field auth_method.approle.secret_id_fil: did you mean secret_id_file?',
    );
  });
  it('a name like nothing gets no suggestion, and no control character back', () => {
    expect(() => parseConfig({ ...local, 'zz\n\u001b[31mqqqqqqq': 1 }, strict)).toThrow(
      /^Unknown field zz\?\?\[31mqqqqqqq\.$/,
    );
  });
  it('__proto__ is an unknown field like any other', () => {
    const body: unknown = JSON.parse(
      '{"backend_type":"local","key_dir":"/k","master_key_file":"/m","__proto__":{"a":1}}',
    );
    expect(() => parseConfig(body, strict)).toThrow(expect.objectContaining({ code: 'ValidationException' }));
  });
});

describe('limits', () => {
  const rows: readonly (readonly [string, unknown, boolean])[] = [
    ['default_key_id', 'k'.repeat(64), true],
    ['default_key_id', 'k'.repeat(65), false],
    ['default_key_id', '', false],
    ['default_key_id', '-k', false],
    ['default_key_id', 'a/b', false],
    ['default_key_id', '../../sys/seal', false],
    ['default_key_id', 5, false],
    ['sse_s3_key_id', 'a.b', false],
    ['create_default_key', 'true', false],
    ['key_prefix', 'team-', true],
    ['key_prefix', '../', false],
    ['timeout_seconds', 0, false],
    ['timeout_seconds', 1, true],
    ['timeout_seconds', 60, true],
    ['timeout_seconds', 61, false],
    ['timeout_seconds', 1.5, false],
    ['timeout_seconds', '10', false],
    ['retry_attempts', 0, true],
    ['retry_attempts', -1, false],
    ['max_cached_keys', 0, false],
    ['max_cached_keys', 1, true],
    ['max_cached_keys', 1_000_000, true],
    ['max_cached_keys', 1_000_001, false],
    ['cache_ttl_seconds', 0, false],
    ['cache_ttl_seconds', 86_400, true],
    ['cache_ttl_seconds', 86_401, false],
    ['cache_stale_seconds', 0, true],
    ['cache_stale_seconds', -1, false],
    ['bucket_key_seconds', 0, false],
    ['control_stale_seconds', 0, true],
    ['key_dir', 'relative', false],
    ['key_dir', '/a\0b', false],
    ['master_key_env', 'A B', false],
  ];
  it.each(rows)('%s = %j: %s', (field, value, good) => {
    const parse = () => parseConfig({ ...local, [field]: value }, strict);
    if (good) expect(parse()).toMatchObject({ [field]: value });
    else expect(parse).toThrow(expect.objectContaining({ code: 'ValidationException' }));
  });

  it.each([[null], ['x'], [[]], [5], [{}], [{ backend_type: 'file' }], [{ backend_type: 5 }]])('body %j', (body) => {
    expect(() => parseConfig(body, strict)).toThrow(expect.objectContaining({ code: 'ValidationException' }));
  });

  it.each(['key_dir', 'master_key_file'])('local without %s', (field) => {
    expect(() => parseConfig(without(local, field), strict)).toThrow(/required|key_dir/);
  });
  it('both places of a master key', () => {
    expect(() => parseConfig({ ...local, master_key_env: 'M' }, strict)).toThrow(/Exactly one/);
  });
});

describe('vault', () => {
  const rows: readonly (readonly [string, Record<string, unknown>, ParseOptions, boolean])[] = [
    ['http', { address: 'http://v:8200' }, strict, false],
    ['http in development', { address: 'http://v:8200' }, { ...strict, development: true }, true],
    ['file scheme in development', { address: 'file:///x' }, { ...strict, development: true }, false],
    ['credentials', { address: 'https://u:p@v' }, strict, false],
    ['a path', { address: 'https://v/v1' }, strict, false],
    ['a query', { address: 'https://v/?a' }, strict, false],
    ['not a URL', { address: 'v:8200x y' }, strict, false],
    ['skip_tls_verify', { skip_tls_verify: true }, strict, false],
    ['skip_tls_verify in development', { skip_tls_verify: true }, { ...strict, development: true }, true],
    ['a mount that climbs', { mount_path: '../sys' }, strict, false],
    ['a mount with a slash at its end', { mount_path: 'transit/' }, strict, false],
    ['a deep mount', { mount_path: 'team/transit' }, strict, true],
    ['a certificate without its key', { client_cert_file: '/c' }, strict, false],
    ['a certificate with its key', { client_cert_file: '/c', client_key_file: '/k' }, strict, true],
    ['two methods', { auth_method: { ...approle, token_file: { path: '/t' } } }, strict, false],
    ['no method', { auth_method: {} }, strict, false],
    ['an unknown method', { auth_method: { userpass: {} } }, strict, false],
    ['kubernetes', { auth_method: { kubernetes: { role: 'r' } } }, strict, true],
    ['token_file', { auth_method: { token_file: { path: '/t' } } }, strict, true],
    ['cert', { auth_method: { cert: {} } }, strict, true],
    ['an inline secret_id', { auth_method: { approle: { role_id: 'r', secret_id: 's' } } }, strict, false],
    [
      'an inline secret_id where it can be kept',
      { auth_method: { approle: { role_id: 'r', secret_id: 's' } } },
      inline,
      true,
    ],
    ['an inline token', { auth_method: { token: { token: 't' } } }, strict, false],
    ['approle without a secret', { auth_method: { approle: { role_id: 'r' } } }, inline, false],
    ['a key_dir', { key_dir: '/k' }, strict, false],
  ];
  it.each(rows)('%s', (_name, more, options, good) => {
    const parse = () => parseConfig({ ...vault, ...more }, options);
    if (good) expect(parse()).toMatchObject(more);
    else expect(parse).toThrow(expect.objectContaining({ code: 'ValidationException' }));
  });

  it('an inline secret is refused with the field to use, and is not quoted', () => {
    const body = { ...vault, auth_method: { approle: { role_id: 'r', secret_id: 'hunter2' } } };
    expect(() => parseConfig(body, strict)).toThrow(/secret_id_file/);
    expect(() => parseConfig(body, strict)).not.toThrow(/hunter2/);
  });

  it.each([
    [{ ...vault, default_key_id: 'SECRET VALUE' }],
    [{ ...vault, timeout_seconds: 'SECRET VALUE' }],
    [{ ...vault, backend_type: 'SECRET VALUE' }],
    [{ ...vault, auth_method: 'SECRET VALUE' }],
    [{ ...vault, auth_method: { token: 'SECRET VALUE' } }],
  ])('no message quotes a value (%#)', (body) => {
    expect(() => parseConfig(body, inline)).toThrow(/^(?!.*SECRET)/s);
  });
});

describe('reconfigure', () => {
  const secret = { ...vault, auth_method: { approle: { role_id: 'r', secret_id: 's3cr3t' } } };
  const current = parseConfig(secret, inline);

  it('merges what is given and keeps the rest', () => {
    const merged = mergeConfig(current, { cache_ttl_seconds: 60, default_key_id: 'k' }, inline);
    expect(merged).toEqual({ ...current, cache_ttl_seconds: 60, default_key_id: 'k' });
  });
  it('takes a field away with null', () => {
    const named = mergeConfig(current, { default_key_id: 'k' }, inline);
    expect(mergeConfig(named, { default_key_id: null }, inline)).not.toHaveProperty('default_key_id');
  });
  it('keeps a secret that is left out while its destination stays', () => {
    const merged = mergeConfig(current, { auth_method: { AppRole: { role_id: 'other' } } }, inline);
    expect(merged).toMatchObject({ auth_method: { approle: { role_id: 'other', secret_id: 's3cr3t' } } });
  });
  it.each([
    ['address', 'https://evil.example'],
    ['namespace', 'other'],
    ['mount_path', 'other'],
  ])('asks for the secret again when %s changes', (field, value) => {
    expect(() => mergeConfig(current, { [field]: value }, inline)).toThrow(/auth_method is required again/);
    const auth_method = { approle: { role_id: 'r' } };
    expect(() => mergeConfig(current, { [field]: value, auth_method }, inline)).toThrow(/secret_id/);
    const given = { approle: { role_id: 'r', secret_id: 'new' } };
    expect(mergeConfig(current, { [field]: value, auth_method: given }, inline)).toMatchObject({ auth_method: given });
  });
  it('does not carry a backend’s fields to another', () => {
    const moved = mergeConfig(current, { ...local, default_key_id: 'k' }, inline);
    expect(moved).toMatchObject({ backend_type: 'local', default_key_id: 'k' });
    expect(moved).not.toHaveProperty('auth_method');
  });
});

describe('secrets', () => {
  const bodies = [
    { ...vault, auth_method: { approle: { role_id: 'role', secret_id: 's3cr3t' } } },
    { ...vault, auth_method: { token: { token: 's3cr3t' } } },
  ];
  it.each(bodies)('are split off, put back, and never shown (%#)', (body) => {
    const config = parseConfig(body, inline);
    const { settings, secrets } = splitSecrets(config);
    expect(JSON.stringify(settings)).not.toContain('s3cr3t');
    expect(joinSecrets(settings, secrets, inline)).toEqual(config);
    expect(JSON.stringify(redactConfig(config))).not.toContain('s3cr3t');
    expect(JSON.stringify(redactConfig(config))).toContain('{"set":true}');
  });
});
