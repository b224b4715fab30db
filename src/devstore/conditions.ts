import { ServiceError } from '../errors.ts';

export type Headers = Readonly<Record<string, string>>;

export interface Validators {
  readonly etag: string;
  readonly modified: number;
}

/** Conditions of GET and HEAD, in the order of RFC 9110 section 13.2.2. Throws PreconditionFailed or NotModified. */
export function checkRead(headers: Headers, current: Validators): void {
  checkBoth(headers, '', current, 'NotModified');
}

/** Conditions on the source of a copy (AWS, CopyObject): the same four, and each failure is a 412. */
export function checkCopySource(headers: Headers, current: Validators): void {
  checkBoth(headers, 'x-amz-copy-source-', current, 'PreconditionFailed');
}

function checkBoth(
  headers: Headers,
  prefix: string,
  current: Validators,
  unchanged: 'NotModified' | 'PreconditionFailed',
): void {
  const ifMatch = headers[`${prefix}if-match`];
  const since = headers[`${prefix}if-unmodified-since`];
  const isMet = ifMatch === undefined ? !isLater(current, since) : matches(ifMatch, current.etag);
  if (!isMet) throw new ServiceError('PreconditionFailed');
  const ifNoneMatch = headers[`${prefix}if-none-match`];
  const modifiedSince = headers[`${prefix}if-modified-since`];
  const isNew = ifNoneMatch === undefined ? isLater(current, modifiedSince, true) : !matches(ifNoneMatch, current.etag);
  if (!isNew) throw new ServiceError(unchanged, { headers: { etag: quote(current.etag) } });
}

/** Conditions of PUT and Complete (AWS, "conditional writes"): If-Match an ETag, If-None-Match `*` only. */
export function checkWrite(headers: Headers, current: Validators | undefined): void {
  const ifNoneMatch = headers['if-none-match'];
  const ifMatch = headers['if-match'];
  if (ifNoneMatch !== undefined && (ifNoneMatch !== '*' || ifMatch !== undefined))
    throw new ServiceError('NotImplemented');
  if (ifNoneMatch !== undefined && current) throw new ServiceError('PreconditionFailed');
  if (ifMatch === undefined) return;
  if (!current) throw new ServiceError('NoSuchKey');
  if (!matches(ifMatch, current.etag)) throw new ServiceError('PreconditionFailed');
}

/** `absent` is the answer when there is no usable date: a date that is not one is ignored (RFC 9110 section 13.1.3). */
function isLater(current: Validators, date: string | undefined, absent = false): boolean {
  const time = date === undefined ? Number.NaN : Date.parse(date);
  return Number.isNaN(time) ? absent : Math.floor(current.modified / 1000) * 1000 > time;
}

function matches(list: string, etag: string): boolean {
  return list.split(',').some((item) => ['*', etag].includes(unquote(item.trim())));
}

export function quote(etag: string): string {
  return `"${etag}"`;
}

export function unquote(etag: string): string {
  return etag.replace(/^"(.*)"$/, '$1');
}

export interface ByteRange {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
}

/** A single byte range; undefined (the whole body) for none, a malformed one or several, as AWS does. */
export function parseRange(header: string | undefined, size: number): ByteRange | undefined {
  const match = header === undefined ? null : /^bytes=(\d*)-(\d*)$/.exec(header);
  const [first, last] = [match?.[1] ?? '', match?.[2] ?? ''];
  if (first === '' && last === '') return undefined;
  const start = first === '' ? Math.max(0, size - Number(last)) : Number(first);
  const end = first === '' || last === '' ? size : Math.min(size, Number(last) + 1);
  if (first !== '' && last !== '' && Number(last) < start) return undefined;
  if (start >= size || start >= end)
    throw new ServiceError('InvalidRange', { headers: { 'content-range': `bytes */${size}` } });
  return { start, end };
}
