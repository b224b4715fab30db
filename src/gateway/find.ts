import { ServiceError } from '../errors.ts';
import type { GetObject } from '../s3/operation.ts';
import { resolveRange, unsatisfiable, type ByteRange, type RangeSpec } from '../s3/range.ts';
import { toClientEtag } from '../sse/etag.ts';
import { SIZE } from '../sse/format.ts';
import type { Manifest } from '../sse/manifest.ts';
import { planParts } from '../sse/multipart.ts';
import { planRange } from '../sse/object.ts';
import type { SseReadRequest } from '../sse/request.ts';
import type { StoreHeaders, StoreResponse } from '../store/port.ts';
import type { BucketExchange } from './exchange.ts';
import { knownManifest, lookAtEnd } from './read-parts.ts';
import { askStore, describe, examine, readError, readPlace, type Stored } from './stored.ts';

/** Reads that moved under us are begun again this often; then the client is told to retry. */
const ATTEMPTS = 3;

/** What was found, and what of it goes to the client. */
export interface Found {
  readonly stored: Stored;
  readonly response: StoreResponse;
  readonly range: ByteRange | undefined;
  /** Of an object in parts, where not all of it is read. */
  readonly manifest?: Manifest | undefined;
  /** Asked for by its number: `x-amz-mp-parts-count`. */
  readonly partsCount?: number | undefined;
}

/** What of the object is wanted. */
type Wanted = { readonly spec: RangeSpec } | { readonly partNumber: number };

/** The store's answer that holds what the request asks for. */
export async function find(x: BucketExchange<GetObject>, sse: SseReadRequest): Promise<Found> {
  const { partNumber, range: spec } = x.op;
  const wanted = partNumber !== undefined ? { partNumber } : spec === undefined ? undefined : { spec };
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const found = wanted === undefined ? await findWhole(x) : await findSome(x, wanted, sse);
    if (found !== undefined) return found;
  }
  throw new ServiceError('ServiceUnavailable', { reason: 'object-moved', headers: { 'Retry-After': '1' } });
}

async function findWhole(x: BucketExchange<GetObject>): Promise<Found> {
  const response = await askStore(x, 'GET');
  if (response.status !== 200) throw await readError(x, response);
  return { stored: examined(x, response), response, range: undefined };
}

/** Undefined: the object has changed between two requests. */
async function findSome(x: BucketExchange<GetObject>, wanted: Wanted, sse: SseReadRequest): Promise<Found | undefined> {
  const guess = x.rooms.manifests.guess(readPlace(x));
  const conditional = x.caller.request.headers['if-range'] !== undefined;
  if (guess?.manifest !== undefined && !conditional) {
    const found = await findGuessed(x, guess.manifest, wanted);
    if (found !== undefined) return found;
  }
  if ('partNumber' in wanted || guess !== undefined) return findInParts(x, wanted, sse);
  return findRange(x, wanted.spec, sse);
}

/**
 * The bytes of a range lie at offsets that follow from the range alone, so that one request is enough where it names
 * its first byte.
 */
async function findRange(
  x: BucketExchange<GetObject>,
  spec: RangeSpec,
  sse: SseReadRequest,
): Promise<Found | undefined> {
  const conditional = x.caller.request.headers['if-range'] !== undefined;
  if (conditional || spec.kind === 'suffix' || spec.first >= SIZE.maxPlaintext) return findDescribed(x, spec, sse);
  const response = await askStore(x, 'GET', sealedRange(spec.first, spec.last));
  if (response.status === 416) {
    response.discard();
    return findDescribed(x, spec, sse);
  }
  if (response.status !== 206) throw await readError(x, response);
  const stored = examined(x, response);
  if (stored.kind === 'plain' || stored.envelope.type === 'multipart') {
    response.discard();
    return stored.kind === 'plain' ? findDescribed(x, spec, sse) : findInParts(x, { spec }, sse);
  }
  try {
    return { stored, response, range: resolveRange(spec, stored.length) };
  } catch (err) {
    response.discard();
    throw err;
  }
}

/** In two requests: the size first, then the bytes of that very version. */
async function findDescribed(
  x: BucketExchange<GetObject>,
  spec: RangeSpec,
  sse: SseReadRequest,
): Promise<Found | undefined> {
  const { stored, response: head } = await describe(x);
  if (stored.kind === 'sealed' && stored.envelope.type === 'multipart') return findInParts(x, { spec }, sse);
  if (!holdsIfRange(x.caller.request.headers['if-range'], head.headers)) return findWhole(x);
  const range = resolveRange(spec, stored.length);
  if (range === undefined) throw unsatisfiable(stored.length);
  const wanted = stored.kind === 'plain' ? `bytes=${range.first}-${range.last}` : sealedRange(range.first, range.last);
  return pinned(x, stored, head, wanted, { range });
}

/** In two requests: the manifest first, then the bytes of that very version. */
async function findInParts(
  x: BucketExchange<GetObject>,
  wanted: Wanted,
  sse: SseReadRequest,
): Promise<Found | undefined> {
  const looked = await lookAtEnd(x, sse);
  if (looked?.manifest === undefined) {
    // Not in parts, after all.
    if ('spec' in wanted) return findDescribed(x, wanted.spec, sse);
    if (wanted.partNumber !== 1) throw new ServiceError('InvalidPartNumber');
    return findWhole(x);
  }
  const { stored, response: head, manifest } = looked;
  if (!holdsIfRange(x.caller.request.headers['if-range'], head.headers)) return findWhole(x);
  const some = someOf(manifest, wanted);
  if (some.range === undefined) return { stored, response: head, manifest, ...some };
  const { sealedStart, sealedEnd } = planParts(manifest.entries, some.range.first, some.range.last);
  return pinned(x, stored, head, `bytes=${sealedStart}-${sealedEnd}`, { ...some, manifest });
}

function someOf(manifest: Manifest, wanted: Wanted): Pick<Found, 'range' | 'partsCount'> {
  if ('spec' in wanted) return { range: resolveRange(wanted.spec, manifest.length) };
  const { range, count } = partRange(manifest, wanted.partNumber);
  return { range, partsCount: count };
}

/** In one request, if the object is still the one whose manifest is known: the answer's own envelope tells. */
async function findGuessed(
  x: BucketExchange<GetObject>,
  manifest: Manifest,
  wanted: Wanted,
): Promise<Found | undefined> {
  const some = guessed(manifest, wanted);
  if (some?.range === undefined) return undefined;
  const { sealedStart, sealedEnd } = planParts(manifest.entries, some.range.first, some.range.last);
  const response = await askStore(x, 'GET', `bytes=${sealedStart}-${sealedEnd}`);
  if (response.status === 416) {
    response.discard();
    return undefined;
  }
  if (response.status !== 206) throw await readError(x, response);
  const stored = examined(x, response);
  if (stored.kind === 'sealed' && knownManifest(x, stored) === manifest) {
    return { stored, response, ...some, manifest };
  }
  response.discard();
  return undefined;
}

/** What is out of the known object may be inside the present one. */
function guessed(manifest: Manifest, wanted: Wanted): Pick<Found, 'range' | 'partsCount'> | undefined {
  try {
    return someOf(manifest, wanted);
  } catch {
    return undefined;
  }
}

/** The bytes, if the object is still the one that was described. */
async function pinned(
  x: BucketExchange<GetObject>,
  stored: Stored,
  head: StoreResponse,
  wanted: string,
  some: Omit<Found, 'stored' | 'response'>,
): Promise<Found | undefined> {
  const response = await askStore(x, 'GET', wanted, head.headers.etag);
  if (response.status === 412 || response.status === 416) {
    response.discard();
    return undefined;
  }
  if (response.status !== 206) throw await readError(x, response);
  const again = examined(x, response);
  if (isSame(again, stored)) return { stored: again, response, ...some };
  response.discard();
  return undefined;
}

function isSame(a: Stored, b: Stored): boolean {
  if (a.kind === 'plain' || b.kind === 'plain') return a.kind === b.kind && a.length === b.length;
  const single = a.envelope.type === 'single' && b.envelope.type === 'single';
  // A manifest is of one very upload; a single object's envelope comes with its bytes.
  return a.length === b.length && (single || a.envelope.tag.equals(b.envelope.tag));
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

/** The bytes of one part; of an object that is not in parts, the one part is all of it. */
export function partRange(
  manifest: Manifest | undefined,
  partNumber: number,
): { readonly range: ByteRange | undefined; readonly length?: number; readonly count?: number } {
  if (manifest === undefined) {
    if (partNumber !== 1) throw new ServiceError('InvalidPartNumber');
    return { range: undefined };
  }
  // By place, not by the number of its upload: who walks from 1 to the parts' count finds every part.
  const { entries, length: size } = manifest;
  const entry = entries[partNumber - 1];
  if (entry === undefined) throw new ServiceError('InvalidPartNumber');
  const first = entries.slice(0, partNumber - 1).reduce((sum, { length }) => sum + length, 0);
  const range = entry.length === 0 ? undefined : { first, last: first + entry.length - 1, size };
  return { range, length: entry.length, count: entries.length };
}
