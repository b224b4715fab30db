import { createHash, randomBytes, type Hash } from 'node:crypto';
import { closeSync, constants, createReadStream, fstatSync, openSync, readSync } from 'node:fs';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';

/**
 * One file per object and per part: body ‖ record (JSON) ‖ length of the record (u32, big endian) ‖ MAGIC.
 * The record stands behind the body because its size and ETag are known only then; body and record are one file, so
 * they change together, and a reader who has the file open keeps both while it is replaced.
 */
const MAGIC = Buffer.from('DEVSTOR1', 'latin1');
const TAIL = 4 + MAGIC.length;
const MAX_RECORD = 64 * 1024;

/** What a record file says of its body. */
export interface BodyRecord {
  readonly size: number;
  readonly etag: string;
  /** Milliseconds since the epoch. */
  readonly modified: number;
}

/** When a write is durable. With `fsync` an answered write survives a power cut; without, a killed process only. */
export interface Durability {
  readonly fsync: boolean;
}

export async function syncDirectory(directory: string, { fsync }: Durability): Promise<void> {
  if (!fsync) return;
  const handle = await open(directory, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A body on its way into a temporary file. Nobody sees it until its owner renames the finished file. */
export class Draft {
  readonly path: string;
  readonly #handle: FileHandle;
  readonly #md5: Hash = createHash('md5');
  #size = 0;
  #open = true;

  private constructor(path: string, handle: FileHandle) {
    this.path = path;
    this.#handle = handle;
  }

  static async create(directory: string): Promise<Draft> {
    const path = join(directory, randomBytes(16).toString('hex'));
    return new Draft(path, await open(path, 'wx', 0o600));
  }

  get size(): number {
    return this.#size;
  }

  async write(chunk: Buffer): Promise<void> {
    this.#md5.update(chunk);
    this.#size += chunk.byteLength;
    await this.#handle.appendFile(chunk);
  }

  /** MD5 of what was written, in hex; to be called once. */
  md5(): string {
    return this.#md5.digest('hex');
  }

  /** Writes the record, makes the file durable and closes it. The file then waits for its rename. */
  async finish(record: BodyRecord, { fsync }: Durability): Promise<void> {
    const json = Buffer.from(JSON.stringify(record), 'utf8');
    if (json.length > MAX_RECORD) throw new RangeError('record too long');
    const tail = Buffer.alloc(TAIL);
    tail.writeUInt32BE(json.length);
    MAGIC.copy(tail, 4);
    await this.#handle.appendFile(Buffer.concat([json, tail]));
    if (fsync) await this.#handle.sync();
    this.#open = false;
    await this.#handle.close();
  }

  /** Gives the draft up. Harmless after the file was renamed. */
  async discard(): Promise<void> {
    if (this.#open) await this.#handle.close().catch(() => undefined);
    this.#open = false;
    await rm(this.path, { force: true });
  }
}

/** Bytes `start` to `end` (exclusive) of an open file, which is closed when they end or are given up. */
export function readRange(fd: number, start: number, end: number): Readable {
  // A stream's `end` is inclusive: it cannot read nothing.
  if (end > start) return createReadStream('', { fd, start, end: end - 1, highWaterMark: 256 * 1024 });
  closeSync(fd);
  return Readable.from([]);
}

/** Reads the record of a finished file; throws when the file is not one. */
export function readRecord(path: string): BodyRecord {
  const fd = openSync(path, 'r');
  try {
    const { size } = fstatSync(fd);
    const tail = Buffer.alloc(TAIL);
    const isWhole = size >= TAIL && readSync(fd, tail, 0, TAIL, size - TAIL) === TAIL;
    const length = tail.readUInt32BE();
    const start = size - TAIL - length;
    if (!isWhole || !tail.subarray(4).equals(MAGIC) || length > MAX_RECORD || start < 0) throw damaged(path);
    const json = Buffer.alloc(length);
    readSync(fd, json, 0, length, start);
    const record = JSON.parse(json.toString('utf8')) as BodyRecord;
    if (record.size !== start) throw damaged(path);
    return record;
  } finally {
    closeSync(fd);
  }
}

function damaged(path: string): Error {
  return new Error(`development store: ${path} is damaged; move it away to start without it`);
}
