import { createHash, type Hash } from 'node:crypto';
import { crc32 } from '@node-rs/crc32';
import { u32 } from '../bytes.ts';
import { ServiceError } from '../errors.ts';
import { chunkStringToSign, EMPTY_SHA256, signatureOf } from './canonical.ts';
import type { ChunkSeed } from './types.ts';

/** How a body of known length goes to a store. Headers and wire length are known before the first byte. */
export interface BodyFraming {
  /** For `x-amz-content-sha256`. */
  readonly payloadHash: string;
  /** The object's own headers with the framing's, `content-length` among them: all to be signed and sent. */
  headers(own: Readonly<Record<string, string>>): Record<string, string>;
  /** Bytes on the wire. */
  readonly wireLength: number;
  /** Begins the body once its request is signed. */
  begin(seed: ChunkSeed): BodyFrames;
}

export interface BodyFrames {
  /** The wire bytes for the next payload bytes, of any size: the given buffer itself or slices of it, between small ones. */
  frame(payload: Buffer): Buffer[];
  /** The last wire bytes. Without them the store has no whole body. Throws when the payload was not `length` bytes. */
  end(): Buffer[];
}

const CRLF = Buffer.from('\r\n');

/** `UNSIGNED-PAYLOAD`: for stores that refuse a short body by themselves. */
export function plainFraming(length: number): BodyFraming {
  return {
    payloadHash: 'UNSIGNED-PAYLOAD',
    headers: (own) => ({ ...own, 'content-length': String(length) }),
    wireLength: length,
    begin() {
      const count = counter(length);
      return {
        frame(payload) {
          count.add(payload.length);
          return [payload];
        },
        end() {
          count.end();
          return [];
        },
      };
    },
  };
}

/** MinIO takes chunks up to 16 MiB; a header per MiB costs nothing. */
const TRAILER_CHUNK = 1_048_576;
const CRC_TRAILER = 'x-amz-checksum-crc32';

/** `STREAMING-UNSIGNED-PAYLOAD-TRAILER` with a CRC32: the end of the body is part of the message. */
export function trailerFraming(length: number, chunkSize = TRAILER_CHUNK): BodyFraming {
  const overhead = (size: number): number => size.toString(16).length + 4;
  const trailer = `0\r\n${CRC_TRAILER}:AAAAAA==\r\n\r\n`.length;
  const wireLength = framedLength(length, chunkSize, overhead) + trailer;
  return {
    payloadHash: 'STREAMING-UNSIGNED-PAYLOAD-TRAILER',
    headers: (own) => ({ ...chunkedHeaders(own, length, wireLength), 'x-amz-trailer': CRC_TRAILER }),
    wireLength,
    begin() {
      const count = counter(length);
      let crc = 0;
      let left = 0;
      return {
        frame(payload) {
          const before = count.add(payload.length);
          crc = crc32(payload, crc);
          const out: Buffer[] = [];
          for (let at = 0; at < payload.length;) {
            if (left === 0) {
              left = Math.min(chunkSize, length - before - at);
              out.push(Buffer.from(`${left.toString(16)}\r\n`));
            }
            const part = slice(payload, at, left);
            out.push(part);
            at += part.length;
            left -= part.length;
            if (left === 0) out.push(CRLF);
          }
          return out;
        },
        end() {
          count.end();
          return [Buffer.from(`0\r\n${CRC_TRAILER}:${u32(crc).toString('base64')}\r\n\r\n`)];
        },
      };
    },
  };
}

/** AWS asks for at least 8 KiB; what waits for its signature stays small. */
const SIGNED_CHUNK = 65_536;

/** `STREAMING-AWS4-HMAC-SHA256-PAYLOAD`: for stores that refuse trailers. A chunk is held until it is whole. */
export function signedFraming(length: number, chunkSize = SIGNED_CHUNK): BodyFraming {
  const overhead = (size: number): number => size.toString(16).length + ';chunk-signature='.length + 64 + 4;
  const wireLength = framedLength(length, chunkSize, overhead) + overhead(0);
  return {
    payloadHash: 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
    headers: (own) => chunkedHeaders(own, length, wireLength),
    wireLength,
    begin: (seed) => signedFrames(length, chunkSize, seed),
  };
}

function signedFrames(length: number, chunkSize: number, seed: ChunkSeed): BodyFrames {
  const count = counter(length);
  let previous = seed.signature;
  let held: Buffer[] = [];
  let hash: Hash | undefined;
  let size = 0;
  let left = 0;

  const header = (bytes: number, digest: string): Buffer => {
    previous = signatureOf(seed.signingKey, chunkStringToSign(seed.timestamp, seed.scope, previous, digest));
    return Buffer.from(`${bytes.toString(16)};chunk-signature=${previous}\r\n`);
  };
  return {
    frame(payload) {
      const before = count.add(payload.length);
      const out: Buffer[] = [];
      for (let at = 0; at < payload.length;) {
        if (left === 0) {
          left = size = Math.min(chunkSize, length - before - at);
          hash = createHash('sha256');
        }
        const part = slice(payload, at, left);
        hash?.update(part);
        held.push(part);
        at += part.length;
        left -= part.length;
        if (left === 0 && hash !== undefined) {
          out.push(header(size, hash.digest('hex')), ...held, CRLF);
          held = [];
        }
      }
      return out;
    },
    end() {
      count.end();
      return [header(0, EMPTY_SHA256), CRLF];
    },
  };
}

function chunkedHeaders(own: Readonly<Record<string, string>>, length: number, wireLength: number) {
  const coding = own['content-encoding'];
  return {
    ...own,
    // In front of the object's own coding, as AWS documents it.
    'content-encoding': coding === undefined ? 'aws-chunked' : `aws-chunked,${coding}`,
    'content-length': String(wireLength),
    'x-amz-decoded-content-length': String(length),
  };
}

/** Wire bytes of the data chunks: all of `chunkSize`, but for the last. */
function framedLength(length: number, chunkSize: number, overhead: (size: number) => number): number {
  const whole = Math.floor(length / chunkSize);
  const rest = length % chunkSize;
  return length + whole * overhead(chunkSize) + (rest === 0 ? 0 : overhead(rest));
}

/** The buffer itself when all of it is meant, so that a sole owner may still release it. */
function slice(payload: Buffer, at: number, limit: number): Buffer {
  return at === 0 && payload.length <= limit ? payload : payload.subarray(at, at + limit);
}

/** Holds a body to its declared length: the store must never be told of another one than was sealed. */
function counter(length: number): { add(bytes: number): number; end(): void } {
  let sent = 0;
  return {
    add(bytes) {
      const before = sent;
      if (sent + bytes > length) throw new ServiceError('InternalError', { reason: 'store-body-too-long' });
      sent += bytes;
      return before;
    },
    end() {
      if (sent !== length) throw new ServiceError('InternalError', { reason: 'store-body-too-short' });
    },
  };
}
