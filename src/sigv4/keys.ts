import { createHmac, type KeyObject } from 'node:crypto';
import { takeKey } from '../bytes.ts';
import type { Signer } from './types.ts';

/** What a signature is good for: one day, one region, one service. */
export interface Scope {
  /** `20130524` */
  readonly date: string;
  readonly region: string;
  readonly service: string;
}

export function scopeString(scope: Scope): string {
  return `${scope.date}/${scope.region}/${scope.service}/aws4_request`;
}

/** Derived signing keys, bounded in number. The four HMACs of the derivation cost more than the rest of a verification. */
export interface SigningKeys {
  of(signer: Signer, scope: Scope): KeyObject;
}

interface Entry {
  /** A rotated secret under the same access key id is another KeyObject: the old signing key is then of no use. */
  readonly secret: KeyObject;
  readonly signingKey: KeyObject;
}

export function createSigningKeys(limit: number): SigningKeys {
  // A Map gives the oldest first, which is yesterday's. Only known identities, accepted regions and services, and at most
  // nine days get this far, so who is evicted early signs with valid credentials and pays four HMACs.
  const entries = new Map<string, Entry>();
  return {
    of(signer, scope) {
      const id = `${signer.accessKeyId}/${scope.date}/${scope.region}/${scope.service}`;
      const known = entries.get(id);
      if (known?.secret === signer.secret) return known.signingKey;
      const signingKey = deriveSigningKey(signer.secret, scope);
      entries.delete(id);
      if (entries.size >= limit) for (const oldest of entries.keys()) if (entries.delete(oldest)) break;
      entries.set(id, { secret: signer.secret, signingKey });
      return signingKey;
    },
  };
}

/** SigV4, "Derive a signing key": HMAC over date, region, service and the constant `aws4_request`, one within the other. */
export function deriveSigningKey(secret: KeyObject, scope: Scope): KeyObject {
  let key: KeyObject = secret;
  for (const part of [scope.date, scope.region, scope.service, 'aws4_request']) {
    key = takeKey(createHmac('sha256', key).update(part).digest());
  }
  return key;
}
