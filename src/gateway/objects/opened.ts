import { integrityError, ServiceError } from '../../errors.ts';
import type { GetObject } from '../../s3/operation.ts';
import type { ByteRange } from '../../s3/range.ts';
import type { Checksum } from '../../sse/format.ts';
import type { ObjectKey } from '../../sse/key.ts';
import type { Manifest } from '../../sse/manifest.ts';
import { PartsOpener, planParts, WholeMultipartOpener } from '../../sse/multipart.ts';
import { openSingle, planRange } from '../../sse/object.ts';
import type { SseReadRequest } from '../../sse/request.ts';
import type { StoreResponse } from '../../store/port.ts';
import { checksumHeaders } from './checksum.ts';
import type { BucketExchange } from '../exchange.ts';
import { openEnvelope } from '../keys.ts';
import { knownManifest } from './read-parts.ts';
import type { Read, Sealed, Stored } from './stored.ts';
import { openingOf, unsealed, type Opening } from './stream.ts';

/** The store's answer, and what of the object it holds. */
export interface Answered {
  readonly stored: Stored;
  readonly response: StoreResponse;
  readonly range: ByteRange | undefined;
  readonly manifest?: Manifest | undefined;
  /** Bytes of the answer that come before the range. */
  readonly skip?: number;
}

/** What turns the store's bytes into plaintext. */
export interface Opened {
  readonly opening: Opening;
  /** Bytes of the store's answer that it takes. */
  readonly length: number;
  readonly checksum: Record<string, string>;
}

/** The key, the policy and the audit first; then what turns the store's bytes into plaintext. */
export async function opened(x: BucketExchange<GetObject>, answered: Answered, sse: SseReadRequest): Promise<Opened> {
  const { stored, response } = answered;
  if (stored.kind === 'plain') {
    refuseCustomerKey(sse);
    // What is sent must be what the head announces: bytes beyond it would be the client's next answer, told by the store.
    const { range } = answered;
    const length = range === undefined ? stored.length : range.last - range.first + 1;
    if (response.headers['content-length'] !== String(length)) throw integrityError('size');
    return { opening: unsealed, length, checksum: {} };
  }
  const { objectKey, checksum } = await openEnvelope(x, stored.envelope, sse);
  const { opening, length } =
    stored.envelope.type === 'single'
      ? singleOpening(stored, objectKey, answered.range)
      : partsOpening(x, stored, objectKey, answered);
  return { opening, length, checksum: x.op.checksumMode ? storedChecksum(x, stored, checksum) : {} };
}

/** All of a sealed object, by the key that its envelope has given already. */
export function wholeOpening(x: Read, stored: Sealed, objectKey: ObjectKey): Opening {
  const { opening } =
    stored.envelope.type === 'single'
      ? singleOpening(stored, objectKey, undefined)
      : partsOpening(x, stored, objectKey, { range: undefined });
  return opening;
}

function singleOpening(stored: Sealed, objectKey: ObjectKey, range: ByteRange | undefined): Omit<Opened, 'checksum'> {
  const { envelope, length: plaintext, size } = stored;
  if (envelope.pin === undefined) throw new ServiceError('InternalError', { reason: 'single-without-pin' });
  const plan = range === undefined ? undefined : planRange(plaintext, range.first, range.last);
  const pin = { length: plaintext, ...envelope.pin };
  const opener = openSingle({ objectKey, objectId: envelope.objectId, pin, range: plan });
  return { opening: openingOf(opener), length: plan === undefined ? size : plan.sealedEnd - plan.sealedStart + 1 };
}

function partsOpening(
  x: Read,
  stored: Sealed,
  objectKey: ObjectKey,
  { range, manifest, skip = 0 }: Omit<Answered, 'stored' | 'response'>,
): Omit<Opened, 'checksum'> {
  const { size } = stored;
  const { objectId } = stored.envelope;
  if (range === undefined) {
    const opener = new WholeMultipartOpener({ objectKey, objectId, size, keys: x.rooms.envelopeKeys });
    const finish = (): readonly Buffer[] => {
      const { held, manifest: seen } = opener.finish();
      x.rooms.manifests.set(stored, seen);
      return held;
    };
    return { opening: { update: (chunk) => opener.update(chunk), finish }, length: size };
  }
  if (manifest === undefined) throw new ServiceError('InternalError', { reason: 'parts-without-manifest' });
  const plan = planParts(manifest.entries, range.first, range.last);
  const opener = new PartsOpener({ objectKey, objectId, plan });
  const opening = openingOf(opener);
  const length = skip + plan.sealedEnd - plan.sealedStart + 1;
  return { opening: skip === 0 ? opening : behind(skip, opening), length };
}

/** Passes over the first bytes of an answer. */
function behind(bytes: number, opening: Opening): Opening {
  let left = bytes;
  return {
    ...opening,
    update(chunk) {
      const passed = Math.min(left, chunk.length);
      left -= passed;
      return opening.update(chunk.subarray(passed));
    },
  };
}

/** The checksum that the envelope has, or a manifest that is at hand: never at the price of a request. */
export function storedChecksum(x: Read, stored: Sealed, own: Checksum | undefined): Record<string, string> {
  const manifest = knownManifest(x, stored);
  return checksumHeaders(own ?? manifest?.checksum, manifest?.entries.length);
}

export function refuseCustomerKey(sse: SseReadRequest): void {
  if (sse.mode !== 'SSE-C') return;
  throw new ServiceError('InvalidRequest', {
    message: 'The encryption parameters are not applicable to this object.',
    reason: 'sse-c-not-applicable',
  });
}
