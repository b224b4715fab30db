import { createHash, createSecretKey, randomBytes } from 'node:crypto';
import { createSigner } from '../src/sigv4/sign.ts';
import { Connection, type Answer } from './connection.ts';
import type { Subject } from './subjects.ts';

export const BUCKET = 'bench';

export interface Request {
  readonly method: 'GET' | 'HEAD' | 'PUT';
  /** `/bench/key` */
  readonly path: string;
  readonly query?: readonly (readonly [string, string])[];
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer;
  /** Signs the body's hash; a body is UNSIGNED-PAYLOAD otherwise. */
  readonly hashed?: boolean;
}

const signer = createSigner({ region: 'us-east-1', service: 's3' });

/** A signed head, ready to be sent as often as its signature lives. */
export function headOf({ port, login }: Subject, request: Request): Buffer {
  const { method, path, query, body, hashed = false } = request;
  const digest = (): string =>
    createHash('sha256')
      .update(body ?? '')
      .digest('hex');
  const { target, headers } = signer.sign({
    method,
    host: `127.0.0.1:${port}`,
    path,
    ...(query === undefined ? {} : { query }),
    headers: { ...request.headers, ...(body === undefined ? {} : { 'content-length': String(body.length) }) },
    payloadHash: body === undefined || hashed ? digest() : 'UNSIGNED-PAYLOAD',
    credentials: { ...login, secret: createSecretKey(Buffer.from(`AWS4${login.secretAccessKey}`)) },
    now: new Date(),
  });
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(`${method} ${target} HTTP/1.1\r\n${lines.join('')}\r\n`, 'latin1');
}

export interface Workload {
  readonly name: string;
  readonly method: 'PUT' | 'GET';
  readonly size: number;
  readonly connections: number;
  /** Different keys that are used in turn. */
  readonly keys: number;
  readonly warmUp: number;
  readonly units: number;
}

const bodies = new Map<number, Buffer>();

export function bodyOf(size: number): Buffer {
  let body = bodies.get(size);
  if (body === undefined) bodies.set(size, (body = randomBytes(Math.min(size, 1 << 20))));
  if (body.length < size) {
    const whole = Buffer.allocUnsafeSlow(size);
    for (let at = 0; at < size; at += body.length) body.copy(whole, at);
    bodies.set(size, (body = whole));
  }
  return body;
}

/** Sends `units` requests over the workload's connections, each connection one after another. */
export async function run(subject: Subject, workload: Workload, units: number, prefix = ''): Promise<void> {
  const { method, size, keys } = workload;
  const body = method === 'PUT' ? bodyOf(size) : undefined;
  const heads = Array.from({ length: keys }, (_, i) => {
    const path = `/${BUCKET}/${prefix}${subject.name}-${size}-${i}`;
    return headOf(subject, { method, path, ...(body && { body, hashed: size < 1 << 20 }) });
  });
  const expected = method === 'PUT' ? 0 : size;
  let sent = 0;
  const work = async (): Promise<void> => {
    const connection = new Connection(subject.port);
    while (sent < units) {
      const head = heads[sent % keys];
      sent += 1;
      if (head === undefined) throw new Error('no head');
      const { status, length } = await connection.send(head, body);
      if (status !== 200 || length !== expected) {
        throw new Error(`${subject.name}: ${method} of ${size} bytes: ${status}, ${length} bytes`);
      }
    }
    connection.close();
  };
  await Promise.all(Array.from({ length: workload.connections }, work));
}

/** One request on a connection of its own, its body kept. */
export async function once(subject: Subject, request: Request): Promise<Answer> {
  const connection = new Connection(subject.port);
  try {
    return await connection.send(headOf(subject, request), request.body, true);
  } finally {
    connection.close();
  }
}
