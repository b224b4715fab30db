import type { Signer, StoreCredentials } from '../sigv4/types.ts';

/** One validated IAM policy; its form is `policy.ts`'s own business. */
export interface Policy {
  readonly name: string;
  readonly statements: readonly Statement[];
}

export interface Statement {
  readonly effect: 'Allow' | 'Deny';
  /** Lower-cased patterns such as `s3:getobject`, `s3:*`, `kms:decrypt`. */
  readonly actions: readonly string[];
  readonly notActions: boolean;
  readonly resources: readonly string[];
  readonly notResources: boolean;
  readonly conditions: readonly Condition[];
  /** Of a key policy: the names of the identities that it speaks of, or `*`. */
  readonly principals?: readonly string[];
}

export interface Condition {
  readonly operator: string;
  readonly key: string;
  readonly values: readonly string[];
  /** Compiled from operator and values: does it hold for the value of `key`? Undefined is an absent key. */
  readonly holds: (actual: string | undefined) => boolean;
}

/** A principal of the data plane or of the admin plane: never of both, unless it says `breakGlass`. */
export interface Identity extends Signer {
  readonly name: string;
  readonly plane: 'data' | 'admin' | 'both';
  readonly policies: readonly Policy[];
  /** Store credentials of its own; without them the service's are used. */
  readonly store?: StoreCredentials;
}

/**
 * What a policy is asked. Condition values by lower-cased key; a missing one is absent, never empty. A key may have
 * several values: an Allow must hold for each of them, a Deny applies for any.
 */
export interface AccessRequest {
  readonly action: string;
  readonly resource: string;
  readonly context: Readonly<Record<string, string | readonly string[]>>;
  /** The caller's name; key policies ask for it. */
  readonly principal?: string;
}
