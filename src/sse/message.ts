import {
  FORMAT_VERSION,
  MESSAGE_AAD_LENGTH,
  MESSAGE_TYPE,
  OBJECT_ID_LENGTH,
  PART_PREFIX_LENGTH,
  SIZE,
  type MessageType,
} from './format.ts';

/** What the AAD of a FLOE message says of it. */
export interface MessageFields {
  readonly type: MessageType;
  readonly objectId: Buffer;
  /** 1 to 10,000 for a part, 0 otherwise. */
  readonly partNumber: number;
  /** Plaintext bytes. */
  readonly length: number;
}

export function isPartNumber(number: number): boolean {
  return Number.isInteger(number) && number >= 1 && number <= SIZE.maxParts;
}

/** The 44 bytes of AAD (FORMAT.md section 3): type and number keep one message from standing in for another. */
export function messageAad(fields: MessageFields): Buffer {
  const { type, objectId, partNumber, length } = fields;
  if (objectId.length !== OBJECT_ID_LENGTH) throw new RangeError('an object id has 32 bytes');
  if (type === 'part' ? !isPartNumber(partNumber) : partNumber !== 0) throw new RangeError('part number out of range');
  const aad = Buffer.alloc(MESSAGE_AAD_LENGTH);
  aad[0] = FORMAT_VERSION;
  aad[1] = MESSAGE_TYPE[type];
  objectId.copy(aad, 2);
  aad.writeUInt16BE(partNumber, 34);
  aad.writeBigUInt64BE(BigInt(length), 36);
  return aad;
}

/** The 16 clear bytes before a part's message, with which a whole GET finds its way without the manifest. */
export function partPrefix(partNumber: number, length: number): Buffer {
  const prefix = Buffer.alloc(PART_PREFIX_LENGTH);
  prefix.writeUInt32BE(partNumber, 0);
  prefix.writeBigUInt64BE(BigInt(length), 8);
  return prefix;
}
