import { equalBytes } from '../../bytes.ts';
import { integrityError, ServiceError } from '../../errors.ts';
import { FOOTER_LENGTH, RECOVERY_LENGTH } from '../../sse/format.ts';
import { deriveManifestKey } from '../../sse/key.ts';
import type { Manifest } from '../../sse/manifest.ts';
import type { SseReadRequest } from '../../sse/request.ts';
import { manifestPlace, openTailManifest } from '../../sse/tail.ts';
import type { StoreResponse } from '../../store/port.ts';
import { openEnvelope } from '../keys.ts';
import { askStore, confirmFooter, examine, readError, type Read, type Sealed, type Stored } from './stored.ts';

/** Holds footer, recovery copy and the manifest of up to about 430 parts. */
const SUFFIX = 64 * 1024;

export interface Looked {
  readonly stored: Stored;
  /** Its head only. */
  readonly response: StoreResponse;
  /** Undefined for an object that is not sealed, or not in parts where only those were asked for. */
  readonly manifest: Manifest | undefined;
}

/**
 * The end of an object, and its manifest, in one request (two above 430 parts). Undefined where it has no end (416), or
 * is no more what `pin` names.
 */
export function lookAtEnd(x: Read, sse: SseReadRequest, pin?: string): Promise<Looked | undefined> {
  return look(x, sse, 'multipart', pin);
}

/** The same for the sake of a checksum: an object that is not in parts has a manifest too (FORMAT.md section 5). */
export function lookAtTail(x: Read, sse: SseReadRequest): Promise<Looked | undefined> {
  return look(x, sse, 'any');
}

async function look(
  x: Read,
  sse: SseReadRequest,
  manifests: 'multipart' | 'any',
  pin?: string,
): Promise<Looked | undefined> {
  const response = await askStore(x, 'GET', `bytes=-${SUFFIX}`, pin);
  const moved = pin !== undefined && response.status === 412;
  // versitygw answers a suffix of nothing with 200.
  const empty = response.status === 416 || (response.status === 200 && response.headers['content-length'] === '0');
  // An archived object tells its head alone, which is enough where nothing but a checksum is looked for.
  if (empty || moved || (response.status === 403 && manifests === 'any')) {
    response.discard();
    return undefined;
  }
  if (response.status !== 206) throw await readError(x, response);
  try {
    const stored = examine(x, response);
    if (stored.kind === 'plain' || (stored.envelope.type === 'single' && manifests === 'multipart')) {
      response.discard();
      return { stored, response, manifest: undefined };
    }
    const known = x.rooms.manifests.get(stored);
    const manifest = known === undefined ? await readManifest(x, sse, stored, response) : confirmed(stored, known);
    response.discard();
    return { stored, response, manifest };
  } catch (err) {
    response.discard();
    throw err;
  }
}

/** What the cache knows of this envelope must be of this size too. */
function confirmed(stored: Sealed, manifest: Manifest): Manifest {
  if (manifest.length !== stored.length) throw integrityError('size');
  return manifest;
}

/** The manifest from the cache, where it is, for an answer that shows the object's envelope. */
export function knownManifest(x: Read, stored: Sealed): Manifest | undefined {
  const manifest = x.rooms.manifests.get(stored);
  return manifest === undefined ? undefined : confirmed(stored, manifest);
}

async function readManifest(x: Read, sse: SseReadRequest, stored: Sealed, response: StoreResponse): Promise<Manifest> {
  const { envelope, size } = stored;
  const end = await response.collect(SUFFIX);
  if (end.length !== Math.min(SUFFIX, size)) throw integrityError('size');
  const footer = confirmFooter(x, stored, end.subarray(-FOOTER_LENGTH));
  const place = manifestPlace(size, footer.parts);
  const behind = FOOTER_LENGTH + RECOVERY_LENGTH;
  const length = place.end - place.start;
  const sealed =
    end.length >= length + behind
      ? end.subarray(end.length - behind - length, end.length - behind)
      : await readRest(x, stored, response, place);
  const { objectKey } = await openEnvelope(x, envelope, sse);
  const manifestKey = deriveManifestKey(objectKey);
  const manifest = openTailManifest({ manifestKey, objectId: envelope.objectId, footer, sealed });
  x.rooms.manifests.set(stored, manifest);
  return manifest;
}

/** A long manifest, of the very version whose end was read. */
async function readRest(
  x: Read,
  stored: Sealed,
  first: StoreResponse,
  place: { readonly start: number; readonly end: number },
): Promise<Buffer> {
  const response = await askStore(x, 'GET', `bytes=${place.start}-${place.end - 1}`, first.headers.etag);
  if (response.status !== 206 && response.status !== 412) throw await readError(x, response);
  const again = response.status === 412 ? undefined : examine(x, response);
  if (again?.kind !== 'sealed' || !equalBytes(again.envelope.tag, stored.envelope.tag)) {
    response.discard();
    throw new ServiceError('ServiceUnavailable', { reason: 'object-moved', headers: { 'Retry-After': '1' } });
  }
  return response.collect(place.end - place.start);
}
