/** Keys in the order of their UTF-8 bytes (AWS, ListObjectsV2), each with its value; all in memory. */
export class KeyIndex<T> {
  readonly #values = new Map<string, T>();
  /** Byte strings (one UTF-16 unit per UTF-8 byte), because their order under `<` is the order of the bytes. */
  #order: string[] = [];

  static from<T>(entries: Iterable<readonly [key: string, value: T]>): KeyIndex<T> {
    const index = new KeyIndex<T>();
    for (const [key, value] of entries) {
      index.#order.push(toBytes(key));
      index.#values.set(key, value);
    }
    index.#order.sort((a, b) => (a < b ? -1 : 1));
    return index;
  }

  get size(): number {
    return this.#values.size;
  }

  get(key: string): T | undefined {
    return this.#values.get(key);
  }

  set(key: string, value: T): void {
    if (!this.#values.has(key)) {
      const bytes = toBytes(key);
      this.#order.splice(this.#seek(bytes, false), 0, bytes);
    }
    this.#values.set(key, value);
  }

  delete(key: string): void {
    if (this.#values.delete(key)) this.#order.splice(this.#seek(toBytes(key), false), 1);
  }

  /** The first key at or after `from` (with `past`: the first one that neither is before it nor begins with it). */
  seek(from: string, past: boolean): number {
    return this.#seek(toBytes(from), past);
  }

  /** Position of the first key greater than `after`. */
  seekAfter(after: string): number {
    return this.#seek(`${toBytes(after)}\0`, false);
  }

  at(position: number): { key: string; value: T } | undefined {
    const bytes = this.#order[position];
    if (bytes === undefined) return undefined;
    const key = Buffer.from(bytes, 'latin1').toString('utf8');
    return { key, value: this.#values.get(key) as T };
  }

  #seek(bytes: string, past: boolean): number {
    let low = 0;
    let high = this.#order.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const candidate = this.#order[middle] as string;
      if (candidate < bytes || (past && candidate.startsWith(bytes))) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function toBytes(key: string): string {
  return Buffer.from(key, 'utf8').toString('latin1');
}
