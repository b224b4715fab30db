import { createHash, hash, type Hash } from 'node:crypto';
import { ServiceError } from '../errors.ts';
import { chunkStringToSign, EMPTY_SHA256, isSignature, trailerStringToSign } from './canonical.ts';
import { declaredTrailer } from './payload.ts';
import type { ChunkSeed, PayloadReader, Verified } from './types.ts';

/** The reader for a request's body, by its payload mode. */
export function payloadReader(verified: Verified): PayloadReader {
  const { payload, contentLength, request, seed } = verified;
  switch (payload.kind) {
    case 'sha256':
      return new PlainReader(contentLength, payload.digest);
    case 'unsigned':
      return new PlainReader(contentLength, undefined);
    case 'signed-chunks':
      return new ChunkedReader(contentLength, seed, payload.trailer ? declaredTrailer(request.headers) : undefined);
    case 'unsigned-trailer':
      return new ChunkedReader(contentLength, undefined, declaredTrailer(request.headers));
  }
}

/** Content-Encoding without `aws-chunked`, which is framing and not part of the object; undefined when nothing is left. */
export function stripAwsChunked(contentEncoding: string | undefined): string | undefined {
  // A value without it is the object's own, to the letter: it is under the metadata digest.
  if (contentEncoding === undefined || !/aws-chunked/i.test(contentEncoding)) return contentEncoding || undefined;
  const left = contentEncoding
    .split(',')
    .map((coding) => coding.trim())
    .filter((coding) => coding !== '' && coding.toLowerCase() !== 'aws-chunked');
  return left.length === 0 ? undefined : left.join(', ');
}

/** A body that is its own payload. */
class PlainReader implements PayloadReader {
  readonly #length: number;
  readonly #digest: string | undefined;
  readonly #hash: Hash | undefined;
  #received = 0;

  constructor(length: number, digest: string | undefined) {
    this.#length = length;
    this.#digest = digest;
    this.#hash = digest === undefined ? undefined : createHash('sha256');
  }

  push(chunk: Buffer, emit: (payload: Buffer) => void): void {
    this.#received += chunk.length;
    if (this.#received > this.#length) throw new ServiceError('IncompleteBody', { reason: 'body-too-long' });
    this.#hash?.update(chunk);
    emit(chunk);
  }

  finish(): Readonly<Record<string, string>> {
    if (this.#received !== this.#length) throw new ServiceError('IncompleteBody', { reason: 'body-length' });
    if (this.#hash !== undefined && this.#hash.digest('hex') !== this.#digest) {
      throw new ServiceError('XAmzContentSHA256Mismatch');
    }
    return {};
  }
}

/**
 * A signed chunk of at most this size is held until its signature has verified. Clients send 64 KiB to 128 KiB. A longer
 * one passes on while it is hashed, so that memory stays bounded: nothing of it is committed either, since `push` throws
 * at its end, and `finish` ever after.
 */
const HOLD = 262_144;

/** Far above any honest line: 13 hex digits and a signature, or a SHA-512 trailer. */
const MAX_LINE = 256;

type State = 'size' | 'data' | 'data-end' | 'trailer' | 'end' | 'done';

/**
 * aws-chunked: `size[;chunk-signature=…] CRLF data CRLF` …, `0[;chunk-signature=…] CRLF`, trailers, CRLF.
 * With a seed every chunk, and the trailer, is signed; without one the trailing checksum is the only integrity there is,
 * and it is the caller's to compare with the payload.
 */
class ChunkedReader implements PayloadReader {
  readonly #length: number;
  readonly #seed: ChunkSeed | undefined;
  readonly #trailerName: string | undefined;
  readonly #trailers: Record<string, string> = {};
  #state: State = 'size';
  #failure: unknown;
  #line = '';
  #received = 0;
  /** Of the chunk in progress. */
  #left = 0;
  #claimed = '';
  #hash: Hash | undefined;
  #held: Buffer[] | undefined;
  /** Each signature covers the one before it. */
  #previous: string;

  constructor(length: number, seed: ChunkSeed | undefined, trailerName: string | undefined) {
    this.#length = length;
    this.#seed = seed;
    this.#trailerName = trailerName;
    this.#previous = seed?.signature ?? '';
  }

  push(chunk: Buffer, emit: (payload: Buffer) => void): void {
    this.#rethrow();
    try {
      let at = 0;
      while (at < chunk.length) at = this.#state === 'data' ? this.#data(chunk, at, emit) : this.#text(chunk, at);
    } catch (err) {
      this.#failure = err;
      throw err;
    }
  }

  finish(): Readonly<Record<string, string>> {
    this.#rethrow();
    if (this.#state !== 'done') throw new ServiceError('IncompleteBody', { reason: 'chunked-truncated' });
    return this.#trailers;
  }

  /** One failure is final: no later push can make the body whole again. */
  #rethrow(): void {
    if (this.#failure !== undefined) throw this.#failure as Error;
  }

  #data(chunk: Buffer, from: number, emit: (payload: Buffer) => void): number {
    const to = Math.min(from + this.#left, chunk.length);
    const part = from === 0 && to === chunk.length ? chunk : chunk.subarray(from, to);
    this.#left -= part.length;
    this.#hash?.update(part);
    if (this.#held === undefined) emit(part);
    else this.#held.push(part);
    if (this.#left === 0) {
      if (this.#hash !== undefined) this.#verifyChunk(this.#hash.digest('hex'));
      const held = this.#held ?? [];
      this.#held = undefined;
      this.#state = 'data-end';
      for (const piece of held) emit(piece);
    }
    return to;
  }

  /** Collects a line up to its CRLF. A lone LF does not end it. */
  #text(chunk: Buffer, from: number): number {
    if (this.#state === 'done') throw framing('data-after-end');
    const feed = chunk.indexOf(0x0a, from);
    const to = feed === -1 ? chunk.length : feed + 1;
    if (this.#line.length + to - from > MAX_LINE) throw framing('line-too-long');
    this.#line += chunk.toString('latin1', from, to);
    if (this.#line.endsWith('\r\n')) {
      const line = this.#line.slice(0, -2);
      this.#line = '';
      this.#accept(line);
    }
    return to;
  }

  #accept(line: string): void {
    if (this.#state === 'size') this.#size(line);
    else if (this.#state === 'trailer') this.#trailer(line);
    else if (line !== '') throw framing('no-crlf');
    else this.#state = this.#state === 'data-end' ? 'size' : 'done';
  }

  #size(line: string): void {
    const match = (this.#seed === undefined ? UNSIGNED_CHUNK : SIGNED_CHUNK).exec(line);
    if (match === null) throw framing('chunk-header');
    const size = parseInt(match[1] ?? '', 16);
    this.#claimed = match[2] ?? '';
    this.#received += size;
    if (this.#received > this.#length || (size === 0 && this.#received !== this.#length)) {
      throw new ServiceError('IncompleteBody', { reason: 'decoded-length' });
    }
    if (size === 0) {
      if (this.#seed !== undefined) this.#verifyChunk(EMPTY_SHA256);
      this.#state = this.#trailerName === undefined ? 'end' : 'trailer';
      return;
    }
    this.#left = size;
    this.#hash = this.#seed && createHash('sha256');
    this.#held = this.#seed && size <= HOLD ? [] : undefined;
    this.#state = 'data';
  }

  #verifyChunk(digest: string): void {
    const seed = this.#seed;
    if (seed === undefined) return;
    this.#verify(seed, chunkStringToSign(seed.timestamp, seed.scope, this.#previous, digest), this.#claimed);
  }

  #verify(seed: ChunkSeed, text: string, claimed: string): void {
    if (!isSignature(claimed, seed.signingKey, text)) {
      throw new ServiceError('SignatureDoesNotMatch', { reason: 'chunk-signature' });
    }
    this.#previous = claimed;
  }

  /**
   * `name:value`, once, with the name that `x-amz-trailer` gave; then, if chunks are signed, the trailer's signature; then
   * an empty line. AWS's own example and minio-go end the value with LF CRLF.
   */
  #trailer(line: string): void {
    const name = this.#trailerName ?? '';
    const arrived = this.#trailers[name];
    if (arrived === undefined) {
      const match = TRAILER.exec(line);
      if (match?.[1]?.toLowerCase() !== name) throw new ServiceError('MalformedTrailerError', { reason: 'trailer' });
      this.#trailers[name] = match[2] ?? '';
      return;
    }
    if (this.#seed !== undefined) {
      const match = TRAILER_SIGNATURE.exec(line);
      if (match === null) throw new ServiceError('MalformedTrailerError', { reason: 'trailer-signature' });
      const digest = hash('sha256', `${name}:${arrived}\n`, 'hex');
      const { timestamp, scope } = this.#seed;
      this.#verify(this.#seed, trailerStringToSign(timestamp, scope, this.#previous, digest), match[1] ?? '');
      this.#state = 'end';
      return;
    }
    if (line !== '') throw new ServiceError('MalformedTrailerError', { reason: 'trailer' });
    this.#state = 'done';
  }
}

const SIGNED_CHUNK = /^(0|[1-9A-Fa-f][0-9A-Fa-f]{0,12});chunk-signature=([0-9a-f]{64})$/;
const UNSIGNED_CHUNK = /^(0|[1-9A-Fa-f][0-9A-Fa-f]{0,12})$/;
const TRAILER = /^([A-Za-z0-9-]{1,64}):[ \t]*([A-Za-z0-9+/]{1,128}={0,2})[ \t]*\n?$/;
const TRAILER_SIGNATURE = /^x-amz-trailer-signature:[ \t]*([0-9a-f]{64})[ \t]*$/;

function framing(reason: string): ServiceError {
  return new ServiceError('InvalidRequest', {
    message: 'The aws-chunked encoding of the body is not well formed.',
    reason: `chunked-${reason}`,
  });
}
