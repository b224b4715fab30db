import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { combineCrcs } from '../../src/s3/crc-combine.ts';
import { digestOf } from '../../src/s3/checksum.ts';

it.each(['CRC32', 'CRC32C', 'CRC64NVME'] as const)('%s of parts is that of the whole', (algorithm) => {
  const parts = [0, 1, 65_536, 0, 300_001, 7].map((length) => randomBytes(length));
  const crcs = parts.map((part) => ({ value: digestOf(algorithm, part), length: part.length }));
  expect(combineCrcs(algorithm, crcs)).toEqual(digestOf(algorithm, Buffer.concat(parts)));
});
