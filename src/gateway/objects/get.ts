import type { ServerResponse } from 'node:http';
import { ServiceError } from '../../errors.ts';
import type { GetObject, HeadObject } from '../../s3/operation.ts';
import { formatContentRange, resolveRange, type ByteRange } from '../../s3/range.ts';
import { requireReadMode, type SseReadRequest } from '../../sse/request.ts';
import type { BucketExchange, Reply } from '../exchange.ts';
import { find, partRange, type Found } from './find.ts';
import { readAnswer } from '../headers.ts';
import { endOfStreams, openEnvelope } from '../keys.ts';
import { opened, refuseCustomerKey, storedChecksum } from './opened.ts';
import { lookAtEnd, lookAtTail, type Looked } from './read-parts.ts';
import { writeHead } from '../respond.ts';
import { readSse, sseAnswer } from '../sse.ts';
import { describe, type Stored } from './stored.ts';
import { sendOpened } from './stream.ts';

/**
 * GetObject: one request to the store for the whole and for a range in the first 5 MiB or of a known object; two for a
 * suffix, and for a range of an object in parts whose manifest is not at hand.
 */
export async function getObject(x: BucketExchange<GetObject>): Promise<Reply> {
  const sse = readSse(x);
  const found = await find(x, sse);
  try {
    return await answer(x, found, sse);
  } catch (err) {
    found.response.discard();
    throw err;
  }
}

/** HeadObject: like the GET, without its body; the key is asked for only where AWS asks for one (SSE-C). */
export async function headObject(x: BucketExchange<HeadObject>): Promise<Reply> {
  const sse = readSse(x);
  const { partNumber } = x.op;
  const { stored, response, manifest } = await headOf(x, sse);
  const part = partNumber === undefined ? undefined : partRange(manifest, partNumber);
  const range = part?.range ?? resolveRange(x.op.range, stored.length);
  const checksum = await checkHead(x, stored, sse);
  const length = part?.length ?? (range === undefined ? stored.length : range.last - range.first + 1);
  const partial = range !== undefined || part?.count !== undefined;
  const shown = shownRange(x.op, stored.length, range, part?.count);
  return {
    status: partial || shown !== undefined ? 206 : 200,
    headers: {
      ...readAnswer(x, response.headers),
      ...sealedAnswer(x, stored, sse),
      ...(shown === undefined ? {} : { 'content-range': formatContentRange(shown) }),
      ...(partial ? partsCount(part?.count) : checksum),
      'content-length': String(length),
      ...x.op.overrides,
    },
  };
}

/** What Content-Range tells. The one part of an object that is not in parts is all of it, with 206, as on AWS. */
function shownRange(
  { partNumber }: GetObject | HeadObject,
  length: number,
  range: ByteRange | undefined,
  count: number | undefined,
): ByteRange | undefined {
  const onePart = partNumber !== undefined && count === undefined && length > 0;
  return range ?? (onePart ? { first: 0, last: length - 1, size: length } : undefined);
}

async function headOf(x: BucketExchange<HeadObject>, sse: SseReadRequest): Promise<Looked> {
  const { partNumber, checksumMode } = x.op;
  if (partNumber !== undefined) return (await lookAtEnd(x, sse)) ?? { ...(await describe(x)), manifest: undefined };
  const looked = checksumMode ? await unlessStopped(lookAtTail(x, sse), sse) : undefined;
  return { ...(looked ?? (await describe(x))), manifest: undefined };
}

/** A HEAD of a managed mode answers while there is no key to be had; what needs one is left out. */
async function unlessStopped<T>(work: Promise<T>, sse: SseReadRequest): Promise<T | undefined> {
  try {
    return await work;
  } catch (err) {
    if (sse.mode !== 'SSE-C' && err instanceof ServiceError && err.status === 503) return undefined;
    throw err;
  }
}

function partsCount(count: number | undefined): Record<string, string> {
  return count === undefined ? {} : { 'x-amz-mp-parts-count': String(count) };
}

async function answer(x: BucketExchange<GetObject>, found: Found, sse: SseReadRequest): Promise<Reply> {
  const { stored, response, range } = found;
  const ended = endOfStreams(x, stored.kind === 'plain' ? 'none' : stored.envelope.mode);
  const partial = range !== undefined || found.partsCount !== undefined;
  const shown = shownRange(x.op, stored.length, range, found.partsCount);
  const status = partial || shown !== undefined ? 206 : 200;
  const headersWith = (length: number, checksum: Record<string, string>): Record<string, string> => ({
    ...readAnswer(x, response.headers),
    ...sealedAnswer(x, stored, sse),
    ...(shown === undefined ? {} : { 'content-range': formatContentRange(shown) }),
    ...(partial ? partsCount(found.partsCount) : checksum),
    'content-length': String(length),
    ...x.op.overrides,
  });
  // A part of no bytes: what there is to read of it was its entry in the manifest.
  if (range === undefined && partial) return { status, headers: headersWith(0, {}) };
  const { opening, length, checksum } = await opened(x, found, sse);
  const headers = headersWith(range === undefined ? stored.length : range.last - range.first + 1, checksum);
  const stream = (res: ServerResponse, requestId: string): Promise<void> => {
    const head = (): void => writeHead(res, { status, headers }, requestId, undefined);
    return sendOpened(res, head, response, opening, length, ended);
  };
  return { status, headers, stream };
}

function sealedAnswer(
  x: BucketExchange<GetObject | HeadObject>,
  stored: Stored,
  sse: SseReadRequest,
): Record<string, string> {
  if (stored.kind === 'plain') return {};
  return sseAnswer(x, stored.envelope, 'read', sse.mode === 'SSE-C' ? sse : undefined);
}

/**
 * A HEAD proves an SSE-C key, as on AWS. For managed modes it asks for no key, and so works while the service is
 * stopped; only a checksum that the client asked for needs the key, and is left out when there is none to be had.
 */
async function checkHead(
  x: BucketExchange<HeadObject>,
  stored: Stored,
  sse: SseReadRequest,
): Promise<Record<string, string>> {
  if (stored.kind === 'plain') {
    refuseCustomerKey(sse);
    return {};
  }
  requireReadMode(sse, stored.envelope.mode);
  if (sse.mode !== 'SSE-C' && !x.op.checksumMode) return {};
  const opened = await unlessStopped(openEnvelope(x, stored.envelope, sse), sse);
  return opened !== undefined && x.op.checksumMode ? storedChecksum(x, stored, opened.checksum) : {};
}
