import { misuse } from './faults.ts';

/** Where a request goes, as it is sent and signed. Nothing here passes through a URL parser, which would resolve `..`. */
export interface Address {
  /** `scheme://host:port` of the connection. */
  readonly origin: string;
  /** The Host header: `host[:port]`, the port only where it is not the scheme's own. */
  readonly host: string;
  /** Percent-encoded path, beginning with `/`. */
  readonly path: string;
}

export interface AddressParts {
  readonly bucket?: string | undefined;
  readonly key?: string | undefined;
}

export type Locate = (parts: AddressParts, encodeKey: (key: string) => string) => Address;

/**
 * Path style (`https://endpoint/bucket/key`) or virtual-host style (`https://bucket.endpoint/key`). A path in the endpoint
 * (a store behind a prefix) comes first in both.
 */
export function locator(endpoint: URL, pathStyle: boolean): Locate {
  if (endpoint.protocol !== 'http:' && endpoint.protocol !== 'https:')
    throw misuse('the endpoint must be http or https');
  if (endpoint.username !== '' || endpoint.password !== '' || endpoint.search !== '' || endpoint.hash !== '') {
    throw misuse('the endpoint has no credentials, query or fragment');
  }
  const prefix = endpoint.pathname.replace(/\/+$/, '');
  return ({ bucket, key }, encodeKey) => {
    if (bucket === undefined && key !== undefined) throw misuse('a key needs a bucket');
    // A bucket name is checked before it gets here; one that is not a label must not become part of a host or a path.
    if (bucket !== undefined && !/^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/.test(bucket)) throw misuse('not a bucket name');
    const virtual = !pathStyle && bucket !== undefined;
    const host = virtual ? `${bucket}.${endpoint.host}` : endpoint.host;
    const base = virtual || bucket === undefined ? `${prefix}/` : `${prefix}/${bucket}`;
    const path = key === undefined ? base : `${base}${virtual ? '' : '/'}${encodeKey(key)}`;
    return { origin: `${endpoint.protocol}//${host}`, host, path };
  };
}
