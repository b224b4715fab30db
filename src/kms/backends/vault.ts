import { readFile } from 'node:fs/promises';
import { ServiceError } from '../../errors.ts';
import { Administration } from '../../vault/administration.ts';
import { Attempts } from '../../vault/attempts.ts';
import { Session } from '../../vault/auth.ts';
import { Breaker, type Chance } from '../../vault/breaker.ts';
import { VaultCalls } from '../../vault/calls.ts';
import { VaultClient } from '../../vault/client.ts';
import { loginMethod, RefusedSecrets, type AuthSettings } from '../../vault/login.ts';
import { Transit, wrappedVersion } from '../../vault/transit.ts';
import type { VaultConfig } from '../config-schema.ts';
import { KEY_ID, type BackendKey, type KmsBackend } from '../ports.ts';

/** The production backend: transit keys of HashiCorp Vault or OpenBao. */

export interface VaultBackendDeps {
  readonly chance?: Chance;
  /** A credential for create, rotate and list. Without it they depend on what the service's own token may do. */
  readonly adminAuth?: AuthSettings;
  /** Shared by the backends of one process, so that a SecretID which was refused is not sent again by the next. */
  readonly refused?: RefusedSecrets;
}

/** A key's record may change (exportable can be switched on), so that its fitness is asked for again. */
const FIT_FOR_MS = 3_600_000;

/**
 * Connects, logs in and proves that the server answers. One login is tried, so that a wrong SecretID costs one of the
 * role's five. Throws the errors of KmsBackend; nothing is left open then.
 */
export async function openVaultBackend(config: VaultConfig, deps: VaultBackendDeps = {}): Promise<KmsBackend> {
  const chance = deps.chance ?? { now: () => performance.now(), random: Math.random };
  const client = await openClient(config);
  const breaker = new Breaker(chance);
  const attempts = new Attempts(config.retry_attempts, breaker, chance);
  const timeoutMs = config.timeout_seconds * 1000;
  const refused = deps.refused ?? new RefusedSecrets();
  const connect = (settings: AuthSettings) => {
    const transport = { client, attempts, refused };
    const session = new Session({ transport, method: loginMethod(settings, transport), chance, timeoutMs });
    return { session, calls: new VaultCalls({ client, attempts, session, chance, timeoutMs }) };
  };
  const data = connect(config.auth_method);
  const admin = deps.adminAuth === undefined ? data : connect(deps.adminAuth);
  const close = async () => {
    await Promise.all([data.session.close(), admin === data ? undefined : admin.session.close()]);
    await client.close();
  };
  try {
    await data.calls.health();
    const names = { mount: config.mount_path, prefix: config.key_prefix };
    const transit = new Transit({ calls: data.calls, ...names });
    const administration = new Administration({ calls: admin.calls, ...names });
    const powers = await administration.powers();
    const rewrap = admin === data ? powers : await new Administration({ calls: data.calls, ...names }).powers();
    const capabilities = Object.freeze({ ...powers, rewrap: rewrap.rewrap });
    return new VaultBackend({ transit, administration, calls: data.calls, capabilities, chance, close });
  } catch (err) {
    await close();
    throw err;
  }
}

async function openClient(config: VaultConfig): Promise<VaultClient> {
  const [ca, cert, key] = await Promise.all(
    [config.ca_file, config.client_cert_file, config.client_key_file].map(readPem),
  );
  try {
    return new VaultClient({
      address: config.address,
      namespace: config.namespace,
      ca,
      cert,
      key,
      skipTlsVerify: config.skip_tls_verify,
    });
  } catch (err) {
    throw new ServiceError('ValidationException', { reason: 'kms-tls', cause: err });
  }
}

async function readPem(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  try {
    return await readFile(path, 'utf8');
  } catch (err) {
    const message = 'ca_file, client_cert_file or client_key_file cannot be read.';
    throw new ServiceError('ValidationException', { message, reason: 'kms-tls', cause: err });
  }
}

interface Parts {
  readonly transit: Transit;
  readonly administration: Administration;
  readonly calls: VaultCalls;
  readonly capabilities: KmsBackend['capabilities'];
  readonly chance: Chance;
  readonly close: () => Promise<void>;
}

class VaultBackend implements KmsBackend {
  readonly kind = 'vault';
  readonly capabilities: KmsBackend['capabilities'];
  readonly #parts: Parts;
  /** Keys that read fit, and until when that reading is believed. */
  readonly #fit = new Map<string, number>();
  readonly #reading = new Map<string, Promise<BackendKey>>();

  /** There only where the credentials allow them, as `capabilities` says. */
  readonly listKeys?: NonNullable<KmsBackend['listKeys']>;
  readonly createKey?: NonNullable<KmsBackend['createKey']>;
  readonly rotateKey?: NonNullable<KmsBackend['rotateKey']>;
  readonly rewrap?: NonNullable<KmsBackend['rewrap']>;

  constructor(parts: Parts) {
    const { administration, transit, capabilities } = parts;
    this.capabilities = capabilities;
    this.#parts = parts;
    if (capabilities.listKeys) {
      this.listKeys = async (signal) => {
        const names = await administration.listKeys(signal);
        return names.filter((name) => KEY_ID.test(name)).sort();
      };
    }
    if (capabilities.createKey) {
      this.createKey = async (keyId, signal) => {
        requireKeyId(keyId);
        return { keyId, ...(await administration.createKey(keyId, signal)) };
      };
    }
    if (capabilities.rotateKey) {
      this.rotateKey = async (keyId, signal) => {
        requireKeyId(keyId);
        return { keyId, ...(await administration.rotateKey(keyId, signal)) };
      };
    }
    if (capabilities.rewrap) {
      this.rewrap = async (keyId, wrapped, context, signal) => {
        wrappedVersion(wrapped);
        await this.#requireFit(keyId, signal);
        return transit.rewrap(keyId, wrapped, context, signal);
      };
    }
  }

  async generateDataKey(keyId: string, context: Buffer, signal?: AbortSignal) {
    await this.#requireFit(keyId, signal);
    return this.#parts.transit.dataKey(keyId, context, signal);
  }

  async unwrap(keyId: string, wrapped: Buffer, context: Buffer, signal?: AbortSignal) {
    // Its form first: what transit would not have made is no reason to ask the server anything.
    wrappedVersion(wrapped);
    await this.#requireFit(keyId, signal);
    return this.#parts.transit.decrypt(keyId, wrapped, context, signal);
  }

  wrappedVersion(wrapped: Buffer): number {
    return wrappedVersion(wrapped);
  }

  async describeKey(keyId: string, signal?: AbortSignal): Promise<BackendKey> {
    requireKeyId(keyId);
    this.#fit.delete(keyId);
    const key = await this.#parts.transit.readKey(keyId, signal);
    this.#fit.set(keyId, this.#parts.chance.now() + FIT_FOR_MS);
    return { keyId, ...key };
  }

  async check(signal?: AbortSignal): Promise<void> {
    await this.#parts.calls.health(signal);
    await this.#parts.calls.call({ method: 'GET', path: 'auth/token/lookup-self' }, { signal });
  }

  close(): Promise<void> {
    return this.#parts.close();
  }

  /** On a key that is not derived transit ignores the context and answers 200: no key is used before it was read. */
  async #requireFit(keyId: string, signal: AbortSignal | undefined): Promise<void> {
    requireKeyId(keyId);
    const until = this.#fit.get(keyId);
    if (until !== undefined && until > this.#parts.chance.now()) return;
    let reading = this.#reading.get(keyId);
    if (reading === undefined) {
      // Shared, so no caller's signal ends it.
      reading = this.describeKey(keyId).finally(() => this.#reading.delete(keyId));
      this.#reading.set(keyId, reading);
    }
    await reading;
    signal?.throwIfAborted();
  }
}

/** The last line before a path is built of it. */
function requireKeyId(keyId: string): void {
  if (!KEY_ID.test(keyId)) throw new ServiceError('KMS.NotFoundException', { reason: 'kms-key-not-found' });
}
