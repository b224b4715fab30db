import { createHash, createSecretKey } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { openPartRecord } from '../../src/sse/part-record.ts';
import { decodeTombstone, decodeUploadRecord, listDigest } from '../../src/sse/upload-record.ts';
import { envelopeKeys } from './fixture.ts';
import { recordsByDocument } from './independent-records.ts';
import { readGoldenRecords } from './records.ts';

const golden = readGoldenRecords();
const hash = Buffer.from(golden.uploadHash, 'hex');
const keys = envelopeKeys(
  Object.fromEntries(
    Object.entries(golden.envelopeKeys).map(([v, key]) => [v, createSecretKey(Buffer.from(key, 'hex'))]),
  ),
  1,
);

describe('the golden records of an upload', () => {
  it('upload record', () => {
    const record = decodeUploadRecord(Buffer.from(golden.uploadRecord, 'base64'), hash, keys);
    expect({
      bucketId: record.name.bucketId.toString('hex'),
      key: record.name.key,
      uploadId: record.name.uploadId,
      created: record.created,
      checksum: [record.checksum?.algorithm, record.checksum?.type],
      envelope: record.envelope,
      manifestKey: record.manifestKey.export().toString('hex'),
      recovery: createHash('sha256').update(record.recovery).digest('hex'),
    }).toEqual(picked('bucketId', 'key', 'uploadId', 'created', 'checksum', 'envelope', 'manifestKey', 'recovery'));
  });

  it.each(golden.parts)('part record $partNumber', (part) => {
    const upload = { hash, objectId: Buffer.from(golden.objectId, 'hex'), keys };
    const opened = openPartRecord(part.name, upload);
    expect({
      ...opened,
      name: part.name,
      floeIv: opened?.floeIv.toString('hex'),
      headerTag: opened?.headerTag.toString('hex'),
      asideId: opened?.asideId?.toString('hex') ?? '',
      checksum: opened?.checksum?.value.toString('hex') ?? '',
    }).toEqual(part);
  });

  it('tombstone', () => {
    const stone = decodeTombstone(Buffer.from(golden.tombstone, 'base64'), hash, keys);
    expect({
      ...stone,
      listDigest: stone.listDigest.toString('hex'),
      checksum: undefined,
      objectChecksum: stone.checksum?.value.toString('hex'),
    }).toEqual({
      checksum: undefined,
      ...picked('completed', 'listDigest', 'envelope', 'etag', 'versionId', 'objectChecksum'),
    });
    expect(listDigest(golden.parts).equals(stone.listDigest)).toBe(true);
  });

  it('are read alike by the independent reader', () => {
    expect(recordsByDocument(golden)).toEqual({ ...golden, about: undefined });
  });
});

function picked<K extends keyof typeof golden>(...names: readonly K[]): Pick<typeof golden, K> {
  return Object.fromEntries(names.map((name) => [name, golden[name]])) as Pick<typeof golden, K>;
}
