import { z } from 'zod';
import { ServiceError } from '../errors.ts';
import { canonicalAction, KEY_ADMINISTRATION, KEY_USE, KNOWN_ACTIONS } from './actions.ts';
import { compileCondition, isConditionKey } from './conditions.ts';
import type { AccessRequest, Condition, Policy, Statement } from './types.ts';
import { matchesWildcard } from './wildcard.ts';

const strings = z.union([z.string().max(2048), z.array(z.string().max(2048)).min(1).max(1000)]);
const scalar = z.union([z.string().max(2048), z.boolean(), z.number()]);
const conditionValues = z.union([scalar, z.array(scalar).min(1).max(1000)]);

/** The IAM JSON policy language, as far as it is understood; every other element is refused, NotPrincipal among them. */
const documentSchema = z.strictObject({
  Version: z.enum(['2012-10-17', '2008-10-17']).optional(),
  Id: z.string().max(256).optional(),
  Statement: z
    .union([z.array(z.unknown()).min(1).max(256), z.record(z.string(), z.unknown())])
    .transform((statements) => (Array.isArray(statements) ? statements : [statements])),
});

const statementSchema = z.strictObject({
  Sid: z.string().max(256).optional(),
  Effect: z.enum(['Allow', 'Deny']),
  Principal: z.union([z.literal('*'), z.strictObject({ AWS: strings })]).optional(),
  Action: strings.optional(),
  NotAction: strings.optional(),
  Resource: strings.optional(),
  NotResource: strings.optional(),
  Condition: z.record(z.string(), z.record(z.string(), conditionValues)).optional(),
});

type RawStatement = z.output<typeof statementSchema>;

/** `identity`: attached to an identity. `key`: attached to a KMS key; it names principals and only `kms:` actions. */
export type PolicyKind = 'identity' | 'key';

const list = <T>(value: T | readonly T[] | undefined): readonly T[] =>
  value === undefined ? [] : Array.isArray(value) ? (value as readonly T[]) : [value as T];

/** Validates and compiles a policy document. Throws MalformedPolicy, which says where. */
export function parsePolicy(name: string, document: unknown, kind: PolicyKind = 'identity'): Policy {
  const parsed = documentSchema.safeParse(document);
  if (!parsed.success) throw malformed(name, 'it is not an IAM policy document');
  const statements = parsed.data.Statement.map((raw, index) => {
    const where = `statement ${index}`;
    const statement = statementSchema.safeParse(raw);
    if (!statement.success) {
      const path = statement.error.issues[0]?.path.join('.') ?? '';
      throw malformed(name, `${where} is not valid${path === '' ? '' : ` at ${path}`}`);
    }
    return compileStatement(statement.data, kind, (problem) => malformed(name, `${where}: ${problem}`));
  });
  return Object.freeze({ name, statements: Object.freeze(statements) });
}

type Fail = (problem: string) => ServiceError;

function compileStatement(raw: RawStatement, kind: PolicyKind, fail: Fail): Statement {
  if ((raw.Action === undefined) === (raw.NotAction === undefined)) throw fail('one of Action and NotAction');
  if ((raw.Resource === undefined) === (raw.NotResource === undefined)) throw fail('one of Resource and NotResource');
  if ((raw.Principal === undefined) !== (kind === 'identity')) {
    throw fail(kind === 'identity' ? 'Principal belongs to key policies' : 'Principal is missing');
  }
  const actions = list(raw.Action ?? raw.NotAction).map((action) => knownAction(action, fail));
  if (kind === 'key') checkKeyActions(raw, actions, fail);
  const resources = list(raw.Resource ?? raw.NotResource);
  for (const resource of resources) {
    if (!/^(\*|arn:aws:(s3|kms):.*)$/s.test(resource))
      throw fail('a Resource is `*` or begins with arn:aws:s3: or :kms:');
    refuseVariable(resource, fail);
  }
  return Object.freeze({
    effect: raw.Effect,
    actions,
    notActions: raw.NotAction !== undefined,
    resources,
    notResources: raw.NotResource !== undefined,
    conditions: compileConditions(raw.Condition ?? {}, fail),
    ...(raw.Principal === undefined
      ? {}
      : { principals: raw.Principal === '*' ? ['*'] : list<string>(raw.Principal.AWS) }),
  });
}

/** A pattern must stand for at least one action that exists. */
function knownAction(action: string, fail: Fail): string {
  const pattern = canonicalAction(action);
  const known = [...KNOWN_ACTIONS].some((name) => matchesWildcard(pattern, name));
  if (!known || /[^a-z0-9:*?]/.test(pattern)) throw fail(`unknown action ${JSON.stringify(action)}`);
  return pattern;
}

/** Users and administrators of a key are kept apart: no statement allows both, and so none allows `kms:*`. */
function checkKeyActions(raw: RawStatement, actions: readonly string[], fail: Fail): void {
  if (raw.NotAction !== undefined) throw fail('NotAction is refused in key policies');
  const covered = [...KNOWN_ACTIONS].filter((name) => actions.some((pattern) => matchesWildcard(pattern, name)));
  const uses = covered.every((name) => KEY_USE.has(name));
  const administers = covered.every((name) => KEY_ADMINISTRATION.has(name));
  if (raw.Effect === 'Allow' && !uses && !administers) {
    throw fail('a key policy allows the use of a key or its administration, not both, and nothing else');
  }
}

/** Policy variables are not substituted; taken literally they would mean something else than they say. */
function refuseVariable(value: string, fail: Fail): void {
  if (value.includes('${')) throw fail('policy variables are not supported');
}

function compileConditions(blocks: NonNullable<RawStatement['Condition']>, fail: Fail): readonly Condition[] {
  return Object.entries(blocks).flatMap(([operator, keys]) =>
    Object.entries(keys).map(([name, given]) => {
      const key = name.toLowerCase();
      if (!isConditionKey(key)) throw fail(`unknown condition key ${JSON.stringify(name)}`);
      const values = list(given).map(String);
      for (const value of values) refuseVariable(value, fail);
      const holds = compileCondition(operator, values);
      if (holds === undefined)
        throw fail(`unknown operator ${JSON.stringify(operator)}, or a value that it cannot take`);
      return Object.freeze({ operator, key, values, holds });
    }),
  );
}

function malformed(name: string, problem: string): ServiceError {
  return new ServiceError('MalformedPolicy', { message: `Policy ${JSON.stringify(name)}: ${problem}.` });
}

/** Default deny; an explicit Deny in any policy wins over every Allow. */
export function evaluate(policies: readonly Policy[], request: AccessRequest): 'allow' | 'deny' {
  const action = canonicalAction(request.action);
  let allowed = false;
  for (const policy of policies) {
    for (const statement of policy.statements) {
      if (!applies(statement, action, request)) continue;
      if (statement.effect === 'Deny') return 'deny';
      allowed = true;
    }
  }
  return allowed ? 'allow' : 'deny';
}

function applies(statement: Statement, action: string, request: AccessRequest): boolean {
  const { principals } = statement;
  if (principals !== undefined && !principals.includes('*')) {
    if (request.principal === undefined || !principals.includes(request.principal)) return false;
  }
  return (
    statement.actions.some((pattern) => matchesWildcard(pattern, action)) !== statement.notActions &&
    statement.resources.some((pattern) => matchesWildcard(pattern, request.resource)) !== statement.notResources &&
    statement.conditions.every(({ key, holds }) => {
      const actual = request.context[key];
      if (typeof actual !== 'object') return holds(actual);
      return statement.effect === 'Deny' ? actual.some(holds) : actual.every(holds);
    })
  );
}
