import { ServiceError } from '../errors.ts';

/**
 * AWS's URI encoding (SigV4, "UriEncode"): every byte of the UTF-8 form except `A-Z a-z 0-9 - . _ ~`, upper-case hex,
 * a space as `%20`. `encodeURIComponent` leaves `! ' ( ) *` besides.
 */
export function encodeComponent(text: string): string {
  if (UNRESERVED.test(text)) return text;
  let encoded;
  try {
    encoded = encodeURIComponent(text);
  } catch (cause) {
    // A lone surrogate: no UTF-8 form.
    throw new ServiceError('InvalidURI', { reason: 'uri-not-unicode', cause });
  }
  return encoded.replace(/[!'()*]/g, (c) => '%' + c.charCodeAt(0).toString(16).toUpperCase());
}

const UNRESERVED = /^[A-Za-z0-9._~-]*$/;
const UNRESERVED_PATH = /^[A-Za-z0-9._~/-]*$/;

/** A decoded object key as it stands in a path: `/` is kept, nothing is normalised (`..`, `//` and a leading `/` stay). */
export function encodeKey(key: string): string {
  return UNRESERVED_PATH.test(key) ? key : encodeComponent(key).replaceAll('%2F', '/');
}

export type QueryPairs = Iterable<readonly [name: string, value: string]>;

/** Canonical query string: encoded, sorted by encoded name, then value. It is also what goes over the wire. */
export function encodeQuery(pairs: QueryPairs): string {
  const encoded: [string, string][] = [];
  for (const [name, value] of pairs) encoded.push([encodeComponent(name), encodeComponent(value)]);
  if (encoded.length > 1) encoded.sort(([a, x], [b, y]) => (a === b ? compare(x, y) : compare(a, b)));
  let out = '';
  for (const [name, value] of encoded) out += `${out === '' ? '' : '&'}${name}=${value}`;
  return out;
}

/** Both are ASCII, so UTF-16 order is byte order. */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Decodes one query component. `+` is a space, as HTML forms and Go's `url.Values` write it; bad escapes are refused. */
export function decodeComponent(text: string): string {
  if (UNRESERVED.test(text)) return text;
  try {
    return decodeURIComponent(text.includes('+') ? text.replaceAll('+', ' ') : text);
  } catch (cause) {
    throw new ServiceError('InvalidURI', { reason: 'uri-escape', cause });
  }
}
