import { realpathSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { ServiceError } from '../errors.ts';
import type { Config } from './schema.ts';

/**
 * The files that hold this deployment's own secrets. A configuration of the key service names a file whose content is
 * sent to the address beside it: were one of these among them, who may configure the KMS would have the master key, and
 * every identity's secret.
 */
export class OwnSecrets {
  readonly #files = new Set<string>();
  readonly #folders = new Set<string>();

  constructor(config: Config) {
    const { kms, ...rest } = config;
    this.#collect(rest);
    this.#folders.add(config.control.directory);
    if (kms.config !== undefined) this.addLocal(kms.config);
  }

  /** What a local backend keeps, which is no credential of the next one. */
  addLocal({ master_key_file: file, key_dir: folder }: { master_key_file?: unknown; key_dir?: unknown }): void {
    if (typeof file === 'string') this.#files.add(file);
    if (typeof folder === 'string') this.#folders.add(folder);
  }

  /** Throws ValidationException where any text in `settings` is the path of one, by whatever name. */
  refuseIn(settings: object): void {
    for (const value of Object.values(settings)) {
      if (typeof value === 'object' && value !== null) this.refuseIn(value as object);
      else if (typeof value === 'string' && value.startsWith('/') && this.#isOne(value)) {
        throw new ServiceError('ValidationException', {
          message: "auth_method names a file that holds a secret of this deployment's own.",
          reason: 'kms-secret-file',
        });
      }
    }
  }

  /** Every secretFile, masterKeyFile and keyFile, wherever the schema has one. */
  #collect(section: object): void {
    for (const [name, value] of Object.entries(section) as [string, unknown][]) {
      if (name === 'keyFile' && typeof value === 'string') this.#files.add(value);
      if (typeof value !== 'object' || value === null) continue;
      if ('kind' in value && value.kind === 'file' && 'path' in value) this.#files.add(String(value.path));
      else this.#collect(value);
    }
  }

  #isOne(path: string): boolean {
    const wanted = identityOf(path);
    if (wanted === undefined) return false;
    if ([...this.#files].some((file) => identityOf(file) === wanted)) return true;
    const folders = new Set([...this.#folders].map(identityOf));
    for (let at = dirname(realpathSync(path)); ; at = dirname(at)) {
      if (folders.has(identityOf(at))) return true;
      if (at === dirname(at)) return false;
    }
  }
}

/** The file itself, behind links; undefined where none can be seen, which the login tells in its own words. */
function identityOf(path: string): string | undefined {
  try {
    const { dev, ino } = statSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}
