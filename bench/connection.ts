import { connect, type Socket } from 'node:net';

export interface Answer {
  readonly status: number;
  /** Bytes of the body; kept only when they were asked for. */
  readonly length: number;
  readonly body: Buffer | undefined;
}

/**
 * One kept-alive HTTP/1.1 connection that costs next to nothing: heads are sent as ready-made bytes, and bodies are
 * read into one buffer and counted. It knows answers with a Content-Length only, which is all that is measured.
 */
export class Connection {
  readonly #socket: Socket;
  #head = '';
  #left = -1;
  #length = 0;
  #status = 0;
  #kept: Buffer[] | undefined;
  #bodyless = false;
  #settle: { resolve: (answer: Answer) => void; reject: (err: Error) => void } | undefined;

  constructor(port: number) {
    const onread = {
      buffer: Buffer.allocUnsafeSlow(256 * 1024),
      callback: (size: number, buffer: Uint8Array): boolean => {
        this.#take(Buffer.from(buffer.buffer, buffer.byteOffset, size));
        return true;
      },
    };
    this.#socket = connect({ host: '127.0.0.1', port, noDelay: true, onread });
    this.#socket.on('error', (err) => this.#settle?.reject(err));
    this.#socket.on('close', () => this.#settle?.reject(new Error('the connection was closed')));
  }

  send(head: Buffer, body?: Buffer, keep = false): Promise<Answer> {
    this.#kept = keep ? [] : undefined;
    this.#bodyless = head.toString('latin1', 0, 5) === 'HEAD ';
    this.#head = '';
    this.#left = -1;
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      this.#socket.cork();
      this.#socket.write(head);
      if (body !== undefined) this.#socket.write(body);
      this.#socket.uncork();
    });
  }

  close(): void {
    this.#settle = undefined;
    this.#socket.destroy();
  }

  #take(bytes: Buffer): void {
    let rest = bytes;
    if (this.#left < 0) {
      const before = this.#head.length;
      this.#head += bytes.toString('latin1');
      const end = this.#head.indexOf('\r\n\r\n');
      if (end < 0) return;
      this.#status = Number(this.#head.slice(9, 12));
      this.#left = this.#length = Number(/\r\ncontent-length: *(\d+)/i.exec(this.#head.slice(0, end))?.[1] ?? '0');
      if (this.#bodyless) this.#left = 0;
      rest = bytes.subarray(end + 4 - before);
    }
    this.#left -= rest.length;
    this.#kept?.push(Buffer.from(rest));
    if (this.#left > 0) return;
    const body = this.#kept === undefined ? undefined : Buffer.concat(this.#kept);
    this.#settle?.resolve({ status: this.#status, length: this.#length, body });
    this.#settle = undefined;
  }
}
