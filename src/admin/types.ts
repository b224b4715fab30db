import type { Audit } from '../audit.ts';
import type { ServiceError } from '../errors.ts';
import type { AccessRequest, Identity, Policy } from '../iam/types.ts';
import type { ServiceControl } from '../kms/ports.ts';
import type { Metrics } from '../metrics.ts';
import type { BucketAdministration } from './buckets.ts';

/** What the admin face is made of. */
export interface AdminOptions {
  readonly service: ServiceControl;
  readonly buckets: BucketAdministration;
  readonly identity: (accessKeyId: string) => Identity | undefined;
  /** Default deny: true only when a policy allows and none denies. */
  readonly allows: (policies: readonly Policy[], request: AccessRequest) => boolean;
  readonly audit: Audit;
  readonly metrics: Metrics;
  readonly clock: () => Date;
  /** Accepted in the scope of signatures; the first is the one that errors name. */
  readonly regions: readonly string[];
  /** The ARN of a key id; `arn:aws:kms:<first region>:000000000000:key/<id>` unless told. */
  readonly keyArn?: (keyId: string) => string;
}

/** One call that was verified and allowed, its body parsed. */
export interface AdminCall<B = unknown> {
  readonly service: ServiceControl;
  readonly buckets: BucketAdministration;
  /** What stands for `:id` or `:name` in the path; empty where the row has neither. */
  readonly name: string;
  readonly body: B;
  /** The administrator's principal. */
  readonly by: string;
}

export interface AdminAnswer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
  /** An answer that is an error and tells more than one: both are in its body. */
  readonly error?: ServiceError;
}

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

/** One row per route: the table is the policy. */
export interface Row {
  readonly method: Method;
  /** `:id` stands for a key's or an alias's name, `:name` for a bucket's. */
  readonly path: string;
  readonly maxBody: number;
  readonly timeoutMs: number;
  readonly action: string;
  /**
   * `service` is `arn:aws:kms:::service`; `key` is the key's ARN, with `*` for the id where the path names none;
   * `bucket` is `arn:aws:s3:::name`.
   */
  readonly resource: 'service' | 'key' | 'bucket';
  /** Goes on when no audit sink takes its intent: what an incident needs first must not wait for a disk. */
  readonly exempt: boolean;
  /** False: answered with 501, after the caller was verified and allowed. */
  readonly built: boolean;
  /** Parses the body; throws ValidationException. */
  readonly parse: (bytes: Buffer) => Parsed;
}

export interface Parsed {
  /** An administrator's free text, for the audit record. */
  readonly note?: string;
  /** A bucket that the body names: the row's action is asked on it, too. */
  readonly names?: string | undefined;
  readonly answer: (call: Omit<AdminCall, 'body'>) => Promise<AdminAnswer>;
}
