import type { ServerResponse } from 'node:http';
import { ServiceError } from '../errors.ts';
import type { GetObject, HeadObject } from '../s3/operation.ts';
import { formatContentRange, resolveRange, unsatisfiable, type ByteRange, type RangeSpec } from '../s3/range.ts';
import { toClientEtag } from '../sse/etag.ts';
import { SIZE } from '../sse/format.ts';
import { openSingle, planRange } from '../sse/object.ts';
import { requireReadMode, type SseReadRequest } from '../sse/request.ts';
import type { StoreHeaders, StoreResponse } from '../store/port.ts';
import type { BucketExchange, Reply } from './exchange.ts';
import { checksumHeaders } from './checksum.ts';
import { readAnswer } from './headers.ts';
import { endOfStreams, openEnvelope } from './keys.ts';
import { writeHead } from './respond.ts';
import { readSse, sseAnswer } from './sse.ts';
import { askStore, describe, examine, readError, type Stored } from './stored.ts';
import { sendOpened, unsealed, type Opening } from './stream.ts';

/** Reads that moved under us are begun again this often; then the client is told to retry. */
const ATTEMPTS = 3;

/** What was found, and what of it goes to the client. */
interface Found {
  readonly stored: Stored;
  readonly response: StoreResponse;
  readonly range: ByteRange | undefined;
}

/** GetObject: one request to the store for the whole and for a range from a position; two for a suffix. */
export async function getObject(x: BucketExchange<GetObject>): Promise<Reply> {
  const sse = readSse(x);
  if (x.op.partNumber !== undefined && x.op.partNumber !== 1) throw new ServiceError('InvalidRange');
  const found = await find(x, x.op.range);
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
  const { stored, response } = await describe(x);
  const range = resolveRange(x.op.range, stored.length);
  const checksum = await checkHead(x, stored, sse);
  const length = range === undefined ? stored.length : range.last - range.first + 1;
  return {
    status: range === undefined ? 200 : 206,
    headers: {
      ...readAnswer(x, response.headers),
      ...sealedAnswer(x, stored, sse),
      ...(range === undefined ? checksum : { 'content-range': formatContentRange(range) }),
      'content-length': String(length),
    },
  };
}

async function find(x: BucketExchange<GetObject>, spec: RangeSpec | undefined): Promise<Found> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const found = spec === undefined ? await findWhole(x) : await findRange(x, spec);
    if (found !== undefined) return found;
  }
  throw new ServiceError('ServiceUnavailable', { reason: 'object-moved', headers: { 'Retry-After': '1' } });
}

async function findWhole(x: BucketExchange<GetObject>): Promise<Found> {
  const response = await askStore(x, 'GET');
  if (response.status !== 200) throw await readError(response);
  return { stored: examined(x, response), response, range: undefined };
}

/**
 * The bytes of a range lie at offsets that follow from the range alone, so that one request is enough where it names
 * its first byte. Undefined: the object has changed between two requests.
 */
async function findRange(x: BucketExchange<GetObject>, spec: RangeSpec): Promise<Found | undefined> {
  const conditional = x.caller.request.headers['if-range'] !== undefined;
  if (conditional || spec.kind === 'suffix' || spec.first >= SIZE.maxPlaintext) return findDescribed(x, spec);
  const response = await askStore(x, 'GET', sealedRange(spec.first, spec.last));
  if (response.status === 416) {
    response.discard();
    return findDescribed(x, spec);
  }
  if (response.status !== 206) throw await readError(response);
  const stored = examined(x, response);
  if (stored.kind === 'plain') {
    response.discard();
    return findDescribed(x, spec);
  }
  try {
    return { stored, response, range: resolveRange(spec, stored.length) };
  } catch (err) {
    response.discard();
    throw err;
  }
}

/** In two requests: the size first, then the bytes of that very version. */
async function findDescribed(x: BucketExchange<GetObject>, spec: RangeSpec): Promise<Found | undefined> {
  const { stored, response: head } = await describe(x);
  if (!holdsIfRange(x.caller.request.headers['if-range'], head.headers)) return findWhole(x);
  const range = resolveRange(spec, stored.length);
  if (range === undefined) throw unsatisfiable(stored.length);
  const wanted = stored.kind === 'plain' ? `bytes=${range.first}-${range.last}` : sealedRange(range.first, range.last);
  const response = await askStore(x, 'GET', wanted, head.headers.etag);
  if (response.status === 412 || response.status === 416) {
    response.discard();
    return undefined;
  }
  if (response.status !== 206) throw await readError(response);
  const again = examined(x, response);
  if (again.kind === stored.kind && again.length === stored.length) return { stored: again, response, range };
  response.discard();
  return undefined;
}

/** RFC 9110 section 13.1.5: a range of something else than the client has begun to read is the whole, with 200. */
function holdsIfRange(condition: string | undefined, headers: StoreHeaders): boolean {
  if (condition === undefined) return true;
  return condition === toClientEtag(headers.etag ?? '') || condition === headers['last-modified'];
}

/** Plaintext positions as a Range of the store, before the object's length is known. */
function sealedRange(first: number, last: number | undefined): string {
  const end = last === undefined ? undefined : Math.min(last, SIZE.maxPlaintext - 1);
  const plan = planRange(SIZE.maxPlaintext, first, end ?? first);
  return `bytes=${plan.sealedStart}-${end === undefined ? '' : plan.sealedEnd}`;
}

function examined(x: BucketExchange<GetObject>, response: StoreResponse): Stored {
  try {
    return examine(x, response);
  } catch (err) {
    response.discard();
    throw err;
  }
}

async function answer(x: BucketExchange<GetObject>, found: Found, sse: SseReadRequest): Promise<Reply> {
  const { stored, response, range } = found;
  const ended = endOfStreams(x, stored.kind === 'plain' ? 'none' : stored.envelope.mode);
  const { opening, length, checksum } = await opened(x, found, sse);
  const status = range === undefined ? 200 : 206;
  const headers = {
    ...readAnswer(x, response.headers),
    ...sealedAnswer(x, stored, sse),
    ...(range === undefined ? checksum : { 'content-range': formatContentRange(range) }),
    'content-length': String(range === undefined ? stored.length : range.last - range.first + 1),
    ...x.op.overrides,
  };
  const stream = (res: ServerResponse, requestId: string): Promise<void> => {
    const head = (): void => writeHead(res, { status, headers }, requestId, undefined);
    return sendOpened(res, head, response, opening, length, ended);
  };
  return { status, headers, stream };
}

/** The key, the policy and the audit first; then what turns the store's bytes into plaintext. */
async function opened(
  x: BucketExchange<GetObject>,
  { stored, response, range }: Found,
  sse: SseReadRequest,
): Promise<{ opening: Opening; length: number; checksum: Record<string, string> }> {
  if (stored.kind === 'plain') {
    refuseCustomerKey(sse);
    return { opening: unsealed, length: Number(response.headers['content-length']), checksum: {} };
  }
  const { envelope, length: plaintext, size } = stored;
  const { objectKey, checksum } = await openEnvelope(x, envelope, sse);
  if (envelope.pin === undefined) throw new ServiceError('InternalError', { reason: 'single-without-pin' });
  const plan = range === undefined ? undefined : planRange(plaintext, range.first, range.last);
  const opening = openSingle({
    objectKey,
    objectId: envelope.objectId,
    pin: { length: plaintext, ...envelope.pin },
    range: plan,
  });
  const length = plan === undefined ? size : plan.sealedEnd - plan.sealedStart + 1;
  return { opening, length, checksum: x.op.checksumMode ? checksumHeaders(checksum) : {} };
}

function sealedAnswer(
  x: BucketExchange<GetObject | HeadObject>,
  stored: Stored,
  sse: SseReadRequest,
): Record<string, string> {
  if (stored.kind === 'plain') return {};
  return sseAnswer(x.rooms.keys, stored.envelope, 'read', sse.mode === 'SSE-C' ? sse : undefined);
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
  try {
    const { checksum } = await openEnvelope(x, stored.envelope, sse);
    return x.op.checksumMode ? checksumHeaders(checksum) : {};
  } catch (err) {
    if (sse.mode !== 'SSE-C' && err instanceof ServiceError && err.status === 503) return {};
    throw err;
  }
}

function refuseCustomerKey(sse: SseReadRequest): void {
  if (sse.mode !== 'SSE-C') return;
  throw new ServiceError('InvalidRequest', {
    message: 'The encryption parameters are not applicable to this object.',
    reason: 'sse-c-not-applicable',
  });
}
