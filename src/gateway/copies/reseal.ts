import { releaseSoon } from '../../bytes.ts';
import { ServiceError } from '../../errors.ts';
import { checksumPlan, type ChecksumAlgorithm } from '../../s3/checksum.ts';
import { asksForLock } from '../../s3/object-lock.ts';
import { ENVELOPE_HEADER, type Checksum, type SseMode } from '../../sse/format.ts';
import { credentials } from '../calls.ts';
import { asChecksum } from '../objects/checksum.ts';
import { copyHeaders } from './headers.ts';
import type { CopyJob, Made } from './job.ts';
import { find, type Found } from '../objects/find.ts';
import { assertCommittable, endOfStreams, openEnvelope, placeOf, sealingKeys } from '../keys.ts';
import { opened, type Opened } from '../objects/opened.ts';
import { MAX_PUT } from '../objects/put.ts';
import { lookAtEnd } from '../objects/read-parts.ts';
import { sealPassing, type Feed } from '../objects/seal-body.ts';
import { objectEnvelope, objectSealer } from '../objects/seal-object.ts';
import { assertDone } from '../store-errors.ts';
import type { Stored } from '../objects/stored.ts';
import { pumpInto, unlessEnded } from '../objects/stream.ts';
import { storePlace } from '../target.ts';

/** AWS's limit of one copy; here it is that of one PUT too. */
export function refuseLarge(length: number): void {
  if (length <= MAX_PUT) return;
  throw new ServiceError('InvalidRequest', {
    message: `The specified copy source is larger than the maximum allowable size for a copy source: ${MAX_PUT}`,
    reason: 'copy-size',
  });
}

/**
 * The plaintext of what was found, for a sealer: as it passes, and to its end only if all of it has verified. `algorithm`
 * is computed on the way.
 */
export function feedOf(
  found: Found,
  { opening, length }: Opened,
  ended: AbortSignal,
  algorithm?: ChecksumAlgorithm,
): Feed {
  const digest = checksumPlan({}, algorithm);
  return async (sink) => {
    let left = length;
    const pass = (pieces: readonly Buffer[]): boolean => {
      let more = true;
      for (const piece of pieces) {
        digest.update(piece);
        more = sink.write(piece) && more;
      }
      return more;
    };
    const write = (chunk: Buffer): boolean => {
      const mine = chunk.length <= left ? chunk : chunk.subarray(0, left);
      left -= mine.length;
      const more = pass(opening.update(mine));
      releaseSoon(chunk);
      return more;
    };
    await unlessEnded(ended, () => pumpInto(found.response, { write, drained: () => sink.drained() }));
    pass(opening.finish());
    ended.throwIfAborted();
    return asChecksum(digest.verify({}));
  };
}

/** A stop of the managed modes ends a copy of which either side is one. */
export function isManaged(source: Stored, target: SseMode): boolean {
  return target !== 'SSE-C' || (source.kind === 'sealed' && source.envelope.mode !== 'SSE-C');
}

/** Opened and sealed anew on its way through here, under a key of its own. */
export async function resealObject(job: CopyJob): Promise<Made> {
  const { x, source, sse } = job;
  // Taken before the keys are, so that a stop in between is not missed.
  const ends = { managed: endOfStreams(x, 'SSE-S3'), all: endOfStreams(x, 'none') };
  const found = await find(source, job.sourceSse);
  try {
    const { length } = found.stored;
    refuseLarge(length);
    const plain = await opened(source, found, job.sourceSse);
    const { known, algorithm } = await checksumOf(job, found.stored);
    const headers = await copyHeaders(x, source, found.response.headers, length);
    const keys = await sealingKeys(x, sse, placeOf(x, x.op.key));
    const object = { x, key: x.op.key, keys, length };
    const sealer = objectSealer(object);
    const envelope = { [ENVELOPE_HEADER]: objectEnvelope(object, sealer, headers, known) };
    const { response, checksum } = await sealPassing(x.rooms.store, {
      request: {
        ...storePlace(x.bucket, x.op.key),
        headers: { ...headers, ...envelope, ...job.conditions },
        signal: x.signal,
        digested: asksForLock(headers),
        ...credentials(x),
      },
      sealer,
      feed: feedOf(found, plain, isManaged(found.stored, sse.mode) ? ends.managed : ends.all, algorithm),
      assertCommittable: () => assertCommittable(x, keys),
    });
    await assertDone(response, 'NoSuchBucket');
    const { etag = '', 'x-amz-version-id': versionId } = response.headers;
    const copied = { etag, versionId, lastModified: undefined };
    return { keys, checksum: known ?? checksum, found: found.response.headers, copied };
  } catch (err) {
    found.response.discard();
    throw err;
  }
}

/** The checksum that the copy keeps: the source's own where it is of the whole object, else one computed on the way. */
async function checksumOf(
  { x, source, sourceSse }: CopyJob,
  stored: Stored,
): Promise<{ known?: Checksum; algorithm?: ChecksumAlgorithm | undefined }> {
  const wanted = x.op.checksum;
  if (stored.kind === 'plain') return { algorithm: wanted };
  const own =
    stored.envelope.type === 'single'
      ? (await openEnvelope(source, stored.envelope, sourceSse)).checksum
      : (await lookAtEnd(source, sourceSse))?.manifest?.checksum;
  const fits = own !== undefined && own.type === 'FULL_OBJECT' && own.algorithm === (wanted ?? own.algorithm);
  // What a second request has shown may be of another object.
  return fits && stored.envelope.type === 'single' ? { known: own } : { algorithm: wanted ?? own?.algorithm };
}
