import { isAbsolute } from 'node:path';
import { z } from 'zod';
import { ServiceError } from '../errors.ts';
import { authMethodName, backendName, nearestName } from './config-names.ts';
import { KEY_ID } from './ports.ts';

/** The body of `configure`, parsed once into a closed union. Names, defaults and limits are docs/CONFIGURATION.md's. */

const keyId = z.string().regex(KEY_ID, 'must be [A-Za-z0-9][A-Za-z0-9_-]{0,63}');
const file = z
  .string()
  .max(4096)
  .refine((path) => isAbsolute(path) && !path.includes('\0'), 'must be an absolute path');
const mountPath = z
  .string()
  .max(256)
  .regex(/^[A-Za-z0-9_-]+(\/[A-Za-z0-9_-]+)*$/, 'must be a mount path without slashes at its ends');
const name = z
  .string()
  .max(256)
  .regex(/^[\x21-\x7e]+$/, 'must be printable ASCII');

const common = {
  default_key_id: keyId.optional(),
  sse_s3_key_id: keyId.optional(),
  create_default_key: z.boolean().default(false),
  key_prefix: z
    .string()
    .regex(/^([A-Za-z0-9][A-Za-z0-9_-]{0,63})?$/, 'must be empty or [A-Za-z0-9][A-Za-z0-9_-]{0,63}')
    .default(''),
  timeout_seconds: z.int().min(1).max(60).default(10),
  retry_attempts: z.int().min(0).max(10).default(3),
  bucket_key_seconds: z.int().min(1).max(604_800).default(86_400),
  control_stale_seconds: z.int().min(0).max(86_400).default(300),
  enable_cache: z.boolean().default(true),
  max_cached_keys: z.int().min(1).max(1_000_000).default(1000),
  cache_ttl_seconds: z.int().min(1).max(86_400).default(300),
  cache_stale_seconds: z.int().min(0).max(86_400).default(0),
};

const authMethod = z.union([
  z.strictObject({
    approle: z.strictObject({
      role_id: name,
      secret_id: name.optional(),
      secret_id_file: file.optional(),
      /** The file holds a response-wrapping token, which is spent once per start. */
      secret_id_wrapped: z.boolean().default(false),
      mount: mountPath.default('approle'),
    }),
  }),
  z.strictObject({
    kubernetes: z.strictObject({
      role: name,
      jwt_path: file.default('/var/run/secrets/kubernetes.io/serviceaccount/token'),
      mount: mountPath.default('kubernetes'),
    }),
  }),
  z.strictObject({
    token_file: z.strictObject({ path: file, poll_interval_secs: z.int().min(1).max(3600).default(30) }),
  }),
  z.strictObject({ cert: z.strictObject({ name: name.optional(), mount: mountPath.default('cert') }) }),
  z.strictObject({ token: z.strictObject({ token: name.optional() }) }),
]);

const vault = z.strictObject({
  backend_type: z.literal('vault'),
  ...common,
  address: z.string().max(2048),
  namespace: z
    .string()
    .max(256)
    .regex(/^[A-Za-z0-9_.-]+(\/[A-Za-z0-9_.-]+)*$/, 'must be a namespace path')
    .optional(),
  mount_path: mountPath.default('transit'),
  ca_file: file.optional(),
  client_cert_file: file.optional(),
  client_key_file: file.optional(),
  skip_tls_verify: z.boolean().default(false),
  auth_method: authMethod,
});

const local = z.strictObject({
  backend_type: z.literal('local'),
  ...common,
  key_dir: file,
  master_key_file: file.optional(),
  master_key_env: z
    .string()
    .regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'must be the name of an environment variable')
    .optional(),
});

const SCHEMAS = { vault, local } as const;
const LATER: readonly string[] = ['aws', 'age', 'pkcs11', 'cosmian', 'rustyvault'];

export type AuthMethod = z.infer<typeof authMethod>;
export type VaultSettings = z.infer<typeof vault>;
export type LocalSettings = z.infer<typeof local>;
export type KmsConfig = VaultSettings | LocalSettings;

/** What `openVaultBackend` receives. An inline secret that was left out has been put back from the control store. */
export type VaultConfig = Pick<
  VaultSettings,
  | 'address'
  | 'namespace'
  | 'mount_path'
  | 'ca_file'
  | 'client_cert_file'
  | 'client_key_file'
  | 'skip_tls_verify'
  | 'auth_method'
  | 'timeout_seconds'
  | 'retry_attempts'
  | 'key_prefix'
>;
export type LocalConfig = Pick<LocalSettings, 'key_dir' | 'master_key_file' | 'master_key_env' | 'key_prefix'>;

export interface ParseOptions {
  /** Switched on by the process's own configuration only; no API call can. */
  readonly development: boolean;
  /** Whether the control store can keep an inline secret sealed. */
  readonly inlineSecrets: boolean;
}

function refuse(message: string, reason = 'kms-configuration'): never {
  throw new ServiceError('ValidationException', { message, reason });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Parses a complete body. Messages name fields, never values: a value may be a secret in the wrong field. */
export function parseConfig(body: unknown, options: ParseOptions): KmsConfig {
  if (!isObject(body)) refuse('The body must be a JSON object.');
  const type = backendType(body.backend_type);
  const given: Record<string, unknown> = { ...body, backend_type: type };
  if ('auth_method' in given) given.auth_method = withCanonicalMethod(given.auth_method);
  const parsed = SCHEMAS[type].safeParse(given);
  if (!parsed.success) refuse(firstIssue(parsed.error, given, type));
  checkTogether(parsed.data, options);
  return Object.freeze(parsed.data);
}

/** The type of a body, its spellings folded; one that is planned but not built is 501, never another in its place. */
export function backendType(given: unknown): 'vault' | 'local' {
  if (typeof given !== 'string') refuse('backend_type is required: local or vault.');
  const type = backendName(given);
  if (type === 'vault' || type === 'local') return type;
  if (type !== undefined && LATER.includes(type)) {
    throw new ServiceError('NotImplemented', {
      message: `The backend type ${type} is not implemented.`,
      reason: 'kms-backend',
    });
  }
  refuse('backend_type must be local or vault.');
}

function withCanonicalMethod(given: unknown): unknown {
  if (!isObject(given)) return given;
  const entries = Object.entries(given);
  if (entries.length !== 1) refuse('auth_method must have exactly one method.');
  const [spelling, value] = entries[0] ?? ['', undefined];
  const method = authMethodName(spelling);
  if (method === undefined) refuse('auth_method must be one of approle, kubernetes, token_file, cert, token.');
  return { [method]: value };
}

type Issues = z.ZodError['issues'];

/** The first thing wrong, as a sentence: its field's path and what was expected. */
function firstIssue(error: z.ZodError, given: Record<string, unknown>, type: keyof typeof SCHEMAS): string {
  const issue = flattened(error.issues, given)[0];
  if (issue === undefined) return 'The configuration is not valid.';
  const path = issue.path.map(String).join('.');
  if (issue.code === 'unrecognized_keys') {
    const unknown = (issue.keys[0] ?? '').replaceAll(/[^\x21-\x7e]/g, '?').slice(0, 64);
    const near = nearestName(unknown, knownNames(type, issue.path));
    const where = path === '' ? unknown : `${path}.${unknown}`;
    return `Unknown field ${where}${near === undefined ? '.' : `: did you mean ${near}?`}`;
  }
  return `${path}: ${issue.message}`;
}

/** A union reports every arm; only the arm of the method that was given says anything. */
function flattened(issues: Issues, given: Record<string, unknown>): Issues {
  return issues.flatMap((issue) => {
    if (issue.code !== 'invalid_union' || !isObject(given.auth_method)) return [issue];
    const method = Object.keys(given.auth_method)[0] ?? '';
    const arm = issue.errors.find((errors) => errors.every((e) => e.path[0] === method));
    return arm === undefined ? [issue] : arm.map((e) => ({ ...e, path: [...issue.path, ...e.path] }));
  });
}

function knownNames(type: keyof typeof SCHEMAS, path: readonly PropertyKey[]): readonly string[] {
  if (path.length === 0) return Object.keys(SCHEMAS[type].shape);
  return [
    'role_id',
    'secret_id',
    'secret_id_file',
    'secret_id_wrapped',
    'mount',
    'role',
    'jwt_path',
    'path',
    'name',
  ].concat(['poll_interval_secs', 'token']);
}

/** The rules that span fields. */
function checkTogether(config: KmsConfig, options: ParseOptions): void {
  if (config.backend_type === 'local') {
    if ((config.master_key_file === undefined) === (config.master_key_env === undefined)) {
      refuse('Exactly one of master_key_file and master_key_env is required.');
    }
    return;
  }
  checkAddress(config, options);
  if ((config.client_cert_file === undefined) !== (config.client_key_file === undefined)) {
    refuse('client_cert_file and client_key_file go together.');
  }
  if (config.skip_tls_verify && !options.development) {
    refuse('skip_tls_verify is refused outside development mode.', 'kms-tls');
  }
  checkSecrets(config.auth_method, options);
}

function checkAddress(config: VaultSettings, options: ParseOptions): void {
  if (!URL.canParse(config.address)) refuse('address: must be a URL.');
  const url = new URL(config.address);
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && options.development)) {
    refuse('address: must begin with https://.', 'kms-tls');
  }
  // A path, a query or credentials here would be joined to every request, or printed with the address.
  if (url.username !== '' || url.password !== '' || url.pathname !== '/' || url.search !== '' || url.hash !== '') {
    refuse('address: must be an origin, without path, query or credentials.');
  }
}

function checkSecrets(method: AuthMethod, options: ParseOptions): void {
  if ('approle' in method) {
    const { secret_id, secret_id_file } = method.approle;
    if (secret_id !== undefined && !options.inlineSecrets) {
      refuse('auth_method.approle.secret_id: an inline secret is refused; use secret_id_file.', 'kms-inline-secret');
    }
    if ((secret_id === undefined) === (secret_id_file === undefined)) {
      refuse('auth_method.approle: exactly one of secret_id and secret_id_file is required.');
    }
  }
  if ('token' in method) {
    if (method.token.token === undefined) refuse('auth_method.token.token is required.');
    if (!options.inlineSecrets) {
      refuse('auth_method.token.token: an inline secret is refused; use token_file.path.', 'kms-inline-secret');
    }
  }
}
