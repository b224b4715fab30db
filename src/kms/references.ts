import { ServiceError } from '../errors.ts';
import { KEY_ID } from './ports.ts';

/** How a request may name a KMS key (AWS KMS "KeyId"): id, key ARN, alias name, alias ARN. */
export type KeyReference =
  { readonly kind: 'key'; readonly keyId: string } | { readonly kind: 'alias'; readonly name: string };

export interface ArnScope {
  readonly region: string;
  readonly account: string;
}

export function notFound(): ServiceError {
  return new ServiceError('KMS.NotFoundException', { reason: 'kms-key' });
}

export function keyArn({ region, account }: ArnScope, keyId: string): string {
  return `arn:aws:kms:${region}:${account}:key/${keyId}`;
}

/** Another partition, region or account names a key that is not ours: not found, as AWS has it for a foreign ARN. */
export function parseReference(reference: string, scope: ArnScope): KeyReference {
  const prefix = `arn:aws:kms:${scope.region}:${scope.account}:`;
  const resource = reference.startsWith(prefix) ? reference.slice(prefix.length) : reference;
  const isArn = resource !== reference;
  if (resource.startsWith('alias/')) {
    const name = resource.slice('alias/'.length);
    if (!KEY_ID.test(name)) throw notFound();
    return { kind: 'alias', name };
  }
  const keyId = isArn ? /^key\/(.*)$/s.exec(resource)?.[1] : resource;
  if (keyId === undefined || !KEY_ID.test(keyId)) throw notFound();
  return { kind: 'key', keyId };
}
