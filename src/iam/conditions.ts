import { BlockList, isIP } from 'node:net';
import { matchesWildcard } from './wildcard.ts';

/** Does the value that the request has satisfy one that the policy names? */
type Matcher = (actual: string) => boolean;

interface Operator {
  /** A negated operator holds when no value matches, and when the key is absent (IAM "Condition operators"). */
  readonly negated: boolean;
  /** Undefined: the policy's value is not valid for the operator. */
  readonly matcher: (value: string) => Matcher | undefined;
}

const equals =
  (value: string): Matcher =>
  (actual) =>
    actual === value;
const like =
  (value: string): Matcher =>
  (actual) =>
    matchesWildcard(value, actual);
const equalsIgnoringCase = (value: string): Matcher => {
  const lower = value.toLowerCase();
  return (actual) => actual.toLowerCase() === lower;
};

function bool(value: string): Matcher | undefined {
  const lower = value.toLowerCase();
  return lower === 'true' || lower === 'false' ? (actual) => actual.toLowerCase() === lower : undefined;
}

/** IPv4, IPv6 or CIDR; BlockList takes an IPv4 address that came over an IPv6 socket for IPv4. */
function address(value: string): Matcher | undefined {
  const [network = '', bits, ...rest] = value.split('/');
  const family = isIP(network);
  const width = family === 4 ? 32 : 128;
  if (family === 0 || rest.length > 0 || (bits !== undefined && !/^\d{1,3}$/.test(bits))) return undefined;
  const prefix = bits === undefined ? width : Number(bits);
  if (prefix > width) return undefined;
  const list = new BlockList();
  list.addSubnet(network, prefix, family === 4 ? 'ipv4' : 'ipv6');
  return (actual) => {
    const plain = actual.replace(/%.*$/, '');
    const version = isIP(plain);
    return version !== 0 && list.check(plain, version === 4 ? 'ipv4' : 'ipv6');
  };
}

type Comparison = (actual: number, value: number) => boolean;

const numeric = (parse: (text: string) => number, compare: Comparison) => (value: string) => {
  const limit = parse(value);
  // A value of the request that is no number satisfies nothing: NaN compares false.
  return Number.isNaN(limit) ? undefined : (actual: string) => compare(parse(actual), limit);
};
const number = (text: string): number => (/^-?\d+(\.\d+)?$/.test(text) ? Number(text) : NaN);
/** ISO 8601, or seconds since the epoch. */
const date = (text: string): number => {
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  return /^\d{4}-\d{2}-\d{2}(T[\d:.]+(Z|[+-]\d{2}:\d{2}))?$/.test(text) ? Date.parse(text) : NaN;
};

const positive = (matcher: Operator['matcher']): Operator => ({ negated: false, matcher });
const negated = (matcher: Operator['matcher']): Operator => ({ negated: true, matcher });

function comparisons(name: string, parse: (text: string) => number): readonly (readonly [string, Operator])[] {
  const same: Comparison = (actual, value) => actual === value;
  return [
    [`${name}Equals`, positive(numeric(parse, same))],
    [`${name}NotEquals`, negated(numeric(parse, same))],
    [`${name}LessThan`, positive(numeric(parse, (actual, value) => actual < value))],
    [`${name}LessThanEquals`, positive(numeric(parse, (actual, value) => actual <= value))],
    [`${name}GreaterThan`, positive(numeric(parse, (actual, value) => actual > value))],
    [`${name}GreaterThanEquals`, positive(numeric(parse, (actual, value) => actual >= value))],
  ];
}

const OPERATORS: ReadonlyMap<string, Operator> = new Map([
  ['StringEquals', positive(equals)],
  ['StringNotEquals', negated(equals)],
  ['StringEqualsIgnoreCase', positive(equalsIgnoringCase)],
  ['StringNotEqualsIgnoreCase', negated(equalsIgnoringCase)],
  ['StringLike', positive(like)],
  ['StringNotLike', negated(like)],
  // IAM gives ArnEquals and ArnLike the same meaning; `*` does not stop at a colon here.
  ['ArnEquals', positive(like)],
  ['ArnLike', positive(like)],
  ['ArnNotEquals', negated(like)],
  ['ArnNotLike', negated(like)],
  ['Bool', positive(bool)],
  ['IpAddress', positive(address)],
  ['NotIpAddress', negated(address)],
  ...comparisons('Numeric', number),
  ...comparisons('Date', date),
]);

/** The condition keys that requests carry. Others are refused at load: a Deny on one of them would never apply. */
const KEYS: ReadonlySet<string> = new Set([
  'aws:currenttime',
  'aws:securetransport',
  'aws:sourceip',
  'aws:username',
  's3:delimiter',
  's3:max-keys',
  's3:prefix',
  's3:versionid',
  's3:x-amz-acl',
  's3:x-amz-server-side-encryption',
  's3:x-amz-server-side-encryption-aws-kms-key-id',
  's3:x-amz-server-side-encryption-customer-algorithm',
  's3:x-amz-storage-class',
]);
const CONTEXT_KEY = /^kms:encryptioncontext:.+$/;

export function isConditionKey(key: string): boolean {
  return KEYS.has(key) || CONTEXT_KEY.test(key);
}

/** Whether a condition holds for the value of its key; undefined is a key that the request does not have. */
export type ConditionTest = (actual: string | undefined) => boolean;

/** Compiles an operator with its values; undefined for an unknown operator or a value that is not valid for it. */
export function compileCondition(operator: string, values: readonly string[]): ConditionTest | undefined {
  if (operator === 'Null') return compileNull(values);
  const ifExists = operator.endsWith('IfExists');
  const row = OPERATORS.get(ifExists ? operator.slice(0, -'IfExists'.length) : operator);
  if (row === undefined || values.length === 0) return undefined;
  const matchers: Matcher[] = [];
  for (const value of values) {
    const matcher = row.matcher(value);
    if (matcher === undefined) return undefined;
    matchers.push(matcher);
  }
  const absent = ifExists || row.negated;
  return (actual) => (actual === undefined ? absent : matchers.some((matches) => matches(actual)) !== row.negated);
}

/** `Null: true` holds when the key is absent. */
function compileNull(values: readonly string[]): ConditionTest | undefined {
  const [value] = values;
  if (values.length !== 1 || (value !== 'true' && value !== 'false')) return undefined;
  return (actual) => (actual === undefined) === (value === 'true');
}
