import { ServiceError } from '../errors.ts';

/** One byte range as the client wrote it, before the object's size is known. */
export type RangeSpec =
  | { readonly kind: 'from'; readonly first: number; readonly last?: number }
  | { readonly kind: 'suffix'; readonly length: number };

/** Bytes `first`..`last` inclusive of `size`. */
export interface ByteRange {
  readonly first: number;
  readonly last: number;
  readonly size: number;
}

const SINGLE = /^bytes=[ \t]*(\d*)-(\d*)[ \t]*$/i;

/**
 * RFC 9110 section 14.2: a Range that is malformed, of another unit or of several ranges is ignored, and the whole
 * object is answered with 200; AWS S3 does the same ("S3 doesn't support multiple ranges per request").
 */
export function parseRange(header: string | undefined): RangeSpec | undefined {
  const match = header === undefined ? null : SINGLE.exec(header);
  if (match === null) return undefined;
  const [, first = '', last = ''] = match;
  if (first === '') return last === '' ? undefined : { kind: 'suffix', length: position(last) };
  if (last === '') return { kind: 'from', first: position(first) };
  const spec = { kind: 'from' as const, first: position(first), last: position(last) };
  return spec.last < spec.first ? undefined : spec;
}

/** Digits without limit are legal (RFC 9110 section 14.1.1); beyond 2^53 they only need to stay beyond every size. */
function position(digits: string): number {
  return Math.min(Number(digits), Number.MAX_SAFE_INTEGER);
}

/**
 * The bytes that `spec` means of an object of `size` bytes; undefined means all of it with 200. Throws InvalidRange
 * with `Content-Range: bytes *\/size` when there are none (RFC 9110 section 15.5.17).
 */
export function resolveRange(spec: RangeSpec | undefined, size: number): ByteRange | undefined {
  if (spec === undefined) return undefined;
  const first = spec.kind === 'suffix' ? Math.max(0, size - spec.length) : spec.first;
  const end = spec.kind === 'suffix' ? size - 1 : (spec.last ?? size - 1);
  // Zero bytes have no range, not even `bytes=0-`; and `bytes=-0` asks for nothing.
  if (first >= size || (spec.kind === 'suffix' && spec.length === 0)) throw unsatisfiable(size);
  return { first, last: Math.min(end, size - 1), size };
}

export function unsatisfiable(size: number): ServiceError {
  return new ServiceError('InvalidRange', { headers: { 'Content-Range': `bytes */${size}` } });
}

export function formatContentRange(range: ByteRange): string {
  return `bytes ${range.first}-${range.last}/${range.size}`;
}
