import { createSecretKey, type KeyObject } from 'node:crypto';
import { createStoreClient, type StoreClientOptions } from '../../src/store/client.ts';
import type { StoreClient, StoreTraits } from '../../src/store/port.ts';
import { traitsOf } from '../../src/store/traits.ts';

/** A store that does everything AWS S3 does. */
export const ALL_TRAITS: StoreTraits = traitsOf(() => true);

export function secretOf(secretAccessKey: string): KeyObject {
  return createSecretKey(Buffer.from(`AWS4${secretAccessKey}`));
}

export interface Target {
  readonly endpoint: string | URL;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly region: string;
}

export function clientFor(
  target: Target,
  traits: StoreTraits = ALL_TRAITS,
  options: Partial<Pick<StoreClientOptions, 'timeouts' | 'connections' | 'pathStyle'>> = {},
): StoreClient {
  return createStoreClient({
    endpoint: new URL(target.endpoint),
    region: target.region,
    credentials: { accessKeyId: target.accessKeyId, secret: secretOf(target.secretAccessKey) },
    traits,
    pathStyle: true,
    clock: () => new Date(),
    ...options,
  });
}
