import { integrityError } from '../errors.ts';
import { CHECKSUM, CHECKSUM_TYPE, type Checksum, type ChecksumAlgorithm, type ChecksumType } from './format.ts';

const algorithms = new Map<number, ChecksumAlgorithm>(
  Object.entries(CHECKSUM).map(([name, row]) => [row.code, name as ChecksumAlgorithm]),
);
const types = new Map<number, ChecksumType>(
  Object.entries(CHECKSUM_TYPE).map(([name, code]) => [code, name as ChecksumType]),
);

/** Codes of algorithm and type, and the length: the three bytes in front of a stored checksum. */
export function checksumCodes(checksum: Checksum | undefined): readonly [number, number, number] {
  if (checksum === undefined) return [0, 0, 0];
  const row = CHECKSUM[checksum.algorithm];
  if (checksum.value.length !== row.length) throw new RangeError(`a ${checksum.algorithm} has ${row.length} bytes`);
  return [row.code, CHECKSUM_TYPE[checksum.type], row.length];
}

/** The checksum behind three codes; `field` holds it, zero-filled. Strict: what no writer makes is refused. */
export function readChecksum(codes: readonly number[], field: Buffer): Checksum | undefined {
  const [algorithmCode = 0, typeCode = 0, length = 0] = codes;
  if (length > field.length || field.subarray(length).some((byte) => byte !== 0)) throw integrityError('checksum-form');
  if (algorithmCode === 0 && typeCode === 0 && length === 0) return undefined;
  const algorithm = algorithms.get(algorithmCode);
  const type = types.get(typeCode);
  if (algorithm === undefined || type === undefined || CHECKSUM[algorithm].length !== length) {
    throw integrityError('checksum-form');
  }
  return { algorithm, type, value: Buffer.from(field.subarray(0, length)) };
}
