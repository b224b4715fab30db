import { destination, pino, type DestinationStream } from 'pino';

/**
 * What may be logged: this list and nothing else, by type and again at run time. None of them can hold a key, a
 * signature, a customer's header or a message from outside.
 */
const FIELDS = [
  'requestId',
  'operation',
  'mode',
  'status',
  'reason',
  'milliseconds',
  'listener',
  'address',
  'port',
  'region',
  'state',
  'backend',
  'generation',
  'sink',
  'trait',
  'file',
  'count',
  'signal',
  'version',
] as const;

export type LogFields = Readonly<Partial<Record<(typeof FIELDS)[number], string | number | boolean>>>;

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

/** `event` is a constant of ours, in words: `listener ready`. An error is logged as its name, code and reason only. */
export type LogLine = (event: string, fields?: LogFields, error?: unknown) => void;

export interface Log {
  readonly debug: LogLine;
  readonly info: LogLine;
  readonly warn: LogLine;
  readonly error: LogLine;
}

/** JSON lines, on standard output unless told otherwise. */
export function createLog(level: LogLevel, stream: DestinationStream = destination({ fd: 1, sync: true })): Log {
  const logger = pino({ level, base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime }, stream);
  const line =
    (name: 'debug' | 'info' | 'warn' | 'error'): LogLine =>
    (event, fields, error) => {
      if (!logger.isLevelEnabled(name)) return;
      logger[name]({ ...allowed(fields), ...(error === undefined ? {} : { error: errorFields(error) }) }, event);
    };
  return { debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') };
}

function allowed(fields: LogFields = {}): Record<string, string | number | boolean> {
  const out: Record<string, string | number | boolean> = {};
  for (const name of FIELDS) {
    const value: unknown = fields[name];
    if (typeof value === 'string') out[name] = value.slice(0, 256);
    else if (typeof value === 'number' || typeof value === 'boolean') out[name] = value;
  }
  return out;
}

/** A message may quote what came from outside (a token, a header, a body); name, code and reason are constants. */
function errorFields(error: unknown): Record<string, string> {
  const out: Record<string, string> = { name: error instanceof Error ? word(error.name) : typeof error };
  if (typeof error !== 'object' || error === null) return out;
  if ('code' in error && typeof error.code === 'string') out.code = word(error.code);
  if ('reason' in error && typeof error.reason === 'string') out.reason = word(error.reason);
  return out;
}

/** A constant's form: one word. Anything else is not repeated. */
function word(text: string): string {
  return /^[A-Za-z][A-Za-z0-9_.:-]{0,63}$/.test(text) ? text : '(unprintable)';
}
