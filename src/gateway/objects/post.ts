import { asServiceError, ServiceError } from '../../errors.ts';
import { checksumPlan } from '../../s3/checksum.ts';
import { asksForLock, assertDigest } from '../../s3/object-lock.ts';
import type { ListedPart } from '../../s3/multipart.ts';
import type { PostObject } from '../../s3/operation.ts';
import { formatPostResponse, redirectTo } from '../../s3/post-object.ts';
import { toClientEtag } from '../../sse/etag.ts';
import type { LengthRange } from '../../sigv4/types.ts';
import { asChecksum, checksumHeaders } from './checksum.ts';
import { completeParts } from '../uploads/complete.ts';
import { beginUpload } from '../uploads/create.ts';
import type { BucketExchange, Reply } from '../exchange.ts';
import type { Form } from '../form.ts';
import type { FormMemory } from './form-memory.ts';
import { assertCommittable, endOfStreams, placeOf } from '../keys.ts';
import { abortMultipartUpload } from '../uploads/list.ts';
import { MAX_PUT, putSealed } from './put.ts';
import { sseAnswer, writeSse } from '../sse.ts';
import { objectUrl } from '../target.ts';
import { sealPart } from '../uploads/part.ts';
import { XML } from '../xml-body.ts';

/** A file of up to this is collected and sealed as one; a longer one is held by so much at a time, and is an upload. */
const PIECE = 8 * 1024 * 1024;

type Posting = BucketExchange<PostObject>;

/**
 * POST object: the policy and its fields have verified before this; the file's length and checksums, and the closing
 * boundary, are known only at its end, and nothing is committed before.
 */
export async function postObject(x: Posting): Promise<Reply> {
  const { form } = x.body;
  const { length } = x.caller.request.form ?? {};
  if (form === undefined || length === undefined) throw new ServiceError('InternalError', { reason: 'no-form' });
  const sse = writeSse(x);
  // Of a long file too, which becomes an upload: a lock cannot be taken back from bytes that came otherwise.
  if (asksForLock(x.caller.request.headers)) assertDigest(x.caller.request.headers);
  const ended = endOfStreams(x, sse.mode);
  const stop = (): void => form.cancel(asServiceError(ended.reason));
  ended.throwIfAborted();
  ended.addEventListener('abort', stop, { once: true });
  const pieces = piecesOf(form, length, x.rooms.formMemory);
  try {
    const first = await pieces.next();
    if (first.done === true) throw new ServiceError('InternalError', { reason: 'form-pieces' });
    const stored = first.value.last
      ? await putSealed(x, first.value.bytes.length, first.value.bytes)
      : await upload(x, sse, first.value.bytes, pieces);
    return answer(x, stored);
  } finally {
    ended.removeEventListener('abort', stop);
    // A last piece is held until here.
    await pieces.return();
  }
}

interface Piece {
  readonly bytes: Buffer;
  /** The form has ended behind it, and its length is one that the policy allows. */
  readonly last: boolean;
}

/** The file in pieces: each but the last is of `PIECE` bytes, and the last comes only when the whole form has. */
async function* piecesOf(
  { file, end }: Form,
  { min, max }: LengthRange,
  memory: FormMemory,
): AsyncGenerator<Piece, void, void> {
  let held: Buffer[] = [];
  let length = 0;
  let total = 0;
  try {
    for await (const chunk of file) {
      total += chunk.length;
      if (total > max || total > MAX_PUT) throw new ServiceError('EntityTooLarge', { reason: 'form-length' });
      memory.take(chunk.length);
      held.push(chunk);
      length += chunk.length;
      while (length > PIECE) {
        const all = Buffer.concat(held, length);
        yield { bytes: all.subarray(0, PIECE), last: false };
        held = [Buffer.from(all.subarray(PIECE))];
        length -= PIECE;
        memory.give(PIECE);
      }
    }
    await end;
    if (total < min) throw new ServiceError('EntityTooSmall', { reason: 'form-length' });
    yield { bytes: Buffer.concat(held, length), last: true };
  } finally {
    memory.give(length);
  }
}

/**
 * An upload of our own, in parts that nobody has asked for; it is aborted whatever fails. What a client's Complete is
 * held to beyond `completeParts` (its SSE headers, checksums of parts, a checksum of the whole) needs no second look:
 * Create, parts and Complete are one request here, sealed under the key that its own SSE fields made, and its checksum
 * is verified over the whole file before. Meanwhile others may see the upload, and end it only with the right to write
 * this key.
 */
async function upload(
  x: Posting,
  sse: Parameters<typeof beginUpload>[1],
  first: Buffer,
  rest: AsyncIterable<Piece>,
): Promise<Reply> {
  const { rooms, caller } = x;
  const { row, bucket, key } = x.op;
  const plan = checksumPlan(caller.request.headers);
  const { uploadId, keys } = await beginUpload(x, sse, undefined);
  try {
    const opened = await rooms.uploads.load(placeOf(x, key), uploadId, true);
    if (opened === undefined) throw new ServiceError('NoSuchUpload');
    const listed: ListedPart[] = [];
    const seal = async (bytes: Buffer): Promise<void> => {
      plan.update(bytes);
      const partNumber = listed.length + 1;
      const part = { key, uploadId, partNumber, length: bytes.length, collected: bytes };
      const ended = endOfStreams(x, keys.mode);
      const job = { x, upload: opened, objectKey: keys.objectKey, begun: keys, plan: checksumPlan({}), ended };
      const { etag } = await sealPart({ ...job, ...part });
      listed.push({ partNumber, etag, checksums: {} });
    };
    await seal(first);
    for await (const { bytes } of rest) await seal(bytes);
    const checksum = asChecksum(plan.verify({}));
    assertCommittable(x, keys);
    const op = { kind: 'CompleteMultipartUpload', row, bucket, key, uploadId } as const;
    const { completed } = await completeParts({ ...x, op }, opened, listed, () => checksum);
    return {
      status: 200,
      headers: {
        etag: toClientEtag(completed.etag),
        ...(completed.versionId === '' ? {} : { 'x-amz-version-id': completed.versionId }),
        ...checksumHeaders(checksum),
        ...sseAnswer(x, keys, 'write', sse.mode === 'SSE-C' ? sse : undefined),
      },
    };
  } catch (err) {
    const op = { kind: 'AbortMultipartUpload', row, bucket, key, uploadId } as const;
    await abortMultipartUpload({ ...x, op }).catch(() => undefined);
    throw err;
  }
}

function answer(x: Posting, stored: Reply): Reply {
  const { bucket, key, success, redirect } = x.op;
  const location = objectUrl(x, bucket, key);
  const posted = { location, bucket, key, etag: stored.headers.etag ?? '' };
  if (redirect !== undefined) {
    return { status: 303, headers: { ...stored.headers, location: redirectTo(redirect, posted) } };
  }
  const headers = { ...stored.headers, location };
  if (success !== 201) return { status: success, headers };
  return { status: 201, headers: { ...headers, ...XML }, body: formatPostResponse(posted) };
}
