/** Reads fields one after another out of bytes that nobody has authenticated yet: bounded, and strict at the end. */
export class FieldReader {
  readonly #bytes: Buffer;
  readonly #malformed: () => Error;
  #offset = 0;

  constructor(bytes: Buffer, malformed: () => Error) {
    this.#bytes = bytes;
    this.#malformed = malformed;
  }

  /** A view of the next `length` bytes. */
  take(length: number): Buffer {
    const end = this.#offset + length;
    if (end > this.#bytes.length) throw this.#malformed();
    const field = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return field;
  }

  u8(): number {
    return this.take(1).readUInt8(0);
  }

  u16(): number {
    return this.take(2).readUInt16BE(0);
  }

  u32(): number {
    return this.take(4).readUInt32BE(0);
  }

  /** The bytes from `start` to here. */
  since(start: number): Buffer {
    return this.#bytes.subarray(start, this.#offset);
  }

  get offset(): number {
    return this.#offset;
  }

  /** Throws unless everything was read. */
  end(): void {
    if (this.#offset !== this.#bytes.length) throw this.#malformed();
  }
}

/** Gathers a field of fixed length across fragments. */
export class Field {
  readonly #bytes: Buffer;
  #filled = 0;

  constructor(length: number) {
    this.#bytes = Buffer.alloc(length);
  }

  /** Copies what is missing; returns the offset after it. */
  fill(chunk: Buffer, offset: number): number {
    const copied = chunk.copy(this.#bytes, this.#filled, offset, offset + this.#bytes.length - this.#filled);
    this.#filled += copied;
    return offset + copied;
  }

  get full(): boolean {
    return this.#filled === this.#bytes.length;
  }

  /** All bytes; of a field that is full. */
  get bytes(): Buffer {
    return this.#bytes;
  }

  /** The bytes when all have come (the next `fill` begins again), undefined before. */
  take(): Buffer | undefined {
    if (!this.full) return undefined;
    this.#filled = 0;
    return this.#bytes;
  }
}
