import type { KeyObject } from 'node:crypto';
import { ServiceError } from '../errors.ts';
import { parsePolicy } from './policy.ts';
import { ROLES } from './roles.ts';
import type { Identity, Policy } from './types.ts';

/** An identity as the configuration gives it. `Ref` says where a secret is kept; iam never sees the secret itself. */
export interface IdentityEntry<Ref> {
  readonly name: string;
  readonly accessKeyId: string;
  readonly secret: Ref;
  readonly plane: 'data' | 'admin' | 'both';
  readonly breakGlass: boolean;
  /** Names of policies or ready-made roles, or policy documents. */
  readonly policies: readonly (string | object)[];
  readonly store?: { readonly accessKeyId: string; readonly secret: Ref };
}

export interface IdentityConfig<Ref> {
  readonly identities: readonly IdentityEntry<Ref>[];
  /** Policy documents by name; no name may be that of a ready-made role. */
  readonly policies: Readonly<Record<string, unknown>>;
}

export interface IdentityDirectory {
  /** The identity that may sign on this plane; undefined for every other one. */
  lookup(accessKeyId: string, plane: 'data' | 'admin'): Identity | undefined;
  readonly all: readonly Identity[];
}

/** Reads the secret behind a reference as SigV4 uses it: the HMAC key over `AWS4` ‖ secret, the source wiped. */
export type ReadSigningKey<Ref> = (ref: Ref) => KeyObject;

/** Builds the identities. Throws ServiceError ValidationException or MalformedPolicy, and what `readKey` throws. */
export function buildIdentities<Ref>(config: IdentityConfig<Ref>, readKey: ReadSigningKey<Ref>): IdentityDirectory {
  const named = namedPolicies(config.policies);
  const all = config.identities.map((entry) => buildIdentity(entry, named, readKey));
  const byAccessKey = new Map(all.map((identity) => [identity.accessKeyId, identity]));
  if (byAccessKey.size !== all.length) throw invalid('An access key is used by two identities.');
  if (new Set(all.map(({ name }) => name)).size !== all.length) throw invalid('A name is used by two identities.');
  return Object.freeze({
    all: Object.freeze(all),
    lookup(accessKeyId: string, plane: 'data' | 'admin') {
      const identity = byAccessKey.get(accessKeyId);
      return identity?.plane === plane || identity?.plane === 'both' ? identity : undefined;
    },
  });
}

function namedPolicies(own: Readonly<Record<string, unknown>>): ReadonlyMap<string, Policy> {
  const named = new Map(Object.entries(ROLES).map(([name, document]) => [name, parsePolicy(name, document)]));
  for (const [name, document] of Object.entries(own)) {
    if (named.has(name)) throw invalid(`The policy ${JSON.stringify(name)} has the name of a ready-made role.`);
    named.set(name, parsePolicy(name, document));
  }
  return named;
}

function buildIdentity<Ref>(
  entry: IdentityEntry<Ref>,
  named: ReadonlyMap<string, Policy>,
  readKey: ReadSigningKey<Ref>,
): Identity {
  const { name, accessKeyId, plane, breakGlass, store } = entry;
  if ((plane === 'both') !== breakGlass) {
    throw invalid(`Identity ${JSON.stringify(name)}: plane is \`both\` exactly when breakGlass is true.`);
  }
  const policies = entry.policies.map((policy, index) => {
    if (typeof policy !== 'string') return parsePolicy(`${name}[${index}]`, policy);
    const found = named.get(policy);
    if (found === undefined)
      throw invalid(`Identity ${JSON.stringify(name)}: unknown policy ${JSON.stringify(policy)}.`);
    return found;
  });
  return Object.freeze({
    name,
    accessKeyId,
    plane,
    policies: Object.freeze(policies),
    secret: readKey(entry.secret),
    ...(store === undefined
      ? {}
      : { store: Object.freeze({ accessKeyId: store.accessKeyId, secret: readKey(store.secret) }) }),
  });
}

function invalid(message: string): ServiceError {
  return new ServiceError('ValidationException', { message, reason: 'identity' });
}
