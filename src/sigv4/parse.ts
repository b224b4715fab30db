import { ServiceError } from '../errors.ts';
import { decodeComponent } from './encode.ts';
import type { RequestHead } from './types.ts';

/** The head after strict parsing: names unique, sizes bounded, nothing verified yet. */
export interface ParsedHead {
  readonly method: string;
  /** Raw path, without the query. */
  readonly path: string;
  /** Decoded; names are unique, those that begin with `x-amz-` in any case. */
  readonly query: ReadonlyMap<string, string>;
  /** The `x-amz-*` parameters of the query, lower-cased. */
  readonly amzQuery: ReadonlyMap<string, string>;
  /** Lower-cased names; no prototype. */
  readonly headers: Readonly<Record<string, string>>;
}

/** Node's own default for a whole head is 16 KiB; a host that raises it meets these. */
const LIMITS = { target: 16_384, parameters: 128, headers: 256, headerBytes: 65_536 } as const;

export function parseHead(head: RequestHead): ParsedHead {
  if (!/^[A-Z]{1,16}$/.test(head.method)) throw new ServiceError('MethodNotAllowed', { reason: 'method-form' });
  const headers = parseHeaders(head.rawHeaders);
  const { target } = head;
  if (target.length > LIMITS.target) throw new ServiceError('InvalidURI', { reason: 'uri-too-long' });
  // Origin form only (RFC 9112 section 3.2.1); visible ASCII; every `%` begins an escape.
  if (!/^\/[!"$-~]*$/.test(target) || /%(?![0-9A-Fa-f]{2})/.test(target)) {
    throw new ServiceError('InvalidURI', { reason: 'uri-form' });
  }
  const mark = target.indexOf('?');
  const path = mark === -1 ? target : target.slice(0, mark);
  const query = new Map<string, string>();
  const amzQuery = new Map<string, string>();
  if (mark !== -1) parseQuery(target.slice(mark + 1), query, amzQuery);
  return { method: head.method, path, query, amzQuery, headers };
}

function parseQuery(text: string, query: Map<string, string>, amzQuery: Map<string, string>): void {
  if (text === '') return;
  const pieces = text.split('&', LIMITS.parameters + 1);
  if (pieces.length > LIMITS.parameters) throw new ServiceError('InvalidURI', { reason: 'uri-too-many-parameters' });
  for (const piece of pieces) {
    if (piece === '') continue;
    const equals = piece.indexOf('=');
    const name = decodeComponent(equals === -1 ? piece : piece.slice(0, equals));
    const value = equals === -1 ? '' : decodeComponent(piece.slice(equals + 1));
    if (name === '') throw new ServiceError('InvalidURI', { reason: 'uri-parameter-without-name' });
    const lower = name.toLowerCase();
    const amz = lower.startsWith('x-amz-');
    if (query.has(name) || (amz && amzQuery.has(lower))) {
      throw new ServiceError('InvalidArgument', {
        message: 'A query parameter must be given only once.',
        reason: 'duplicate-parameter',
      });
    }
    query.set(name, value);
    if (amz) amzQuery.set(lower, value);
  }
}

/** Headers of which a second one would let two readers of the request see two requests. */
const SINGLE = new Set(['authorization', 'date', 'expect', 'host', 'range', 'transfer-encoding']);
const SINGLE_PREFIX = /^(?:x-amz-|content-|if-)/;

function parseHeaders(raw: readonly string[]): Record<string, string> {
  if (raw.length > 2 * LIMITS.headers) throw new ServiceError('RequestHeaderSectionTooLarge');
  const headers = Object.create(null) as Record<string, string>;
  let bytes = 0;
  for (let at = 0; at < raw.length; at += 2) {
    const name = (raw[at] ?? '').toLowerCase();
    const value = raw[at + 1] ?? '';
    bytes += name.length + value.length;
    if (bytes > LIMITS.headerBytes) throw new ServiceError('RequestHeaderSectionTooLarge');
    if (!/^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name) || !isHeaderValue(value)) {
      throw new ServiceError('InvalidRequest', { message: 'A header is not well formed.', reason: 'header-form' });
    }
    const before = headers[name];
    if (before !== undefined && (SINGLE.has(name) || SINGLE_PREFIX.test(name))) {
      throw new ServiceError('InvalidArgument', {
        message: `The header ${name} must be given only once.`,
        reason: 'duplicate-header',
      });
    }
    headers[name] = before === undefined ? value : `${before},${value}`;
  }
  return headers;
}

/** No control character (RFC 9110 section 5.5), and bytes only: a header comes from Node as latin1. */
export function isHeaderValue(value: string): boolean {
  return /^[\t\x20-\x7e\x80-\xff]*$/.test(value);
}
