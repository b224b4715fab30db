import type { KeyObject } from 'node:crypto';

/** The head of a request as it came over the wire: nothing decoded, nothing normalised. */
export interface RequestHead {
  readonly method: string;
  /** Request target: path and query exactly as received (under a mount this is Express's `originalUrl`). */
  readonly target: string;
  /** Node's `rawHeaders`: name, value, name, value … */
  readonly rawHeaders: readonly string[];
}

/** What verification needs of an identity; the caller's own type extends it. */
export interface Signer {
  readonly accessKeyId: string;
  /** HMAC key over the bytes `AWS4` ‖ secret access key. */
  readonly secret: KeyObject;
}

/** What `x-amz-content-sha256` says of the body. */
export type PayloadMode =
  | { readonly kind: 'sha256'; readonly digest: string }
  | { readonly kind: 'unsigned' }
  | { readonly kind: 'signed-chunks'; readonly trailer: boolean }
  | { readonly kind: 'unsigned-trailer' };

/** The request after verification: the only form in which a handler sees one. */
export interface VerifiedRequest {
  readonly method: string;
  /** Raw, still percent-encoded path, without the query. */
  readonly path: string;
  /** Decoded query parameters, without the authentication's own; names are unique. */
  readonly query: ReadonlyMap<string, string>;
  /** Lower-cased headers. `x-amz-*` query parameters of a presigned URL are merged in (a checksum in the query is not). */
  readonly headers: Readonly<Record<string, string>>;
  /** Of a browser's form, held to its policy. Its fields are in `headers` where they stand for headers. */
  readonly form?: VerifiedForm;
}

/** Bytes that a form's file may have; a policy without `content-length-range` leaves both ends open. */
export interface LengthRange {
  readonly min: number;
  readonly max: number;
}

export interface VerifiedForm {
  /** Lower-cased names; `key` is final, `bucket` the one that is addressed. */
  readonly fields: ReadonlyMap<string, string>;
  /** What the policy allows for the file, which is still to come. */
  readonly length: LengthRange;
}

/** Where a chain of chunk signatures begins (AWS "Signature calculations for the Authorization header: chunked upload"). */
export interface ChunkSeed {
  /** Derived for one day, region and service; signs chunks and nothing else here. */
  readonly signingKey: KeyObject;
  /** `20130524T000000Z` */
  readonly timestamp: string;
  /** `20130524/us-east-1/s3/aws4_request` */
  readonly scope: string;
  /** The request's own signature, in hex. */
  readonly signature: string;
}

declare const verified: unique symbol;

/** Proof that a request's signature was checked. The verifier is its only maker; every handler demands one. */
export interface Verified<I extends Signer = Signer> {
  readonly [verified]: true;
  readonly identity: I;
  readonly request: VerifiedRequest;
  readonly payload: PayloadMode;
  /**
   * Plaintext bytes of the body: Content-Length, or `x-amz-decoded-content-length` for chunked modes; 0 without a body,
   * and for a form, whose length only its end tells.
   */
  readonly contentLength: number;
  readonly auth: 'header' | 'presigned' | 'post';
  readonly seed: ChunkSeed;
  readonly region: string;
  readonly service: string;
}

/**
 * Takes the body's wire bytes in, gives the payload's bytes out, and throws a ServiceError at the first mismatch.
 * What was emitted counts for nothing until `finish` has returned: the caller commits after it, never before.
 */
export interface PayloadReader {
  /**
   * Feeds wire bytes; calls `emit` with payload bytes. They are slices of this `chunk` or of one pushed earlier (a signed
   * chunk is held until its signature verifies), so the caller neither reuses nor releases what it has pushed.
   */
  push(chunk: Buffer, emit: (payload: Buffer) => void): void;
  /** End of the wire body. Throws unless every hash, signature and length holds. Returns the verified trailers, lower-cased. */
  finish(): Readonly<Record<string, string>>;
}

/** Credentials with which the gateway signs towards a store. */
export interface StoreCredentials extends Signer {
  readonly sessionToken?: string;
}
