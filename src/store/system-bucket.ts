import { equalBytes } from '../bytes.ts';
import { ServiceError } from '../errors.ts';
import type { StoreClient, StoreResponse } from './port.ts';

export const DEFAULT_SYSTEM_BUCKET = 'express-s3-sse-system';

/** Which deployment a system bucket belongs to. It guards against mistakes; the store is not trusted with more. */
const REALM_KEY = 'realm';
const REALM_TEXT = /^express-s3-sse realm ([0-9a-f]{32})\n$/;

/** Makes the bucket if it is not there. To be called with the service's own credentials. */
export async function ensureSystemBucket(
  client: StoreClient,
  bucket: string,
  locationConstraint?: string,
): Promise<void> {
  if (await exists(client, bucket)) return;
  const body =
    locationConstraint === undefined
      ? {}
      : {
          body: Buffer.from(
            `<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><LocationConstraint>${locationConstraint}</LocationConstraint></CreateBucketConfiguration>`,
          ),
        };
  const made = await client.request({ method: 'PUT', bucket, ...body });
  made.discard();
  // 409: another replica was first, or somebody else's bucket has this name; HEAD tells which.
  if (made.status === 200 || (made.status === 409 && (await exists(client, bucket)))) return;
  throw unusable(bucket, made);
}

async function exists(client: StoreClient, bucket: string): Promise<boolean> {
  const head = await client.request({ method: 'HEAD', bucket });
  head.discard();
  if (head.status === 200) return true;
  if (head.status === 404) return false;
  throw unusable(bucket, head);
}

function unusable(bucket: string, response: StoreResponse): ServiceError {
  return new ServiceError('ServiceUnavailable', {
    reason: 'system-bucket',
    message: `The system bucket ${bucket} cannot be used: the store answered ${response.status}.`,
  });
}

/** The realm id that a marker in the bucket carries; undefined where there is none. */
export async function readRealmMarker(client: StoreClient, bucket: string): Promise<Buffer | undefined> {
  const response = await client.request({ method: 'GET', bucket, key: REALM_KEY });
  if (response.status === 404) {
    response.discard();
    return undefined;
  }
  if (response.status !== 200) {
    response.discard();
    throw unusable(bucket, response);
  }
  const match = REALM_TEXT.exec((await response.collect(4096)).toString('latin1'));
  if (match?.[1] === undefined) {
    throw new ServiceError('ServiceUnavailable', {
      reason: 'realm-marker',
      message: `The system bucket ${bucket} holds a realm marker that is not ours.`,
    });
  }
  return Buffer.from(match[1], 'hex');
}

/** For `init`: refused (Conflict, reason `realm-exists`) where a marker of any kind is, this realm's own included. */
export async function writeRealmMarker(client: StoreClient, bucket: string, realmId: Buffer): Promise<void> {
  if (realmId.byteLength !== 16) throw new RangeError('a realm id has 16 bytes');
  const taken = new ServiceError('Conflict', {
    reason: 'realm-exists',
    message: `The system bucket ${bucket} belongs to a realm already. Restore its control store, or use another bucket.`,
  });
  if ((await readRealmMarker(client, bucket)) !== undefined) throw taken;
  const write = async (condition: Readonly<Record<string, string>>): Promise<StoreResponse> => {
    const body = Buffer.from(`express-s3-sse realm ${realmId.toString('hex')}\n`);
    const headers = { 'content-type': 'text/plain', ...condition };
    const answer = await client.request({ method: 'PUT', bucket, key: REALM_KEY, body, headers });
    answer.discard();
    return answer;
  };
  // Two `init` at once: one wins where the store knows the condition (most do; the read-back tells otherwise).
  let response = await write({ 'if-none-match': '*' });
  // OpenStack Swift says that it does not.
  if (response.status === 501) response = await write({});
  if (response.status === 412 || response.status === 409) throw taken;
  if (response.status !== 200) throw unusable(bucket, response);
  await checkRealmMarker(client, bucket, realmId);
}

/** At start: the bucket must be this realm's. Throws ServiceUnavailable, reason `realm-missing` or `realm-mismatch`. */
export async function checkRealmMarker(client: StoreClient, bucket: string, realmId: Buffer): Promise<void> {
  const marker = await readRealmMarker(client, bucket);
  if (marker !== undefined && equalBytes(marker, realmId)) return;
  throw new ServiceError('ServiceUnavailable', {
    reason: marker === undefined ? 'realm-missing' : 'realm-mismatch',
    message:
      marker === undefined
        ? `The system bucket ${bucket} has no realm marker: run init first.`
        : `The system bucket ${bucket} belongs to another realm than the control store.`,
  });
}
