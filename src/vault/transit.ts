import type { KeyObject } from 'node:crypto';
import { integrityError, ServiceError } from '../errors.ts';
import { verdictError } from './answers.ts';
import type { VaultCalls } from './calls.ts';
import { encodePath } from './login.ts';

/** The transit engine's calls that use keys. Every one is bound to a 32-byte context digest. */

export interface TransitOptions {
  readonly calls: VaultCalls;
  readonly mount: string;
  readonly prefix: string;
}

export interface TransitDataKey {
  readonly key: KeyObject;
  readonly wrapped: Buffer;
  readonly version: number;
}

export interface TransitKey {
  readonly latestVersion: number;
  readonly minDecryptionVersion: number;
  /** ISO 8601, of the first version that is still there. */
  readonly createdAt?: string;
}

const CONTEXT_BYTES = 32;
/** `vault:v3:` and base64 of nonce, 32 bytes and tag (60 bytes), as AES-256-GCM keys make it. */
const WRAPPED = /^vault:v([1-9][0-9]{0,8}):[A-Za-z0-9+/]{80}$/;

export class Transit {
  readonly #calls: VaultCalls;
  readonly #base: string;
  readonly #prefix: string;

  constructor(options: TransitOptions) {
    this.#calls = options.calls;
    this.#base = encodePath(options.mount);
    this.#prefix = options.prefix;
  }

  path(operation: string, keyId: string): string {
    return `${this.#base}/${operation}/${encodeURIComponent(this.#prefix + keyId)}`;
  }

  async dataKey(keyId: string, context: Buffer, signal?: AbortSignal): Promise<TransitDataKey> {
    const body = { context: encodeContext(context), bits: 256 };
    const request = { method: 'POST', path: this.path('datakey/plaintext', keyId), body } as const;
    const { data, key } = await this.#calls.call(request, { signal, secretField: 'plaintext' });
    const wrapped = wrappedOf(data);
    if (key === undefined || wrapped === undefined) throw verdictError('unexpected');
    return { key, wrapped, version: wrappedVersion(wrapped) };
  }

  async decrypt(keyId: string, wrapped: Buffer, context: Buffer, signal?: AbortSignal): Promise<KeyObject> {
    const body = { ciphertext: ciphertextOf(wrapped), context: encodeContext(context) };
    const request = { method: 'POST', path: this.path('decrypt', keyId), body } as const;
    const { key } = await this.#calls.call(request, { signal, secretField: 'plaintext' });
    if (key === undefined) throw verdictError('unexpected');
    return key;
  }

  async rewrap(keyId: string, wrapped: Buffer, context: Buffer, signal?: AbortSignal): Promise<Buffer> {
    // No associated_data: rewrap ignores it. The context survives it.
    const body = { ciphertext: ciphertextOf(wrapped), context: encodeContext(context) };
    const request = { method: 'POST', path: this.path('rewrap', keyId), body } as const;
    const { data } = await this.#calls.call(request, { signal });
    const fresh = wrappedOf(data);
    if (fresh === undefined) throw verdictError('unexpected');
    return fresh;
  }

  async readKey(keyId: string, signal?: AbortSignal): Promise<TransitKey> {
    const { data } = await this.#calls.call({ method: 'GET', path: this.path('keys', keyId) }, { signal });
    return fitKey(data);
  }
}

/** The KMS key version that the prefix names. Throws an integrity error for anything that transit would not make. */
export function wrappedVersion(wrapped: Buffer): number {
  const match = WRAPPED.exec(wrapped.toString('latin1'));
  if (match === null) throw integrityError('kms-unwrap');
  return Number(match[1]);
}

function ciphertextOf(wrapped: Buffer): string {
  wrappedVersion(wrapped);
  return wrapped.toString('latin1');
}

function wrappedOf(data: Readonly<Record<string, unknown>>): Buffer | undefined {
  const { ciphertext } = data;
  return typeof ciphertext === 'string' && WRAPPED.test(ciphertext) ? Buffer.from(ciphertext, 'latin1') : undefined;
}

function encodeContext(context: Buffer): string {
  // An empty or short context would be bound to nothing: this is a fault of ours, not of a request.
  if (context.length !== CONTEXT_BYTES) throw new TypeError('a context digest has 32 bytes');
  return context.toString('base64');
}

/** What a key must read like, one line each; what is wrong is told to the administrator who configures it. */
const FITNESS: readonly (readonly [string, unknown, string])[] = [
  ['type', 'aes256-gcm96', 'is not of type aes256-gcm96'],
  // Without it transit ignores the context and answers 200.
  ['derived', true, 'is not derived: nothing would bind a data key to its context'],
  ['exportable', false, 'is exportable'],
  ['allow_plaintext_backup', false, 'allows plaintext backup'],
  ['convergent_encryption', false, 'uses convergent encryption'],
  ['supports_encryption', true, 'cannot encrypt'],
  ['supports_decryption', true, 'cannot decrypt'],
];

/** Reads a key's record and refuses one that is not fit; a field that is missing is not fit. */
export function fitKey(data: Readonly<Record<string, unknown>>): TransitKey {
  for (const [field, wanted, complaint] of FITNESS) if (data[field] !== wanted) throw unfit(complaint);
  // Only OpenBao has it; a soft-deleted key answers nothing but its own restoration.
  if (data['soft_deleted'] === true) throw unfit('is soft-deleted');
  if (data['imported_key'] === true) throw unfit('was imported: its material exists outside');
  const latestVersion = data['latest_version'];
  const minDecryptionVersion = data['min_decryption_version'];
  if (!isVersion(latestVersion) || !isVersion(minDecryptionVersion)) throw verdictError('unexpected');
  const createdAt = creation(data['keys']);
  return { latestVersion, minDecryptionVersion, ...(createdAt === undefined ? {} : { createdAt }) };
}

function unfit(complaint: string): ServiceError {
  return new ServiceError('ValidationException', { message: `The KMS key ${complaint}.`, reason: 'key-unfit' });
}

function isVersion(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 1;
}

/** `keys` maps versions to Unix seconds. */
function creation(keys: unknown): string | undefined {
  if (typeof keys !== 'object' || keys === null) return undefined;
  const times = Object.values(keys).filter((at): at is number => typeof at === 'number' && at > 0 && at < 1e11);
  return times.length === 0 ? undefined : new Date(Math.min(...times) * 1000).toISOString();
}
