import { createHash } from 'node:crypto';
import { Crc64Nvme as Oracle } from '@aws-sdk/crc64-nvme';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checksumPlan } from '../../src/s3/checksum.ts';
import { Crc64Nvme } from '../../src/s3/crc64.ts';
import { codeOf } from './errors.ts';

const CHECK = Buffer.from('123456789');
const base64 = (hex: string) => Buffer.from(hex, 'hex').toString('base64');

/** The check values of the CRC catalogue (reveng) over `123456789`, and FIPS 180's hashes. */
const VECTORS = [
  ['CRC32', 'x-amz-checksum-crc32', base64('cbf43926')],
  ['CRC32C', 'x-amz-checksum-crc32c', base64('e3069283')],
  ['CRC64NVME', 'x-amz-checksum-crc64nvme', base64('ae8b14860a799888')],
  ['SHA1', 'x-amz-checksum-sha1', base64('f7c3bc1d808e04732adf679965ccc34ca7ae3441')],
  ['SHA256', 'x-amz-checksum-sha256', base64('15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225')],
] as const;

const WRONG = { 4: 'AAAAAA==', 8: 'AAAAAAAAAAA=', 20: `${'A'.repeat(27)}=`, 32: `${'A'.repeat(43)}=` } as const;
const wrongOf = (value: string) => WRONG[Buffer.from(value, 'base64').length as keyof typeof WRONG];

function run(headers: Record<string, string>, trailers: Record<string, string> = {}, body = CHECK) {
  const plan = checksumPlan(headers);
  plan.update(body.subarray(0, 4));
  plan.update(body.subarray(4));
  return plan.verify(trailers);
}

describe('checksums', () => {
  it.each(VECTORS)('%s in a header', (algorithm, header, value) => {
    expect(run({ [header]: value })).toEqual({ algorithm, value: Buffer.from(value, 'base64') });
    expect(checksumPlan({ [header]: value }).declared).toEqual({ algorithm, value: Buffer.from(value, 'base64') });
    expect(codeOf(() => run({ [header]: wrongOf(value) }))).toBe('BadDigest');
  });

  it.each(VECTORS)('%s in a trailer', (algorithm, header, value) => {
    const headers = { 'x-amz-trailer': header, 'x-amz-sdk-checksum-algorithm': algorithm };
    expect(checksumPlan(headers).declared).toBeUndefined();
    expect(run(headers, { [header]: value })).toEqual({ algorithm, value: Buffer.from(value, 'base64') });
    expect(codeOf(() => run(headers, { [header]: wrongOf(value) }))).toBe('BadDigest');
    expect(codeOf(() => run(headers))).toBe('InvalidRequest');
  });

  it('nothing asked, nothing kept', () => expect(run({})).toBeUndefined());

  it('of an empty body', () => {
    const plan = checksumPlan({ 'x-amz-checksum-crc32': 'AAAAAA==' });
    expect(plan.verify({})?.value.toString('hex')).toBe('00000000');
  });

  it('Content-MD5', () => {
    const md5 = createHash('md5').update(CHECK).digest('base64');
    expect(run({ 'content-md5': md5 })).toBeUndefined();
    expect(codeOf(() => run({ 'content-md5': `${'A'.repeat(22)}==` }))).toBe('BadDigest');
    const [, header, value] = VECTORS[0];
    expect(run({ 'content-md5': md5, [header]: value })?.algorithm).toBe('CRC32');
    expect(codeOf(() => run({ 'content-md5': md5, [header]: 'AAAAAA==' }))).toBe('BadDigest');
    expect(codeOf(() => run({ 'content-md5': `${'A'.repeat(22)}==`, [header]: value }))).toBe('BadDigest');
  });

  it.each<[string, Record<string, string>, string]>([
    ['a short MD5', { 'content-md5': 'AAAA' }, 'InvalidDigest'],
    ['an empty MD5', { 'content-md5': '' }, 'InvalidDigest'],
    ['an MD5 in hex', { 'content-md5': '25f9e794323b453885f5181f1b624d0b' }, 'InvalidDigest'],
    ['a short CRC32', { 'x-amz-checksum-crc32': 'AAAA' }, 'InvalidRequest'],
    ['an unpadded CRC32', { 'x-amz-checksum-crc32': 'AAAAAA' }, 'InvalidRequest'],
    ['base64url', { 'x-amz-checksum-crc32': '_____w==' }, 'InvalidRequest'],
    ['stray bits', { 'x-amz-checksum-crc32': 'AAAAAB==' }, 'InvalidRequest'],
    ['two headers', { 'x-amz-checksum-crc32': 'AAAAAA==', 'x-amz-checksum-crc32c': 'AAAAAA==' }, 'InvalidRequest'],
    [
      'header and trailer',
      { 'x-amz-checksum-crc32': 'AAAAAA==', 'x-amz-trailer': 'x-amz-checksum-crc32' },
      'InvalidRequest',
    ],
    ['two trailers', { 'x-amz-trailer': 'x-amz-checksum-crc32, x-amz-checksum-sha1' }, 'InvalidRequest'],
    [
      'another algorithm named',
      { 'x-amz-checksum-crc32': 'AAAAAA==', 'x-amz-sdk-checksum-algorithm': 'SHA256' },
      'InvalidRequest',
    ],
    [
      'another algorithm named for the trailer',
      { 'x-amz-trailer': 'x-amz-checksum-crc32', 'x-amz-sdk-checksum-algorithm': 'CRC32C' },
      'InvalidRequest',
    ],
    ['an algorithm that is none', { 'x-amz-sdk-checksum-algorithm': 'CRC99' }, 'InvalidRequest'],
    ['SHA512', { 'x-amz-checksum-sha512': 'AA==' }, 'NotImplemented'],
    ['XXHASH64', { 'x-amz-checksum-xxhash64': 'AA==' }, 'NotImplemented'],
    ['XXHASH3 in a trailer', { 'x-amz-trailer': 'x-amz-checksum-xxhash3' }, 'NotImplemented'],
    ['metadata in a trailer', { 'x-amz-trailer': 'x-amz-meta-a' }, 'NotImplemented'],
    ['an empty trailer', { 'x-amz-trailer': '' }, 'NotImplemented'],
  ])('%s', (_, headers, code) => expect(codeOf(() => checksumPlan(headers))).toBe(code));

  it.each<Record<string, string>>([
    { 'x-amz-checksum-mode': 'ENABLED' },
    { 'x-amz-checksum-type': 'FULL_OBJECT' },
    // A presigned URL: the algorithm is signed, the checksum of an unknown body is not.
    { 'x-amz-sdk-checksum-algorithm': 'CRC32' },
  ])('%j asks for nothing', (headers) => expect(run(headers)).toBeUndefined());
});

describe('CRC-64/NVME', () => {
  it('is that of the SDK, however the bytes come', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 6 }), async (chunks) => {
        const ours = new Crc64Nvme();
        const oracle = new Oracle();
        for (const chunk of chunks) {
          ours.update(chunk);
          oracle.update(chunk);
        }
        expect(ours.digest()).toEqual(Buffer.from(await oracle.digest()));
      }),
    );
  });
});
