import { assertMetadataSize } from '../../s3/headers.ts';
import type { CopyObject } from '../../s3/operation.ts';
import { parseTags } from '../../s3/copy.ts';
import { encodeQuery } from '../../sigv4/encode.ts';
import { ENVELOPE_HEADER } from '../../sse/format.ts';
import { isCoveredHeader } from '../../sse/metadata.ts';
import type { StoreHeaders } from '../../store/port.ts';
import { authorizeTagCopy } from '../authorize.ts';
import { ANSWER_LIMIT, credentials } from '../calls.ts';
import type { SourceRead } from './source.ts';
import type { BucketExchange } from '../exchange.ts';
import { forwardedRequest, refuseUnkept, withContentType } from '../headers.ts';
import { storeError } from '../store-errors.ts';
import { storePlace } from '../target.ts';
import { versionQuery } from '../objects/versions.ts';

const TAGGING = 'x-amz-tagging';
/** Not copied: AWS asks for it anew (CopyObject, x-amz-website-redirect-location). */
const REDIRECT = 'x-amz-website-redirect-location';

/**
 * What the store is to keep beside the copy. Always said whole: to the store every copy replaces the metadata, because
 * the envelope in it is new. ACL, lock and storage class are the request's, never the source's (CopyObject).
 */
export async function copyHeaders(
  x: BucketExchange<CopyObject>,
  source: SourceRead,
  found: StoreHeaders,
  length: number,
): Promise<Record<string, string>> {
  const { op } = x;
  const { [TAGGING]: given, ...asked } = forwardedRequest(x);
  refuseUnkept(x, asked);
  const tags = op.replaceTags ? given : await copiedTags(x, source, found);
  if (tags !== undefined) asked[TAGGING] = tags;
  if (op.replaceMetadata) return withContentType(asked, op.key, length);
  const own = Object.entries(asked).filter(([name]) => name === REDIRECT || !isCoveredHeader(name));
  const kept = Object.entries(metadataOf(found)).filter(([name]) => name !== REDIRECT);
  const headers = Object.fromEntries([...kept, ...own]);
  assertMetadataSize(headers, ENVELOPE_HEADER);
  return withContentType(headers, op.key, length);
}

async function copiedTags(
  x: BucketExchange<CopyObject>,
  source: SourceRead,
  found: StoreHeaders,
): Promise<string | undefined> {
  if (!hasTags(found)) return undefined;
  authorizeTagCopy(x, x.op.source);
  return tagsOf(source);
}

/** Content headers and user metadata of a stored object. */
export function metadataOf(found: StoreHeaders): Record<string, string> {
  return Object.fromEntries(Object.entries(found).filter(([name]) => isCoveredHeader(name)));
}

export function hasTags(found: StoreHeaders): boolean {
  return Number(found['x-amz-tagging-count'] ?? 0) > 0;
}

/** The source's tags as a request gives them. Stores differ in what they take along by themselves (docs/STORES.md). */
export async function tagsOf(source: SourceRead): Promise<string> {
  const { key, versionId } = source.op;
  const response = await source.rooms.store.request({
    method: 'GET',
    ...storePlace(source.bucket, key),
    query: [['tagging', ''], ...versionQuery(versionId)],
    signal: source.signal,
    ...credentials(source),
  });
  if (response.status !== 200) throw await storeError(response, 'NoSuchKey');
  return encodeQuery(parseTags(await response.collect(ANSWER_LIMIT)));
}
