import type { Operation } from './operation.ts';

type Headers = Readonly<Record<string, string>>;

/** A header that asks for more than the operation's own right (Service Authorization Reference, "dependent actions"). */
interface HeaderRight {
  readonly operations: readonly string[];
  readonly asked: (headers: Headers) => boolean;
  readonly action: string;
}

const named =
  (...names: readonly string[]) =>
  (headers: Headers): boolean =>
    names.some((name) => headers[name] !== undefined);
const grants = (headers: Headers): boolean =>
  Object.keys(headers).some((name) => name.startsWith('x-amz-grant-')) ||
  (headers['x-amz-acl'] ?? 'private') !== 'private';
/** Whatever the store may take for a yes. */
const notFalse = (name: string) => (headers: Headers) => (headers[name]?.toLowerCase() ?? 'false') !== 'false';

/** What an upload will be is said when it is created. */
const WRITES = ['PutObject', 'PostObject', 'CopyObject', 'CreateMultipartUpload'];

const HEADER_RIGHTS: readonly HeaderRight[] = [
  { operations: WRITES, asked: named('x-amz-tagging'), action: 's3:PutObjectTagging' },
  { operations: WRITES, asked: grants, action: 's3:PutObjectAcl' },
  {
    operations: WRITES,
    asked: named('x-amz-object-lock-mode', 'x-amz-object-lock-retain-until-date'),
    action: 's3:PutObjectRetention',
  },
  { operations: WRITES, asked: named('x-amz-object-lock-legal-hold'), action: 's3:PutObjectLegalHold' },
  { operations: ['CreateBucket'], asked: grants, action: 's3:PutBucketAcl' },
  {
    operations: ['CreateBucket'],
    asked: notFalse('x-amz-bucket-object-lock-enabled'),
    action: 's3:PutBucketObjectLockConfiguration',
  },
  {
    operations: ['CreateBucket'],
    asked: notFalse('x-amz-bucket-object-lock-enabled'),
    action: 's3:PutBucketVersioning',
  },
  {
    operations: ['CreateBucket'],
    asked: named('x-amz-object-ownership'),
    action: 's3:PutBucketOwnershipControls',
  },
  {
    operations: ['DeleteObject', 'DeleteObjects', 'PutObjectRetention'],
    asked: notFalse('x-amz-bypass-governance-retention'),
    action: 's3:BypassGovernanceRetention',
  },
];

/**
 * Every action that the caller needs for this operation with these headers, never none. DeleteObjects names
 * `s3:DeleteObject` here; the right on each object of its body is `deleteActions`.
 */
export function actionsOf(op: Operation, headers: Headers): readonly [string, ...string[]] {
  const { row } = op;
  const versioned = 'versionId' in op;
  const own = (versioned ? row.versionAction : undefined) ?? row.action;
  // Attributes are the object's too (GetObjectAttributes, "Permissions").
  const read = op.kind === 'GetObjectAttributes' ? [versioned ? 's3:GetObjectVersion' : 's3:GetObject'] : [];
  return [own, ...read, ...headerActions(row.name, headers)];
}

/** The right on the source of a copy, and the ones that its tags ask for where they are copied too. */
export function sourceActions(versionId: string | undefined): { readonly read: string; readonly tags: string } {
  return versionId === undefined
    ? { read: 's3:GetObject', tags: 's3:GetObjectTagging' }
    : { read: 's3:GetObjectVersion', tags: 's3:GetObjectVersionTagging' };
}

/** The actions for one object of a DeleteObjects body. */
export function deleteActions(versionId: string | undefined, headers: Headers): readonly [string, ...string[]] {
  const own = versionId === undefined ? 's3:DeleteObject' : 's3:DeleteObjectVersion';
  return [own, ...headerActions('DeleteObjects', headers)];
}

function headerActions(name: string, headers: Headers): readonly string[] {
  return HEADER_RIGHTS.filter((right) => right.operations.includes(name) && right.asked(headers)).map(
    ({ action }) => action,
  );
}
