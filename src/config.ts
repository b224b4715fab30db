import type { KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { JsonError, parseJson } from './config/json.ts';
import { configSchema, type Config } from './config/schema.ts';
import { masterKeyFrom, readSecretFrom, signingKeyFrom, type Environment, type SecretRef } from './config/secrets.ts';
import { check, nearest, type Problem } from './config/strict.ts';

export type { Config } from './config/schema.ts';
export type { SecretRef } from './config/secrets.ts';

/** The configuration is refused. Its message gives each field's path and what is expected, never a value. */
export class ConfigError extends Error {
  readonly problems: readonly Problem[];

  constructor(place: string, problems: readonly Problem[]) {
    super(
      [`${place} is refused:`, ...problems.map(({ path, message }) => `  ${path || '(file)'}: ${message}`)].join('\n'),
    );
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

type Override = readonly [path: readonly [string, string], kind: 'string' | 'number'];

/** The environment's overrides: what differs between replicas of one deployment, and nothing that weakens it. */
export const OVERRIDES: Readonly<Record<string, Override>> = {
  S3SSE_DATA_HOST: [['data', 'host'], 'string'],
  S3SSE_DATA_PORT: [['data', 'port'], 'number'],
  S3SSE_DATA_REGION: [['data', 'region'], 'string'],
  S3SSE_ADMIN_HOST: [['admin', 'host'], 'string'],
  S3SSE_ADMIN_PORT: [['admin', 'port'], 'number'],
  S3SSE_STORE_ENDPOINT: [['store', 'endpoint'], 'string'],
  S3SSE_STORE_ACCESS_KEY_ID: [['store', 'accessKeyId'], 'string'],
  S3SSE_CONTROL_DIRECTORY: [['control', 'directory'], 'string'],
  S3SSE_LOG_LEVEL: [['log', 'level'], 'string'],
};

/** Names the configuration file; variables that begin with `S3SSE_SECRET_` are left for secretEnv and masterKeyEnv. */
const CONFIG_VARIABLE = 'S3SSE_CONFIG';
const SECRET_PREFIX = 'S3SSE_SECRET_';

const MAX_FILE = 4 * 1024 * 1024;

/** Reads, overrides, validates and freezes the configuration. Without `file`, `S3SSE_CONFIG` names it. */
export function loadConfig(file?: string, env: Environment = process.env): Config {
  const name = file ?? env[CONFIG_VARIABLE];
  if (name === undefined || name === '') {
    throw new ConfigError('configuration', [{ path: CONFIG_VARIABLE, message: 'names no file' }]);
  }
  const path = resolve(name);
  return parseConfig(readConfigFile(path), { base: dirname(path), env, place: path });
}

/** The same for a configuration that is at hand as a value (the middleware form, tests). The environment is not asked. */
export function parseConfig(
  value: unknown,
  { base = '.', env = {}, place = 'configuration' }: { base?: string; env?: Environment; place?: string } = {},
): Config {
  const problems = unknownVariables(env);
  const result = check(configSchema(resolve(base)), override(value, env, problems));
  if ('problems' in result) problems.push(...result.problems);
  if ('problems' in result || problems.length > 0) throw new ConfigError(place, problems);
  // A copy: what is opaque here (policies, the key service's section) stays the caller's own and unfrozen.
  return freeze(structuredClone(result.value));
}

/** The secret's bytes, solely the caller's, who wipes them. Throws SecretError, which never holds a content. */
export function readSecret(ref: SecretRef, env: Environment = process.env): Buffer {
  return readSecretFrom(ref, env);
}

/** The HMAC key over `AWS4` ‖ secret access key: the `secret` of a `Signer`. */
export function readSigningKey(ref: SecretRef, env: Environment = process.env): KeyObject {
  return signingKeyFrom(ref, env);
}

/** A 256-bit master key from 32 raw bytes, hex or base64. */
export function readMasterKey(ref: SecretRef, env: Environment = process.env): KeyObject {
  return masterKeyFrom(ref, env);
}

function readConfigFile(path: string): unknown {
  const refuse = (message: string) => new ConfigError(path, [{ path: '', message }]);
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (err) {
    throw refuse(`cannot be read (${err instanceof Error && 'code' in err ? String(err.code) : 'unknown error'})`);
  }
  if (text.length > MAX_FILE) throw refuse(`is longer than ${MAX_FILE} bytes`);
  try {
    return parseJson(text);
  } catch (err) {
    throw refuse(err instanceof JsonError ? err.message : 'not valid JSON');
  }
}

/** A misspelled override would do nothing without a word: it is refused. */
function unknownVariables(env: Environment): Problem[] {
  const known = [CONFIG_VARIABLE, ...Object.keys(OVERRIDES)];
  return Object.keys(env)
    .filter((name) => name.startsWith('S3SSE_') && !name.startsWith(SECRET_PREFIX) && !known.includes(name))
    .map((name) => {
      const suggestion = nearest(name, known);
      const hint = suggestion === undefined ? `known are ${known.join(', ')}` : `did you mean ${suggestion}?`;
      return { path: name.slice(0, 64), message: `unknown variable; ${hint}` };
    });
}

function override(value: unknown, env: Environment, problems: Problem[]): unknown {
  let out = value;
  for (const [name, [[section, field], kind]] of Object.entries(OVERRIDES)) {
    const text = env[name];
    if (text === undefined) continue;
    if (kind === 'number' && !/^\d{1,15}$/.test(text)) {
      problems.push({ path: name, message: 'expected a number' });
      continue;
    }
    if (!isObject(out) || !(isObject(out[section]) || out[section] === undefined)) continue;
    out = { ...out, [section]: { ...out[section], [field]: kind === 'number' ? Number(text) : text } };
  }
  return out;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The depth is bounded: the value comes from `parseJson`, or from a caller's own code. */
function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    Object.values(value).forEach(freeze);
  }
  return value;
}
