import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** Where lines go. */
export interface Sink {
  readonly name: 'file' | 'stdout';
  /** Whether `next` is wanted before the next line: the file is full, or was removed or cut by somebody. */
  due(): 'no' | 'full' | 'gone';
  /** Goes on in file `number`. */
  next(number: number): void;
  /** Has taken the whole line when it returns; has thrown and taken none of it otherwise. */
  write(line: string): void;
  close(): void;
}

export interface FileOptions {
  /** Base name: `/var/log/s3sse/audit.jsonl` makes `/var/log/s3sse/audit-<start>-<chain>-<number>.jsonl`. */
  readonly path: string;
  readonly maxBytes: number;
  /** Closed files to keep; 0 keeps all. */
  readonly keep: number;
}

/** Milliseconds between looks at whether the file is still there and still as long as what was written. */
const LOOK_EVERY = 1000;

/**
 * A file of one chain, appended to synchronously: the line is the kernel's when `write` returns, so it survives this
 * process, though not a power cut (fsync only when a file is closed). A failed or short write is cut off again.
 */
export class FileSink implements Sink {
  readonly name = 'file';
  readonly #options: FileOptions;
  readonly #folder: string;
  readonly #prefix: string;
  /** What the names of this chain's files share: start and chain. */
  readonly #stem: string;
  #fd: number | undefined;
  #size = 0;
  #looked = 0;

  /** `start` is an ISO time: file names sort by it. */
  constructor(options: FileOptions, chain: string, start: string) {
    this.#options = options;
    this.#folder = dirname(options.path);
    this.#prefix = `${basename(options.path).replace(/\.jsonl$/, '')}-`;
    this.#stem = `${start.replace(/\.\d+|[-:]/g, '')}-${chain}`;
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
  }

  due(): 'no' | 'full' | 'gone' {
    if (this.#fd === undefined) return 'gone';
    if (this.#size >= this.#options.maxBytes) return 'full';
    const now = Date.now();
    if (Math.abs(now - this.#looked) < LOOK_EVERY) return 'no';
    this.#looked = now;
    const { nlink, size } = fstatSync(this.#fd);
    return nlink === 0 || size !== this.#size ? 'gone' : 'no';
  }

  next(number: number): void {
    this.close();
    const file = `${this.#prefix}${this.#stem}-${String(number).padStart(6, '0')}.jsonl`;
    // `ax`: never a file that somebody else has put there.
    this.#fd = openSync(join(this.#folder, file), 'ax', 0o600);
    this.#size = 0;
    this.#looked = Date.now();
    this.#prune();
  }

  write(line: string): void {
    if (this.#fd === undefined) throw new Error('the audit file is not open');
    const length = Buffer.byteLength(line);
    let written = 0;
    try {
      written = writeSync(this.#fd, line);
    } finally {
      if (written !== length) ftruncateSync(this.#fd, this.#size);
    }
    if (written !== length) throw new Error('the audit file took a part of a line only');
    this.#size += length;
  }

  close(): void {
    if (this.#fd === undefined) return;
    const fd = this.#fd;
    this.#fd = undefined;
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }

  /** Removes the oldest files that were closed; one that another process still writes has no closing line. */
  #prune(): void {
    const { keep } = this.#options;
    if (keep === 0) return;
    const own = /^\d{8}T\d{6}Z-[0-9a-f]{16}-\d{6,}\.jsonl$/;
    const closed = readdirSync(this.#folder)
      .filter((file) => file.startsWith(this.#prefix) && own.test(file.slice(this.#prefix.length)))
      .sort()
      .map((file) => join(this.#folder, file))
      .filter(isClosed);
    for (const file of closed.slice(0, Math.max(0, closed.length - keep))) rmSync(file, { force: true });
  }
}

function isClosed(path: string): boolean {
  const fd = openSync(path, 'r');
  try {
    const { size } = fstatSync(fd);
    const tail = Buffer.alloc(Math.min(size, 512));
    readSync(fd, tail, 0, tail.length, size - tail.length);
    const line = tail.toString('latin1').trimEnd().split('\n').at(-1) ?? '';
    return line.includes('"type":"close"');
  } finally {
    closeSync(fd);
  }
}

/** Standard output may be a pipe that is full for a moment; longer than this the sink has failed. */
const STDOUT_PATIENCE_MS = 250;

/** Lines on a descriptor, standard output by default, written synchronously. */
export class DescriptorSink implements Sink {
  readonly name = 'stdout';
  readonly #fd: number;
  /** A line was left unfinished: the next begins on a line of its own. */
  #broken = false;

  constructor(fd = 1) {
    this.#fd = fd;
  }

  due(): 'no' {
    return 'no';
  }

  next(): void {
    // One stream for the whole life of the chain.
  }

  write(line: string): void {
    const bytes = Buffer.from(this.#broken ? `\n${line}` : line);
    const patience = Date.now() + STDOUT_PATIENCE_MS;
    let at = 0;
    try {
      while (at < bytes.length) at += this.#writeSome(bytes.subarray(at), patience);
      this.#broken = false;
    } catch (err) {
      this.#broken ||= at > 0;
      throw err;
    }
  }

  #writeSome(bytes: Buffer, patience: number): number {
    try {
      return writeSync(this.#fd, bytes);
    } catch (err) {
      const full = err instanceof Error && 'code' in err && err.code === 'EAGAIN';
      if (!full || Date.now() > patience) throw err;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
      return 0;
    }
  }

  close(): void {
    // The descriptor is the process's own.
  }
}
