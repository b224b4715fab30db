/** Writes the golden records, if they are not there yet: `node --experimental-strip-types test/sse/make-golden-records.ts`. */
import { createHash } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import { sealPartRecord, type PartRecord } from '../../src/sse/part-record.ts';
import { encodeTombstone, encodeUploadRecord, listDigest } from '../../src/sse/upload-record.ts';
import { bytes, ENVELOPE_KEYS, newUpload, secret } from './fixture.ts';
import { RECORDS, type GoldenRecords } from './records.ts';

const { entropy, envelope, name, upload, manifestKey, recovery } = newUpload(
  'golden records',
  'store+upload/id=1',
  'SSE-KMS',
  'photos-key',
);
const { hash, objectId } = upload;
const created = 1_700_000_000_123;
const record = encodeUploadRecord(
  {
    name,
    created,
    checksum: { algorithm: 'CRC64NVME', type: 'FULL_OBJECT' },
    envelope,
    manifestKey,
    objectId,
    recovery,
  },
  ENVELOPE_KEYS,
  entropy,
);
const part = (partNumber: number, extra: Partial<PartRecord>): PartRecord => ({
  partNumber,
  length: 5_242_880,
  time: created + partNumber,
  floeIv: bytes(32, `iv ${partNumber}`),
  headerTag: bytes(32, `tag ${partNumber}`),
  checksum: undefined,
  asideId: undefined,
  storeEtag: bytes(16, `etag ${partNumber}`).toString('hex'),
  ...extra,
});
const sum = (value: Buffer) => ({ algorithm: 'SHA256', type: 'FULL_OBJECT', value }) as const;
const parts = [
  part(1, {}),
  part(7, { checksum: sum(bytes(32, 'sum')) }),
  part(10_000, { length: 11, asideId: bytes(16, 'aside') }),
].map((made) => ({ made, ...sealPartRecord(made, upload, entropy) }));
const left = {
  completed: created + 60_000,
  listDigest: listDigest(parts.map(({ made, etag }) => ({ partNumber: made.partNumber, etag }))),
  envelope,
  checksum: { algorithm: 'CRC64NVME', type: 'FULL_OBJECT', value: bytes(8, 'crc') } as const,
  etag: '"0123456789abcdef0123456789abcdef-4"',
  versionId: 'version 1',
};

const golden: GoldenRecords = {
  about: 'an upload of three parts, one with a checksum, one put aside; completed in a bucket with versions',
  envelopeKeys: Object.fromEntries(
    [1, 2].map((version) => [version, secret(`envelope key ${version}`).export().toString('hex')]),
  ),
  bucketId: name.bucketId.toString('hex'),
  key: name.key,
  uploadId: name.uploadId,
  uploadHash: hash.toString('hex'),
  objectId: objectId.toString('hex'),
  envelope,
  uploadRecord: record.toString('base64'),
  created,
  checksum: ['CRC64NVME', 'FULL_OBJECT'],
  manifestKey: manifestKey.export().toString('hex'),
  recovery: createHash('sha256').update(recovery).digest('hex'),
  parts: parts.map(({ made, name: recordName, etag }) => ({
    name: recordName,
    etag,
    partNumber: made.partNumber,
    length: made.length,
    time: made.time,
    floeIv: made.floeIv.toString('hex'),
    headerTag: made.headerTag.toString('hex'),
    asideId: made.asideId?.toString('hex') ?? '',
    checksum: made.checksum?.value.toString('hex') ?? '',
    storeEtag: made.storeEtag,
  })),
  tombstone: encodeTombstone(left, hash, ENVELOPE_KEYS).toString('base64'),
  completed: left.completed,
  listDigest: left.listDigest.toString('hex'),
  etag: left.etag,
  versionId: left.versionId,
  objectChecksum: left.checksum.value.toString('hex'),
};
if (!existsSync(RECORDS)) writeFileSync(RECORDS, `${JSON.stringify(golden, undefined, 1)}\n`);
