import { u32 } from '../../bytes.ts';
import { deriveSealKey, open, seal } from '../../control/seal.ts';
import { ServiceError } from '../../errors.ts';
import type { BucketExchange } from '../exchange.ts';

const VERSION_LENGTH = 4;

/**
 * A continuation token is the store's own, and with most stores the key at which the page ended. Where a bucket is
 * mapped to a prefix that key begins with it: the client gets the token sealed, learns nothing of the place, and can
 * make none that begins elsewhere. Every replica opens it, for the envelope keys are in the control store.
 */
export function sealToken(x: BucketExchange, token: string): string {
  const { version, key } = x.rooms.envelopeKeys.current();
  const sealed = seal(deriveSealKey(key, 'list-token'), Buffer.from(token, 'utf8'), boundTo(x));
  return Buffer.concat([u32(version), sealed]).toString('base64url');
}

/** The store's token of one that `sealToken` made for this bucket and place. */
export function openToken(x: BucketExchange, token: string): string {
  const bytes = Buffer.from(token, 'base64url');
  const key = bytes.length < VERSION_LENGTH ? undefined : x.rooms.envelopeKeys.get(bytes.readUInt32BE(0));
  const opened =
    key === undefined ? undefined : open(deriveSealKey(key, 'list-token'), bytes.subarray(VERSION_LENGTH), boundTo(x));
  if (opened !== undefined) return opened.toString('utf8');
  throw new ServiceError('InvalidArgument', {
    message: 'The continuation token provided is incorrect',
    reason: 'list-token',
  });
}

function boundTo({ bucket }: BucketExchange): Buffer {
  return Buffer.from(`${bucket.bucketId}/${bucket.target.bucket}/${bucket.target.prefix}`, 'utf8');
}
