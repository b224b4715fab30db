import { takeKey } from '../bytes.ts';
import { ServiceError } from '../errors.ts';
import { parsePolicy } from './policy.ts';
import { ROLES } from './roles.ts';
import type { Identity, Policy } from './types.ts';

/** An identity as the configuration gives it, its secrets resolved. */
export interface IdentityEntry {
  readonly name: string;
  readonly accessKeyId: string;
  /** The secret access key; solely owned by the entry, and wiped here. */
  readonly secret: Buffer;
  readonly plane: 'data' | 'admin' | 'both';
  readonly breakGlass: boolean;
  /** Names of policies or ready-made roles, or policy documents. */
  readonly policies: readonly (string | object)[];
  readonly store?: { readonly accessKeyId: string; readonly secret: Buffer };
}

export interface Identities {
  /** The identity that may sign on this plane; undefined for every other one. */
  lookup(plane: 'data' | 'admin', accessKeyId: string): Identity | undefined;
  readonly all: readonly Identity[];
}

/** Shorter ones are guessed from one captured signature. */
const MIN_SECRET_BYTES = 8;

/** The SigV4 key of a secret: `AWS4` ‖ secret. The secret's bytes are wiped, whatever happens. */
export function signingSecret(secret: Buffer): Identity['secret'] {
  const bytes = Buffer.alloc(4 + secret.byteLength);
  bytes.write('AWS4', 'ascii');
  secret.copy(bytes, 4);
  secret.fill(0);
  return takeKey(bytes);
}

/**
 * Builds the identities. `policies` are the configuration's own, by name; a name of theirs may not be that of a
 * ready-made role. Throws ServiceError ValidationException or MalformedPolicy; every secret is wiped even then.
 */
export function buildIdentities(
  entries: readonly IdentityEntry[],
  policies: Readonly<Record<string, unknown>> = {},
): Identities {
  try {
    const named = namedPolicies(policies);
    const all = entries.map((entry) => buildIdentity(entry, named));
    const byAccessKey = new Map(all.map((identity) => [identity.accessKeyId, identity]));
    const names = new Set(all.map(({ name }) => name));
    if (byAccessKey.size !== all.length) throw invalid('An access key is used by two identities.');
    if (names.size !== all.length) throw invalid('A name is used by two identities.');
    return Object.freeze({
      all: Object.freeze(all),
      lookup(plane: 'data' | 'admin', accessKeyId: string) {
        const identity = byAccessKey.get(accessKeyId);
        return identity?.plane === plane || identity?.plane === 'both' ? identity : undefined;
      },
    });
  } finally {
    for (const { secret, store } of entries) {
      secret.fill(0);
      store?.secret.fill(0);
    }
  }
}

function namedPolicies(own: Readonly<Record<string, unknown>>): ReadonlyMap<string, Policy> {
  const named = new Map(Object.entries(ROLES).map(([name, document]) => [name, parsePolicy(name, document)]));
  for (const [name, document] of Object.entries(own)) {
    if (named.has(name)) throw invalid(`The policy ${JSON.stringify(name)} has the name of a ready-made role.`);
    named.set(name, parsePolicy(name, document));
  }
  return named;
}

function buildIdentity(entry: IdentityEntry, named: ReadonlyMap<string, Policy>): Identity {
  const { name, accessKeyId, plane, breakGlass, store } = entry;
  if ((plane === 'both') !== breakGlass) {
    throw invalid(`Identity ${JSON.stringify(name)}: plane is \`both\` exactly when breakGlass is true.`);
  }
  for (const secret of store === undefined ? [entry.secret] : [entry.secret, store.secret]) {
    if (secret.byteLength < MIN_SECRET_BYTES) {
      throw invalid(`Identity ${JSON.stringify(name)}: a secret has fewer than ${MIN_SECRET_BYTES} characters.`);
    }
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
    secret: signingSecret(entry.secret),
    ...(store === undefined
      ? {}
      : { store: Object.freeze({ accessKeyId: store.accessKeyId, secret: signingSecret(store.secret) }) }),
  });
}

function invalid(message: string): ServiceError {
  return new ServiceError('ValidationException', { message, reason: 'identity' });
}
