import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** What must not be found, under the name that a report gives it. */
export interface Needle {
  readonly name: string;
  readonly bytes: Buffer;
}

/** A secret as bytes and as the texts that it could be written as. */
export function formsOf(name: string, secret: Buffer): Needle[] {
  const texts = (['hex', 'base64', 'base64url'] as const).map((encoding) => {
    return { name: `${name} (${encoding})`, bytes: Buffer.from(secret.toString(encoding).replace(/=+$/, '')) };
  });
  return [{ name: `${name} (raw)`, bytes: secret }, ...texts];
}

const READ = 1 << 20;
const ZEROS = Buffer.alloc(READ);

/** Looks for many byte strings at once, at every offset, in one pass. */
export class Search {
  /** By the first two bytes, little-endian. */
  readonly #starts = new Uint8Array(65_536);
  readonly #byStart = new Map<number, Needle[]>();
  readonly #longest: number;

  constructor(needles: readonly Needle[]) {
    for (const needle of needles) {
      if (needle.bytes.length < 8) throw new Error(`${needle.name} is too short to be told from chance`);
      const start = needle.bytes.readUInt16LE(0);
      this.#starts[start] = 1;
      const same = this.#byStart.get(start);
      if (same) same.push(needle);
      else this.#byStart.set(start, [needle]);
    }
    this.#longest = Math.max(...needles.map(({ bytes }) => bytes.length));
  }

  /** The names of what is in these bytes. */
  inBytes(bytes: Buffer, found = new Set<string>()): Set<string> {
    const starts = this.#starts;
    let pair = (bytes[0] ?? 0) << 8;
    for (let i = 1; i < bytes.length; i += 1) {
      pair = (pair >> 8) | ((bytes[i] ?? 0) << 8);
      if (starts[pair] === 1) this.#compare(bytes, i - 1, pair, found);
    }
    return found;
  }

  #compare(bytes: Buffer, at: number, start: number, found: Set<string>): void {
    for (const needle of this.#byStart.get(start) ?? []) {
      const end = at + needle.bytes.length;
      if (end <= bytes.length && needle.bytes.compare(bytes, at, end) === 0) found.add(needle.name);
    }
  }

  /** Reads on over the edges of what is read at once. */
  async inFile(path: string, found = new Set<string>()): Promise<Set<string>> {
    let rest: Buffer = Buffer.alloc(0);
    for await (const chunk of createReadStream(path, { highWaterMark: READ }) as AsyncIterable<Buffer>) {
      // Sparse files are gigabytes of nothing.
      const empty = chunk.equals(chunk.length === READ ? ZEROS : ZEROS.subarray(0, chunk.length));
      this.inBytes(empty ? rest : Buffer.concat([rest, chunk]), found);
      rest = chunk.subarray(-Math.min(chunk.length, this.#longest - 1));
    }
    return found;
  }

  /** All files below the folders; one that goes away meanwhile is passed over. */
  async inFolders(folders: readonly string[]): Promise<{ found: string[]; bytes: number }> {
    const found = new Set<string>();
    let bytes = 0;
    for (const folder of folders) {
      for (const name of await readdir(folder, { recursive: true })) {
        const path = join(folder, name);
        const info = await stat(path).catch(() => undefined);
        if (info?.isFile() !== true) continue;
        await this.inFile(path, found).catch(ignoreGone);
        bytes += info.size;
      }
    }
    return { found: [...found].sort(), bytes };
  }
}

function ignoreGone(err: unknown): void {
  if ((err as { code?: unknown }).code !== 'ENOENT') throw err;
}
