import { integrityError, ServiceError } from '../errors.ts';

/**
 * What an answer of Vault or OpenBao means, as a table. Each row was seen on OpenBao 2.7.2, except 412 and 307, which
 * need a replicated cluster. The message is matched as part of one of `errors[]`; rows are tried from the top.
 */
export type Verdict =
  | 'ok'
  | 'integrity'
  | 'version-too-new'
  | 'version-too-old'
  | 'key-not-found'
  | 'mount-not-found'
  | 'bad-credentials'
  | 'forbidden'
  | 'lagging'
  | 'throttled'
  | 'outage'
  | 'sealed'
  | 'unexpected';

/** How a call goes on after a verdict. */
export type Action =
  | 'done'
  /** Final at once. */
  | 'fail'
  /** Once more after 200 ms: a standby behind, or a restored backup; then final. */
  | 'once-more'
  /** The 403 rule: the token may be dead, or the policy says no. */
  | 'ask-token'
  /** Again with growing, jittered pauses while the total timeout lasts. */
  | 'retry';

export interface AnswerRow {
  readonly status: number | readonly [number, number];
  readonly message?: string;
  readonly verdict: Verdict;
}

export const ANSWERS: readonly AnswerRow[] = [
  { status: [200, 299], verdict: 'ok' },
  { status: 400, message: 'message authentication failed', verdict: 'integrity' },
  { status: 400, message: 'version is too new', verdict: 'version-too-new' },
  { status: 400, message: 'key not found', verdict: 'key-not-found' },
  { status: 400, message: 'too old', verdict: 'version-too-old' },
  { status: 400, message: 'invalid ciphertext', verdict: 'integrity' },
  { status: 400, message: 'invalid role or secret ID', verdict: 'bad-credentials' },
  { status: 403, verdict: 'forbidden' },
  { status: 404, message: 'no handler for route', verdict: 'mount-not-found' },
  { status: 404, verdict: 'key-not-found' },
  { status: 412, verdict: 'lagging' },
  { status: 429, verdict: 'throttled' },
  { status: 500, verdict: 'outage' },
  { status: 502, verdict: 'outage' },
  { status: 503, message: 'sealed', verdict: 'sealed' },
  { status: 503, verdict: 'outage' },
  { status: 504, verdict: 'outage' },
];

export const ACTIONS: Readonly<Record<Verdict, Action>> = {
  ok: 'done',
  integrity: 'fail',
  'version-too-new': 'once-more',
  'version-too-old': 'fail',
  'key-not-found': 'once-more',
  'mount-not-found': 'fail',
  'bad-credentials': 'fail',
  forbidden: 'ask-token',
  lagging: 'retry',
  throttled: 'retry',
  outage: 'retry',
  sealed: 'retry',
  unexpected: 'fail',
};

/** Verdicts that count against the breaker: nobody is there, or nobody who can answer. 429 is not among them. */
export const OUTAGES: ReadonlySet<Verdict> = new Set<Verdict>(['outage', 'sealed', 'lagging']);

export function classify(status: number, errors: readonly string[]): Verdict {
  for (const row of ANSWERS) {
    const [from, to] = typeof row.status === 'number' ? [row.status, row.status] : row.status;
    if (status < from || status > to) continue;
    const { message } = row;
    if (message === undefined || errors.some((error) => error.includes(message))) return row.verdict;
  }
  return 'unexpected';
}

/** The messages of an error answer. Read only for classification: they never leave this folder. */
export function errorMessages(body: Buffer): readonly string[] {
  try {
    const parsed: unknown = JSON.parse(body.toString('utf8'));
    if (typeof parsed !== 'object' || parsed === null || !('errors' in parsed)) return [];
    return Array.isArray(parsed.errors) ? parsed.errors.filter((e): e is string => typeof e === 'string') : [];
  } catch {
    return [];
  }
}

/** The error of a final verdict, as KmsBackend's contract names them. Nothing of Vault's own words is in it. */
export function verdictError(verdict: Exclude<Verdict, 'ok'>, cause?: unknown): ServiceError {
  switch (verdict) {
    case 'integrity':
    case 'version-too-new':
      return integrityError('kms-unwrap', cause);
    case 'version-too-old':
      return new ServiceError('KMS.KMSInvalidStateException', { reason: 'kms-version-too-old', cause });
    case 'key-not-found':
      return new ServiceError('KMS.NotFoundException', { reason: 'kms-key-not-found', cause });
    case 'mount-not-found':
      return new ServiceError('KMS.NotFoundException', { reason: 'kms-mount-not-found', cause });
    case 'bad-credentials':
    case 'forbidden':
      return new ServiceError('AccessDenied', { reason: 'kms-denied', cause });
    case 'throttled':
      return new ServiceError('SlowDown', { reason: 'kms-throttled', headers: { 'Retry-After': '1' }, cause });
    case 'lagging':
    case 'outage':
    case 'sealed':
      return unavailable(cause);
    case 'unexpected':
      return new ServiceError('InternalError', { reason: 'kms-unexpected', cause });
  }
}

export function unavailable(cause?: unknown): ServiceError {
  return new ServiceError('ServiceUnavailable', { reason: 'kms-unavailable', headers: { 'Retry-After': '5' }, cause });
}
