import { aeskw } from '@noble/ciphers/aes.js';
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes, type KeyObject } from 'node:crypto';
import { link, mkdir, readdir, stat, unlink } from 'node:fs/promises';
import { takeKey, u32 } from '../../bytes.ts';
import {
  assertPrivate,
  errorCode,
  readPrivate,
  syncDirectory,
  TEMPORARY,
  writeTemporary,
} from '../../control/files.ts';
import { parseMasterKey, readMasterKey } from '../../control/master-key.ts';
import { integrityError, ServiceError } from '../../errors.ts';
import type { LocalConfig } from '../config-schema.ts';
import { KEY_ID, type BackendDeps, type BackendKey, type DataKey, type KmsBackend } from '../ports.ts';

/**
 * KMS keys as files, `<key_prefix><key id>.<version>.kek`: each version is 32 random bytes under AES key wrap
 * (RFC 3394, SP 800-38F). Key wrap has no AAD, so the wrapping key is derived per file name, and a data key is wrapped
 * under a KEK derived per context: neither a renamed file nor another context opens anything.
 *
 *     wrapped data key = 0x01 ‖ version (4) ‖ nonce (12) ‖ AES-256-GCM(32) ‖ tag (16)
 */
const FORMAT = 1;
const HEADER = 5;
const NONCE = 12;
const TAG = 16;
const WRAPPED = HEADER + NONCE + 32 + TAG;
const WRAPPED_KEK = 40;
const LABEL = 'express-s3-sse/1/local';

export async function openLocalBackend(config: LocalConfig, deps: BackendDeps): Promise<KmsBackend> {
  const master = await openMasterKey(config, deps);
  await prepareDirectory(config.key_dir);
  return new LocalBackend(config, master);
}

async function openMasterKey(config: LocalConfig, deps: BackendDeps): Promise<KeyObject> {
  if (config.master_key_file !== undefined) return readMasterKey(config.master_key_file);
  const name = config.master_key_env ?? '';
  const value = deps.environment(name);
  if (value === undefined) {
    throw new ServiceError('ValidationException', {
      message: `The environment variable ${name} is not set.`,
      reason: 'master-key',
    });
  }
  return parseMasterKey(value, `The environment variable ${name}`);
}

/** Makes the directory where it is missing: an empty one is harmless, because keys that are not there are not found. */
async function prepareDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700, recursive: true });
    await assertPrivate(path, 'directory');
    for (const entry of await readdir(path)) {
      if (TEMPORARY.test(entry)) await unlink(`${path}/${entry}`);
    }
  } catch (err) {
    if (err instanceof ServiceError) throw err;
    throw unavailable(err);
  }
}

function unavailable(cause: unknown): ServiceError {
  return new ServiceError('ServiceUnavailable', { reason: 'kms-unavailable', cause, headers: { 'Retry-After': '2' } });
}

class LocalBackend implements KmsBackend {
  readonly kind = 'local';
  readonly capabilities = { createKey: true, rotateKey: true, rewrap: true, listKeys: true } as const;
  readonly #directory: string;
  readonly #prefix: string;
  readonly #master: KeyObject;
  /** Opened versions; a version's file never changes. */
  readonly #keks = new Map<string, KeyObject>();

  constructor(config: LocalConfig, master: KeyObject) {
    this.#directory = config.key_dir;
    this.#prefix = config.key_prefix;
    this.#master = master;
  }

  async generateDataKey(keyId: string, context: Buffer, signal?: AbortSignal): Promise<DataKey> {
    const version = await this.#latest(keyId, signal);
    const kek = await this.#kek(keyId, version);
    const plaintext = randomBytes(32);
    const wrapped = wrap(kek, keyId, version, context, plaintext);
    return { key: takeKey(plaintext), wrapped, version };
  }

  async unwrap(keyId: string, wrapped: Buffer, context: Buffer, signal?: AbortSignal): Promise<KeyObject> {
    return takeKey(await this.#open(keyId, wrapped, context, signal));
  }

  wrappedVersion(wrapped: Buffer): number {
    const version = wrapped.byteLength === WRAPPED && wrapped[0] === FORMAT ? wrapped.readUInt32BE(1) : 0;
    if (version === 0) throw integrityError('kms-unwrap');
    return version;
  }

  async describeKey(keyId: string, signal?: AbortSignal): Promise<BackendKey> {
    const latestVersion = await this.#latest(keyId, signal);
    // Proves that this master key opens it, and that the file is fit.
    await this.#kek(keyId, latestVersion);
    const { birthtime } = await this.#guarded(() => stat(this.#path(keyId, 1)), keyId);
    return { keyId, latestVersion, minDecryptionVersion: 1, createdAt: birthtime.toISOString() };
  }

  async listKeys(signal?: AbortSignal): Promise<readonly string[]> {
    signal?.throwIfAborted();
    const entries = await this.#guarded(() => readdir(this.#directory));
    const ids = entries.map((entry) => /^(.+)\.1\.kek$/.exec(entry)?.[1]).filter((name) => name !== undefined);
    return ids
      .filter((name) => name.startsWith(this.#prefix))
      .map((name) => name.slice(this.#prefix.length))
      .filter((id) => KEY_ID.test(id))
      .sort();
  }

  async createKey(keyId: string, signal?: AbortSignal): Promise<BackendKey> {
    checkKeyId(keyId);
    signal?.throwIfAborted();
    await this.#add(keyId, 1);
    return this.describeKey(keyId, signal);
  }

  async rotateKey(keyId: string, signal?: AbortSignal): Promise<BackendKey> {
    await this.#add(keyId, (await this.#latest(keyId, signal)) + 1);
    return this.describeKey(keyId, signal);
  }

  async rewrap(keyId: string, wrapped: Buffer, context: Buffer, signal?: AbortSignal): Promise<Buffer> {
    const plaintext = await this.#open(keyId, wrapped, context, signal);
    try {
      const version = await this.#latest(keyId, signal);
      return wrap(await this.#kek(keyId, version), keyId, version, context, plaintext);
    } finally {
      plaintext.fill(0);
    }
  }

  async check(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    await this.#guarded(() => assertPrivate(this.#directory, 'directory'));
  }

  close(): Promise<void> {
    this.#keks.clear();
    return Promise.resolve();
  }

  #path(keyId: string, version: number): string {
    return `${this.#directory}/${this.#prefix}${keyId}.${version}.kek`;
  }

  async #latest(keyId: string, signal?: AbortSignal): Promise<number> {
    checkKeyId(keyId);
    signal?.throwIfAborted();
    const start = `${this.#prefix}${keyId}.`;
    const entries = await this.#guarded(() => readdir(this.#directory));
    let latest = 0;
    for (const entry of entries) {
      const digits = entry.startsWith(start) ? /^([1-9]\d{0,8})\.kek$/.exec(entry.slice(start.length))?.[1] : undefined;
      if (digits !== undefined) latest = Math.max(latest, Number(digits));
    }
    if (latest === 0) throw notFound();
    return latest;
  }

  /** Link, not rename: a version that another process made first is never overwritten. */
  async #add(keyId: string, version: number): Promise<void> {
    const kek = randomBytes(32);
    const sealed = withWrappingKey(this.#master, this.#name(keyId, version), (key) => aeskw(key).encrypt(kek));
    kek.fill(0);
    await this.#guarded(async () => {
      const temporary = await writeTemporary(this.#directory, sealed);
      try {
        await link(temporary, this.#path(keyId, version));
      } catch (err) {
        if (errorCode(err) === 'EEXIST') {
          throw new ServiceError('Conflict', { message: `The key ${keyId} exists already.`, reason: 'key-exists' });
        }
        throw err;
      } finally {
        await unlink(temporary).catch(() => undefined);
      }
      await syncDirectory(this.#directory);
    });
  }

  #name(keyId: string, version: number): string {
    return `${this.#prefix}${keyId}.${version}`;
  }

  async #kek(keyId: string, version: number): Promise<KeyObject> {
    const name = this.#name(keyId, version);
    const known = this.#keks.get(name);
    if (known !== undefined) return known;
    const sealed = await this.#guarded(() => readPrivate(this.#path(keyId, version), WRAPPED_KEK), keyId);
    const opened = withWrappingKey(this.#master, name, (key) => unwrapKek(key, sealed));
    const kek = takeKey(opened);
    this.#keks.set(name, kek);
    return kek;
  }

  async #open(keyId: string, wrapped: Buffer, context: Buffer, signal?: AbortSignal): Promise<Buffer> {
    checkKeyId(keyId);
    const version = this.wrappedVersion(wrapped);
    const latest = await this.#latest(keyId, signal);
    if (version > latest) throw integrityError('kms-unwrap');
    return unwrap(await this.#kek(keyId, version), keyId, wrapped, context);
  }

  async #guarded<T>(call: () => Promise<T>, keyId?: string): Promise<T> {
    try {
      return await call();
    } catch (err) {
      if (err instanceof ServiceError) throw err;
      // A version's file that is gone while later ones are there: what it wrapped is lost, and that is no outage.
      if (keyId !== undefined && errorCode(err) === 'ENOENT') throw integrityError('kms-unwrap', err);
      throw unavailable(err);
    }
  }
}

function notFound(): ServiceError {
  return new ServiceError('KMS.NotFoundException', { reason: 'kms-key' });
}

/** The pattern is checked here again: a key id is a part of a file name. */
function checkKeyId(keyId: string): void {
  if (!KEY_ID.test(keyId)) throw notFound();
}

/** noble takes raw bytes: the wrapping key is outside a KeyObject for the length of one call. */
function withWrappingKey<T>(master: KeyObject, name: string, use: (key: Uint8Array) => T): T {
  const key = new Uint8Array(hkdfSync('sha256', master, new Uint8Array(0), `${LABEL}/kek/${name}`, 32));
  try {
    return use(key);
  } finally {
    key.fill(0);
  }
}

function unwrapKek(key: Uint8Array, sealed: Buffer): Buffer {
  let opened: Uint8Array | undefined;
  try {
    opened = aeskw(key).decrypt(sealed);
    const kek = Buffer.allocUnsafeSlow(32);
    kek.set(opened);
    return kek;
  } catch (err) {
    throw integrityError('kms-unwrap', err);
  } finally {
    opened?.fill(0);
  }
}

/** SP 800-108 style separation: one KEK per key version and context, so that the context is bound twice, here and in the AAD. */
function contextKek(kek: KeyObject, keyId: string, context: Buffer): KeyObject {
  if (context.byteLength !== 32) throw new RangeError('a context digest has 32 bytes');
  return takeKey(Buffer.from(hkdfSync('sha256', kek, context, `${LABEL}/data-key/${keyId}`, 32)));
}

function wrap(kek: KeyObject, keyId: string, version: number, context: Buffer, plaintext: Buffer): Buffer {
  const header = Buffer.concat([Buffer.of(FORMAT), u32(version)]);
  const nonce = randomBytes(NONCE);
  const cipher = createCipheriv('aes-256-gcm', contextKek(kek, keyId, context), nonce);
  cipher.setAAD(Buffer.concat([header, context]));
  return Buffer.concat([header, nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

function unwrap(kek: KeyObject, keyId: string, wrapped: Buffer, context: Buffer): Buffer {
  const nonce = wrapped.subarray(HEADER, HEADER + NONCE);
  const decipher = createDecipheriv('aes-256-gcm', contextKek(kek, keyId, context), nonce, { authTagLength: TAG });
  decipher.setAAD(Buffer.concat([wrapped.subarray(0, HEADER), context]));
  decipher.setAuthTag(wrapped.subarray(-TAG));
  const clear = decipher.update(wrapped.subarray(HEADER + NONCE, -TAG));
  const plaintext = Buffer.allocUnsafeSlow(32);
  try {
    clear.copy(plaintext);
    decipher.final();
    return plaintext;
  } catch (err) {
    plaintext.fill(0);
    throw integrityError('kms-unwrap', err);
  } finally {
    clear.fill(0);
  }
}
