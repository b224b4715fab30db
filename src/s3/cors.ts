import { ServiceError } from '../errors.ts';
import { childrenOf, document, element, parseXml, textOf, type XmlElement } from './xml.ts';

const METHODS = ['GET', 'PUT', 'POST', 'DELETE', 'HEAD'] as const;
type CorsMethod = (typeof METHODS)[number];

/** One rule of a bucket's CORS configuration (AWS "Elements of a CORS configuration"). */
export interface CorsRule {
  readonly id?: string | undefined;
  readonly origins: readonly string[];
  readonly methods: readonly CorsMethod[];
  readonly headers: readonly string[];
  readonly expose: readonly string[];
  readonly maxAgeSeconds?: number | undefined;
}

const MAX_RULES = 100;
const FIELDS = ['ID', 'AllowedOrigin', 'AllowedMethod', 'AllowedHeader', 'ExposeHeader', 'MaxAgeSeconds'];

/** The body of PutBucketCors. */
export function parseCors(body: Uint8Array): readonly CorsRule[] {
  const root = parseXml(body, 'CORSConfiguration');
  const rules = childrenOf(root, 'CORSRule');
  if (rules.length === 0 || rules.length > MAX_RULES || rules.length !== root.children.length) throw malformed();
  return rules.map(parseRule);
}

function parseRule(rule: XmlElement): CorsRule {
  if (!rule.children.every(({ name }) => FIELDS.includes(name))) throw malformed();
  const texts = (name: string): string[] => childrenOf(rule, name).map(({ text }) => text);
  const origins = texts('AllowedOrigin');
  const methods = texts('AllowedMethod').map(parseMethod);
  const headers = texts('AllowedHeader');
  const expose = texts('ExposeHeader');
  if (origins.length === 0 || methods.length === 0) throw malformed();
  for (const [name, values] of Object.entries({ AllowedOrigin: origins, AllowedHeader: headers })) {
    if (values.some((value) => value.split('*').length > 2)) {
      throw invalid(`${name} can not have more than one wildcard.`);
    }
  }
  // They become headers of answers.
  if (![...origins, ...headers, ...expose].every((value) => /^[\x21-\x7e]{1,1024}$/.test(value))) throw malformed();
  if (expose.some((value) => value.includes('*'))) throw invalid('ExposeHeader can not have a wildcard.');
  const age = textOf(rule, 'MaxAgeSeconds');
  if (age !== undefined && !/^\d{1,9}$/.test(age)) throw malformed();
  const id = textOf(rule, 'ID');
  if (id !== undefined && id.length > 255) throw malformed();
  return { id, origins, methods, headers, expose, maxAgeSeconds: age === undefined ? undefined : Number(age) };
}

function parseMethod(text: string): CorsMethod {
  const method = METHODS.find((known) => known === text);
  if (method !== undefined) return method;
  throw invalid('Found unsupported HTTP method in CORS config.');
}

export function formatCors(rules: readonly CorsRule[]): string {
  const all = (name: string, values: readonly string[]): string[] => values.map((value) => element(name, value));
  const rows = rules.map((rule) =>
    element('CORSRule', [
      element('ID', rule.id),
      ...all('AllowedMethod', rule.methods),
      ...all('AllowedOrigin', rule.origins),
      ...all('AllowedHeader', rule.headers),
      element('MaxAgeSeconds', rule.maxAgeSeconds),
      ...all('ExposeHeader', rule.expose),
    ]),
  );
  return document('CORSConfiguration', rows);
}

export interface CorsRequest {
  readonly origin: string;
  /** Of the request, or the one that a preflight asks for. */
  readonly method: string;
  /** Those that a preflight asks for; lower-cased. */
  readonly headers: readonly string[];
}

/** The headers of an answer by the first rule that allows the request; undefined where none does. */
export function corsHeaders(rules: readonly CorsRule[], asked: CorsRequest): Record<string, string> | undefined {
  const { origin, headers } = asked;
  const rule = rules.find(
    (one) =>
      one.methods.some((method) => method === asked.method) &&
      one.origins.some((pattern) => matches(pattern, origin)) &&
      headers.every((name) => one.headers.some((pattern) => matches(pattern.toLowerCase(), name))),
  );
  if (rule === undefined) return undefined;
  const everybody = rule.origins.includes('*');
  return {
    'access-control-allow-origin': everybody ? '*' : origin,
    'access-control-allow-methods': rule.methods.join(', '),
    ...(headers.length === 0 ? {} : { 'access-control-allow-headers': headers.join(', ') }),
    ...(rule.expose.length === 0 ? {} : { 'access-control-expose-headers': rule.expose.join(', ') }),
    ...(rule.maxAgeSeconds === undefined ? {} : { 'access-control-max-age': String(rule.maxAgeSeconds) }),
    ...(everybody ? {} : { 'access-control-allow-credentials': 'true' }),
    vary: 'Origin, Access-Control-Request-Headers, Access-Control-Request-Method',
  };
}

/** At most one `*`, which stands for any text. */
function matches(pattern: string, text: string): boolean {
  const [before = '', after] = pattern.split('*');
  if (after === undefined) return pattern === text;
  return text.length >= before.length + after.length && text.startsWith(before) && text.endsWith(after);
}

function malformed(): ServiceError {
  return new ServiceError('MalformedXML');
}

function invalid(message: string): ServiceError {
  return new ServiceError('InvalidRequest', { message, reason: 'cors-rule' });
}
