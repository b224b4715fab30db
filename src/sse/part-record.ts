import { u16, u32, u64 } from '../bytes.ts';
import { ServiceError } from '../errors.ts';
import { checksumCodes, readChecksum } from './checksum.ts';
import { FLOE, FORMAT_VERSION, LABEL, type Checksum, type Entropy } from './format.ts';
import { envelopeMac, type EnvelopeKeys } from './mac.ts';
import { isPartNumber } from './message.ts';
import { FieldReader } from './reader.ts';
import { uploadKey } from './upload-record.ts';
import { unwrap, wrap, WRAP_OVERHEAD } from './wrap.ts';

export const ASIDE_ID_LENGTH = 16;
const ETAG_TAG_LENGTH = 16;
const PLACE = { store: 0, aside: 1 } as const;
/** File systems behind stores hold names of 255 bytes between two slashes. */
const NAME_CHARACTERS = 240;
const HEAD_LENGTH = 5;
/** Any ETag that a store gives: hex in practice, and bounded. */
const STORE_ETAG = /^[\x21\x23-\x7e]{1,64}$/;
const NO_ASIDE = Buffer.alloc(ASIDE_ID_LENGTH);

/** One acknowledged attempt of a part (FORMAT.md section 16). */
export interface PartRecord {
  readonly partNumber: number;
  /** Plaintext bytes. */
  readonly length: number;
  /** Milliseconds since 1970, by the gateway's clock. */
  readonly time: number;
  readonly floeIv: Buffer;
  readonly headerTag: Buffer;
  /** Of the part's plaintext. */
  readonly checksum: Checksum | undefined;
  /** Where its sealed bytes are: a part at the store, or put aside in the system bucket. */
  readonly asideId: Buffer | undefined;
  /** Without quotes. */
  readonly storeEtag: string;
}

/** A record that has been opened, with the ETag by which the client knows this attempt. */
export interface KnownPart extends PartRecord {
  /** Without quotes. */
  readonly etag: string;
}

function encode(part: PartRecord): Buffer {
  if (!STORE_ETAG.test(part.storeEtag)) throw new ServiceError('ServiceUnavailable', { reason: 'store-etag' });
  const [algorithm, , length] = checksumCodes(part.checksum);
  return Buffer.concat([
    u16(part.partNumber),
    Buffer.from([part.asideId === undefined ? PLACE.store : PLACE.aside, algorithm, length, 0]),
    u64(part.length),
    u64(part.time),
    part.floeIv,
    part.headerTag,
    part.asideId ?? NO_ASIDE,
    part.checksum?.value ?? Buffer.alloc(0),
    Buffer.from([part.storeEtag.length]),
    Buffer.from(part.storeEtag, 'ascii'),
  ]);
}

function decode(bytes: Buffer): PartRecord {
  const malformed = (): RangeError => new RangeError('part record');
  const reader = new FieldReader(bytes, malformed);
  const partNumber = reader.u16();
  const [place, algorithm = 0, checksumLength = 0] = reader.take(4);
  const length = Number(reader.take(8).readBigUInt64BE(0));
  const time = Number(reader.take(8).readBigUInt64BE(0));
  const floeIv = Buffer.from(reader.take(FLOE.ivLength));
  const headerTag = Buffer.from(reader.take(FLOE.headerTagLength));
  const asideId = Buffer.from(reader.take(ASIDE_ID_LENGTH));
  const value = reader.take(checksumLength);
  const storeEtag = reader.take(reader.u8()).toString('latin1');
  reader.end();
  if (!isPartNumber(partNumber) || (place !== PLACE.store && place !== PLACE.aside)) throw malformed();
  const checksum = readChecksum([algorithm, algorithm === 0 ? 0 : 1, checksumLength], value);
  const where = place === PLACE.aside ? asideId : undefined;
  return { partNumber, length, time, floeIv, headerTag, checksum, asideId: where, storeEtag };
}

/** The upload that records belong to. */
export interface UploadIdentity {
  readonly hash: Buffer;
  readonly objectId: Buffer;
  readonly keys: EnvelopeKeys;
}

function aadOf(hash: Buffer, version: number): Buffer {
  return Buffer.concat([LABEL.partRecord, hash, u32(version)]);
}

/** The record as a name, and the ETag that the client is told. */
export function sealPartRecord(
  part: PartRecord,
  upload: UploadIdentity,
  entropy: Entropy,
): { readonly name: string; readonly etag: string } {
  const { version, key } = upload.keys.current();
  const plain = encode(part);
  const sealed = wrap(uploadKey(key, LABEL.partRecord, upload.hash), plain, aadOf(upload.hash, version), entropy);
  const text = Buffer.concat([Buffer.from([FORMAT_VERSION]), u32(version), sealed]).toString('base64url');
  const pieces = text.match(new RegExp(`.{1,${NAME_CHARACTERS}}`, 'g')) ?? [];
  const number = String(part.partNumber).padStart(5, '0');
  return { name: `${number}/${pieces.join('/')}`, etag: etagOf(part, plain, upload, version) };
}

function etagOf(part: PartRecord, plain: Buffer, upload: UploadIdentity, version: number): string {
  const key = upload.keys.get(version);
  if (key === undefined) throw new RangeError('an envelope key that was there is gone');
  const mac = envelopeMac(key, LABEL.partEtag, [upload.hash, upload.objectId, plain]);
  return `${part.storeEtag}-${mac.toString('base64url', 0, ETAG_TAG_LENGTH)}`;
}

/** Opens a name; undefined for one that this service did not write for this upload and number. */
export function openPartRecord(name: string, upload: UploadIdentity): KnownPart | undefined {
  const [number = '', ...pieces] = name.split('/');
  const bytes = Buffer.from(pieces.join(''), 'base64url');
  if (bytes.length < HEAD_LENGTH + WRAP_OVERHEAD || bytes[0] !== FORMAT_VERSION) return undefined;
  const version = bytes.readUInt32BE(1);
  const key = upload.keys.get(version);
  if (key === undefined) return undefined;
  const sealed = bytes.subarray(HEAD_LENGTH);
  const plain = unwrap(uploadKey(key, LABEL.partRecord, upload.hash), sealed, aadOf(upload.hash, version));
  if (plain === undefined) return undefined;
  const part = decode(plain);
  if (String(part.partNumber).padStart(5, '0') !== number) return undefined;
  return { ...part, etag: etagOf(part, plain, upload, version) };
}
