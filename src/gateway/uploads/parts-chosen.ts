import { ServiceError } from '../../errors.ts';
import { parseStoreParts, type ListedPart, type StorePart } from '../../s3/multipart.ts';
import type { CompleteMultipartUpload } from '../../s3/operation.ts';
import type { KnownPart } from '../../sse/part-record.ts';
import { sealedPartLength } from '../../sse/size.ts';
import { ANSWER_LIMIT, credentials } from '../calls.ts';
import type { BucketExchange } from '../exchange.ts';
import { storeError } from '../store-errors.ts';
import { storePlace } from '../target.ts';
import { MIN_PART, TAIL_PART } from './part.ts';
import { LIST_AGAIN_MS, pause, type Upload } from './records.ts';

type Completing = BucketExchange<CompleteMultipartUpload>;

/** The attempts that the client's list names. */
export interface Chosen {
  /** All of them, ascending. */
  readonly parts: readonly KnownPart[];
  /** Those that lie at the store, as its Complete names them. */
  readonly stored: readonly { readonly partNumber: number; readonly etag: string }[];
  /** The one that was put aside; always the last. */
  readonly aside: (KnownPart & { readonly asideId: Buffer }) | undefined;
  /** The number under which the store's last part goes. */
  readonly tailNumber: number;
  /** The store knows the upload no more. */
  readonly gone: boolean;
}

/** Picks the attempts by their ETags, in plaintext terms, and sees that their bytes are still there. */
export async function choose(x: Completing, upload: Upload, listed: readonly ListedPart[]): Promise<Chosen> {
  const { parts, records } = await pick(x, upload, listed);
  requireSizes(x, parts);
  const last = parts.at(-1);
  const aside = last?.asideId === undefined ? undefined : { ...last, asideId: last.asideId };
  const inStore = parts.filter(({ asideId }) => asideId === undefined);
  const stored = inStore.map(({ partNumber, storeEtag }) => ({ partNumber, etag: storeEtag }));
  const { completesSubset } = x.rooms.store.traits;
  const chosen = { parts, stored, aside, tailNumber: TAIL_PART, gone: false };
  if (stored.length === 0 && completesSubset) return chosen;
  const there = await storeParts(x);
  if (there === undefined) return { ...chosen, gone: true };
  for (const part of inStore) requireThere(part, there.get(part.partNumber) ?? [], records);
  return completesSubset ? chosen : { ...chosen, tailNumber: tailNumber(chosen, records, there) };
}

/**
 * Where the store completes with all of its parts only (trait `completesSubset`): one that is not listed must be
 * replaced, which the aside part does under its own number where it is the newest attempt. Nothing else may be.
 */
function tailNumber(
  { stored, aside }: Pick<Chosen, 'stored' | 'aside'>,
  records: readonly KnownPart[],
  there: ReadonlyMap<number, unknown>,
): number {
  const listed = new Set([TAIL_PART, ...stored.map(({ partNumber }) => partNumber)]);
  const leftOut = [...there.keys()].filter((number) => !listed.has(number));
  if (leftOut.length === 0) return TAIL_PART;
  const newest = aside !== undefined && isNewest(aside, records);
  if (newest && leftOut.length === 1 && leftOut[0] === aside.partNumber && !there.has(TAIL_PART))
    return aside.partNumber;
  throw new ServiceError('NotImplemented', {
    message: 'The store behind completes an upload with all of its parts only.',
    reason: 'subset-trait',
  });
}

function isNewest({ partNumber, time }: KnownPart, records: readonly KnownPart[]): boolean {
  return !records.some((other) => other.partNumber === partNumber && other.time > time);
}

/**
 * Some stores complete with whatever lies under the number now: the attempt that counts is the acknowledged one. Others
 * (SeaweedFS) keep every attempt and list them all, in any order: there too only the last one counts, as on AWS.
 */
function requireThere(part: KnownPart, there: readonly StorePart[], records: readonly KnownPart[]): void {
  const lies = ({ storeEtag, length }: KnownPart): boolean =>
    there.some(({ etag, size }) => etag === storeEtag && size === sealedPartLength(length));
  if (!lies(part)) throw invalidPart();
  const later = records.filter(({ partNumber, time }) => partNumber === part.partNumber && time > part.time);
  if (later.some((other) => other.asideId === undefined && lies(other))) throw invalidPart();
}

interface Picked {
  readonly parts: readonly KnownPart[];
  /** Every attempt that was acknowledged. */
  readonly records: readonly KnownPart[];
}

async function pick(x: Completing, upload: Upload, listed: readonly ListedPart[]): Promise<Picked> {
  for (const again of [...LIST_AGAIN_MS, undefined]) {
    const records = await x.rooms.uploads.parts(upload);
    const byName = new Map(records.map((part) => [`${part.partNumber} ${part.etag}`, part]));
    const found = listed.flatMap(({ partNumber, etag }) => byName.get(`${partNumber} ${etag}`) ?? []);
    if (found.length === listed.length) {
      return { parts: found, records };
    }
    if (again !== undefined) await pause(again);
  }
  throw invalidPart();
}

function requireSizes(x: Completing, parts: readonly KnownPart[]): void {
  if (parts.slice(0, -1).some(({ length }) => length < MIN_PART)) throw new ServiceError('EntityTooSmall');
  const stated = x.caller.request.headers['x-amz-mp-object-size'];
  const total = parts.reduce((sum, { length }) => sum + length, 0);
  if (stated === undefined || stated === String(total)) return;
  throw new ServiceError('InvalidRequest', {
    message: `The provided 'x-amz-mp-object-size' header value ${/^\d{1,16}$/.test(stated) ? stated : ''} does not match what was computed: ${total}`,
    reason: 'mp-object-size',
  });
}

/** What the store lists under each number; undefined where it knows the upload no more. */
async function storeParts(x: Completing): Promise<ReadonlyMap<number, readonly StorePart[]> | undefined> {
  const parts = new Map<number, StorePart[]>();
  let marker: number | undefined;
  do {
    const query: [string, string][] = [
      ['uploadId', x.op.uploadId],
      ['max-parts', '1000'],
    ];
    if (marker !== undefined) query.push(['part-number-marker', String(marker)]);
    const place = storePlace(x.bucket, x.op.key);
    const response = await x.rooms.store.request({ method: 'GET', ...place, query, ...credentials(x) });
    if (response.status === 404) {
      response.discard();
      return undefined;
    }
    if (response.status !== 200) throw await storeError(response, 'NoSuchUpload');
    const page = parseStoreParts(await response.collect(ANSWER_LIMIT));
    for (const part of page.parts) parts.set(part.partNumber, [...(parts.get(part.partNumber) ?? []), part]);
    marker = page.next !== undefined && page.next > (marker ?? 0) ? page.next : undefined;
  } while (marker !== undefined);
  return parts;
}

function invalidPart(): ServiceError {
  return new ServiceError('InvalidPart');
}
