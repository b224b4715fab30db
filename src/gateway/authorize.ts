import { ServiceError } from '../errors.ts';
import { evaluate } from '../iam/policy.ts';
import type { AccessRequest } from '../iam/types.ts';
import { actionsOf, deleteActions, sourceActions } from '../s3/access.ts';
import type { CopySource } from '../s3/names.ts';
import type { Operation } from '../s3/operation.ts';
import type { EncryptionContext } from '../sse/context.ts';
import type { Exchange } from './exchange.ts';

const SSE = 'x-amz-server-side-encryption';

/**
 * Default deny: every action that the operation and its headers need, by the caller's policies. Asked before anything is
 * looked up. DeleteObjects names its objects in its body: each of them is asked for by `mayDelete`.
 */
export function authorize(x: Exchange): void {
  if (x.op.kind === 'DeleteObjects') return;
  if ('key' in x.op) refuseOtherSpelling(x, x.op.key);
  // A listing's prefix ends anywhere: what stands behind its last slash is no segment yet.
  if ('prefix' in x.op) refuseOtherSpelling(x, x.op.prefix.replace(/[^/]*$/, ''));
  const resource = resourceOf(x.op);
  const conditions = conditionsOf(x);
  for (const action of actionsOf(x.op, x.caller.request.headers)) demand(x, action, resource, conditions);
  if ('source' in x.op) authorizeSource(x, x.op.source);
}

/** Who may write may not therefore read: the source of a copy is a right of its own, on the source's name. */
function authorizeSource(x: Exchange, source: CopySource): void {
  refuseOtherSpelling(x, source.key);
  demand(x, sourceActions(source.versionId).read, arnOf(source), versionConditions(x, source.versionId));
}

/** Tags that a copy takes along: read at the source, written at the target. Asked where there are any. */
export function authorizeTagCopy(x: Exchange, source: CopySource): void {
  demand(x, sourceActions(source.versionId).tags, arnOf(source), versionConditions(x, source.versionId));
  demand(x, 's3:PutObjectTagging', resourceOf(x.op), conditionsOf(x));
}

/** Of a version that the query does not name. */
function versionConditions(x: Exchange, versionId: string | undefined): Conditions {
  return () => ({ ...conditionValues(x), ...(versionId === undefined ? {} : { 's3:versionid': versionId }) });
}

function arnOf({ bucket, key }: CopySource): string {
  return `arn:aws:s3:::${bucket}/${key}`;
}

function refuseOtherSpelling(x: Exchange, key: string | undefined): void {
  if (key === undefined || !mayMeanAnother(x, key)) return;
  throw new ServiceError('NotImplemented', {
    message:
      'The store behind takes this key or prefix for another one: it has an empty, "." or ".." segment, or is where it keeps uploads.',
    reason: 'key-trait',
  });
}

/** One object of a DeleteObjects body. */
export function mayDelete(x: Exchange, bucket: string, key: string, versionId: string | undefined): boolean {
  if (mayMeanAnother(x, key)) return false;
  const conditions = versionConditions(x, versionId);
  const actions = deleteActions(versionId, x.caller.request.headers);
  return actions.every((action) => allowed(x, action, `arn:aws:s3:::${bucket}/${key}`, conditions));
}

/**
 * Where keys are paths, `mine/../yours` is allowed by a policy on `mine/*`, is missed by a Deny on `yours`, and writes
 * or deletes `yours`. (Reading it is an integrity error: the envelope knows its name.) The slash at the end is no such
 * segment: the traits of slashes rule it. Some keep everybody's open uploads under a key (SeaweedFS, versitygw), where
 * to delete it is to abort them.
 */
function mayMeanAnother(x: Exchange, key: string): boolean {
  return !x.rooms.store.traits.keepsPathsApart && (OTHER_SPELLING.test(key) || OF_THE_STORE.test(key));
}

const OTHER_SPELLING = /^\/|\/\/|(?:^|\/)\.{1,2}(?:\/|$)/;
const OF_THE_STORE = /^\.(?:uploads|sgwtmp)(?:\/|$)/;

/** The use of a KMS key (kms:GenerateDataKey, kms:Decrypt), beside the right on the object. */
export function authorizeKey(x: Exchange, action: string, keyId: string, context: EncryptionContext): void {
  demand(x, action, x.rooms.keys.arn(keyId), conditionsOf(x, context));
}

/** The same for a key that only the client has named, and that need not be there: by the ARN that such a key has. */
export function authorizeReference(x: Exchange, action: string, reference: string, context: EncryptionContext): void {
  // An alias that points at no key stands for one of its own name.
  const resource = reference.startsWith('arn:')
    ? reference.replace(/^((?:[^:]*:){5})alias\//, '$1key/')
    : x.rooms.keys.arn(reference.replace(/^alias\//, ''));
  demand(x, action, resource, conditionsOf(x, context));
}

/** Condition keys know no case, names of a context do: names that differ in their case alone share a key. */
function contextConditions(context: EncryptionContext): Record<string, string[]> {
  const conditions: Record<string, string[]> = {};
  for (const [name, value] of context) (conditions[`kms:encryptioncontext:${name.toLowerCase()}`] ??= []).push(value);
  return conditions;
}

/** The values of the condition keys, made when the first statement with a condition asks for one. Few have any. */
type Conditions = () => AccessRequest['context'];

function demand(x: Exchange, action: string, resource: string, conditions: Conditions): void {
  if (!allowed(x, action, resource, conditions)) throw new ServiceError('AccessDenied', { reason: 'policy' });
}

function allowed(x: Exchange, action: string, resource: string, conditions: Conditions): boolean {
  const request = {
    action,
    resource,
    get context() {
      return conditions();
    },
  };
  return evaluate(x.caller.identity.policies, request) === 'allow';
}

function resourceOf(op: Operation): string {
  if (!('bucket' in op)) return 'arn:aws:s3:::*';
  const key = 'key' in op ? op.key : undefined;
  return key === undefined ? `arn:aws:s3:::${op.bucket}` : `arn:aws:s3:::${op.bucket}/${key}`;
}

function conditionsOf(x: Exchange, context: EncryptionContext = []): Conditions {
  let values: AccessRequest['context'] | undefined;
  return () => (values ??= { ...conditionValues(x), ...contextConditions(context) });
}

/** Condition keys (IAM "Actions, resources, and condition keys for Amazon S3"), lower-cased; absent means absent. */
function conditionValues(x: Exchange): Record<string, string> {
  const { headers, query } = x.caller.request;
  const out: Record<string, string> = {
    'aws:sourceip': x.source,
    'aws:securetransport': String(x.secure),
    'aws:username': x.caller.identity.name,
    'aws:currenttime': x.now.toISOString(),
  };
  const copy = (key: string, value: string | undefined): void => {
    if (value !== undefined) out[key] = value;
  };
  copy(`s3:${SSE}`, headers[SSE]);
  copy(`s3:${SSE}-aws-kms-key-id`, headers[`${SSE}-aws-kms-key-id`]);
  copy(`s3:${SSE}-customer-algorithm`, headers[`${SSE}-customer-algorithm`]);
  copy('s3:prefix', query.get('prefix'));
  copy('s3:delimiter', query.get('delimiter'));
  copy('s3:max-keys', query.get('max-keys'));
  copy('s3:versionid', query.get('versionId'));
  copy('s3:x-amz-acl', headers['x-amz-acl']);
  copy('s3:x-amz-copy-source', headers['x-amz-copy-source']);
  copy('s3:x-amz-metadata-directive', headers['x-amz-metadata-directive']);
  copy('s3:x-amz-storage-class', headers['x-amz-storage-class']);
  return out;
}
