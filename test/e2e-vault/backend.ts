import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { VaultConfig } from '../../src/kms/config-schema.ts';
import { PREFIX, type AppRoleCredential, type OpenBao } from '../support/openbao.ts';

/** The configuration of a backend on this server: its CA, the policies' prefix, short timeouts. */
export function configFor(
  bao: OpenBao,
  auth: VaultConfig['auth_method'],
  more: Partial<VaultConfig> = {},
): VaultConfig {
  return {
    address: bao.address,
    mount_path: 'transit',
    ca_file: bao.caFile,
    skip_tls_verify: false,
    auth_method: auth,
    timeout_seconds: 4,
    retry_attempts: 2,
    key_prefix: PREFIX,
    ...more,
  };
}

let files = 0;

/** AppRole with its SecretID in a file, as the documentation wants it. */
export async function approle(bao: OpenBao, credential: AppRoleCredential) {
  const path = join(bao.folder, `secret-id-${files++}`);
  await writeFile(path, `${credential.secretId}\n`, { mode: 0o600 });
  const settings = { role_id: credential.roleId, secret_id_file: path, secret_id_wrapped: false, mount: 'approle' };
  return { auth: { approle: settings }, path };
}

/** Twice the same digest of a context, so that tests can tell contexts apart by a letter. */
export function context(letter: string): Buffer {
  return Buffer.alloc(32, letter);
}

/** What a promise was rejected with, as fields to compare. */
export async function failure(promise: Promise<unknown>): Promise<{ code: unknown; reason: unknown }> {
  try {
    await promise;
  } catch (err) {
    const { code, reason } = err as { code?: unknown; reason?: unknown };
    return { code, reason };
  }
  throw new Error('it succeeded');
}

export const UNAVAILABLE = { code: 'ServiceUnavailable', reason: 'kms-unavailable' };
export const DENIED = { code: 'AccessDenied', reason: 'kms-denied' };
export const INTEGRITY = { code: 'InternalError', reason: 'integrity:kms-unwrap' };
export const THROTTLED = { code: 'SlowDown', reason: 'kms-throttled' };
export const UNFIT = { code: 'ValidationException', reason: 'key-unfit' };
