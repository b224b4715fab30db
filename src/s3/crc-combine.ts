import type { ChecksumAlgorithm } from './checksum.ts';

/** Reflected polynomials of the CRCs that S3 combines into one of the full object; the others have none. */
const CRCS: Readonly<Partial<Record<ChecksumAlgorithm, { readonly bits: bigint; readonly polynomial: bigint }>>> = {
  CRC32: { bits: 32n, polynomial: 0xedb88320n },
  CRC32C: { bits: 32n, polynomial: 0x82f63b78n },
  CRC64NVME: { bits: 64n, polynomial: 0x9a6c9329ac4bc9b5n },
};

export function isCombinable(algorithm: ChecksumAlgorithm): boolean {
  return CRCS[algorithm] !== undefined;
}

export interface PartCrc {
  readonly value: Buffer;
  /** Bytes of the part. */
  readonly length: number;
}

/**
 * The CRC of the parts in a row, from the CRCs of each (as zlib's `crc32_combine`): the former is multiplied by
 * x^(8·length) modulo the polynomial. Bits are reflected, so that x^0 is the highest.
 */
export function combineCrcs(algorithm: ChecksumAlgorithm, parts: readonly PartCrc[]): Buffer {
  const crc = CRCS[algorithm];
  if (crc === undefined) throw new RangeError(`${algorithm} does not combine`);
  const { bits, polynomial } = crc;
  const one = 1n << (bits - 1n);
  const multiply = (a: bigint, b: bigint): bigint => {
    let product = 0n;
    for (let mask = one, rest = b; mask > 0n; mask >>= 1n) {
      if ((a & mask) !== 0n) product ^= rest;
      rest = (rest & 1n) === 1n ? (rest >> 1n) ^ polynomial : rest >> 1n;
    }
    return product;
  };
  // Parts have few lengths, mostly one.
  const shifts = new Map<number, bigint>();
  const shiftOf = (length: number): bigint => {
    let shift = shifts.get(length);
    if (shift === undefined) {
      shift = one;
      let square = one >> 8n;
      for (let n = BigInt(length); n > 0n; n >>= 1n) {
        if ((n & 1n) === 1n) shift = multiply(square, shift);
        square = multiply(square, square);
      }
      shifts.set(length, shift);
    }
    return shift;
  };
  let combined = 0n;
  for (const { value, length } of parts) {
    combined = multiply(shiftOf(length), combined) ^ BigInt(`0x${value.toString('hex')}`);
  }
  return Buffer.from(combined.toString(16).padStart(Number(bits) / 4, '0'), 'hex');
}
