import { ServiceError } from '../errors.ts';
import { encodeKey } from '../sigv4/encode.ts';
import type { VerifiedRequest } from '../sigv4/types.ts';
import type { Headers } from './conditions.ts';
import type { DevDisk } from './objects.ts';
import { formatXml, type Node } from './xml.ts';

/** One verified request and what it needs. */
export interface Call {
  readonly disk: DevDisk;
  readonly request: VerifiedRequest;
  readonly bucket: string;
  readonly key: string;
  readonly body: Body;
  readonly now: () => number;
  readonly region: string;
  /** The one owner that this store knows. */
  readonly owner: string;
}

/** The payload, verified while it passes: `stream` rejects unless every length, hash and checksum held at its end. */
export interface Body {
  stream(sink: (chunk: Buffer) => Promise<void> | void): Promise<void>;
}

export interface Reply {
  readonly status: number;
  readonly headers?: Headers;
  readonly xml?: string;
  /** An open file whose bytes `start` to `end` (exclusive) are the body; the server closes it. */
  readonly file?: { readonly fd: number; readonly start: number; readonly end: number };
}

export type Handler = (call: Call) => Reply | Promise<Reply>;

export function xmlReply(root: string, content: Node): Reply {
  return { status: 200, headers: { 'content-type': 'application/xml' }, xml: formatXml(root, content) };
}

/** The whole of a small body. */
export async function collect(body: Body, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  await body.stream((chunk) => {
    length += chunk.byteLength;
    if (length > limit) throw new ServiceError('MaxMessageLengthExceeded');
    chunks.push(Buffer.from(chunk));
  });
  return Buffer.concat(chunks);
}

/** A decimal query parameter between 0 and 2^31 - 1. */
export function numberOf(call: Call, name: string, fallback: number): number {
  const text = call.request.query.get(name);
  if (text === undefined) return fallback;
  if (!/^\d{1,10}$/.test(text) || Number(text) > 2 ** 31 - 1) throw new ServiceError('InvalidArgument');
  return Number(text);
}

export function queryOf(call: Call, name: string): string {
  return call.request.query.get(name) ?? '';
}

/** Names as the client asked for them: plain, or percent-encoded (`encoding-type=url`) so that XML can hold any. */
export function nameEncoder(call: Call): (name: string) => string {
  const type = call.request.query.get('encoding-type');
  if (type === undefined) return (name) => name;
  if (type !== 'url') throw new ServiceError('InvalidArgument', { message: 'Invalid Encoding Method specified' });
  // AWS leaves the slash as it is.
  return encodeKey;
}

export function isoTime(time: number): string {
  return new Date(time).toISOString();
}
