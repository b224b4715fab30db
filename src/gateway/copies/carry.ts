import { release } from '../../bytes.ts';
import { ServiceError } from '../../errors.ts';
import { asksForLock } from '../../s3/object-lock.ts';
import { verifyFooter } from '../../sse/footer.ts';
import { ENVELOPE_HEADER, FOOTER_LENGTH } from '../../sse/format.ts';
import type { ObjectKey } from '../../sse/key.ts';
import type { StoreHeaders, StoreRequest } from '../../store/port.ts';
import { credentials } from '../calls.ts';
import type { SourceRead } from './source.ts';
import type { BucketExchange } from '../exchange.ts';
import { copyInStore, type CopyOrder, type Copied, type Moved, type StoreSource } from './store-copy.ts';
import { wholeOpening } from '../objects/opened.ts';
import { askStore, examine, readError, type Sealed } from '../objects/stored.ts';
import { assertDone, storeError } from '../store-errors.ts';
import { sealPassing, type Sealer } from '../objects/seal-body.ts';
import { pumpInto, type Opening } from '../objects/stream.ts';
import { COPIES } from '../system-objects.ts';
import { storePlace } from '../target.ts';

/** Sealed bytes that get another envelope, here or elsewhere. */
export interface Carry {
  readonly x: BucketExchange;
  /** The key that they get. */
  readonly key: string;
  readonly source: SourceRead;
  readonly stored: Sealed;
  /** Of these bytes. */
  readonly objectKey: ObjectKey;
  /** The head of the answer that showed `stored`. */
  readonly found: StoreHeaders;
  /** All that the store is to keep beside them, the new envelope included. */
  readonly headers: StoreHeaders;
  /** On what lies under the target's key. */
  readonly conditions: StoreHeaders;
  readonly assertCommittable: () => void;
}

/**
 * Puts the sealed bytes under the target's key with the new envelope, which opens no other ones. What is copied must
 * therefore be what was looked at: the store pins it (version id, or `x-amz-copy-source-if-match` where it honours
 * that), or the copy is made under a private key first, and looked at there. Nothing is ever undone at the target.
 */
export function carry(job: Carry): Promise<Copied | Moved> {
  const { x, found, source } = job;
  const { traits } = x.rooms.store;
  // What is asked of the copy beside its bytes, and lost in silence by stores that copy in a way of their own.
  const particular = Object.keys(job.conditions).length > 0 || asksForLock(job.headers);
  const tagged = 'x-amz-tagging' in job.headers;
  if ((particular && !traits.atomicCopy) || (tagged && !traits.copyTags)) return relay(job);
  const from = storePlace(source.bucket, source.op.key);
  const to = storePlace(x.bucket, job.key);
  const onto = from.bucket === to.bucket && from.key === to.key;
  const pin = pinOf(found, traits.copySourceIfMatch);
  if (pin !== undefined && (!onto || traits.atomicCopy)) {
    return copyInStore(orderOf(job, { ...from, ...pin }, to, credentials(x)));
  }
  // The private key is the service's own: an identity's credentials do not reach it.
  return x.caller.identity.store === undefined ? copyByPrivateKey(job, { ...from, ...pin }, to) : relay(job);
}

/** What makes the store copy this very version, or nothing at all. */
function pinOf(found: StoreHeaders, honoursMatch: boolean): Pick<StoreSource, 'versionId' | 'etag'> | undefined {
  const { etag, 'x-amz-version-id': versionId } = found;
  if (versionId !== undefined && versionId !== 'null') return { versionId };
  return honoursMatch && etag !== undefined ? { etag } : undefined;
}

function orderOf(
  { x, stored, headers, conditions, assertCommittable }: Carry,
  from: StoreSource,
  to: { readonly bucket: string; readonly key: string },
  by: Pick<StoreRequest, 'credentials'>,
): CopyOrder {
  return { x, from, to, size: stored.size, headers, conditions, by, assertCommittable };
}

/** A first copy under a random key of the system bucket, which nobody else writes; the second one is of that. */
async function copyByPrivateKey(
  job: Carry,
  from: StoreSource,
  to: { readonly bucket: string; readonly key: string },
): Promise<Copied | Moved> {
  const { x } = job;
  const { settings, entropy, store } = x.rooms;
  const own = { bucket: settings.systemBucket, key: COPIES + entropy(16).toString('hex') };
  // ACL, lock, tags and storage class are the target's.
  const kept = Object.entries(job.headers).filter(
    ([name]) => !name.startsWith('x-amz-') || name.startsWith('x-amz-meta-'),
  );
  const first = { ...orderOf(job, from, own, {}), headers: Object.fromEntries(kept), conditions: {} };
  try {
    const copied = await copyInStore(first);
    if ('moved' in copied) return copied;
    if (!(await holds(job, own))) return { moved: new ServiceError('ServiceUnavailable', { reason: 'object-moved' }) };
    return await copyInStore(orderOf(job, own, to, {}));
  } finally {
    const gone = store.request({ method: 'DELETE', ...own });
    // What cannot be removed now is ciphertext that nobody reads.
    await gone.then((response) => response.discard()).catch(() => undefined);
  }
}

/** The private copy is of the very bytes that the new envelope opens: its footer names their object id and their size. */
async function holds({ x, stored, headers }: Carry, own: { bucket: string; key: string }): Promise<boolean> {
  const { size, envelope } = stored;
  const range: StoreHeaders = size === 0 ? {} : { range: `bytes=-${FOOTER_LENGTH}` };
  const response = await x.rooms.store.request({ method: 'GET', ...own, headers: range });
  if (response.status !== (size === 0 ? 200 : 206)) throw await storeError(response);
  const total = size === 0 ? response.headers['content-length'] : response.headers['content-range']?.split('/')[1];
  const sealed = response.headers[ENVELOPE_HEADER] === headers[ENVELOPE_HEADER];
  if (!sealed || total !== String(size) || size === 0) {
    response.discard();
    return sealed && total === String(size);
  }
  try {
    const footer = verifyFooter(await response.collect(FOOTER_LENGTH), envelope.objectId, size, x.rooms.envelopeKeys);
    return footer.type === envelope.type;
  } catch (err) {
    if (err instanceof ServiceError && err.status === 500) return false;
    throw err;
  }
}

/**
 * Through the gateway as they are: envelope and bytes come with one answer, and a PUT takes conditions and tags. They are
 * opened on their way, for what is put here may take the place of the only object that they are.
 */
async function relay(job: Carry): Promise<Copied | Moved> {
  const { x, source, stored, headers, conditions, found } = job;
  const { store, settings } = x.rooms;
  if (stored.size > settings.largestCopy) {
    throw new ServiceError('NotImplemented', {
      message: 'The store behind cannot copy an object of this size under these conditions.',
      reason: 'copy-size',
    });
  }
  const response = await askStore(source, 'GET', undefined, found.etag);
  if (response.status !== 200) return { moved: await readError(source, response) };
  const again = examine(source, response);
  if (again.kind === 'plain' || !again.envelope.tag.equals(stored.envelope.tag)) {
    response.discard();
    return { moved: new ServiceError('ServiceUnavailable', { reason: 'object-moved' }) };
  }
  const request = { ...storePlace(x.bucket, job.key), headers: { ...headers, ...conditions }, ...credentials(x) };
  const asItIs = { sealedLength: stored.size, ...verifying(wholeOpening(source, again, job.objectKey)) };
  try {
    const { response: put } = await sealPassing(store, {
      request: { ...request, signal: x.signal, digested: asksForLock(headers) },
      sealer: asItIs,
      feed: (sink) => pumpInto(response, sink).then(() => undefined),
      assertCommittable: job.assertCommittable,
    });
    await assertDone(put, 'NoSuchBucket');
    const { etag = '', 'x-amz-version-id': versionId } = put.headers;
    return { etag, versionId, lastModified: undefined };
  } catch (err) {
    response.discard();
    if (err instanceof ServiceError && err.code === 'PreconditionFailed') return { moved: err };
    throw err;
  }
}

/** The same bytes, of which the last are held back until all of them have verified. */
function verifying(opening: Opening): Omit<Sealer, 'sealedLength'> {
  return {
    update(chunk) {
      for (const piece of opening.update(chunk)) release(piece);
      // The store's buffer may be part of a larger one: what is given away is our own.
      return [Buffer.from(chunk)];
    },
    finish() {
      opening.finish();
      return [];
    },
  };
}
