import { ServiceError } from '../errors.ts';
import { toStoreCondition } from '../sse/etag.ts';
import type { StoreTraits } from '../store/port.ts';

type Headers = Readonly<Record<string, string>>;

function translated(name: string, value: string): string {
  const condition = toStoreCondition(value);
  if (condition === undefined) {
    throw new ServiceError('InvalidArgument', {
      message: `The header ${name} is not valid.`,
      reason: 'condition-form',
    });
  }
  return condition;
}

/** Conditions of a read (RFC 9110 section 13): the store decides, over its own ETags. */
export function readConditions(headers: Headers): Record<string, string> {
  const out: Record<string, string> = {};
  for (const name of ['if-match', 'if-none-match'] as const) {
    const value = headers[name];
    if (value !== undefined) out[name] = translated(name, value);
  }
  for (const name of ['if-modified-since', 'if-unmodified-since'] as const) {
    const value = headers[name];
    if (value !== undefined) out[name] = value;
  }
  return out;
}

/** Conditions of a PUT. What the store would ignore is refused: a condition that is passed over loses data. */
export function writeConditions(headers: Headers, traits: StoreTraits): Record<string, string> {
  const match = headers['if-match'];
  const noneMatch = headers['if-none-match'];
  if (match !== undefined && !traits.putIfMatch) refuse('If-Match');
  if (noneMatch !== undefined && (!traits.putIfNoneMatch || noneMatch !== '*')) refuse('If-None-Match');
  return {
    ...(match === undefined ? {} : { 'if-match': translated('if-match', match) }),
    ...(noneMatch === undefined ? {} : { 'if-none-match': '*' }),
  };
}

/** Conditions of a CompleteMultipartUpload. */
export function completeConditions(headers: Headers, traits: StoreTraits): Record<string, string> {
  const noneMatch = headers['if-none-match'];
  // No store at hand is known to compare the object's ETag here.
  if (headers['if-match'] !== undefined) refuse('If-Match');
  if (noneMatch === undefined) return {};
  if (!traits.completeIfNoneMatch || noneMatch !== '*') refuse('If-None-Match');
  return { 'if-none-match': '*' };
}

/** Conditions of a DELETE. */
export function deleteConditions(headers: Headers, traits: StoreTraits): Record<string, string> {
  const match = headers['if-match'];
  if (match === undefined) return {};
  if (!traits.deleteIfMatch) refuse('If-Match');
  return { 'if-match': translated('if-match', match) };
}

function refuse(name: string): never {
  throw new ServiceError('NotImplemented', {
    message: `The store behind does not honour ${name} on this operation.`,
    reason: 'condition-trait',
  });
}
