import type { BucketRecord } from '../../control/buckets.ts';
import { ServiceError } from '../../errors.ts';
import { formatCopyResult, rangeOutside } from '../../s3/copy.ts';
import type { UploadPartCopy } from '../../s3/operation.ts';
import { smallBody } from '../calls.ts';
import { reading, readOfSource, type SourceRead } from './source.ts';
import type { BucketExchange, Reply } from '../exchange.ts';
import { find } from '../objects/find.ts';
import { endOfStreams, openPartKey, placeOf } from '../keys.ts';
import { opened } from '../objects/opened.ts';
import { feedOf, isManaged, refuseLarge } from './reseal.ts';
import { sealPassing } from '../objects/seal-body.ts';
import { keepAlive } from '../slow-reply.ts';
import { partSse, sourceSse, sseAnswer } from '../sse.ts';
import { describe } from '../objects/stored.ts';
import { acknowledge, attemptOf, liesAside } from '../uploads/part.ts';
import { XML } from '../xml-body.ts';

/** A part whose plaintext is another object's: opened and sealed anew, as an attempt of the part like every other. */
export async function uploadPartCopy(
  x: BucketExchange<UploadPartCopy>,
  bucketOf: () => Promise<BucketRecord>,
): Promise<Reply> {
  await smallBody(x, 0);
  const { range } = x.op;
  const spec = range === undefined ? undefined : { kind: 'from' as const, ...range };
  const source = readOfSource(x, x.op.source, await bucketOf(), spec);
  return keepAlive(
    reading(source, () => copyPart(x, source)),
    x,
  );
}

async function copyPart(x: BucketExchange<UploadPartCopy>, source: SourceRead): Promise<Reply> {
  const { rooms, op } = x;
  const [sse, ofSource] = [partSse(x), sourceSse(x)];
  // Taken before the keys are, so that a stop in between is not missed.
  const ends = { managed: endOfStreams(x, 'SSE-S3'), all: endOfStreams(x, 'none') };
  const found = await find(source, ofSource).catch(async (err: unknown) => {
    // AWS says a range that is none of the source's otherwise than a read does.
    if (err instanceof ServiceError && err.code === 'InvalidRange')
      throw rangeOutside((await describe(source)).stored.length);
    throw err;
  });
  try {
    const { stored, range } = found;
    if (op.range !== undefined && op.range.last >= stored.length) throw rangeOutside(stored.length);
    const length = range === undefined ? stored.length : range.last - range.first + 1;
    refuseLarge(length);
    const upload = await rooms.uploads.load(placeOf(x, op.key), op.uploadId, liesAside(op.partNumber, length));
    if (upload === undefined) throw new ServiceError('NoSuchUpload');
    const { envelope, record } = upload;
    const begun = { mode: envelope.mode, epoch: rooms.keys.epoch() };
    const { objectKey } = await openPartKey(x, envelope, sse);
    const part = { x, ...op, upload, objectKey, begun, length };
    const attempt = attemptOf(part);
    const plain = await opened(source, found, ofSource);
    const ended = isManaged(stored, envelope.mode) ? ends.managed : ends.all;
    const sealed = await sealPassing(rooms.store, {
      request: { ...attempt.request, headers: {}, signal: x.signal },
      sealer: attempt.sealer,
      feed: feedOf(found, plain, ended, record.checksum?.algorithm),
      assertCommittable: attempt.assertCommittable,
    });
    const { etag, time, checksum } = await acknowledge(part, attempt, sealed);
    const version = found.response.headers['x-amz-version-id'];
    return {
      status: 200,
      headers: {
        ...XML,
        ...(version === undefined ? {} : { 'x-amz-copy-source-version-id': version }),
        ...sseAnswer(x, envelope, 'part', sse.mode === 'SSE-C' ? sse : undefined),
      },
      body: formatCopyResult('CopyPartResult', {
        etag: `"${etag}"`,
        lastModified: time.toISOString(),
        // A part has no parts: its checksum has no type.
        checksum: checksum && { algorithm: checksum.algorithm, text: checksum.value.toString('base64') },
      }),
    };
  } catch (err) {
    found.response.discard();
    throw err;
  }
}
