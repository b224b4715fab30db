import { createHmac, createSecretKey, hash, timingSafeEqual, type KeyObject } from 'node:crypto';

/** Constant-time equality; false for unequal lengths (lengths are public everywhere in this project). */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && timingSafeEqual(a, b);
}

/** Makes a KeyObject of raw key bytes and zeroes the source. The source must be solely owned (never pooled). */
export function takeKey(bytes: Buffer): KeyObject {
  const key = createSecretKey(bytes);
  bytes.fill(0);
  return key;
}

/**
 * Digests and MACs that are no secrets. They come out of node:crypto as strings, which lie on the heap: a buffer that
 * it makes has memory of its own, which costs 2 to 3 µs and a visit of the collector, more than the digest itself.
 * Never for keys: a string cannot be wiped.
 */
export function publicDigest(bytes: Buffer): Buffer {
  return Buffer.from(hash('sha256', bytes, 'binary'), 'latin1');
}

export function publicMac(algorithm: 'sha256' | 'sha384', key: KeyObject, bytes: Buffer): Buffer {
  return Buffer.from(createHmac(algorithm, key).update(bytes).digest('binary'), 'latin1');
}

/** Unsigned big-endian 64-bit integer; exact to 2^53. */
export function u64(value: number): Buffer {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError('u64 needs a safe non-negative integer');
  const out = Buffer.alloc(8);
  out.writeBigUInt64BE(BigInt(value));
  return out;
}

/** Unsigned big-endian 32-bit integer. */
export function u32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
}

/** Unsigned big-endian 16-bit integer. */
export function u16(value: number): Buffer {
  const out = Buffer.alloc(2);
  out.writeUInt16BE(value);
  return out;
}

/**
 * A header's value without the blanks around it (RFC 9110 section 5.5). By steps: a pattern tries the end of a value anew
 * at each of its inner blanks, which takes a third of a second for 15,000 of them.
 */
export function trimBlanks(value: string): string {
  let start = 0;
  let end = value.length;
  while (start < end && isBlank(value.charCodeAt(start))) start += 1;
  while (end > start && isBlank(value.charCodeAt(end - 1))) end -= 1;
  return value.slice(start, end);
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

type Transferable = ArrayBuffer & { transfer?: (length: number) => ArrayBuffer };

const canTransfer = typeof (ArrayBuffer.prototype as Transferable).transfer === 'function';
let releasing = canTransfer;

/** The one switch of `release`; the suite runs both ways. Returns what is in force (false where Node lacks it). */
export function setReleasing(on: boolean): boolean {
  releasing = on && canTransfer;
  return releasing;
}

/**
 * Frees the memory of a buffer at once instead of at the next garbage collection, which is what a data path of
 * 64 KiB segments spends its time on. Only for a buffer that the caller owns alone and that nobody reads any more;
 * a pooled or sliced buffer is left as it is.
 */
export function release(buffer: Buffer): void {
  if (!releasing) return;
  const memory = buffer.buffer as Transferable;
  if (buffer.byteLength === 0 || memory.byteLength !== buffer.byteLength) return;
  memory.transfer?.(0);
}

/**
 * `release` when the current callback has returned: for a chunk that its source (undici's parser, a socket) may look at
 * once more when its listener is done. An emptied chunk throws there.
 */
export function releaseSoon(buffer: Buffer): void {
  if (releasing) process.nextTick(release, buffer);
}
