import { ServiceError } from '../errors.ts';
import { conditionsOf, evaluateConditions, httpDate } from '../s3/conditions.ts';
import { toClientEtag, toStoreCondition, toStoreEtag } from '../sse/etag.ts';
import type { StoreHeaders, StoreTraits } from '../store/port.ts';
import { callStore } from './calls.ts';
import type { BucketExchange } from './exchange.ts';
import { storePlace } from './target.ts';

type Headers = Readonly<Record<string, string>>;

const CONDITIONS = ['if-match', 'if-none-match', 'if-modified-since', 'if-unmodified-since'] as const;

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

/** One strong tag of ours, and nothing else. */
function singleTag(value: string | undefined): string | undefined {
  const tag = /^(?:"[^"]*"|[^"*,\s]+)$/.test(value ?? '') ? toStoreEtag(value ?? '') : undefined;
  return tag === undefined ? undefined : `"${tag}"`;
}

/**
 * Conditions of a read that the store can be asked to decide, over its own ETags: one tag of ours, or a date alone.
 * It saves the body of a 304 or 412. Lists, `*` and foreign tags stay here (`verifyConditions`): stores read them in
 * ways of their own (versitygw and radosgw know no lists, radosgw takes a tag that begins with its own for its own).
 */
export function readConditions(headers: Headers): Record<string, string> {
  const out: Record<string, string> = {};
  const pairs = [
    ['if-match', 'if-unmodified-since'],
    ['if-none-match', 'if-modified-since'],
  ] as const;
  for (const [name, date] of pairs) {
    const value = headers[name];
    if (value !== undefined) translated(name, value);
    const tag = singleTag(value);
    if (tag !== undefined) out[name] = tag;
    // A date counts only where there is no tag (RFC 9110 section 13.2.2).
    const since = headers[date];
    // What is no date is ignored (section 13.1.3); stores read years into it.
    if (value === undefined && since !== undefined && !Number.isNaN(httpDate(since))) out[date] = since;
  }
  return out;
}

/** The same conditions over what the store has answered, so that none is passed over. Throws 412 or 304. */
export function verifyConditions(headers: Headers, found: StoreHeaders): void {
  // Most reads have none, and the store's date costs 5 µs to read.
  if (!CONDITIONS.some((name) => headers[name] !== undefined)) return;
  const validators = { etag: toClientEtag(found.etag ?? ''), lastModified: new Date(found['last-modified'] ?? NaN) };
  const verdict = evaluateConditions(conditionsOf(headers), validators);
  if (verdict === 'failed') throw new ServiceError('PreconditionFailed');
  if (verdict === 'not-modified') throw new ServiceError('NotModified', { headers: validatorsOf(found) });
}

/** What a 304 repeats of the answer that it stands for (RFC 9110 section 15.4.5), in the client's form. */
export function validatorsOf({ etag, 'last-modified': modified }: StoreHeaders): Record<string, string> {
  return {
    ...(etag === undefined ? {} : { ETag: toClientEtag(etag) }),
    ...(modified === undefined ? {} : { 'Last-Modified': modified }),
  };
}

/** Conditions of a PUT. What the store would ignore is refused: a condition that is passed over loses data. */
export function writeConditions(headers: Headers, traits: StoreTraits): Record<string, string> {
  const match = headers['if-match'];
  const noneMatch = headers['if-none-match'];
  refuseNamed(headers, DATES);
  // AWS takes one of them.
  if (match !== undefined && noneMatch !== undefined) refuse('If-Match together with If-None-Match');
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
  refuseNamed(headers, DATES);
  // No store at hand is known to compare the object's ETag here.
  if (headers['if-match'] !== undefined) refuse('If-Match');
  if (noneMatch === undefined) return {};
  if (!traits.completeIfNoneMatch || noneMatch !== '*') refuse('If-None-Match');
  return { 'if-none-match': '*' };
}

/** Conditions of a DELETE; those of directory buckets speak of the store's own sizes and dates. */
export function deleteConditions(headers: Headers, traits: StoreTraits): Record<string, string> {
  const match = headers['if-match'];
  refuseNamed(headers, [...DATES, 'If-None-Match', 'x-amz-if-match-last-modified-time', 'x-amz-if-match-size']);
  if (match === undefined) return {};
  if (!traits.deleteIfMatch) refuse('If-Match');
  return { 'if-match': translated('if-match', match) };
}

/** Conditions that no write on S3 knows. */
const DATES = ['If-Modified-Since', 'If-Unmodified-Since'] as const;

function refuseNamed(headers: Headers, names: readonly string[]): void {
  const name = names.find((candidate) => headers[candidate.toLowerCase()] !== undefined);
  if (name !== undefined) refuse(name);
}

function refuse(name: string): never {
  throw new ServiceError('NotImplemented', {
    message: `The store behind does not honour ${name} on this operation.`,
    reason: 'condition-trait',
  });
}

/**
 * What a conditional write is told that broke off before its end. A store may refuse it by its head, and close on the
 * rest of the body; the reset then overtakes the answer (versitygw, from some 900 KB). Nothing was committed, so whether
 * the condition holds can be asked; 503 would let an SDK send all of it three times.
 */
export async function brokenOffBy(
  x: BucketExchange,
  key: string,
  conditions: Readonly<Record<string, string>>,
): Promise<ServiceError | undefined> {
  const found = await callStore(x, { method: 'HEAD', ...storePlace(x.bucket, key) });
  found.discard();
  const { 'if-match': match, 'if-none-match': noneMatch } = conditions;
  if (found.status === 404) return match === undefined ? undefined : new ServiceError('NoSuchKey');
  if (found.status !== 200) return undefined;
  const failed = noneMatch !== undefined || (match !== undefined && match !== '*' && match !== found.headers.etag);
  return failed ? new ServiceError('PreconditionFailed', { reason: 'condition-asked' }) : undefined;
}
