import nodeVault from 'node-vault';
import { ServiceError } from '../errors.ts';
import type { CallOptions, CallRequest, VaultCalls } from './calls.ts';
import { encodePath } from './login.ts';
import { fitKey, type TransitKey } from './transit.ts';

/**
 * Key administration, the work of an admin role. node-vault speaks the commands, over this folder's own transport:
 * its own would follow a redirect to another origin with the token in the header, open a connection per call under a
 * private CA, read VAULT_* from the environment and carry the token inside its errors. It is never on the data-key path.
 */
export interface AdministrationOptions {
  readonly calls: VaultCalls;
  readonly mount: string;
  readonly prefix: string;
}

export interface KeyPowers {
  readonly createKey: boolean;
  readonly rotateKey: boolean;
  readonly listKeys: boolean;
  readonly rewrap: boolean;
}

type NodeVault = ReturnType<typeof nodeVault>;

/** Made explicitly as the fitness check wants it, whatever the mount's defaults are. */
const NEW_KEY = {
  type: 'aes256-gcm96',
  derived: true,
  exportable: false,
  allow_plaintext_backup: false,
  convergent_encryption: false,
} as const;

export class Administration {
  readonly #calls: VaultCalls;
  readonly #base: string;
  readonly #prefix: string;

  constructor(options: AdministrationOptions) {
    this.#calls = options.calls;
    this.#base = encodePath(options.mount);
    this.#prefix = options.prefix;
  }

  async createKey(keyId: string, signal?: AbortSignal): Promise<TransitKey> {
    const vault = this.#speaker({ signal });
    // Transit answers a second create with 200 and a warning; the caller is told that the name is taken.
    if (await this.#exists(vault, keyId)) throw alreadyThere();
    try {
      await vault.write(this.#key(keyId), NEW_KEY);
    } catch (err) {
      if (err instanceof ServiceError && err.reason === 'kms-warning') throw alreadyThere();
      throw err;
    }
    return this.#read(vault, keyId);
  }

  async rotateKey(keyId: string, signal?: AbortSignal): Promise<TransitKey> {
    const vault = this.#speaker({ signal });
    await this.#read(vault, keyId);
    // Not repeatable: a lost answer may have rotated already, and a second rotation is one too many.
    await this.#speaker({ signal, repeatable: false }).write(`${this.#key(keyId)}/rotate`, {});
    return this.#read(vault, keyId);
  }

  /** The names under the prefix, without it. */
  async listKeys(signal?: AbortSignal): Promise<readonly string[]> {
    let answer: unknown;
    try {
      answer = await this.#speaker({ signal }).list(`${this.#base}/keys`);
    } catch (err) {
      if (isNotFound(err)) return [];
      throw err;
    }
    const names = dataOf(answer)['keys'];
    if (!Array.isArray(names)) return [];
    return names
      .filter((name): name is string => typeof name === 'string' && name.startsWith(this.#prefix))
      .map((name) => name.slice(this.#prefix.length));
  }

  /** What this credential may do, asked of the server and not guessed from its policies' names. */
  async powers(signal?: AbortSignal): Promise<KeyPowers> {
    // The name stands for all: policies are written on the prefix. It need not exist.
    const key = this.#key('capability-probe');
    const paths = {
      create: key,
      rotate: `${key}/rotate`,
      list: `${this.#base}/keys`,
      rewrap: `${this.#base}/rewrap/${encodeURIComponent(`${this.#prefix}capability-probe`)}`,
    };
    const answer: unknown = await this.#speaker({ signal }).write('sys/capabilities-self', {
      paths: Object.values(paths),
    });
    const data = dataOf(answer);
    const may = (path: string, ...wanted: readonly string[]) => {
      const granted = data[path];
      return Array.isArray(granted) && ['root', ...wanted].some((capability) => granted.includes(capability));
    };
    return {
      createKey: may(paths.create, 'create'),
      rotateKey: may(paths.rotate, 'update'),
      listKeys: may(paths.list, 'list'),
      rewrap: may(paths.rewrap, 'update'),
    };
  }

  #key(keyId: string): string {
    return `${this.#base}/keys/${encodeURIComponent(this.#prefix + keyId)}`;
  }

  async #exists(vault: NodeVault, keyId: string): Promise<boolean> {
    try {
      await vault.read(this.#key(keyId));
      return true;
    } catch (err) {
      if (isNotFound(err)) return false;
      throw err;
    }
  }

  async #read(vault: NodeVault, keyId: string): Promise<TransitKey> {
    return fitKey(dataOf(await vault.read(this.#key(keyId))));
  }

  /** node-vault with our transport under it; only the path, the method and the body of what it builds are used. */
  #speaker(options: CallOptions): NodeVault {
    const send = async (built: BuiltRequest) => {
      const path = built.path.replace(/^\//, '');
      const { data } = await this.#calls.call({ method: built.method, path, body: built.json }, options);
      return { statusCode: 200, body: { data }, request: { path: built.path } };
    };
    return nodeVault({
      endpoint: 'https://transport.invalid',
      debug: () => undefined,
      'request-promise': { defaults: () => send },
    });
  }
}

interface BuiltRequest {
  readonly method: CallRequest['method'];
  readonly path: string;
  readonly json?: Readonly<Record<string, unknown>>;
}

function dataOf(answer: unknown): Readonly<Record<string, unknown>> {
  const data: unknown = typeof answer === 'object' && answer !== null && 'data' in answer ? answer.data : undefined;
  return typeof data === 'object' && data !== null ? (data as Record<string, unknown>) : {};
}

function isNotFound(err: unknown): boolean {
  return err instanceof ServiceError && err.code === 'KMS.NotFoundException';
}

function alreadyThere(): ServiceError {
  return new ServiceError('Conflict', { message: 'A KMS key of this name exists.', reason: 'kms-key-exists' });
}
