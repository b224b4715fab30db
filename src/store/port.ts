import type { StoreCredentials } from '../sigv4/types.ts';

/** One request to the S3 service behind. Path, query and headers are signed as they stand here. */
export interface StoreRequest {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE';
  readonly bucket?: string;
  /** Decoded key; the client encodes it. */
  readonly key?: string;
  readonly query?: readonly (readonly [name: string, value: string])[];
  /** Lower-cased; never Host, Authorization or x-amz-date, which the client adds. */
  readonly headers?: Readonly<Record<string, string>>;
  /** A small body that is known whole; it is signed by its SHA-256. */
  readonly body?: Buffer;
  readonly signal?: AbortSignal;
  /** Another identity's credentials than the service's own. */
  readonly credentials?: StoreCredentials;
}

export type StoreHeaders = Readonly<Record<string, string>>;

/** Where a store's body goes. */
export interface BodySink {
  /** Takes a chunk; false asks for a pause until `resume` of the pump is called. A throw destroys the connection. */
  write(chunk: Buffer): boolean;
}

export interface StoreResponse {
  readonly status: number;
  readonly headers: StoreHeaders;
  /**
   * Pumps the body into `sink` and settles at its end. Rejects (ServiceError, reason `store-…`) when the connection
   * breaks or the body is shorter than its Content-Length. To be called once.
   */
  pump(sink: BodySink): Promise<void>;
  /** Continues after a sink's `write` returned false. */
  resume(): void;
  /** The whole body; destroys the connection and throws above `limit` bytes. */
  collect(limit: number): Promise<Buffer>;
  /** Gives the body up: drains a short one so that the connection is used again, destroys a long one. */
  discard(): void;
}

/** A streaming upload with a fixed length. Nothing is committed at the store unless `end` was called. */
export interface StoreUpload {
  /** Takes bytes that the caller gives away (they may be released after they were sent). False: wait for `drained`. */
  write(bytes: Buffer): boolean;
  /** Resolves when the upload takes more; rejects when it has failed. */
  drained(): Promise<void>;
  /** All bytes were written and everything was verified: let the store commit. */
  end(): void;
  /** Breaks the connection before the end, so that the store sees a short body and keeps the old object. */
  destroy(): void;
  /** The store's answer; rejects (ServiceError) when the connection fails first. */
  readonly response: Promise<StoreResponse>;
  /** The store has answered, maybe before the end: what is written from now on is swallowed, `drained` resolves. */
  readonly answered: boolean;
}

export interface UploadRequest extends Omit<StoreRequest, 'method' | 'body'> {
  /** With a checksum behind the body, where the store takes trailers: Object Lock demands one. */
  readonly digested?: boolean;
}

export interface StoreClient {
  /**
   * Sends a request without a body or with a small one. Rejects with ServiceError ServiceUnavailable (reason
   * `store-unreachable`) when there is no answer; any status is an answer. GET and HEAD are retried once on a fresh
   * connection when a kept-alive one was closed; nothing else is retried here.
   */
  request(request: StoreRequest): Promise<StoreResponse>;
  /**
   * Begins a PUT of exactly `length` bytes, framed as the store's traits demand. Reason `store-unreachable-midway`: it
   * broke off before the whole body had gone, so that nothing of it is committed.
   */
  upload(request: UploadRequest, length: number): StoreUpload;
  readonly traits: StoreTraits;
  close(): Promise<void>;
}

/**
 * What the store is known to do (found by probe, pinned by setting, kept in the control store). Each default is the
 * careful one: a trait that is false makes the gateway do more, never less.
 */
export interface StoreTraits {
  /** Keeps the old object when an `UNSIGNED-PAYLOAD` body ends before its Content-Length. */
  readonly refusesShortBody: boolean;
  /** Takes `STREAMING-UNSIGNED-PAYLOAD-TRAILER` with `x-amz-trailer: x-amz-checksum-crc32`, and verifies it. */
  readonly acceptsTrailers: boolean;
  /** Honours `If-Match` on PUT. */
  readonly putIfMatch: boolean;
  /** Honours `If-None-Match: *` on PUT. */
  readonly putIfNoneMatch: boolean;
  /** Honours `If-None-Match: *` on CompleteMultipartUpload. */
  readonly completeIfNoneMatch: boolean;
  /** CompleteMultipartUpload takes a list that leaves out a part which was uploaded (radosgw answers InvalidPart). */
  readonly completesSubset: boolean;
  /** Honours `If-Match` on DELETE. */
  readonly deleteIfMatch: boolean;
  /** Keeps a body under a key that ends in `/`. */
  readonly keepsSlashBody: boolean;
  /** Keeps user metadata under a key that ends in `/`. */
  readonly keepsSlashMetadata: boolean;
  /** Honours `x-amz-copy-source-if-match` on CopyObject. */
  readonly copySourceIfMatch: boolean;
  /** Keeps what `x-amz-tagging` gives to a copy (with the directives REPLACE). */
  readonly copyTags: boolean;
  /** CopyObject is one step, onto the same key too, and honours `If-Match` and `If-None-Match: *`. */
  readonly atomicCopy: boolean;
  /** Keeps `x-amz-website-redirect-location`. */
  readonly keepsRedirect: boolean;
  /** Keeps octets beyond ASCII in user metadata (MinIO and OpenStack Swift give them back as RFC 2047 text). */
  readonly keepsOctets: boolean;
  /** Takes `a//b`, `/a`, `./a` and `b/../a` for other keys than `a/b` and `a`. */
  readonly keepsPathsApart: boolean;
}
