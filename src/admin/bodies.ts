import { z } from 'zod';
import { JsonError, parseJson } from '../config/json.ts';
import { check, strict } from '../config/strict.ts';
import { ServiceError } from '../errors.ts';

/** Nothing, or `{}`. */
export const noBody = strict({}).optional();

/** A JSON object whose fields are the key service's own business. */
export const opaqueBody = z.record(z.string(), z.unknown());

/** `POST /kms/stop` (StopRequest). */
export const stopBody = strict({
  reason: z.string().trim().min(1, 'expected 1 to 256 characters').max(256, 'expected 1 to 256 characters'),
  streams: z.enum(['drain', 'abort']).default('drain'),
  drain_seconds: z.int().min(0).max(3600).default(30),
  scope: z.enum(['managed', 'all']).default('managed'),
});

const ISO_UTC = 'expected a time such as 2026-01-31T12:00:00Z';

/** `POST /kms/buckets/:name/adopt` (Adoption). */
export const adoptBody = strict({
  mode: z.enum(['encrypted-only', 'mixed']),
  cutover: z.iso.datetime(ISO_UTC).optional(),
  target: strict({
    bucket: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{1,127}$/, 'expected a bucket name'),
    prefix: z
      .string()
      .max(512)
      .regex(
        /^(?:(?!\.{1,2}\/)[^\p{Cc}\p{Cs}/]+\/)*$/u,
        'expected a key prefix that ends in "/", without empty, "." or ".." segments',
      )
      .default(''),
  }).optional(),
});

/** Parses a body against its schema. A message names fields and what they must be, never a value. */
export function parseBody<S extends z.ZodType>(schema: S, bytes: Buffer): z.output<S> {
  const result = check(schema, bytes.length === 0 ? undefined : parseObject(bytes));
  if ('value' in result) return result.value;
  const message = result.problems
    .slice(0, 8)
    .map((problem) => (problem.path === '' ? problem.message : `${problem.path}: ${problem.message}`))
    .join('; ');
  throw invalid(`The body is not valid: ${message}`);
}

function parseObject(bytes: Buffer): unknown {
  try {
    return parseJson(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes), 16);
  } catch (err) {
    throw invalid(`The body is not valid: ${err instanceof JsonError ? err.message : 'not UTF-8'}`);
  }
}

function invalid(message: string): ServiceError {
  return new ServiceError('ValidationException', { message, reason: 'admin-body' });
}
