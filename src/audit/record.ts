import type { AuditFields, AuditOutcome } from '../audit.ts';

/** Longest value of each text field. An object key has 1024 bytes at most (AWS S3 "Naming objects"). */
const LIMITS = {
  requestId: 64,
  principal: 128,
  source: 64,
  operation: 64,
  bucket: 64,
  key: 1024,
  versionId: 256,
  mode: 8,
  keyId: 64,
  contextDigest: 64,
  note: 256,
} as const satisfies Partial<Record<keyof AuditFields, number>>;

const TEXT = Object.entries(LIMITS) as readonly (readonly [keyof typeof LIMITS, number])[];

export interface RecordHead {
  readonly type: 'intent' | 'outcome';
  readonly n: number;
  readonly time: string;
}

export interface Result {
  readonly outcome: AuditOutcome;
  readonly status: number;
  readonly error?: string;
  readonly milliseconds: number;
}

/**
 * The fields as the inside of a JSON object. Only the named ones are taken, each bounded: nothing else can enter a
 * record. Made once for the intent and the outcome unless something was added between them.
 */
export function formatFields(fields: Partial<AuditFields>): string {
  const out: Record<string, string | number | boolean> = {};
  for (const [name, limit] of TEXT) {
    const value = fields[name];
    if (value !== undefined) out[name] = bounded(value, limit);
  }
  if (fields.keyVersion !== undefined) out.keyVersion = fields.keyVersion;
  if (fields.cacheHit !== undefined) out.cacheHit = fields.cacheHit;
  return escapeControls(JSON.stringify(out).slice(1, -1));
}

/** One record as JSON text; `fields` comes from `formatFields`. */
export function formatRecord({ time, type, n }: RecordHead, fields: string, result?: Result): string {
  const record = `{"time":"${time}","type":"${type}","n":${n},${fields}`;
  if (result === undefined) return `${record}}`;
  const { outcome, status, milliseconds } = result;
  const error =
    result.error === undefined ? '' : `,"error":${escapeControls(JSON.stringify(bounded(result.error, 64)))}`;
  return `${record},"outcome":"${outcome}","status":${status}${error},"milliseconds":${milliseconds}}`;
}

function bounded(value: string, limit: number): string {
  return value.length <= limit ? value : `${value.slice(0, limit - 1)}…`;
}

// JSON.stringify escapes C0 and lone surrogates; DEL, C1, line separators and bidirectional controls it leaves as
// they are, and a terminal or a viewer would act on them.
const CONTROLS = /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

function escapeControls(json: string): string {
  return json.replace(CONTROLS, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
