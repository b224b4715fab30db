import { ServiceError } from '../../errors.ts';
import { isCombinable } from '../../s3/crc-combine.ts';
import { namedAlgorithm } from '../../s3/checksum.ts';
import { formatInitiateUpload, parseInitiateUpload } from '../../s3/multipart.ts';
import type { CreateMultipartUpload, PostObject } from '../../s3/operation.ts';
import { sealEnvelope } from '../../sse/envelope.ts';
import { ENVELOPE_HEADER } from '../../sse/format.ts';
import { deriveManifestKey } from '../../sse/key.ts';
import { metadataDigest } from '../../sse/metadata.ts';
import { buildRecovery } from '../../sse/recovery.ts';
import type { EffectiveSse } from '../../sse/request.ts';
import type { UploadChecksum } from '../../sse/upload-record.ts';
import type { StoreHeaders } from '../../store/port.ts';
import { ANSWER_LIMIT, credentials, smallBody } from '../calls.ts';
import type { BucketExchange, Reply } from '../exchange.ts';
import { objectHeaders, refuseSlash } from '../headers.ts';
import { assertCommittable, placeOf, sealingKeys, type SealingKeys } from '../keys.ts';
import { sseAnswer, writeSse } from '../sse.ts';
import { storeError } from '../store-errors.ts';
import { storePlace } from '../target.ts';
import { XML } from '../xml-body.ts';

type Creating = BucketExchange<CreateMultipartUpload | PostObject>;

export async function createMultipartUpload(x: BucketExchange<CreateMultipartUpload>): Promise<Reply> {
  const { op } = x;
  const sse = writeSse(x);
  const checksum = askedChecksum(x.caller.request.headers);
  await smallBody(x, 0);
  const { uploadId, keys } = await beginUpload(x, sse, checksum);
  return {
    status: 200,
    headers: {
      ...XML,
      ...sseAnswer(x, keys, 'write', sse.mode === 'SSE-C' ? sse : undefined),
      ...(checksum === undefined
        ? {}
        : { 'x-amz-checksum-algorithm': checksum.algorithm, 'x-amz-checksum-type': checksum.type }),
    },
    body: formatInitiateUpload(op.bucket, op.key, uploadId),
  };
}

/** Its metadata is fixed here, before anything of the object is known: the envelope, type multipart, goes with it. */
export async function beginUpload(
  x: Creating,
  sse: EffectiveSse,
  checksum: UploadChecksum | undefined,
): Promise<{ readonly uploadId: string; readonly keys: SealingKeys }> {
  const { op, rooms } = x;
  const { entropy, uploads } = rooms;
  // Of parts, so never an empty marker.
  const headers = objectHeaders(x, op.key, 1);
  refuseSlash(x, op.key, 1);
  const place = placeOf(x, op.key);
  const keys = await sealingKeys(x, sse, place);
  const { mode, kek, objectKey, objectId } = keys;
  const recovery = mode === 'SSE-C' ? undefined : buildRecovery({ ...keys, mode, place }, kek, objectKey, entropy);
  const envelope = envelopeOf(x, keys, headers);
  assertCommittable(x, keys);
  const uploadId = await createAtStore(x, { ...headers, [ENVELOPE_HEADER]: envelope });
  try {
    const manifestKey = deriveManifestKey(objectKey);
    const created = rooms.clock().getTime();
    const name = { bucketId: place.bucketId, key: op.key, uploadId };
    await uploads.create({ name, created, checksum, envelope, manifestKey, objectId, recovery });
  } catch (err) {
    await abandon(x, uploadId);
    throw err;
  }
  return { uploadId, keys };
}

/** What Create says of the object's checksum (AWS "Checking object integrity", multipart uploads). */
function askedChecksum(headers: Readonly<Record<string, string>>): UploadChecksum | undefined {
  const name = headers['x-amz-checksum-algorithm'];
  const type = headers['x-amz-checksum-type']?.toUpperCase();
  if (name === undefined) {
    if (type === undefined) return undefined;
    throw unfit('The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.');
  }
  const algorithm = namedAlgorithm(name);
  if (type === undefined) return { algorithm, type: algorithm === 'CRC64NVME' ? 'FULL_OBJECT' : 'COMPOSITE' };
  if (type === 'FULL_OBJECT' && isCombinable(algorithm)) return { algorithm, type };
  if (type === 'COMPOSITE' && algorithm !== 'CRC64NVME') return { algorithm, type };
  throw unfit(`The ${type} checksum type cannot be used with the ${algorithm.toLowerCase()} checksum algorithm.`);
}

function unfit(message: string): ServiceError {
  return new ServiceError('InvalidRequest', { message, reason: 'checksum-type' });
}

function envelopeOf(x: Creating, keys: SealingKeys, headers: StoreHeaders): string {
  const { entropy, envelopeKeys } = x.rooms;
  return sealEnvelope({
    ...keys,
    type: 'multipart',
    length: undefined,
    pin: undefined,
    metadataDigest: metadataDigest(headers),
    place: placeOf(x, x.op.key),
    keys: envelopeKeys,
    entropy,
  });
}

async function createAtStore(x: Creating, headers: StoreHeaders): Promise<string> {
  const response = await x.rooms.store.request({
    method: 'POST',
    ...storePlace(x.bucket, x.op.key),
    query: [['uploads', '']],
    headers,
    signal: x.signal,
    ...credentials(x),
  });
  if (response.status !== 200) throw await storeError(response, 'NoSuchBucket');
  return parseInitiateUpload(await response.collect(ANSWER_LIMIT));
}

/** An upload without a record can take no part: it is not left behind. */
async function abandon(x: Creating, uploadId: string): Promise<void> {
  const query = [['uploadId', uploadId]] as const;
  const place = storePlace(x.bucket, x.op.key);
  const gone = x.rooms.store.request({ method: 'DELETE', ...place, query, ...credentials(x) });
  await gone.then((response) => response.discard()).catch(() => undefined);
}
