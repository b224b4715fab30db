import type { Json } from '../control/port.ts';
import { ServiceError } from '../errors.ts';
import { authMethodName } from './config-names.ts';
import { backendType, parseConfig, type AuthMethod, type KmsConfig, type ParseOptions } from './config-schema.ts';

/** The inline secrets of a configuration, kept apart from it: in a sealed record, never in an answer. */
export interface InlineSecrets {
  readonly secret_id?: string;
  readonly token?: string;
}

/** Fields that say to whom a secret is sent; a secret follows them only when it is given again. */
const DESTINATION = ['address', 'namespace', 'mount_path'] as const;
const BACKEND_FIELDS: ReadonlySet<string> = new Set([
  ...DESTINATION,
  ...['ca_file', 'client_cert_file', 'client_key_file', 'skip_tls_verify', 'auth_method'],
  ...['key_dir', 'master_key_file', 'master_key_env'],
]);

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** `reconfigure`: what is given replaces, null takes away, the rest stays; then the whole is parsed again. */
export function mergeConfig(current: KmsConfig, patch: unknown, options: ParseOptions): KmsConfig {
  if (!isObject(patch)) {
    throw new ServiceError('ValidationException', {
      message: 'The body must be a JSON object.',
      reason: 'kms-configuration',
    });
  }
  const type = 'backend_type' in patch ? backendType(patch.backend_type) : current.backend_type;
  const merged: Record<string, unknown> = { ...current, backend_type: type };
  if (type !== current.backend_type) for (const field of BACKEND_FIELDS) Reflect.deleteProperty(merged, field);
  for (const [name, value] of Object.entries(patch)) {
    if (name === 'backend_type') continue;
    if (value === null) Reflect.deleteProperty(merged, name);
    else merged[name] = value;
  }
  if (current.backend_type === 'vault' && type === 'vault') {
    const moved = DESTINATION.some((field) => merged[field] !== current[field]);
    if (moved && !('auth_method' in patch)) {
      throw new ServiceError('ValidationException', {
        message: 'auth_method is required again when address, namespace or mount_path changes.',
        reason: 'kms-secret-destination',
      });
    }
    if (!moved && isObject(patch.auth_method)) merged.auth_method = keepSecret(current.auth_method, patch.auth_method);
  }
  return parseConfig(merged, options);
}

/** The same method without its secret keeps the secret that it had. */
function keepSecret(current: AuthMethod, given: Record<string, unknown>): Record<string, unknown> {
  const [spelling, value] = Object.entries(given)[0] ?? ['', undefined];
  const method = authMethodName(spelling);
  if (!isObject(value) || Object.keys(given).length !== 1) return given;
  if (method === 'approle' && 'approle' in current && !('secret_id' in value) && !('secret_id_file' in value)) {
    const { secret_id, secret_id_file } = current.approle;
    return {
      approle: {
        ...value,
        ...(secret_id === undefined ? {} : { secret_id }),
        ...(secret_id_file === undefined ? {} : { secret_id_file }),
      },
    };
  }
  if (method === 'token' && 'token' in current && !('token' in value)) return { token: { ...current.token, ...value } };
  return given;
}

/** What may be written to the `service` record, and the secrets that must not be. */
export function splitSecrets(config: KmsConfig): { readonly settings: Json; readonly secrets: InlineSecrets } {
  const settings = { ...config } as Record<string, unknown>;
  let secrets: InlineSecrets = {};
  if (config.backend_type === 'vault') {
    const method = config.auth_method;
    if ('approle' in method && method.approle.secret_id !== undefined) {
      const { secret_id, ...rest } = method.approle;
      secrets = { secret_id };
      settings.auth_method = { approle: rest };
    }
    if ('token' in method && method.token.token !== undefined) {
      secrets = { token: method.token.token };
      settings.auth_method = { token: {} };
    }
  }
  // The parsed body is JSON by construction; undefined fields drop out.
  return { settings: JSON.parse(JSON.stringify(settings)) as Json, secrets };
}

/** The opposite of `splitSecrets`. */
export function joinSecrets(settings: Json, secrets: InlineSecrets, options: ParseOptions): KmsConfig {
  if (!isObject(settings)) return parseConfig(settings, options);
  const body: Record<string, unknown> = { ...settings };
  const method = isObject(body.auth_method) ? body.auth_method : {};
  if (secrets.secret_id !== undefined && isObject(method.approle)) {
    body.auth_method = { approle: { ...method.approle, secret_id: secrets.secret_id } };
  }
  if (secrets.token !== undefined) body.auth_method = { token: { token: secrets.token } };
  return parseConfig(body, options);
}

/** What `GET /kms/config` shows: every secret, and every place where one lies, as set or unset. */
export function redactConfig(config: KmsConfig): Readonly<Record<string, Json>> {
  const { settings, secrets } = splitSecrets(config);
  const shown = { ...(settings as Record<string, Json>) };
  if (config.backend_type === 'vault') {
    const method = config.auth_method;
    if ('approle' in method) {
      const { secret_id_file, mount } = method.approle;
      shown.auth_method = {
        approle: {
          mount,
          role_id: { set: true },
          secret_id: { set: secrets.secret_id !== undefined },
          secret_id_file: { set: secret_id_file !== undefined },
        },
      };
    }
    if ('token' in method) shown.auth_method = { token: { token: { set: secrets.token !== undefined } } };
  } else {
    shown.master_key_file = { set: config.master_key_file !== undefined };
    shown.master_key_env = { set: config.master_key_env !== undefined };
  }
  return shown;
}
