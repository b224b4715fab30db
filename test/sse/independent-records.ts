import { be, hmac, L, lp, need, open, sha256 } from './independent.ts';
import type { GoldenPart, GoldenRecords } from './records.ts';

/** A second reader of an upload's records, written from docs/FORMAT.md section 16 alone. */
export function recordsByDocument(golden: GoldenRecords): Omit<GoldenRecords, 'about'> {
  const keyOf = (v: number): Buffer => Buffer.from(golden.envelopeKeys[v] ?? '', 'hex');
  const mac = (v: number, label: string, ...fields: Buffer[]): Buffer =>
    hmac('sha256', keyOf(v), lp(L(label)), ...fields.map(lp));
  const record = Buffer.from(golden.uploadRecord, 'base64');
  const take = reader(record);
  const [version, algorithm, type, zero] = take(4);
  need(version === 1 && zero === 0, 'upload record');
  const v = take(4).readUInt32BE(0);
  const created = Number(take(8).readBigUInt64BE(0));
  const bucketId = take(16);
  const text = (): Buffer => take(take(2).readUInt16BE(0));
  const [key, uploadId, envelope] = [text(), text(), text()];
  const wrapped = take(60);
  const recovery = take(512);
  const hash = sha256(lp(L('upload')), lp(bucketId), lp(key), lp(uploadId));
  need(mac(v, 'upload-record', hash, record.subarray(0, -32)).equals(take(32)), 'MAC of the upload record');
  // Section 9: the object id stands behind four bytes and the key's version.
  const objectId = Buffer.from(envelope.toString(), 'base64url').subarray(8, 40);
  const aad = Buffer.concat([L('upload-manifest-key'), hash, objectId]);
  const manifestKey = open(mac(v, 'upload-manifest-key', hash), wrapped.subarray(0, 12), aad, wrapped.subarray(12));

  const parts = golden.parts.map(({ name }) => partByDocument(name, hash, objectId, mac));
  const listed = parts.flatMap(({ partNumber, etag }) => [lp(be(partNumber, 2)), lp(Buffer.from(etag))]);
  const list = sha256(lp(L('upload-list')), be(parts.length, 4), ...listed);
  return {
    envelopeKeys: golden.envelopeKeys,
    bucketId: bucketId.toString('hex'),
    key: key.toString(),
    uploadId: uploadId.toString(),
    uploadHash: hash.toString('hex'),
    objectId: objectId.toString('hex'),
    envelope: envelope.toString(),
    uploadRecord: golden.uploadRecord,
    created,
    checksum: checksumName(algorithm, type),
    manifestKey: manifestKey.toString('hex'),
    recovery: sha256(recovery).toString('hex'),
    parts,
    tombstone: golden.tombstone,
    ...tombstoneByDocument(golden, hash, list, mac),
  };
}

type Mac = (v: number, label: string, ...fields: Buffer[]) => Buffer;

function reader(bytes: Buffer): (n: number) => Buffer {
  let at = 0;
  return (n) => bytes.subarray(at, (at += n));
}

function checksumName(algorithm = 0, type = 0): [string, string] {
  const algorithms = ['', 'CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256'];
  return [algorithms[algorithm] ?? '', ['', 'FULL_OBJECT', 'COMPOSITE'][type] ?? ''];
}

function partByDocument(name: string, hash: Buffer, objectId: Buffer, mac: Mac): GoldenPart {
  const [number = '', ...pieces] = name.split('/');
  need(
    pieces.every((piece, index) => index === pieces.length - 1 || piece.length === 240),
    'pieces of 240',
  );
  const sealed = Buffer.from(pieces.join(''), 'base64url');
  need(sealed[0] === 1, 'part record');
  const v = sealed.readUInt32BE(1);
  const aad = Buffer.concat([L('part-record'), hash, be(v, 4)]);
  const part = open(mac(v, 'part-record', hash), sealed.subarray(5, 17), aad, sealed.subarray(17));
  const take = reader(part);
  const partNumber = take(2).readUInt16BE(0);
  need(number === String(partNumber).padStart(5, '0'), 'the number in the name');
  const [place, , checksumLength = 0, zero] = take(4);
  need(zero === 0, 'zero');
  const [length, time] = [Number(take(8).readBigUInt64BE(0)), Number(take(8).readBigUInt64BE(0))];
  const [floeIv, headerTag, aside, checksum] = [take(32), take(32), take(16), take(checksumLength)];
  const storeEtag = take(take(1).readUInt8(0)).toString();
  const tag = mac(v, 'part-etag', hash, objectId, part).subarray(0, 16).toString('base64url');
  return {
    name,
    etag: `${storeEtag}-${tag}`,
    partNumber,
    length,
    time,
    floeIv: floeIv.toString('hex'),
    headerTag: headerTag.toString('hex'),
    asideId: place === 1 ? aside.toString('hex') : '',
    checksum: checksum.toString('hex'),
    storeEtag,
  };
}

function tombstoneByDocument(golden: GoldenRecords, hash: Buffer, list: Buffer, mac: Mac) {
  const stone = Buffer.from(golden.tombstone, 'base64');
  const take = reader(stone);
  const [version, , , checksumLength = 0] = take(4);
  need(version === 1, 'tombstone');
  const v = take(4).readUInt32BE(0);
  const completed = Number(take(8).readBigUInt64BE(0));
  const digest = take(32);
  need(digest.equals(list), 'list digest');
  const text = (): string => take(take(2).readUInt16BE(0)).toString();
  const [envelope, etag, versionId] = [text(), text(), text()];
  need(envelope === golden.envelope, 'envelope of the tombstone');
  const checksum = take(checksumLength);
  need(mac(v, 'tombstone', hash, stone.subarray(0, -32)).equals(take(32)), 'MAC of the tombstone');
  return {
    completed,
    listDigest: digest.toString('hex'),
    etag,
    versionId,
    objectChecksum: checksum.toString('hex'),
  };
}
