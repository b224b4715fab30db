import type { BucketEncryption } from '../control/buckets.ts';
import { ServiceError } from '../errors.ts';
import type { EncryptionContext } from '../sse/context.ts';
import type { SseMode } from '../sse/format.ts';
import {
  applyDefault,
  parseCopySourceSse,
  parsePartSse,
  parseReadSse,
  parseWriteSse,
  refuseBlocked,
  sseResponseHeaders,
  type BucketDefault,
  type CustomerKey,
  type EffectiveSse,
  type SseAnswerKind,
  type SseReadRequest,
  type SseRequest,
  type SseTransport,
} from '../sse/request.ts';
import type { BucketExchange } from './exchange.ts';

/** What a write asks for, with the bucket's default where it asks for nothing: never nothing. */
export function writeSse(x: BucketExchange): EffectiveSse {
  const { settings } = x.rooms;
  const request = parseWriteSse(x.caller.request.headers, writeTransport(x));
  if (request.mode === 'SSE-KMS' && request.keyReference === undefined && !settings.compatibility.kmsWithoutKeyId) {
    throw new ServiceError('InvalidArgument', {
      message: 'Server Side Encryption with AWS KMS managed key requires a key id.',
      reason: 'compatibility:kms-key-id',
    });
  }
  return applyDefault(request, bucketDefault(x.bucket.encryption));
}

/** What a read brings: a customer key or nothing. */
export function readSse(x: BucketExchange): SseReadRequest {
  return parseReadSse(x.caller.request.headers, transport(x));
}

/** What a copy brings for its source: a customer key or nothing. */
export function sourceSse(x: BucketExchange): SseReadRequest {
  return parseCopySourceSse(x.caller.request.headers, transport(x));
}

/** What a part brings: the customer key of its upload, or nothing. What was open before SSE-C was blocked goes no further. */
export function partSse(x: BucketExchange): SseReadRequest {
  return parsePartSse(x.caller.request.headers, writeTransport(x));
}

/** A Complete makes an object of the upload's mode, whether or not it says so. */
export function refuseBlockedUpload(x: BucketExchange, mode: SseMode): void {
  if (mode === 'SSE-C' && isBlocked(x)) refuseBlocked();
}

/** What a Complete says of encryption, if anything; the bucket's default is not asked. */
export function statedSse(x: BucketExchange): SseRequest {
  return parseWriteSse(x.caller.request.headers, transport(x));
}

function transport(x: BucketExchange): { secureTransport: boolean; allowInsecureCustomerKeys: boolean } {
  return { secureTransport: x.secure, allowInsecureCustomerKeys: x.rooms.settings.allowInsecureSseC };
}

function writeTransport(x: BucketExchange): SseTransport {
  return { ...transport(x), customerKeysBlocked: isBlocked(x) };
}

function isBlocked({ bucket }: BucketExchange): boolean {
  return bucket.encryption?.blocked.includes('SSE-C') ?? false;
}

function bucketDefault(encryption: BucketEncryption | undefined): BucketDefault | undefined {
  if (encryption?.algorithm !== 'aws:kms') return undefined;
  return { mode: 'SSE-KMS', keyReference: encryption.keyReference, bucketKey: encryption.bucketKeyEnabled };
}

/** What is known of a sealed object's encryption: the same fields from an envelope and from fresh keys. */
interface Sealed {
  readonly mode: SseMode;
  readonly keyId: string;
  readonly bucketKey: boolean;
  readonly context: EncryptionContext;
}

/** The SSE headers of an answer; `customer` is the key that the request brought. */
export function sseAnswer(
  x: BucketExchange,
  sealed: Sealed,
  kind: SseAnswerKind,
  customer: CustomerKey | undefined,
): Record<string, string> {
  switch (sealed.mode) {
    case 'SSE-S3':
      return sseResponseHeaders({ mode: 'SSE-S3' }, kind);
    case 'SSE-KMS':
      return sseResponseHeaders({ ...sealed, mode: 'SSE-KMS', keyName: keyName(x, sealed.keyId) }, kind);
    case 'SSE-C':
      return customer === undefined ? {} : sseResponseHeaders({ mode: 'SSE-C', keyMd5: customer.keyMd5 }, kind);
  }
}

function keyName({ rooms }: BucketExchange, keyId: string): string {
  return rooms.settings.compatibility.keyName === 'arn' ? rooms.keys.arn(keyId) : keyId;
}
