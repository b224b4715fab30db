import { createHash, createHmac } from 'node:crypto';
import { Agent, request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { crc32 } from 'node:zlib';

/**
 * A raw S3 client for tests: HTTP/1.1 and SigV4 written out from AWS's pages alone, sharing no line with `src/sigv4`.
 * It sends what a decent SDK would not: cut bodies, wrong hashes, bad chunks, any key.
 */
export interface RawStore {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly region: string;
  /** PEM of the authority behind an https endpoint. */
  readonly ca?: string;
}

export interface RawRequest {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE';
  readonly bucket?: string;
  /** Decoded. */
  readonly key?: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | string;
  /** The literal of `x-amz-content-sha256`; the body's digest by default. */
  readonly payload?: string;
  /** Sends only so many bytes of the body, under the Content-Length of the whole. */
  readonly cutAfter?: number;
  /** How the cut is made: the connection is destroyed (default), or only our half of it is closed. */
  readonly cutBy?: 'destroy' | 'half-close';
  /** Milliseconds between the last byte and the cut: time for the other side to take what has come (100). */
  readonly cutDelay?: number;
  /** Sends the first bytes, and the rest when the promise resolves. */
  readonly pauseAfter?: { readonly bytes: number; readonly until: Promise<void> };
  /** Makes the wire body out of the signature's seed (signed chunks); `body` is ignored then. */
  readonly frame?: (seed: ChunkSeed) => Buffer;
  /** Wire length of what `frame` makes. */
  readonly frameLength?: number;
  readonly now?: Date;
}

export interface RawResponse {
  /** 0 when the connection ended without an answer. */
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
  readonly text: string;
  /** The whole answer came: all of its Content-Length, or the last chunk. */
  readonly complete: boolean;
}

export interface ChunkSeed {
  readonly timestamp: string;
  readonly scope: string;
  readonly signature: string;
  readonly signingKey: Buffer;
}

const agent = new Agent({ keepAlive: false });

export async function s3(store: RawStore, request: RawRequest): Promise<RawResponse> {
  const { path, headers, body } = sign(store, request);
  const { hostname, port, protocol } = new URL(store.endpoint);
  return new Promise((resolve) => {
    const options = { hostname, port, path, method: request.method, headers };
    const tls = { agent: false, ...(store.ca === undefined ? {} : { ca: store.ca }) } as const;
    const req = protocol === 'https:' ? httpsRequest({ ...options, ...tls }) : httpRequest({ ...options, agent });
    const chunks: Buffer[] = [];
    let status = 0;
    let received: IncomingMessage['headers'] = {};
    let complete = false;
    const done = (): void => {
      const all = Buffer.concat(chunks);
      resolve({ status, headers: received, body: all, text: all.toString('utf8'), complete });
    };
    req.on('response', (res) => {
      status = res.statusCode ?? 0;
      received = res.headers;
      res.on('data', (chunk: Buffer) => chunks.push(chunk));
      res.on('error', () => undefined);
      res.on('close', () => {
        ({ complete } = res);
        done();
      });
    });
    // A store may answer and close while we still send: what it said counts, not the reset.
    req.on('error', () => undefined);
    req.on('close', () => {
      if (status === 0) done();
    });
    send(req, body, request);
  });
}

function send(
  req: ClientRequest,
  body: Buffer,
  { cutAfter, cutBy = 'destroy', cutDelay = 100, pauseAfter }: RawRequest,
): void {
  if (pauseAfter) {
    req.write(body.subarray(0, pauseAfter.bytes));
    void pauseAfter.until.then(() => req.end(body.subarray(pauseAfter.bytes)));
    return;
  }
  if (cutAfter === undefined) {
    req.end(body);
    return;
  }
  req.write(body.subarray(0, cutAfter), () => {
    setTimeout(() => {
      if (cutBy === 'destroy') req.destroy();
      else req.socket?.end();
    }, cutDelay);
  });
}

export function encodeKey(key: string): string {
  return key.split('/').map(encode).join('/');
}

function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

function sha256(data: Buffer | string): string {
  return createHash('sha256').update(data).digest('hex');
}

function hmac(key: Buffer | string, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

interface Signed {
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: Buffer;
}

function sign(store: RawStore, request: RawRequest): Signed {
  const plain = Buffer.from(request.body ?? '');
  const timestamp = (request.now ?? new Date()).toISOString().replace(/[-:]|\.\d+/g, '');
  const scope = `${timestamp.slice(0, 8)}/${store.region}/s3/aws4_request`;
  const path = `/${request.bucket ?? ''}${request.key === undefined ? '' : `/${encodeKey(request.key)}`}`;
  // In the order of names (`select` before `select-type`), not of the pairs as text.
  const query = Object.entries(request.query ?? {})
    .map(([name, value]) => [encode(name), encode(value)] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map((pair) => pair.join('='))
    .join('&');
  const hasBody = request.body !== undefined || request.frame !== undefined || request.method === 'PUT';
  const headers: Record<string, string> = {
    ...request.headers,
    host: new URL(store.endpoint).host,
    'x-amz-date': timestamp,
    'x-amz-content-sha256': request.payload ?? sha256(plain),
    ...(hasBody && { 'content-length': String(request.frameLength ?? plain.length) }),
  };
  const names = Object.keys(headers).sort();
  const canonical = [
    request.method,
    path,
    query,
    ...names.map((name) => `${name}:${headers[name]?.trim().replace(/ +/g, ' ') ?? ''}`),
    '',
    names.join(';'),
    headers['x-amz-content-sha256'],
  ].join('\n');
  const signingKey = [store.region, 's3', 'aws4_request'].reduce(
    hmac,
    hmac(`AWS4${store.secretAccessKey}`, timestamp.slice(0, 8)),
  );
  const toSign = ['AWS4-HMAC-SHA256', timestamp, scope, sha256(Buffer.from(canonical, 'latin1'))].join('\n');
  const signature = hmac(signingKey, toSign).toString('hex');
  headers['authorization'] =
    `AWS4-HMAC-SHA256 Credential=${store.accessKeyId}/${scope}, SignedHeaders=${names.join(';')}, Signature=${signature}`;
  const body = request.frame?.({ timestamp, scope, signature, signingKey }) ?? plain;
  return { path: query === '' ? path : `${path}?${query}`, headers, body };
}

/** `STREAMING-UNSIGNED-PAYLOAD-TRAILER`: one chunk and its CRC32, or another one to be refused. */
export function withTrailer(data: Buffer, checksum = crc32Base64(data)): Partial<RawRequest> {
  const first = data.length === 0 ? '' : `${data.length.toString(16)}\r\n`;
  const last = `${data.length === 0 ? '' : '\r\n'}0\r\nx-amz-checksum-crc32:${checksum}\r\n\r\n`;
  return {
    body: Buffer.concat([Buffer.from(first), data, Buffer.from(last)]),
    payload: 'STREAMING-UNSIGNED-PAYLOAD-TRAILER',
    headers: {
      'content-encoding': 'aws-chunked',
      'x-amz-decoded-content-length': String(data.length),
      'x-amz-trailer': 'x-amz-checksum-crc32',
    },
  };
}

export function crc32Base64(data: Buffer): string {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(crc32(data));
  return out.toString('base64');
}

/** `STREAMING-AWS4-HMAC-SHA256-PAYLOAD`; `spoil` changes one signature by its index. */
export function withSignedChunks(chunks: readonly Buffer[], spoil = -1): Partial<RawRequest> {
  const all = [...chunks, Buffer.alloc(0)];
  const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const frame = (seed: ChunkSeed): Buffer => {
    let previous = seed.signature;
    return Buffer.concat(
      all.flatMap((chunk, i) => {
        const text = ['AWS4-HMAC-SHA256-PAYLOAD', seed.timestamp, seed.scope, previous, sha256(''), sha256(chunk)];
        previous = hmac(seed.signingKey, text.join('\n')).toString('hex');
        const sent = i === spoil ? previous.replace(/^./, (c) => (c === '0' ? '1' : '0')) : previous;
        return [Buffer.from(`${chunk.length.toString(16)};chunk-signature=${sent}\r\n`), chunk, Buffer.from('\r\n')];
      }),
    );
  };
  return {
    frame,
    frameLength: all.reduce((sum, chunk) => sum + chunk.length.toString(16).length + 17 + 64 + 2 + chunk.length + 2, 0),
    payload: 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
    headers: { 'content-encoding': 'aws-chunked', 'x-amz-decoded-content-length': String(length) },
  };
}

/** The text of every `<name>` in an XML answer, entities undone. */
export function xmlTexts(xml: string, name: string): string[] {
  return [...xml.matchAll(new RegExp(`<${name}(?: [^>]*)?>([^<]*)</${name}>`, 'g'))].map((match) =>
    unescapeXml(match[1] ?? ''),
  );
}

export function unescapeXml(text: string): string {
  const named: Readonly<Record<string, string>> = { lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' };
  return text.replace(/&(?:#x([0-9a-f]+)|#(\d+)|(\w+));/gi, (whole, hex?: string, decimal?: string, name?: string) =>
    name === undefined ? String.fromCodePoint(hex ? parseInt(hex, 16) : Number(decimal)) : (named[name] ?? whole),
  );
}

export function xmlText(xml: string, name: string): string {
  return xmlTexts(xml, name)[0] ?? '';
}
