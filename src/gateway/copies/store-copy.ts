import { ServiceError } from '../../errors.ts';
import { parseStoreCopy, type StoreCopy } from '../../s3/copy.ts';
import { formatStoreComplete, parseCompleteResult, parseInitiateUpload, unquote } from '../../s3/multipart.ts';
import { encodeComponent, encodeKey } from '../../sigv4/encode.ts';
import type { StoreHeaders, StoreRequest, StoreResponse } from '../../store/port.ts';
import { ANSWER_LIMIT } from '../calls.ts';
import type { Exchange } from '../exchange.ts';
import { refuseErrorIn, storeError } from '../store-errors.ts';
import { MIN_PART } from '../uploads/part.ts';
import { XML } from '../xml-body.ts';

const SOURCE = 'x-amz-copy-source';
const MAX_PARTS = 10_000;
/** Parts of a large copy are copied so many at a time. */
const AT_ONCE = 4;

interface Place {
  readonly bucket: string;
  readonly key: string;
}

export interface StoreSource extends Place {
  readonly versionId?: string | undefined;
  /** As the store gave it: the copy is of that, or is none. */
  readonly etag?: string | undefined;
}

export interface CopyOrder {
  readonly x: Exchange;
  readonly from: StoreSource;
  readonly to: Place;
  /** Of the stored bytes. */
  readonly size: number;
  /** All that is to be kept beside them. */
  readonly headers: StoreHeaders;
  readonly conditions: StoreHeaders;
  readonly by: Pick<StoreRequest, 'credentials'>;
  readonly assertCommittable: () => void;
}

export interface Copied {
  readonly etag: string;
  readonly versionId: string | undefined;
  readonly lastModified: string | undefined;
}

/** Nothing was copied. If the source is another one now, the error is none: it is looked at again. */
export interface Moved {
  readonly moved: ServiceError;
}

/** A copy that moves no data through here. No signal of the client's: what is being committed is committed. */
export async function copyInStore(order: CopyOrder): Promise<Copied | Moved> {
  try {
    return order.size <= order.x.rooms.settings.largestCopy ? await copyWhole(order) : await copyInParts(order);
  } catch (err) {
    // Some stores lose the source's bytes while they copy them (SeaweedFS answers 500).
    if (err instanceof ServiceError && /^store-(?:200|404|412|5\d\d)$/.test(err.reason)) return { moved: err };
    throw err;
  }
}

async function copyWhole(order: CopyOrder): Promise<Copied> {
  const { x, to, by, headers, conditions } = order;
  const directives = { 'x-amz-metadata-directive': 'REPLACE', 'x-amz-tagging-directive': 'REPLACE' };
  order.assertCommittable();
  const response = await x.rooms.store.request({
    method: 'PUT',
    ...to,
    headers: { ...headers, ...directives, ...sourceHeaders(order), ...conditions },
    ...by,
  });
  const { etag, lastModified } = await copyResult(response);
  return { etag, lastModified, versionId: response.headers['x-amz-version-id'] };
}

function sourceHeaders({ from }: CopyOrder): Record<string, string> {
  const { bucket, key, versionId, etag } = from;
  const version = versionId === undefined ? '' : `?versionId=${encodeComponent(versionId)}`;
  return {
    [SOURCE]: `/${bucket}/${encodeKey(key)}${version}`,
    ...(etag === undefined ? {} : { [`${SOURCE}-if-match`]: etag }),
  };
}

async function copyResult(response: StoreResponse): Promise<StoreCopy> {
  if (response.status !== 200) throw await storeError(response, 'NoSuchKey');
  const body = await response.collect(ANSWER_LIMIT);
  refuseErrorIn(body);
  return parseStoreCopy(body);
}

/** Above the store's limit for one copy: the same bytes, in parts of an upload that carries the envelope. */
async function copyInParts(order: CopyOrder): Promise<Copied> {
  const { x, to, by, headers, conditions } = order;
  const { store, settings } = x.rooms;
  if (conditions['if-match'] !== undefined || (conditions['if-none-match'] && !store.traits.completeIfNoneMatch)) {
    throw new ServiceError('NotImplemented', {
      message: 'The store behind does not honour this condition on an object of this size.',
      reason: 'condition-trait',
    });
  }
  const created = await store.request({ method: 'POST', ...to, query: [['uploads', '']], headers, ...by });
  if (created.status !== 200) throw await storeError(created, 'NoSuchBucket');
  const uploadId = ['uploadId', parseInitiateUpload(await created.collect(ANSWER_LIMIT))] as const;
  try {
    const parts = await copyParts(order, uploadId, partSize(order.size, settings.largestCopy));
    order.assertCommittable();
    const body = Buffer.from(formatStoreComplete(parts));
    const done = { method: 'POST', ...to, query: [uploadId], headers: { ...XML, ...conditions }, body, ...by } as const;
    const response = await store.request(done);
    if (response.status !== 200) throw await storeError(response, 'NoSuchUpload');
    const answer = await response.collect(ANSWER_LIMIT);
    refuseErrorIn(answer);
    const told = parseCompleteResult(answer);
    const versionId = response.headers['x-amz-version-id'];
    const etag = 'etag' in told && told.etag !== '' ? told.etag : await etagOf(order);
    return { etag, versionId, lastModified: undefined };
  } catch (err) {
    const gone = store.request({ method: 'DELETE', ...to, query: [uploadId], ...by });
    await gone.then((response) => response.discard()).catch(() => undefined);
    throw err;
  }
}

/** A fifth of what the store takes at once (1 GiB by default), and never more parts than there may be. */
function partSize(size: number, limit: number): number {
  return Math.max(MIN_PART, Math.ceil(limit / 5), Math.ceil(size / MAX_PARTS));
}

async function copyParts(
  order: CopyOrder,
  uploadId: readonly [string, string],
  length: number,
): Promise<{ partNumber: number; etag: string }[]> {
  const { x, to, by, size } = order;
  const parts: { partNumber: number; etag: string }[] = [];
  const count = Math.ceil(size / length);
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) {
      const index = next++;
      const range = `bytes=${index * length}-${Math.min(size, (index + 1) * length) - 1}`;
      const query = [['partNumber', String(index + 1)], uploadId] as const;
      const headers = { ...sourceHeaders(order), [`${SOURCE}-range`]: range };
      const response = await x.rooms.store.request({ method: 'PUT', ...to, query, headers, ...by });
      const { etag } = await copyResult(response).catch((err: unknown) => {
        next = count;
        throw err;
      });
      parts[index] = { partNumber: index + 1, etag: unquote(etag) };
    }
  };
  // None is under way any more when the upload is given up.
  const ended = await Promise.allSettled(Array.from({ length: Math.min(AT_ONCE, count) }, worker));
  const failed = ended.find((one) => one.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
  return parts;
}

/** Some stores tell no ETag at Complete. */
async function etagOf({ x, to, by }: CopyOrder): Promise<string> {
  const response = await x.rooms.store.request({ method: 'HEAD', ...to, ...by });
  response.discard();
  return response.headers.etag ?? '';
}
