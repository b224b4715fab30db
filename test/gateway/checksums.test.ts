import { createHash, randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { Crc64Nvme } from '@aws-sdk/crc64-nvme';
import { crc32c } from '@node-rs/crc32';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { codeOf } from '../support/attacker.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { MODES } from '../support/modes.ts';
import { s3, xmlText, type RawRequest, type RawResponse } from '../support/s3-raw.ts';

type Headers = Readonly<Record<string, string>>;

function u32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value >>> 0);
  return out;
}

async function crc64(data: Buffer): Promise<Buffer> {
  const digest = new Crc64Nvme();
  digest.update(data);
  return Buffer.from(await digest.digest());
}

const hashed = (name: string) => (data: Buffer) => Promise.resolve(createHash(name).update(data).digest());
const ALGORITHMS: Readonly<Record<string, (data: Buffer) => Promise<Buffer>>> = {
  CRC32: (data) => Promise.resolve(u32(crc32(data))),
  CRC32C: (data) => Promise.resolve(u32(crc32c(data))),
  CRC64NVME: crc64,
  SHA1: hashed('sha1'),
  SHA256: hashed('sha256'),
};
const ENABLED = { 'x-amz-checksum-mode': 'ENABLED' };
/** At and around what is collected as one buffer, and a body of several segments. */
const SIZES = { nothing: 0, small: 1000, streamed: 200_000 } as const;

function inTrailer(data: Buffer, name: string, value: string): Partial<RawRequest> & { headers: Headers } {
  const chunk = data.length === 0 ? [] : [Buffer.from(`${data.length.toString(16)}\r\n`), data, Buffer.from('\r\n')];
  return {
    body: Buffer.concat([...chunk, Buffer.from(`0\r\n${name}:${value}\r\n\r\n`)]),
    payload: 'STREAMING-UNSIGNED-PAYLOAD-TRAILER',
    headers: {
      'content-encoding': 'aws-chunked',
      'x-amz-decoded-content-length': String(data.length),
      'x-amz-trailer': name,
    },
  };
}

describe.each(inject('stores'))('checksums over $name', (store) => {
  const bucket = `checksums-${randomBytes(4).toString('hex')}`;
  let gateway: TestGateway;
  beforeAll(async () => {
    gateway = await startGateway({ store, config: { development: { allowInsecureSseC: true } } });
    await s3(gateway.raw, { method: 'PUT', bucket });
  });
  afterAll(() => gateway.stop());

  const send = (method: RawRequest['method'], key: string, rest: Partial<RawRequest> = {}): Promise<RawResponse> =>
    s3(gateway.raw, { method, bucket, key, ...rest });
  const told = (answer: RawResponse): string => `${answer.status} ${codeOf(answer)}`.trim();
  const checksumsOf = ({ headers }: RawResponse): Headers =>
    Object.fromEntries(
      Object.entries(headers).filter(([name]) => name.startsWith('x-amz-checksum-')) as [string, string][],
    );

  describe.each(MODES)('$name', (mode) => {
    // What is computed does not depend on the store: the whole table over the first one, a row of it over the others.
    const whole = store === inject('stores')[0];
    const rows = Object.keys(ALGORITHMS)
      .filter((algorithm) => whole || algorithm === 'CRC32')
      .flatMap((algorithm) =>
        (['header', 'trailer'] as const).flatMap((form) =>
          (Object.keys(SIZES) as (keyof typeof SIZES)[])
            .filter((size) => size !== 'nothing' || algorithm === 'CRC32')
            .map((size) => [algorithm, form, size] as const),
        ),
      );
    it.each(rows)('%s in a %s, %s', async (algorithm, form, size) => {
      const key = `${mode.name}/${algorithm}-${form}-${size}`;
      const data = randomBytes(SIZES[size]);
      const header = `x-amz-checksum-${algorithm.toLowerCase()}`;
      const digest = (await ALGORITHMS[algorithm]?.(data)) ?? Buffer.alloc(0);
      const request = (value: Buffer): Partial<RawRequest> => {
        const text = value.toString('base64');
        const { headers, ...rest } =
          form === 'header' ? { body: data, headers: { [header]: text } } : inTrailer(data, header, text);
        return { ...rest, headers: { ...headers, ...mode.write } };
      };
      const kept = { [header]: digest.toString('base64'), 'x-amz-checksum-type': 'FULL_OBJECT' };

      const wrong = Buffer.from(digest);
      wrong[0] = (wrong[0] ?? 0) ^ 1;
      expect(told(await send('PUT', key, request(wrong)))).toBe('400 BadDigest');
      expect((await send('HEAD', key, { headers: mode.read })).status).toBe(404);

      const put = await send('PUT', key, request(digest));
      expect([told(put), checksumsOf(put)]).toEqual(['200', kept]);
      const get = await send('GET', key, { headers: { ...mode.read, ...ENABLED } });
      // The value that came behind a streamed body lies behind it at the store too: a GET does not ask twice for it.
      const late = form === 'trailer' && size === 'streamed';
      expect([get.body.equals(data), checksumsOf(get)]).toEqual([true, late ? {} : kept]);
      expect(checksumsOf(await send('HEAD', key, { headers: { ...mode.read, ...ENABLED } }))).toEqual(kept);
      expect(checksumsOf(await send('GET', key, { headers: { ...mode.read, ...ENABLED } }))).toEqual(kept);
      for (const method of ['GET', 'HEAD'] as const) {
        expect(checksumsOf(await send(method, key, { headers: mode.read }))).toEqual({});
      }
      if (size === 'nothing') return;
      const range = await send('GET', key, { headers: { ...mode.read, ...ENABLED, range: 'bytes=0-9' } });
      expect([range.status, checksumsOf(range)]).toEqual([206, {}]);
      const asked = { ...mode.read, 'x-amz-object-attributes': 'Checksum' };
      const { text } = await send('GET', key, { query: { attributes: '' }, headers: asked });
      expect(xmlText(text, `Checksum${algorithm}`)).toBe(digest.toString('base64'));
    });
  });

  it.each<[string, Headers, string]>([
    ['a value of another length', { 'x-amz-checksum-crc32': 'AAAAAAAAAAA=' }, '400 InvalidRequest'],
    ['an empty value', { 'x-amz-checksum-sha256': '' }, '400 InvalidRequest'],
    ['no base64', { 'x-amz-checksum-crc32': '!!!!!!==' }, '400 InvalidRequest'],
    ['two at once', { 'x-amz-checksum-crc32': 'AAAAAA==', 'x-amz-checksum-crc32c': 'AAAAAA==' }, '400 InvalidRequest'],
    [
      'another algorithm named beside it',
      { 'x-amz-checksum-crc32': 'AAAAAA==', 'x-amz-sdk-checksum-algorithm': 'SHA1' },
      '400 InvalidRequest',
    ],
    ['an algorithm that nobody knows', { 'x-amz-sdk-checksum-algorithm': 'CRC99' }, '400 InvalidRequest'],
    ['SHA512', { 'x-amz-checksum-sha512': 'AA==' }, '501 NotImplemented'],
    ['MD5', { 'x-amz-checksum-md5': 'AA==' }, '501 NotImplemented'],
    ['XXHASH64', { 'x-amz-checksum-xxhash64': 'AA==' }, '501 NotImplemented'],
    ['a short Content-MD5', { 'content-md5': 'AAAA' }, '400 InvalidDigest'],
    ["another body's Content-MD5", { 'content-md5': `${'A'.repeat(22)}==` }, '400 BadDigest'],
  ])('%s is refused, and nothing is written', async (_title, headers, expected) => {
    for (const size of [100, 200_000]) {
      const put = await send('PUT', 'refused', { headers, body: Buffer.alloc(size, 1) });
      expect(told(put)).toBe(expected);
      expect((await send('HEAD', 'refused')).status).toBe(404);
    }
  });

  it('an algorithm named without a value asks for nothing: the JS SDK signs it into presigned URLs', async () => {
    const put = await send('PUT', 'named', { headers: { 'x-amz-sdk-checksum-algorithm': 'CRC32' }, body: 'x' });
    expect([told(put), checksumsOf(put)]).toEqual(['200', {}]);
  });

  it('a stopped service keeps HEAD working; the checksum is left out', async () => {
    const value = (await ALGORITHMS.CRC32?.(Buffer.from('x')))?.toString('base64') ?? '';
    await send('PUT', 'stopped', { headers: { 'x-amz-checksum-crc32': value }, body: 'x' });
    await gateway.admin('POST', '/kms/stop', { reason: 'test' });
    try {
      const head = await send('HEAD', 'stopped', { headers: ENABLED });
      expect([head.status, head.headers['content-length'], checksumsOf(head)]).toEqual([200, '1', {}]);
      const asked = { query: { attributes: '' }, headers: { 'x-amz-object-attributes': 'Checksum' } };
      expect(told(await send('GET', 'stopped', asked))).toBe('503 ServiceUnavailable');
    } finally {
      await gateway.admin('POST', '/kms/start', {});
    }
  });
});
