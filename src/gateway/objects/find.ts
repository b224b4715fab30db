import { ServiceError } from '../../errors.ts';
import type { GetObject } from '../../s3/operation.ts';
import { resolveRange, unsatisfiable, type ByteRange, type RangeSpec } from '../../s3/range.ts';
import { toClientEtag } from '../../sse/etag.ts';
import { FLOE, PART_PREFIX_LENGTH, SEALED_SEGMENT_LENGTH, SIZE } from '../../sse/format.ts';
import type { Manifest } from '../../sse/manifest.ts';
import { planParts } from '../../sse/multipart.ts';
import { planRange } from '../../sse/object.ts';
import type { SseReadRequest } from '../../sse/request.ts';
import type { StoreHeaders, StoreResponse } from '../../store/port.ts';
import type { BucketExchange } from '../exchange.ts';
import { knownManifest, lookAtEnd } from './read-parts.ts';
import type { Guess } from './manifests.ts';
import { askStore, describe, examine, readError, readPlace, type Sealed, type Stored } from './stored.ts';

/** Reads that moved under us are begun again this often; then the client is told to retry. */
const ATTEMPTS = 3;

/** No part but the last is shorter (AWS, "multipart upload limits"). */
const MIN_PART = SIZE.partUnit;
/** Stored bytes that a part has more than its plaintext would have in the middle of another. */
const PART_OVERHEAD = PART_PREFIX_LENGTH + FLOE.headerLength + FLOE.segmentOverhead;

/** What was found, and what of it goes to the client. */
export interface Found {
  readonly stored: Stored;
  readonly response: StoreResponse;
  readonly range: ByteRange | undefined;
  /** Of an object in parts, where not all of it is read. */
  readonly manifest?: Manifest | undefined;
  /** Asked for by its number: `x-amz-mp-parts-count`. */
  readonly partsCount?: number | undefined;
  /** Bytes of the answer that come before the range. */
  readonly skip?: number;
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
  const early = conditional || !('spec' in wanted) ? undefined : earlyRange(wanted.spec, guess);
  return early === undefined ? findByEnd(x, wanted, sse, guess) : findEarly(x, early, sse);
}

/** A range that may be asked for before anything is known of the object. */
interface Early {
  readonly spec: RangeSpec & { readonly kind: 'from' };
  /** Inclusive offsets in the stored object; an open end has none. */
  readonly start: number;
  readonly end: number | undefined;
}

/**
 * The bytes of a range lie at offsets that follow from the range alone where the object is not in parts; and 16 bytes
 * further on in the first part of one that is. So a range that begins in the first 5 MiB is asked for at once, with
 * as much more as parts may have put before its end. Further on a part may begin anywhere: the object's end tells.
 */
function earlyRange(spec: RangeSpec, guess: Guess | undefined): Early | undefined {
  if (spec.kind === 'suffix' || spec.first >= SIZE.maxPlaintext || guess?.type === 'multipart') return undefined;
  const { first, last } = spec;
  if (guess === undefined && first >= MIN_PART) return undefined;
  const end = last === undefined ? undefined : Math.min(last, SIZE.maxPlaintext - 1);
  const { sealedStart, sealedEnd } = planRange(SIZE.maxPlaintext, first, end ?? first);
  if (end === undefined) return { spec, start: sealedStart, end };
  const more = end < MIN_PART ? 0 : SEALED_SEGMENT_LENGTH + PART_OVERHEAD * Math.ceil(end / MIN_PART);
  return { spec, start: sealedStart, end: sealedEnd + (guess === undefined ? PART_PREFIX_LENGTH + more : 0) };
}

/** In one request, and in two if the object turns out to be in parts: then its manifest tells which bytes these were. */
async function findEarly(x: BucketExchange<GetObject>, early: Early, sse: SseReadRequest): Promise<Found | undefined> {
  const { spec, start, end } = early;
  const response = await askStore(x, 'GET', `bytes=${start}-${end ?? ''}`);
  if (response.status === 416) {
    response.discard();
    return findByEnd(x, { spec }, sse, undefined);
  }
  if (response.status !== 206) throw await readError(x, response);
  try {
    const stored = examine(x, response);
    if (stored.kind === 'sealed' && stored.envelope.type === 'single') {
      return { stored, response, range: resolveRange(spec, stored.length) };
    }
    const found = stored.kind === 'plain' ? undefined : await findInAnswer(x, { early, stored, response }, sse);
    if (found?.response !== response) response.discard();
    return stored.kind === 'plain' ? await findByEnd(x, { spec }, sse, undefined) : found;
  } catch (err) {
    response.discard();
    throw err;
  }
}

/** The range of an object in parts, out of an answer that was asked for before that was known. */
async function findInAnswer(
  x: BucketExchange<GetObject>,
  answer: { readonly early: Early; readonly stored: Sealed; readonly response: StoreResponse },
  sse: SseReadRequest,
): Promise<Found | undefined> {
  const { early, stored, response } = answer;
  const looked = await lookAtEnd(x, sse, response.headers.etag);
  if (looked?.manifest === undefined || !isSame(looked.stored, stored)) return undefined;
  const { manifest } = looked;
  const range = resolveRange(early.spec, manifest.length);
  if (range === undefined) throw unsatisfiable(manifest.length);
  const { sealedStart, sealedEnd } = planParts(manifest.entries, range.first, range.last);
  if (sealedStart >= early.start && sealedEnd <= (early.end ?? stored.size)) {
    return { stored, response, range, manifest, skip: sealedStart - early.start };
  }
  return pinned(x, stored, response, `bytes=${sealedStart}-${sealedEnd}`, { range, manifest });
}

/** In two requests: the object's end first, which tells what it is, then the bytes of that very version. */
async function findByEnd(
  x: BucketExchange<GetObject>,
  wanted: Wanted,
  sse: SseReadRequest,
  guess: Guess | undefined,
): Promise<Found | undefined> {
  const looked = guess?.type === 'single' ? undefined : await lookAtEnd(x, sse);
  const { stored, response: head, manifest } = looked ?? { ...(await describe(x)), manifest: undefined };
  // What it was said to be it is no more.
  if (manifest === undefined && stored.kind === 'sealed' && stored.envelope.type === 'multipart') return undefined;
  if (manifest === undefined && 'partNumber' in wanted) {
    if (wanted.partNumber !== 1) throw new ServiceError('InvalidPartNumber');
    return findWhole(x);
  }
  if (!holdsIfRange(x.caller.request.headers['if-range'], head.headers)) return findWhole(x);
  if (manifest === undefined) {
    const range = 'spec' in wanted ? resolveRange(wanted.spec, stored.length) : undefined;
    if (range === undefined) throw unsatisfiable(stored.length);
    const plan = stored.kind === 'plain' ? undefined : planRange(stored.length, range.first, range.last);
    return pinned(x, stored, head, `bytes=${plan?.sealedStart ?? range.first}-${plan?.sealedEnd ?? range.last}`, {
      range,
    });
  }
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
