import { plaintextBefore } from '../../control/buckets.ts';
import { integrityError, ServiceError } from '../../errors.ts';
import type { GetObject, GetObjectAttributes, HeadObject } from '../../s3/operation.ts';
import { confirmSize, verifyEnvelope, verifyMetadata, type VerifiedEnvelope } from '../../sse/envelope.ts';
import { verifyFooter, type Footer } from '../../sse/footer.ts';
import { ENVELOPE_HEADER, FOOTER_LENGTH } from '../../sse/format.ts';
import type { StoreResponse } from '../../store/port.ts';
import { readConditions, validatorsOf, verifyConditions } from '../conditions.ts';
import type { BucketExchange } from '../exchange.ts';
import { placeOf } from '../keys.ts';
import type { ReadPlace } from './manifests.ts';
import { credentials } from '../calls.ts';
import { storeError } from '../store-errors.ts';
import { storePlace } from '../target.ts';
import { missingVersion, versionQuery } from './versions.ts';

export type Read = BucketExchange<GetObject | HeadObject | GetObjectAttributes>;

/** An object as the store's own answer shows it; sealed or not is decided from the answer that brings its body. */
export type Stored = Sealed | { readonly kind: 'plain'; readonly length: number; readonly size: number };

export interface Sealed {
  readonly kind: 'sealed';
  readonly envelope: VerifiedEnvelope;
  /** T; of an object in parts only by inversion, until footer or manifest confirm it. */
  readonly length: number;
  readonly size: number;
  /** The store's. */
  readonly etag: string;
}

/**
 * Asks the store for bytes of the object, under the client's conditions. `range` is in sealed bytes; `pin` an ETag of
 * the store that must still hold.
 */
export async function askStore(x: Read, method: 'GET' | 'HEAD', range?: string, pin?: string): Promise<StoreResponse> {
  const { op, rooms, signal } = x;
  const asked = x.caller.request.headers;
  const headers: Record<string, string> = readConditions(asked);
  if (pin !== undefined) headers['if-match'] = pin;
  if (range !== undefined) headers.range = range;
  const query = versionQuery(op.versionId);
  const request = { method, ...storePlace(x.bucket, op.key), query, headers, signal, ...credentials(x) };
  const response = await rooms.store.request(request);
  if (response.status !== 200 && response.status !== 206) return response;
  try {
    verifyConditions(asked, response.headers);
    return response;
  } catch (err) {
    response.discard();
    throw err;
  }
}

/**
 * What the object is, in one request: a GET of its last 64 bytes brings metadata and size, where a HEAD's size is a
 * header that some stores shorten. An empty object has no range (416), an archived one no body: a HEAD follows.
 */
export async function describe(x: Read): Promise<{ stored: Stored; response: StoreResponse }> {
  let response = await askStore(x, 'GET', `bytes=-${FOOTER_LENGTH}`);
  const empty = response.status === 416;
  if (empty || response.status === 403) {
    response.discard();
    response = await askStore(x, 'HEAD');
  }
  if (response.status !== 200 && response.status !== 206) throw await readError(x, response);
  const stored = examine(x, response);
  if (stored.kind === 'sealed' && stored.envelope.type === 'multipart') {
    // No object in parts is shorter than its footer.
    if (empty) throw integrityError('size');
    if (response.status === 206) confirmFooter(x, stored, await response.collect(FOOTER_LENGTH));
  }
  response.discard();
  return { stored, response };
}

/** T, which the envelope of an object in parts could not know, and the number of its parts. */
export function confirmFooter(x: Read, { envelope, size, length }: Sealed, bytes: Buffer): Footer {
  const footer = verifyFooter(bytes, envelope.objectId, size, x.rooms.envelopeKeys);
  if (footer.type !== envelope.type || footer.length !== length) throw integrityError('footer-parts');
  return footer;
}

export function readPlace(x: Read): ReadPlace {
  return { bucketId: x.bucket.bucketId, key: x.op.key, versionId: x.op.versionId };
}

/** The store's refusal of a read. Some send a 304 without its ETag: then it is the one that the client named. */
export async function readError(x: Read, response: StoreResponse): Promise<ServiceError> {
  const error = await storeError(response, x.op.versionId === undefined ? 'NoSuchKey' : 'NoSuchVersion');
  if (error.code === 'NoSuchVersion') return missingVersion(x, error);
  const { code, status, reason, headers } = error;
  if (status !== 304) return new ServiceError(code, { reason, headers });
  const named = readConditions(x.caller.request.headers)['if-none-match'];
  const validators = validatorsOf({ ...(named === undefined ? {} : { etag: named }), ...response.headers });
  return new ServiceError(code, { reason, headers: { ...headers, ...validators } });
}

/** Verifies the envelope in its place, the metadata under it, and the size that the store claims. */
export function examine(x: Read, response: StoreResponse): Stored {
  const { headers } = response;
  const size = totalSize(response);
  const value = headers[ENVELOPE_HEADER];
  if (value === undefined) return examinePlain(x, headers, size);
  const envelope = verifyEnvelope(value, placeOf(x, x.op.key), x.rooms.envelopeKeys);
  x.entry.add({ mode: envelope.mode });
  checkMetadata(x, envelope, headers);
  const length = confirmSize(envelope, size);
  const stored = { kind: 'sealed', envelope, length, size, etag: headers.etag ?? '' } as const;
  x.rooms.manifests.saw(readPlace(x), stored);
  return stored;
}

function checkMetadata(x: Read, envelope: VerifiedEnvelope, headers: StoreResponse['headers']): void {
  try {
    verifyMetadata(envelope, headers);
  } catch (err) {
    if (x.rooms.settings.metadataIntegrity === 'enforce') throw err;
    x.entry.add({ note: 'metadata differs from what was sealed' });
  }
}

/**
 * An object without an envelope. In an encrypted-only bucket it is refused, never passed through. In a mixed one it may
 * be older than the cut-over, in one that leaves of any age; a marker may be bare where the operator has said that the store loses its metadata.
 */
function examinePlain(x: Read, headers: StoreResponse['headers'], size: number): Stored {
  const { bucket, rooms, op } = x;
  const marker = rooms.settings.bareMarkersReadable && op.key.endsWith('/') && size === 0;
  const modified = Date.parse(headers['last-modified'] ?? '');
  if (!marker && !(modified < plaintextBefore(bucket))) throw integrityError('envelope-missing');
  x.entry.add({ mode: 'none' });
  return { kind: 'plain', length: size, size };
}

/**
 * The object's size at the store: what stands behind the slash of Content-Range, or Content-Length. MinIO answers a
 * suffix range of an empty object with 206 and `bytes 0--1/0`.
 */
export function totalSize(response: StoreResponse): number {
  const text =
    response.status === 206
      ? /^bytes (?:\d+-\d+|0--1)\/(\d{1,15})$/.exec(response.headers['content-range'] ?? '')?.[1]
      : response.headers['content-length'];
  if (text === undefined || !/^\d{1,15}$/.test(text)) throw integrityError('size-missing');
  return Number(text);
}
