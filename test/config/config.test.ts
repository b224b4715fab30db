import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { ConfigError, loadConfig, OVERRIDES, parseConfig } from '../../src/config.ts';

const folder = mkdtempSync(join(tmpdir(), 's3sse-config-'));
afterAll(() => rmSync(folder, { recursive: true }));

const remote = { endpoint: 'https://store.example:9000', accessKeyId: 'gateway', secretFile: 'store-secret' };
const control = { directory: 'control', masterKeyFile: 'master-key' };
const minimal = { store: remote, control };
const identity = { name: 'alice', accessKeyId: 'ALICE', secretFile: 'alice', plane: 'data' };

function problems(value: unknown, env: Record<string, string> = {}): string[] {
  try {
    parseConfig(value, { base: '/etc/s3sse', env });
  } catch (err) {
    if (err instanceof ConfigError) return err.problems.map(({ path, message }) => `${path}: ${message}`);
    throw err;
  }
  return [];
}

describe('a minimal configuration', () => {
  const config = parseConfig(minimal, { base: '/etc/s3sse' });

  it('has safe defaults', () => {
    expect(config.data).toMatchObject({ host: '127.0.0.1', region: 'us-east-1', trustedProxies: [], baseHosts: [] });
    expect(config.admin).toMatchObject({ host: '127.0.0.1' });
    expect(config.development).toEqual({ allowInsecureSseC: false, skipTlsVerify: false });
    expect(config.metadataIntegrity).toBe('enforce');
    expect(config.identities).toEqual([]);
    expect(config.audit).toEqual({ stdout: true, required: ['stdout'] });
    expect(config.kms).toEqual({ source: 'api' });
  });

  it('takes relative paths from the folder of the file, and absolute ones as they are', () => {
    expect(config.control.directory).toBe('/etc/s3sse/control');
    expect(config.store).toMatchObject({ kind: 's3', secret: { kind: 'file', path: '/etc/s3sse/store-secret' } });
    const absolute = parseConfig({ ...minimal, control: { ...control, directory: '/srv/c' } }, { base: '/etc/s3sse' });
    expect(absolute.control.directory).toBe('/srv/c');
  });

  it('takes a key at the store of the form account:user, and none such of a client', () => {
    const swift = { ...minimal, store: { ...remote, accessKeyId: 'test:tester' } };
    expect(parseConfig(swift, { base: '/etc/s3sse' }).store).toMatchObject({ accessKeyId: 'test:tester' });
    const client = { ...minimal, identities: [{ ...identity, accessKeyId: 'test:tester' }] };
    expect(() => parseConfig(client, { base: '/etc/s3sse' })).toThrow(/identities\[0\]\.accessKeyId/);
  });

  it('keeps the stop marker outside of the control store, which it must outlive', () => {
    expect(config.control.markerFile).toBe('/etc/s3sse/control.stopped.json');
  });

  it('is frozen to its leaves', () => {
    const full = parseConfig({ ...minimal, kms: { config: { auth_method: { token: {} } } }, identities: [identity] });
    const frozen = (value: unknown): boolean =>
      typeof value !== 'object' || value === null || (Object.isFrozen(value) && Object.values(value).every(frozen));
    expect(frozen(full)).toBe(true);
  });

  it('leaves the value that it was made of as it was', () => {
    const kms = { config: { backend_type: 'local', auth: { a: 1 } } };
    parseConfig({ ...minimal, kms });
    expect(Object.isFrozen(kms.config.auth)).toBe(false);
  });
});

describe('audit sinks', () => {
  const file = { path: 'audit.jsonl' };
  it.each([
    ['a file alone silences standard output and is required', { file }, false, ['file']],
    ['both are required when both are set', { file, stdout: true }, true, ['file', 'stdout']],
    ['required may name one of two', { file, stdout: true, required: ['file'] }, true, ['file']],
  ])('%s', (_, audit, stdout, required) => {
    expect(parseConfig({ ...minimal, audit }).audit).toMatchObject({ stdout, required });
  });
});

describe('the embedded store', () => {
  it('needs a directory only', () => {
    const { store } = parseConfig({ store: { embedded: { directory: 'objects' } }, control }, { base: '/x' });
    expect(store).toMatchObject({
      kind: 'embedded',
      directory: '/x/objects',
      systemBucket: 's3sse-system',
      traits: {},
    });
    expect(store).not.toHaveProperty('endpoint');
  });
});

/** Each row spoils one field of a good configuration. */
const BAD: readonly (readonly [name: string, value: unknown, expected: string | RegExp])[] = [
  ['no store', { control }, 'store: is required (object)'],
  ['no control store', { store: remote }, 'control: is required (object)'],
  ['not an object', [], /^: expected object/],
  ['an unknown section', { ...minimal, dta: {} }, ': unknown field "dta"; did you mean "data"?'],
  ['an unknown field', { ...minimal, data: { prot: 1 } }, 'data: unknown field "prot"; did you mean "port"?'],
  ['another case', { ...minimal, data: { trusted_proxies: [] } }, /did you mean "trustedProxies"\?/],
  ['nothing near', { ...minimal, log: { zzzzzzzzz: 1 } }, 'log: unknown field "zzzzzzzzz"; known are level'],
  ['a port as text', { ...minimal, data: { port: '80' } }, 'data.port: expected number'],
  ['a port too high', { ...minimal, data: { port: 65536 } }, /^data\.port: Too big/],
  ['a negative port', { ...minimal, admin: { port: -1 } }, /^admin\.port: Too small/],
  ['half a port', { ...minimal, data: { port: 1.5 } }, /^data\.port: expected int/],
  ['an empty host', { ...minimal, data: { host: '' } }, /^data\.host/],
  ['a region with a space', { ...minimal, data: { region: 'us east' } }, /^data\.region: expected a region name/],
  ['a certificate alone', { ...minimal, data: { tls: { certFile: 'c' } } }, 'data.tls.keyFile: is required (string)'],
  ['a proxy that is everybody', { ...minimal, data: { trustedProxies: ['0.0.0.0/0'] } }, /^data\.trustedProxies\[0\]/],
  ['a proxy by name', { ...minimal, data: { trustedProxies: ['proxy'] } }, /expected an IP address or a CIDR/],
  ['a prefix too long', { ...minimal, data: { trustedProxies: ['10.0.0.0/33'] } }, /^data\.trustedProxies\[0\]/],
  ['an idle time of zero', { ...minimal, data: { idleSeconds: 0 } }, /^data\.idleSeconds/],
  ['a base host with a port', { ...minimal, data: { baseHosts: ['s3.example:80'] } }, /^data\.baseHosts\[0\]/],
  ['the admin API off loopback without TLS', { ...minimal, admin: { host: '0.0.0.0' } }, /^admin\.tls: is required/],
  ['the admin API on a name without TLS', { ...minimal, admin: { host: '127.evil.example' } }, /^admin\.tls/],
  ['no endpoint', { ...minimal, store: {} }, /^store\.endpoint: is required, or embedded/],
  ['an endpoint with a path', { ...minimal, store: { ...remote, endpoint: 'http://h/p' } }, /^store\.endpoint/],
  ['an endpoint with a user', { ...minimal, store: { ...remote, endpoint: 'http://u:p@h' } }, /^store\.endpoint/],
  ['another scheme', { ...minimal, store: { ...remote, endpoint: 'ftp://h' } }, /^store\.endpoint/],
  [
    'both kinds of store',
    { ...minimal, store: { ...remote, embedded: { directory: 'd' } } },
    /^store\.endpoint: has no/,
  ],
  ['two references', { ...minimal, store: { ...remote, secretEnv: 'S' } }, /^store\.secretFile: and secretEnv exclude/],
  ['no reference', { ...minimal, store: { ...remote, secretFile: undefined } }, /^store\.secretFile/],
  ['an inline secret', { ...minimal, store: { ...remote, secretKey: 'x' } }, /secrets are given by reference/],
  ['a system bucket with a dot', { ...minimal, store: { ...remote, systemBucket: 'a.b' } }, /^store\.systemBucket/],
  ['an unknown trait', { ...minimal, store: { ...remote, traits: { putIfMach: true } } }, /did you mean "putIfMatch"/],
  [
    'a trait as text',
    { ...minimal, store: { ...remote, traits: { putIfMatch: 'yes' } } },
    /^store\.traits\.putIfMatch/,
  ],
  ['no master key', { ...minimal, control: { directory: 'c' } }, /^control\.masterKeyFile: is required/],
  [
    'a marker inside',
    { ...minimal, control: { ...control, markerFile: 'control/m' } },
    /^control\.markerFile: must lie/,
  ],
  [
    'a path with a NUL',
    { ...minimal, control: { ...control, directory: 'a\0b' } },
    /^control\.directory: expected a path/,
  ],
  ['kms from a file that has none', { ...minimal, kms: { source: 'file' } }, /^kms\.config: is required/],
  ['an unknown source', { ...minimal, kms: { source: 'vault' } }, /^kms\.source/],
  [
    'an identity without a plane',
    { ...minimal, identities: [{ ...identity, plane: undefined }] },
    /^identities\[0\]\.plane/,
  ],
  ['both planes', { ...minimal, identities: [{ ...identity, plane: 'both' }] }, /^identities\[0\]\.plane.*breakGlass/],
  [
    'breakGlass on one plane',
    { ...minimal, identities: [{ ...identity, breakGlass: true }] },
    /^identities\[0\]\.plane/,
  ],
  [
    'a name twice',
    { ...minimal, identities: [identity, { ...identity, accessKeyId: 'B00' }] },
    /^identities\[1\]\.name/,
  ],
  [
    'an access key twice',
    { ...minimal, identities: [identity, { ...identity, name: 'b' }] },
    /^identities\[1\]\.accessKeyId/,
  ],
  [
    'a policy that is a number',
    { ...minimal, identities: [{ ...identity, policies: [1] }] },
    /^identities\[0\]\.policies\[0\]/,
  ],
  [
    'store credentials without a secret',
    { ...minimal, identities: [{ ...identity, store: { accessKeyId: 'abc' } }] },
    /^identities\[0\]\.store\.secretFile/,
  ],
  ['no sink', { ...minimal, audit: { stdout: false } }, /^audit\.stdout/],
  ['a required sink that is not set', { ...minimal, audit: { required: ['file'] } }, /^audit\.required\[0\]/],
  ['no required sink', { ...minimal, audit: { required: [] } }, /^audit\.required/],
  ['an unknown level', { ...minimal, log: { level: 'verbose' } }, /^log\.level/],
  ['an unknown flag', { ...minimal, development: { skipTls: true } }, /did you mean "skipTlsVerify"/],
  ['integrity off', { ...minimal, metadataIntegrity: 'off' }, /^metadataIntegrity/],
  ['another compatibility', { ...minimal, compatibility: 'minio' }, /^compatibility/],
];

describe('a bad value is refused by its path and what is expected', () => {
  it.each(BAD)('%s', (_, value, expected) => {
    const found = problems(JSON.parse(JSON.stringify(value)));
    if (typeof expected === 'string') expect(found).toContain(expected);
    else expect(found.filter((line) => expected.test(line))).not.toEqual([]);
  });

  it.each([
    ['as a value of the wrong type', { ...minimal, data: { port: 'hunter2hunter2' } }],
    ['as a region', { ...minimal, data: { region: 'hunter2hunter2 ' } }],
    ['as an endpoint', { ...minimal, store: { ...remote, endpoint: 'http://user:hunter2hunter2@h' } }],
    ['under an unknown field', { ...minimal, store: { ...remote, secretAccessKey: 'hunter2hunter2' } }],
    ['as a reference to a variable', { ...minimal, control: { directory: 'c', masterKeyEnv: 'hunter2-hunter2+/=' } }],
    ['as an enumeration', { ...minimal, log: { level: 'hunter2hunter2' } }],
    ['as an access key', { ...minimal, store: { ...remote, accessKeyId: 'hunter2hunter2/+' } }],
  ])('and is never repeated: %s', (_, value) => {
    const found = problems(value);
    expect(found).not.toEqual([]);
    expect(found.join()).not.toMatch(/hunter2/);
  });
});

describe('the environment', () => {
  const load = (env: Record<string, string>) => parseConfig(minimal, { env });

  it('overrides what differs between replicas', () => {
    const config = load({ S3SSE_DATA_PORT: '1234', S3SSE_DATA_HOST: '::1', S3SSE_LOG_LEVEL: 'debug' });
    expect(config.data).toMatchObject({ port: 1234, host: '::1' });
    expect(config.log.level).toBe('debug');
  });

  it('is validated like the file', () => {
    expect(problems(minimal, { S3SSE_ADMIN_HOST: '0.0.0.0' })[0]).toMatch(/^admin\.tls: is required/);
    expect(problems(minimal, { S3SSE_DATA_PORT: '80x' })).toEqual(['S3SSE_DATA_PORT: expected a number']);
  });

  it('refuses a misspelled override', () => {
    expect(problems(minimal, { S3SSE_DATA_PROT: '1' })).toEqual([
      'S3SSE_DATA_PROT: unknown variable; did you mean S3SSE_DATA_PORT?',
    ]);
  });

  it('leaves variables for secrets, and those of others, alone', () => {
    expect(problems(minimal, { S3SSE_SECRET_STORE: 'x', S3_SSE: 'y' })).toEqual([]);
  });

  it('cannot switch on what weakens security', () => {
    expect(Object.values(OVERRIDES).filter(([[section]]) => section === 'development')).toEqual([]);
  });
});

describe('the file', () => {
  const write = (name: string, text: string) => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  };
  const message = (run: () => unknown): string => {
    try {
      run();
    } catch (err) {
      if (err instanceof ConfigError) return err.message;
      throw err;
    }
    return '';
  };

  it('is found by name, or by S3SSE_CONFIG', () => {
    const path = write('good.json', JSON.stringify(minimal));
    expect(loadConfig(path, {}).control.directory).toBe(join(folder, 'control'));
    expect(loadConfig(undefined, { S3SSE_CONFIG: path })).toEqual(loadConfig(path, {}));
    expect(message(() => loadConfig(undefined, {}))).toMatch(/S3SSE_CONFIG: names no file/);
  });

  it.each([
    ['missing', () => join(folder, 'none.json'), /cannot be read \(ENOENT\)/],
    ['a folder', () => (mkdirSync(join(folder, 'd'), { recursive: true }), join(folder, 'd')), /EISDIR/],
    ['not JSON', () => write('bad.json', '{"secret": hunter2}'), /not valid JSON$/],
    ['a name twice', () => write('twice.json', '{"store":{},"store":{}}'), /"store" is given twice/],
    ['__proto__', () => write('proto.json', '{"__proto__":{}}'), /"__proto__" is refused/],
    ['too deep', () => write('deep.json', `${'['.repeat(40)}${']'.repeat(40)}`), /nested deeper/],
  ])('is refused when it is %s', (_, make, expected) => {
    const text = message(() => loadConfig(make(), {}));
    expect(text).toMatch(expected);
    expect(text).not.toMatch(/hunter2/);
  });
});
