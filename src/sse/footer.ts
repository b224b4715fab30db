import { equalBytes, u32, u64 } from '../bytes.ts';
import { integrityError } from '../errors.ts';
import {
  FOOTER_LENGTH,
  FOOTER_MAGIC,
  FORMAT_VERSION,
  LABEL,
  MAC_LENGTH,
  OBJECT_TYPE,
  SIZE,
  type ObjectType,
} from './format.ts';
import { envelopeMac, type EnvelopeKey, type EnvelopeKeys } from './mac.ts';
import { multipartSealedSize, sealedSize } from './size.ts';

const CLEAR_LENGTH = FOOTER_LENGTH - MAC_LENGTH;

/** The last 64 bytes of an object: enough to know T and to find everything else. */
export interface Footer {
  readonly type: ObjectType;
  /** Entries of the manifest; 0 for a single object. */
  readonly parts: number;
  /** T. */
  readonly length: number;
}

function mac(key: EnvelopeKey['key'], clear: Buffer, objectId: Buffer, size: number): Buffer {
  return envelopeMac(key, LABEL.footer, [clear, objectId, u64(size)]);
}

export function formatFooter(footer: Footer, objectId: Buffer, size: number, key: EnvelopeKey): Buffer {
  const clear = Buffer.concat([
    Buffer.from(FOOTER_MAGIC, 'ascii'),
    Buffer.from([FORMAT_VERSION, OBJECT_TYPE[footer.type], 0, 0]),
    u32(footer.parts),
    u64(footer.length),
    u32(key.version),
    u32(0),
  ]);
  return Buffer.concat([clear, mac(key.key, clear, objectId, size)]);
}

/** Parses and authenticates a footer for an object of `size` sealed bytes, and confirms that size. */
export function verifyFooter(bytes: Buffer, objectId: Buffer, size: number, keys: EnvelopeKeys): Footer {
  if (bytes.length !== FOOTER_LENGTH) throw integrityError('footer-length');
  const clear = bytes.subarray(0, CLEAR_LENGTH);
  if (clear.toString('latin1', 0, 8) !== FOOTER_MAGIC || clear[8] !== FORMAT_VERSION) {
    throw integrityError('footer-version');
  }
  const key = keys.get(clear.readUInt32BE(24));
  if (key === undefined) throw integrityError('footer-key-version');
  if (!equalBytes(mac(key, clear, objectId, size), bytes.subarray(CLEAR_LENGTH))) throw integrityError('footer-mac');
  const type =
    clear[9] === OBJECT_TYPE.single ? 'single' : clear[9] === OBJECT_TYPE.multipart ? 'multipart' : undefined;
  const parts = clear.readUInt32BE(12);
  const length = Number(clear.readBigUInt64BE(16));
  if (type === undefined || clear.readUInt16BE(10) !== 0 || clear.readUInt32BE(28) !== 0) {
    throw integrityError('footer-form');
  }
  if (type === 'single' ? parts !== 0 : parts < 1 || parts > SIZE.maxParts) throw integrityError('footer-form');
  if (length > SIZE.maxPlaintext) throw integrityError('footer-form');
  if ((type === 'single' ? sealedSize(length) : multipartSealedSize(length)) !== size) {
    throw integrityError('size');
  }
  return { type, parts, length };
}
