/**
 * The control store: trusted, small, shared. Everything that decides whether and under which key something is
 * encrypted lives here, and nowhere at the object store.
 */

/** JSON. Secrets never enter, except envelope keys, which the implementation seals or keeps on a path of their own. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** A record as it stands: version 0 and a null value where there is none; a deleted one keeps its version, value null. */
export interface Stored {
  readonly value: Json;
  readonly version: number;
}

export interface ControlStore {
  /** True where `secrets/*` is kept sealed: only there may a configuration carry an inline secret. */
  readonly keepsSecrets?: boolean;
  /** Reads a record. Throws ServiceError ServiceUnavailable (reason `control-store`) when it cannot be read. */
  get(name: string): Promise<Stored>;
  /** The names of live records that begin with `prefix` (which ends in `/`), sorted. */
  list(prefix: string): Promise<readonly string[]>;
  /**
   * Writes `value` (null deletes) if the record still is at `version`; returns the new version.
   * Throws ServiceError Conflict (reason `control-cas`) when another writer was first. Durable once it resolves.
   */
  compareAndSet(name: string, value: Json, version: number): Promise<number>;
  close(): Promise<void>;
}

/** Record names: segments of `[A-Za-z0-9._-]`, joined by `/`, none of them `.` or `..`. */
export const RECORD_NAME = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(\/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}){0,3}$/;

/** Names of the records, in one place. */
export const records = {
  realm: 'realm',
  service: 'service',
  traits: 'traits',
  envelopeKeys: 'envelope-keys/',
  envelopeKey: (version: number) => `envelope-keys/${version}`,
  buckets: 'buckets/',
  bucket: (name: string) => `buckets/${name}`,
  bucketKeys: 'bucket-keys/',
  bucketKey: (bucketId: string, keyId: string) => `bucket-keys/${bucketId}/${keyId}`,
  keys: 'keys/',
  key: (keyId: string) => `keys/${keyId}`,
  secret: (name: string) => `secrets/${name}`,
  aliases: 'aliases/',
  alias: (name: string) => `aliases/${name}`,
} as const;

/** Records whose values are secrets: sealed under the master key, or on a path of their own that no person may read. */
export const SEALED_PREFIXES = ['envelope-keys/', 'secrets/'] as const;
