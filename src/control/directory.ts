import type { KeyObject } from 'node:crypto';
import { link, lstat, mkdir, readdir, rm, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ServiceError } from '../errors.ts';
import { assertPrivate, errorCode, readPrivate, syncDirectory, TEMPORARY, writeTemporary } from './files.ts';
import { acquireLock, type DirectoryLock } from './lock.ts';
import { RECORD_NAME, type ControlStore, type Json, type Stored } from './port.ts';
import { LARGEST, RecordCodec, unavailable } from './record-codec.ts';
import { deriveSealKey } from './seal.ts';

/**
 * The control store of one node: a directory of small JSON files, `<name>.<version>`. A new version is written aside,
 * synced and linked into place: `link` fails if the name exists, so the file system itself is the check-and-set.
 * Folders of a name end in `.d`, which no version does, so that a record and a folder never meet.
 */

export interface DirectoryOptions {
  readonly path: string;
  /** Seals `envelope-keys/*` and `secrets/*`. */
  readonly masterKey: KeyObject;
  /** `init` only: makes the directory, or takes an empty one. Without it a missing or empty one is an error. */
  readonly create?: boolean;
}

function conflict(name: string): ServiceError {
  return new ServiceError('Conflict', { message: `The record ${name} was changed meanwhile.`, reason: 'control-cas' });
}

interface Place {
  readonly folder: string;
  /** The last segment of the record's name. */
  readonly leaf: string;
}

/** Opens an initialised directory; `create` is for `init` alone. */
export async function openControlDirectory(options: DirectoryOptions): Promise<ControlStore> {
  const { path } = options;
  try {
    if (options.create === true) await makeEmpty(path);
    await assertPrivate(path, 'directory');
    const entries = await readdir(path);
    if (options.create !== true && !entries.some((entry) => /^realm\.\d+$/.test(entry))) {
      throw unavailable(`${path} is not an initialised control store; is its volume mounted?`, 'control-missing');
    }
  } catch (err) {
    if (err instanceof ServiceError) throw err;
    if (errorCode(err) === 'ENOENT') throw unavailable(`${path} does not exist.`, 'control-missing');
    throw unavailable(`${path} cannot be opened (${errorCode(err) ?? 'unknown'}).`, 'control-store', err);
  }
  const lock = await acquireLock(path);
  try {
    await sweep(path);
  } catch (err) {
    await lock.release();
    throw unavailable(`${path} cannot be read (${errorCode(err) ?? 'unknown'}).`, 'control-store', err);
  }
  return new DirectoryStore(path, deriveSealKey(options.masterKey, 'control-record'), lock);
}

async function makeEmpty(path: string): Promise<void> {
  await mkdir(path, { mode: 0o700, recursive: true });
  // A lock alone is another `init` under way: acquireLock tells.
  const entries = (await readdir(path)).filter((entry) => entry !== 'lock' && !TEMPORARY.test(entry));
  if (entries.length > 0) {
    throw new ServiceError('Conflict', { message: `${path} is not empty.`, reason: 'control-exists' });
  }
  await syncDirectory(dirname(path));
}

/** Removes what a crash left: files that were never linked into place. Runs under the lock. */
async function sweep(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) await sweep(`${folder}/${entry.name}`);
    // One of a contender for the lock may be gone by itself.
    else if (TEMPORARY.test(entry.name)) await rm(`${folder}/${entry.name}`, { force: true });
  }
}

class DirectoryStore implements ControlStore {
  readonly keepsSecrets = true;
  readonly #root: string;
  readonly #codec: RecordCodec;
  readonly #lock: DirectoryLock;
  /** Writers of this process take turns, so that pruning never meets a write of an older version. */
  #turn: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(root: string, key: KeyObject, lock: DirectoryLock) {
    this.#root = root;
    this.#codec = new RecordCodec(key);
    this.#lock = lock;
  }

  get(name: string): Promise<Stored> {
    return this.#guarded(async () => {
      const place = this.#place(name);
      for (let attempt = 0; attempt < 5; attempt++) {
        const version = latest(await this.#versions(place));
        if (version === 0) {
          // "None" must not be what an unmounted volume looks like.
          await this.#lock.assertHeld();
          return { value: null, version: 0 };
        }
        const found = await this.#read(name, place, version);
        if (found !== undefined) return found;
      }
      throw unavailable(`The record ${name} changes too fast to be read.`);
    });
  }

  list(prefix: string): Promise<readonly string[]> {
    return this.#guarded(async () => {
      if (!prefix.endsWith('/')) throw new RangeError('a prefix ends in /');
      const folder = this.#place(`${prefix}x`).folder;
      await this.#lock.assertHeld();
      const names: string[] = [];
      await this.#collect(folder, prefix, names);
      return names.sort();
    });
  }

  async #collect(folder: string, prefix: string, names: string[]): Promise<void> {
    const entries = await readdirOrNone(folder);
    for (const entry of entries.filter((name) => name.endsWith('.d'))) {
      await this.#collect(`${folder}/${entry}`, `${prefix}${entry.slice(0, -2)}/`, names);
    }
    for (const leaf of new Set(entries.map(leafOf).filter((name) => name !== undefined))) {
      if ((await this.get(prefix + leaf)).value !== null) names.push(prefix + leaf);
    }
  }

  compareAndSet(name: string, value: Json, version: number): Promise<number> {
    const result = this.#turn.then(() => this.#guarded(() => this.#write(name, value, version)));
    this.#turn = result.catch(() => undefined);
    return result;
  }

  async #write(name: string, value: Json, version: number): Promise<number> {
    const place = this.#place(name);
    await this.#lock.assertHeld();
    if (latest(await this.#versions(place)) !== version) throw conflict(name);
    await this.#makeFolders(place.folder);
    const next = version + 1;
    const temporary = await writeTemporary(place.folder, this.#codec.encode(name, value, next));
    const target = `${place.folder}/${place.leaf}.${next}`;
    try {
      await link(temporary, target);
    } catch (err) {
      if (errorCode(err) === 'EEXIST') throw conflict(name);
      throw err;
    } finally {
      await unlink(temporary).catch(() => undefined);
    }
    await syncDirectory(place.folder);
    for (const old of (await this.#versions(place)).filter((v) => v < next)) {
      // Durable already; what stays is pruned by the next write.
      await unlink(`${place.folder}/${place.leaf}.${old}`).catch(() => undefined);
    }
    return next;
  }

  async close(): Promise<void> {
    await this.#turn;
    if (this.#closed) return;
    this.#closed = true;
    await this.#lock.release();
  }

  #place(name: string): Place {
    if (!RECORD_NAME.test(name)) throw new RangeError('not a record name');
    const segments = name.split('/');
    const leaf = segments.pop() ?? '';
    return { folder: [this.#root, ...segments.map((segment) => `${segment}.d`)].join('/'), leaf };
  }

  async #makeFolders(folder: string): Promise<void> {
    if (folder === this.#root) return;
    await this.#makeFolders(dirname(folder));
    try {
      await mkdir(folder, { mode: 0o700 });
      await syncDirectory(dirname(folder));
    } catch (err) {
      if (errorCode(err) !== 'EEXIST') throw err;
    }
  }

  async #versions(place: Place): Promise<number[]> {
    const entries = await readdirOrNone(place.folder);
    const start = `${place.leaf}.`;
    return entries
      .filter((entry) => entry.startsWith(start) && /^[1-9]\d{0,14}$/.test(entry.slice(start.length)))
      .map((entry) => Number(entry.slice(start.length)));
  }

  /** A version's value; undefined when it was pruned between the listing and the reading. */
  async #read(name: string, place: Place, version: number): Promise<Stored | undefined> {
    let bytes: Buffer;
    try {
      bytes = await readPrivate(`${place.folder}/${place.leaf}.${version}`, LARGEST);
    } catch (err) {
      if (errorCode(err) === 'ENOENT') return undefined;
      throw err;
    }
    return { value: this.#codec.decode(name, version, bytes), version };
  }

  /** Whatever the file system says reaches the caller as ServiceUnavailable. */
  async #guarded<T>(call: () => Promise<T>): Promise<T> {
    if (this.#closed) throw unavailable('The control store is closed.');
    try {
      return await call();
    } catch (err) {
      if (err instanceof ServiceError || err instanceof RangeError) throw err;
      throw unavailable(`The control store fails (${errorCode(err) ?? 'unknown'}).`, 'control-store', err);
    }
  }
}

function latest(versions: readonly number[]): number {
  return versions.reduce((a, b) => Math.max(a, b), 0);
}

function leafOf(entry: string): string | undefined {
  return /^(.+)\.[1-9]\d{0,14}$/.exec(entry)?.[1];
}

async function readdirOrNone(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (err) {
    if (errorCode(err) === 'ENOENT') return [];
    throw err;
  }
}

/** True when nothing, or an empty directory, is there: what `init` may take. */
export async function isVacant(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isDirectory() && (await readdir(path)).length === 0;
  } catch (err) {
    if (errorCode(err) === 'ENOENT') return true;
    throw err;
  }
}
