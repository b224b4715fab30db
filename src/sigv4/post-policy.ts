import { parseJson } from '../config/json.ts';
import { ServiceError } from '../errors.ts';
import type { LengthRange } from './types.ts';

type Condition =
  | { readonly kind: 'eq' | 'starts-with'; readonly field: string; readonly value: string }
  | ({ readonly kind: 'content-length-range' } & LengthRange);

interface Policy {
  readonly expires: number;
  readonly conditions: readonly Condition[];
}

/**
 * Holds a form's fields to its policy (AWS "POST policy", whose signature has verified before): it has not expired,
 * every condition holds, and no field goes without a condition. Names of fields are lower-cased, and compare so; `key`
 * is the final one, and `bucket` the one that is addressed.
 */
export function checkPostPolicy(encoded: string, fields: ReadonlyMap<string, string>, now: Date): LengthRange {
  const { expires, conditions } = parsePolicy(encoded);
  if (now.getTime() > expires) throw denied('Policy expired.', 'post-policy-expired');
  const covered = new Set<string>();
  let range: LengthRange = { min: 0, max: Infinity };
  for (const condition of conditions) {
    if (condition.kind === 'content-length-range') {
      range = { min: Math.max(range.min, condition.min), max: Math.min(range.max, condition.max) };
      continue;
    }
    const { kind, field, value } = condition;
    covered.add(field);
    if (!holds(condition, fields.get(field))) {
      const shown = [kind, `$${field}`, value].map((text) => JSON.stringify(text)).join(', ');
      throw denied(`Policy Condition failed: [${shown}]`, 'post-policy-condition');
    }
  }
  const extra = [...fields.keys()].filter((name) => !isExempt(name) && !covered.has(name));
  if (extra.length > 0) throw denied(`Extra input fields: ${extra.join(', ')}`, 'post-policy-extra');
  return range;
}

/** "Each form field … except x-amz-signature, file, policy, and field names that have an x-ignore- prefix". */
function isExempt(name: string): boolean {
  return name === 'policy' || name === 'x-amz-signature' || name.startsWith('x-ignore-');
}

function holds(condition: Exclude<Condition, LengthRange>, actual: string | undefined): boolean {
  if (actual === undefined) return false;
  const { kind, field, value } = condition;
  if (kind === 'eq') return actual === value;
  // "Content-Type values for a starts-with condition that include commas are interpreted as lists."
  const values = field === 'content-type' ? actual.split(',').map((text) => text.trim()) : [actual];
  return values.every((text) => text.startsWith(value));
}

function parsePolicy(encoded: string): Policy {
  const document = decodePolicy(encoded);
  if (typeof document !== 'object' || document === null || Array.isArray(document)) throw invalid('Invalid JSON.');
  const { expiration, conditions, ...others } = document as Record<string, unknown>;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) throw invalid(`Unexpected: '${unknown.slice(0, 64)}'`);
  if (expiration === undefined) throw invalid('Policy missing expiration.');
  if (conditions === undefined) throw invalid('Policy missing conditions.');
  if (!Array.isArray(conditions)) throw invalid('Invalid conditions: expected a list.');
  return { expires: parseExpiration(expiration), conditions: conditions.map(parseCondition) };
}

function decodePolicy(encoded: string): unknown {
  // Encoders that wrap their lines are taken; the signature is over the text as it came.
  if (!/^[A-Za-z0-9+/\r\n]+={0,2}\s*$/.test(encoded)) throw invalid('Invalid JSON.');
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(encoded, 'base64'));
    return parseJson(text, 8);
  } catch (cause) {
    throw invalid('Invalid JSON.', cause);
  }
}

function parseExpiration(value: unknown): number {
  const isTime = typeof value === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z$/.test(value);
  const time = isTime ? Date.parse(value) : NaN;
  if (Number.isNaN(time)) throw invalid("Invalid 'expiration' value: expected ISO 8601 in UTC.");
  return time;
}

function parseCondition(value: unknown): Condition {
  if (Array.isArray(value)) return parseTriple(value);
  const pairs = typeof value === 'object' && value !== null ? Object.entries(value) : [];
  const [field, text] = pairs[0] ?? [];
  if (pairs.length !== 1 || field === undefined) {
    throw invalid('Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.');
  }
  if (typeof text !== 'string') throw invalid('Invalid Simple-Condition: value must be a string.');
  return { kind: 'eq', field: field.toLowerCase(), value: text };
}

function parseTriple(value: readonly unknown[]): Condition {
  const kind = typeof value[0] === 'string' ? value[0].toLowerCase() : '';
  if (value.length !== 3) throw invalid(`Invalid condition: expected three elements, found ${value.length}.`);
  if (kind === 'content-length-range') {
    const range = { min: bytes(value[1]), max: bytes(value[2]) };
    if (range.min > range.max) throw invalid('Invalid content-length-range: the first number is above the second.');
    return { kind, ...range };
  }
  const [, field, text] = value;
  if (kind !== 'eq' && kind !== 'starts-with') throw invalid('Invalid condition: unknown operation.');
  if (typeof field !== 'string' || !field.startsWith('$') || typeof text !== 'string') {
    throw invalid(`Invalid ${kind} condition: expected ["${kind}", "$field", "value"].`);
  }
  return { kind, field: field.slice(1).toLowerCase(), value: text };
}

/** A number, or its digits: SDKs write both. */
function bytes(value: unknown): number {
  const text = typeof value === 'number' ? String(value) : value;
  if (typeof text !== 'string' || !/^\d{1,15}$/.test(text)) {
    throw invalid('Invalid content-length-range: expected two numbers of bytes.');
  }
  return Number(text);
}

function invalid(what: string, cause?: unknown): ServiceError {
  return new ServiceError('InvalidPolicyDocument', { message: `Invalid Policy: ${what}`, cause });
}

function denied(what: string, reason: string): ServiceError {
  return new ServiceError('AccessDenied', { message: `Invalid according to Policy: ${what}`, reason });
}
