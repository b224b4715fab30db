import { open, readdir, stat } from 'node:fs/promises';
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
const FILTER_BITS = 20;

/**
 * Looks for many byte strings at once, at every offset, in one pass. Only the aligned 32-bit words of what is searched
 * are looked at: wherever a string of 8 bytes begins, one of its first four words is aligned.
 */
export class Search {
  readonly #filter = new Uint8Array(1 << FILTER_BITS);
  readonly #byWord = new Map<number, { needle: Needle; shift: number }[]>();
  readonly #longest: number;

  constructor(needles: readonly Needle[]) {
    for (const needle of needles) {
      if (needle.bytes.length < 8) throw new Error(`${needle.name} is too short to be told from chance`);
      for (const shift of [0, 1, 2, 3]) {
        const [word = 0] = new Uint32Array(Uint8Array.from(needle.bytes.subarray(shift, shift + 4)).buffer);
        this.#filter[slot(word)] = 1;
        const same = this.#byWord.get(word);
        if (same) same.push({ needle, shift });
        else this.#byWord.set(word, [{ needle, shift }]);
      }
    }
    this.#longest = Math.max(...needles.map(({ bytes }) => bytes.length));
  }

  /** The names of what is in these bytes. */
  inBytes(bytes: Uint8Array): Set<string> {
    const found = new Set<string>();
    // A copy that is aligned.
    this.#scan(Buffer.from(Uint8Array.from(bytes).buffer), found);
    return found;
  }

  #scan(bytes: Buffer, found: Set<string>): void {
    const filter = this.#filter;
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
    for (let i = 0; i < words.length; i += 1) {
      const word = words[i] ?? 0;
      if (filter[slot(word)] === 1) this.#compare(bytes, i * 4, word, found);
    }
  }

  #compare(bytes: Buffer, at: number, word: number, found: Set<string>): void {
    for (const { needle, shift } of this.#byWord.get(word) ?? []) {
      const [from, to] = [at - shift, at - shift + needle.bytes.length];
      if (from >= 0 && to <= bytes.length && needle.bytes.compare(bytes, from, to) === 0) found.add(needle.name);
    }
  }

  /** Searches over the edges of what is read at once. */
  async #inFile(path: string, found: Set<string>): Promise<void> {
    const file = await open(path);
    try {
      const keep = this.#longest - 1;
      const work = Buffer.from(new ArrayBuffer(keep + READ));
      let kept = 0;
      for (;;) {
        const { bytesRead } = await file.read(work, kept, READ);
        if (bytesRead === 0) return;
        const all = work.subarray(0, kept + bytesRead);
        // Sparse files are gigabytes of nothing: there only what runs into it can be found.
        const empty = all.subarray(kept).equals(ZEROS.subarray(0, bytesRead));
        this.#scan(empty ? all.subarray(0, kept + keep) : all, found);
        const rest = Math.min(keep, all.length);
        all.copy(work, 0, all.length - rest);
        kept = rest;
      }
    } finally {
      await file.close();
    }
  }

  /** All files below the folders; one that goes away meanwhile is passed over. */
  async inFolders(folders: readonly string[]): Promise<{ found: string[]; bytes: number }> {
    const found = new Set<string>();
    let bytes = 0;
    for (const folder of folders) {
      for (const name of await readdir(folder, { recursive: true })) {
        const path = join(folder, name);
        try {
          const info = await stat(path);
          if (!info.isFile()) continue;
          await this.#inFile(path, found);
          bytes += info.size;
        } catch (err) {
          if ((err as { code?: unknown }).code !== 'ENOENT') throw err;
        }
      }
    }
    return { found: [...found].sort(), bytes };
  }
}

/** Multiplicative hashing (Knuth, volume 3, section 6.4). */
function slot(word: number): number {
  return Math.imul(word, 0x9e3779b1) >>> (32 - FILTER_BITS);
}
