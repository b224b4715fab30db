import { ServiceError, type ErrorCode } from '../errors.ts';
import { ALGORITHM } from './canonical.ts';
import type { Scope } from './keys.ts';
import type { ParsedHead } from './parse.ts';

/** What a request claims about who signed it, when and over what. One shape for header, presigned URL and form. */
export interface Credential extends Scope {
  readonly form: 'header' | 'presigned' | 'post';
  readonly accessKeyId: string;
  /** Lower-cased, strictly ascending; none of a form, which signs its policy. */
  readonly signedHeaders: readonly string[];
  /** 64 lower-case hex digits. */
  readonly signature: string;
  /** `20130524T000000Z`: in the string to sign as it stands here. */
  readonly timestamp: string;
  /** The same in milliseconds. */
  readonly time: number;
  /** Presigned only: seconds of validity. A form's are its policy's business. */
  readonly expires: number;
}

const UNSUPPORTED = 'The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.';

export function parseCredential(head: ParsedHead): Credential {
  const authorization = head.headers['authorization'];
  const presigned =
    head.amzQuery.has('x-amz-algorithm') ||
    head.amzQuery.has('x-amz-credential') ||
    head.amzQuery.has('x-amz-signature');
  if (authorization !== undefined && presigned) {
    throw new ServiceError('InvalidArgument', {
      message: 'Only one auth mechanism allowed: the query string or the Authorization header.',
      reason: 'two-authorizations',
    });
  }
  if (presigned) return parsePresigned(head);
  if (authorization !== undefined) return parseAuthorization(head, authorization);
  if (head.query.has('AWSAccessKeyId') || head.query.has('Signature')) {
    throw new ServiceError('InvalidRequest', { message: UNSUPPORTED, reason: 'signature-v2' });
  }
  throw new ServiceError('AccessDenied', { reason: 'anonymous' });
}

function parseAuthorization(head: ParsedHead, authorization: string): Credential {
  const space = authorization.indexOf(' ');
  const scheme = space === -1 ? authorization : authorization.slice(0, space);
  if (scheme !== ALGORITHM) throw unsupportedScheme(scheme);
  if (authorization.length > 8192) throw malformed('header', 'it is too long');
  const fields = new Map<string, string>();
  for (const piece of authorization.slice(space + 1).split(',')) {
    const text = piece.trim();
    const equals = text.indexOf('=');
    const name = text.slice(0, Math.max(equals, 0));
    if (!FIELDS.has(name) || fields.has(name))
      throw malformed('header', 'expecting Credential, SignedHeaders, Signature');
    fields.set(name, text.slice(equals + 1));
  }
  const time = headerTime(head);
  return {
    form: 'header',
    ...parseScope('header', fields.get('Credential')),
    signedHeaders: parseSignedHeaders('header', fields.get('SignedHeaders')),
    signature: parseSignature('header', fields.get('Signature')),
    timestamp: isoBasic(time),
    time,
    expires: 0,
  };
}

/**
 * Keeps the last answer. A client's credential, its list of signed headers and the second of its clock are the same from
 * one request to the next, and to parse them anew costs 15 µs. One text is kept and no more, whoever it came from.
 */
function rememberLast<T>(parse: (text: string) => T): (text: string) => T {
  let last: { readonly text: string; readonly answer: T } | undefined;
  return (text) => {
    if (last?.text !== text) last = { text, answer: parse(text) };
    return last.answer;
  };
}

const FIELDS = new Set(['Credential', 'SignedHeaders', 'Signature']);

function unsupportedScheme(scheme: string): ServiceError {
  if (scheme === 'AWS4-ECDSA-P256-SHA256') return new ServiceError('NotImplemented', { reason: 'signature-v4a' });
  if (scheme === 'AWS') return new ServiceError('InvalidRequest', { message: UNSUPPORTED, reason: 'signature-v2' });
  return new ServiceError('InvalidArgument', {
    message: 'Unsupported Authorization Type',
    reason: 'authorization-type',
  });
}

/** `x-amz-date` when present, `Date` otherwise. */
function headerTime(head: ParsedHead): number {
  const given = head.headers['x-amz-date'] ?? head.headers['date'];
  const time = given === undefined ? undefined : (parseIsoBasic(given) ?? parseHttpDate(given));
  if (time === undefined) {
    throw new ServiceError('AccessDenied', {
      message: 'AWS authentication requires a valid Date or x-amz-date header',
      reason: 'no-date',
    });
  }
  return time;
}

function parsePresigned(head: ParsedHead): Credential {
  const query = head.amzQuery;
  for (const name of PRESIGNED) {
    if (!query.has(name)) {
      throw malformed(
        'presigned',
        'X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders and X-Amz-Expires are required',
      );
    }
  }
  const algorithm = query.get('x-amz-algorithm');
  if (algorithm === 'AWS4-ECDSA-P256-SHA256') throw unsupportedScheme(algorithm);
  if (algorithm !== ALGORITHM) throw malformed('presigned', `X-Amz-Algorithm only supports "${ALGORITHM}"`);
  const timestamp = query.get('x-amz-date') ?? '';
  const time = parseIsoBasic(timestamp);
  if (time === undefined) throw malformed('presigned', 'X-Amz-Date must be in the ISO8601 form yyyyMMddTHHmmssZ');
  return {
    form: 'presigned',
    ...parseScope('presigned', query.get('x-amz-credential')),
    signedHeaders: parseSignedHeaders('presigned', query.get('x-amz-signedheaders')),
    signature: parseSignature('presigned', query.get('x-amz-signature')),
    timestamp,
    time,
    expires: parseExpires(query.get('x-amz-expires') ?? ''),
  };
}

const POST_FIELDS = ['policy', 'x-amz-algorithm', 'x-amz-credential', 'x-amz-date', 'x-amz-signature'] as const;

/** The fields of a form that sign its policy (AWS "Authenticating requests in browser-based uploads using POST"). */
export function parsePost(fields: ReadonlyMap<string, string>): Credential {
  if (fields.has('awsaccesskeyid') || fields.has('signature')) {
    throw new ServiceError('InvalidRequest', { message: UNSUPPORTED, reason: 'signature-v2' });
  }
  if (!POST_FIELDS.some((name) => fields.has(name))) throw new ServiceError('AccessDenied', { reason: 'anonymous' });
  const missing = POST_FIELDS.find((name) => !fields.has(name));
  if (missing !== undefined) throw malformed('post', `Bucket POST must contain a field named '${missing}'.`);
  const algorithm = fields.get('x-amz-algorithm') ?? '';
  if (algorithm !== ALGORITHM) throw unsupportedScheme(algorithm);
  const timestamp = fields.get('x-amz-date') ?? '';
  const time = parseIsoBasic(timestamp);
  if (time === undefined) throw malformed('post', 'X-Amz-Date must be in the ISO8601 form yyyyMMddTHHmmssZ');
  return {
    form: 'post',
    ...parseScope('post', fields.get('x-amz-credential')),
    signedHeaders: [],
    signature: parseSignature('post', fields.get('x-amz-signature')),
    timestamp,
    time,
    expires: WEEK,
  };
}

const PRESIGNED = [
  'x-amz-algorithm',
  'x-amz-credential',
  'x-amz-date',
  'x-amz-expires',
  'x-amz-signature',
  'x-amz-signedheaders',
] as const;

/** Names of the presigned form that are the authentication's own: they become neither headers nor query parameters. */
export const AUTHENTICATION_PARAMETERS: ReadonlySet<string> = new Set([...PRESIGNED, 'x-amz-content-sha256']);

const WEEK = 604_800;

function parseExpires(text: string): number {
  if (!/^[0-9]{1,9}$/.test(text)) throw malformed('presigned', 'X-Amz-Expires must be a number');
  const seconds = Number(text);
  if (seconds < 1) throw malformed('presigned', 'X-Amz-Expires must be positive');
  if (seconds > WEEK) throw malformed('presigned', 'X-Amz-Expires must be less than a week (in seconds)');
  return seconds;
}

interface ScopedKey extends Scope {
  readonly accessKeyId: string;
}

/** Access key ids of other servers hold more than AWS's `\w`; a slash or a comma would be ambiguous here. */
const CREDENTIAL =
  /^(?<accessKeyId>[\w.+@:=-]{1,128})\/(?<date>[0-9]{8})\/(?<region>[a-z0-9-]{1,64})\/(?<service>[a-z0-9-]{1,32})\/aws4_request$/;

const scopeOf = rememberLast((text): ScopedKey | undefined => {
  const groups = CREDENTIAL.exec(text)?.groups;
  if (groups === undefined) return undefined;
  const { accessKeyId = '', date = '', region = '', service = '' } = groups;
  return { accessKeyId, date, region, service };
});

function parseScope(form: Credential['form'], text = ''): ScopedKey {
  const scope = scopeOf(text);
  if (scope !== undefined) return scope;
  throw malformed(form, 'the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request"');
}

const signedHeadersOf = rememberLast((text): readonly string[] | undefined => {
  const names = text.split(';');
  let before = '';
  for (const name of names) {
    // Ascending order makes them unique too.
    if (!/^[!#$%&'*+.^_`|~0-9a-z-]{1,256}$/.test(name) || name <= before) return undefined;
    before = name;
  }
  return Object.freeze(names);
});

function parseSignedHeaders(form: Credential['form'], text = ''): readonly string[] {
  const names = signedHeadersOf(text);
  if (names !== undefined) return names;
  throw malformed(form, 'SignedHeaders must be lower-case names in ascending order, separated by ";"');
}

function parseSignature(form: Credential['form'], text = ''): string {
  if (!/^[0-9a-f]{64}$/.test(text)) throw malformed(form, 'the Signature must be 64 lower-case hex digits');
  return text;
}

const MALFORMED = {
  header: 'AuthorizationHeaderMalformed',
  presigned: 'AuthorizationQueryParametersError',
  post: 'InvalidArgument',
} as const satisfies Record<Credential['form'], ErrorCode>;

/** Each form has its own code at AWS. */
export function malformed(form: Credential['form'], what: string, headers: Record<string, string> = {}): ServiceError {
  const message = form === 'header' ? `The authorization header is malformed; ${what}` : what;
  return new ServiceError(MALFORMED[form], { message, headers });
}

/** `20130524T000000Z`, a date that exists; milliseconds. */
const parseIsoBasic = rememberLast((text): number | undefined => {
  const match = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(text);
  if (match === null) return undefined;
  const [year, month, day, hour, minute, second] = match.slice(1).map(Number) as Six;
  const time = Date.UTC(year, month - 1, day, hour, minute, second);
  // Date.UTC rolls the 31st of June over, and takes years below 100 for 19xx.
  return isoBasic(time) === text ? time : undefined;
});

type Six = [number, number, number, number, number, number];

/** IMF-fixdate only (RFC 9110 section 5.6.7). */
function parseHttpDate(text: string): number | undefined {
  const time = Date.parse(text);
  return Number.isNaN(time) || new Date(time).toUTCString() !== text ? undefined : time;
}

/** Of the last second that was asked for: many requests share one, and its text costs 4 µs. */
let lastSecond = Number.NaN;
let lastText = '';

export function isoBasic(time: number): string {
  const second = Math.floor(time / 1000);
  if (second !== lastSecond) {
    lastText = new Date(time).toISOString().replace(/-|:|\.\d{3}/g, '');
    lastSecond = second;
  }
  return lastText;
}
