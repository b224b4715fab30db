import { createHash, createHmac } from 'node:crypto';
import { crc32Base64, withSignedChunks, withTrailer, type ChunkSeed, type RawRequest } from '../support/s3-raw.ts';

/** One thing that goes wrong with one upload, and what the client is told of it. */
export interface Fault {
  readonly name: string;
  readonly status: number;
  /** Empty where nobody is left to be told, or HTTP itself is broken. */
  readonly code: string;
  /** The PUT of this body, spoilt. */
  readonly request: (body: Buffer) => Partial<RawRequest>;
}

const UNSIGNED = { payload: 'UNSIGNED-PAYLOAD' };
const CHUNK = 65_536;

/** Uploads that fail in their middle or at their end: each row spoils one thing. */
export const FAULTS: readonly Fault[] = [
  {
    name: 'the client goes in the middle',
    ...gone(),
    request: (body) => ({ body, ...UNSIGNED, cutAfter: Math.floor(body.length * 0.6), cutDelay: 400 }),
  },
  {
    name: 'the client goes before the last byte',
    ...gone(),
    request: (body) => ({ body, ...UNSIGNED, cutAfter: body.length - 1, cutDelay: 400 }),
  },
  {
    name: 'the client goes before the last byte of a body that is signed by its hash',
    ...gone(),
    request: (body) => ({ body, cutAfter: body.length - 1, cutDelay: 400 }),
  },
  {
    name: 'the client goes before the trailer',
    ...gone(),
    request: (body) => ({ ...withTrailer(body), cutAfter: body.length, cutDelay: 400 }),
  },
  {
    // Node's own answer as well.
    name: 'the client closes its half of the connection in the middle',
    ...told(400, ''),
    request: (body) => ({ body, ...UNSIGNED, cutAfter: body.length - 1, cutBy: 'half-close', cutDelay: 400 }),
  },
  {
    name: 'another hash was signed',
    ...told(400, 'XAmzContentSHA256Mismatch'),
    request: (body) => ({ body, payload: createHash('sha256').update('another').digest('hex') }),
  },
  {
    // The surplus is a next request that is none: Node's own 400 comes before any answer of ours.
    name: 'the body is longer than its Content-Length, and was signed by the hash of the whole',
    ...told(400, ''),
    request: (body) => ({
      frame: () => body,
      frameLength: body.length - 10,
      payload: createHash('sha256').update(body).digest('hex'),
    }),
  },
  {
    name: 'a chunk in the middle has a wrong signature',
    ...told(403, 'SignatureDoesNotMatch'),
    request: (body) => withSignedChunks(split(body), Math.floor(split(body).length / 2)),
  },
  {
    name: 'the last chunk with data has a wrong signature',
    ...told(403, 'SignatureDoesNotMatch'),
    request: (body) => withSignedChunks(split(body), split(body).length - 1),
  },
  {
    name: 'the final empty chunk has a wrong signature',
    ...told(403, 'SignatureDoesNotMatch'),
    request: (body) => withSignedChunks(split(body), split(body).length),
  },
  {
    name: 'one long chunk, too long to be held back, has a wrong signature',
    ...told(403, 'SignatureDoesNotMatch'),
    request: (body) => withSignedChunks([body], 0),
  },
  {
    name: 'the final chunk of a signed body is missing',
    ...told(400, 'IncompleteBody'),
    request: (body) => withoutEnd(withSignedChunks(split(body)), `0;chunk-signature=${'0'.repeat(64)}\r\n\r\n`.length),
  },
  {
    name: 'the chunked body ends within its data',
    ...told(400, 'IncompleteBody'),
    request: (body) => trailer(body, (wire) => wire.subarray(0, body.length - 1000)),
  },
  {
    name: 'the chunked body ends before its trailer',
    ...told(400, 'IncompleteBody'),
    request: (body) => trailer(body, (wire) => wire.subarray(0, wire.indexOf('x-amz-checksum'))),
  },
  {
    name: 'the trailer has a wrong checksum',
    ...told(400, 'BadDigest'),
    request: (body) => withTrailer(body, crc32Base64(Buffer.from('another'))),
  },
  {
    name: 'the declared trailer is missing',
    ...told(400, 'MalformedTrailerError'),
    request: (body) => trailer(body, (wire) => replaceEnd(wire, 'x-amz-checksum-crc32', '\r\n')),
  },
  {
    name: 'the trailer has another name than was declared',
    ...told(400, 'MalformedTrailerError'),
    request: (body) => trailer(body, (wire) => replaceEnd(wire, 'crc32:', `crc32c:${crc32Base64(body)}\r\n\r\n`)),
  },
  {
    name: 'a signed trailer has a wrong signature',
    ...told(403, 'SignatureDoesNotMatch'),
    request: (body) => withSignedTrailer(body, crc32Base64(body), true),
  },
  {
    name: 'a signed trailer has a wrong checksum',
    ...told(400, 'BadDigest'),
    request: (body) => withSignedTrailer(body, crc32Base64(Buffer.from('another')), false),
  },
  {
    name: 'more was declared than the chunks bring',
    ...told(400, 'IncompleteBody'),
    request: (body) => declaring(withTrailer(body), body.length + 1),
  },
  {
    name: 'less was declared than the chunks bring',
    ...told(400, 'IncompleteBody'),
    request: (body) => declaring(withTrailer(body), body.length - 1),
  },
  {
    name: 'Content-MD5 is of another body',
    ...told(400, 'BadDigest'),
    request: (body) => ({ body, ...UNSIGNED, headers: { 'content-md5': digest('md5') } }),
  },
  {
    name: 'x-amz-checksum-sha256 is of another body',
    ...told(400, 'BadDigest'),
    request: (body) => ({ body, ...UNSIGNED, headers: { 'x-amz-checksum-sha256': digest('sha256') } }),
  },
  {
    name: 'x-amz-checksum-crc32 is of another body',
    ...told(400, 'BadDigest'),
    request: (body) => ({ body, headers: { 'x-amz-checksum-crc32': crc32Base64(Buffer.from('another')) } }),
  },
];

function gone(): { status: number; code: string } {
  return { status: 0, code: '' };
}

function told(status: number, code: string): { status: number; code: string } {
  return { status, code };
}

function digest(algorithm: 'md5' | 'sha256'): string {
  return createHash(algorithm).update('another').digest('base64');
}

function split(body: Buffer): Buffer[] {
  return Array.from({ length: Math.ceil(body.length / CHUNK) }, (_, i) => body.subarray(i * CHUNK, (i + 1) * CHUNK));
}

/** A framed body, its wire bytes changed; Content-Length is true to what is sent. */
function trailer(body: Buffer, change: (wire: Buffer) => Buffer): Partial<RawRequest> {
  const request = withTrailer(body);
  return { ...request, body: change(Buffer.from(request.body ?? '')) };
}

/** The wire bytes from the last `marker` on, replaced. */
function replaceEnd(wire: Buffer, marker: string, end: string): Buffer {
  return Buffer.concat([wire.subarray(0, wire.lastIndexOf(marker)), Buffer.from(end)]);
}

function withoutEnd(request: Partial<RawRequest>, bytes: number): Partial<RawRequest> {
  const { frame, frameLength = 0 } = request;
  if (frame === undefined) throw new Error('not a framed body');
  return { ...request, frame: (seed) => frame(seed).subarray(0, -bytes), frameLength: frameLength - bytes };
}

function declaring(request: Partial<RawRequest>, length: number): Partial<RawRequest> {
  return { ...request, headers: { ...request.headers, 'x-amz-decoded-content-length': String(length) } };
}

/** `STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER` (AWS, "Signature calculations: trailing headers"), its end spoilt. */
function withSignedTrailer(body: Buffer, checksum: string, spoilSignature: boolean): Partial<RawRequest> {
  const signed = withSignedChunks(split(body));
  const line = `x-amz-checksum-crc32:${checksum}`;
  const tail = (signature: string): Buffer =>
    Buffer.from(`${line}\r\nx-amz-trailer-signature:${signature}\r\n\r\n`, 'latin1');
  const frame = (seed: ChunkSeed): Buffer => {
    const wire = signed.frame?.(seed) ?? Buffer.alloc(0);
    const previous = wire.subarray(-4 - 64, -4).toString('latin1');
    const hash = createHash('sha256').update(`${line}\n`).digest('hex');
    const text = ['AWS4-HMAC-SHA256-TRAILER', seed.timestamp, seed.scope, previous, hash].join('\n');
    const signature = createHmac('sha256', seed.signingKey).update(text).digest('hex');
    // The final chunk's own empty line is the trailer's here.
    return Buffer.concat([wire.subarray(0, -2), tail(spoilSignature ? '0'.repeat(64) : signature)]);
  };
  return {
    ...signed,
    frame,
    frameLength: (signed.frameLength ?? 0) - 2 + tail('0'.repeat(64)).length,
    payload: 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER',
    headers: { ...signed.headers, 'x-amz-trailer': 'x-amz-checksum-crc32' },
  };
}
