import { sealEnvelope } from '../../sse/envelope.ts';
import type { Checksum } from '../../sse/format.ts';
import { metadataDigest } from '../../sse/metadata.ts';
import { ObjectSealer } from '../../sse/object.ts';
import { buildRecovery } from '../../sse/recovery.ts';
import type { StoreHeaders } from '../../store/port.ts';
import type { BucketExchange } from '../exchange.ts';
import { placeOf, type SealingKeys } from '../keys.ts';

/** A single object that is to be sealed under fresh keys. */
export interface NewObject {
  readonly x: BucketExchange;
  readonly key: string;
  readonly keys: SealingKeys;
  /** T, plaintext bytes. */
  readonly length: number;
}

export function objectSealer({ x, key, keys, length }: NewObject): ObjectSealer {
  const { entropy, envelopeKeys } = x.rooms;
  const place = placeOf(x, key);
  const { mode, objectKey, objectId, kek } = keys;
  const recovery = mode === 'SSE-C' ? undefined : buildRecovery({ ...keys, mode, place }, kek, objectKey, entropy);
  return new ObjectSealer({ objectKey, objectId, length, entropy, envelopeKey: envelopeKeys.current(), recovery });
}

/** `headers` is what the store keeps beside the body, and what the metadata digest covers. */
export function objectEnvelope(
  { x, key, keys, length }: NewObject,
  sealer: ObjectSealer,
  headers: StoreHeaders,
  checksum: Checksum | undefined,
): string {
  const { entropy, envelopeKeys } = x.rooms;
  return sealEnvelope({
    ...keys,
    type: 'single',
    length,
    metadataDigest: metadataDigest(headers),
    pin: { floeIv: sealer.floeIv, headerTag: sealer.headerTag },
    place: placeOf(x, key),
    keys: envelopeKeys,
    checksum,
    entropy,
  });
}
