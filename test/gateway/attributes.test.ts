import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { codeOf } from '../support/attacker.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { customerKey } from '../support/modes.ts';
import { s3, xmlText, xmlTexts, type RawRequest, type RawResponse } from '../support/s3-raw.ts';

type Headers = Readonly<Record<string, string>>;
const EVERYTHING = 'ETag,Checksum,ObjectParts,StorageClass,ObjectSize';
const MIB = 1024 ** 2;

describe.each(inject('stores'))('GetObjectAttributes over $name', (store) => {
  const bucket = `attributes-${randomBytes(4).toString('hex')}`;
  const parts = [randomBytes(5 * MIB), randomBytes(5 * MIB + 1), Buffer.from('the last part')];
  const sha256 = (data: Buffer): Buffer => createHash('sha256').update(data).digest();
  const own = customerKey();
  let gateway: TestGateway;

  const send = (method: RawRequest['method'], key?: string, rest: Partial<RawRequest> = {}): Promise<RawResponse> =>
    s3(gateway.raw, { method, bucket, ...(key === undefined ? {} : { key }), ...rest });
  const attributes = (key: string, names = EVERYTHING, headers: Headers = {}): Promise<RawResponse> =>
    send('GET', key, { query: { attributes: '' }, headers: { 'x-amz-object-attributes': names, ...headers } });
  const told = (answer: RawResponse): string => `${answer.status} ${codeOf(answer)}`.trim();

  /** An upload of the three parts under the numbers 2, 5 and 9. */
  async function upload(key: string, algorithm?: 'SHA256'): Promise<void> {
    const asked: Headers = algorithm === undefined ? {} : { 'x-amz-checksum-algorithm': algorithm };
    const created = await send('POST', key, { query: { uploads: '' }, headers: asked });
    const uploadId = xmlText(created.text, 'UploadId');
    const list: string[] = [];
    for (const [index, body] of parts.entries()) {
      const partNumber = String([2, 5, 9][index]);
      const headers: Headers =
        algorithm === undefined ? {} : { 'x-amz-checksum-sha256': sha256(body).toString('base64') };
      const part = await send('PUT', key, { query: { uploadId, partNumber }, headers, body });
      const checksum =
        algorithm === undefined ? '' : `<ChecksumSHA256>${sha256(body).toString('base64')}</ChecksumSHA256>`;
      list.push(
        `<Part><PartNumber>${partNumber}</PartNumber><ETag>${part.headers.etag ?? ''}</ETag>${checksum}</Part>`,
      );
    }
    const body = `<CompleteMultipartUpload>${list.join('')}</CompleteMultipartUpload>`;
    expect((await send('POST', key, { query: { uploadId }, body })).status).toBe(200);
  }

  beforeAll(async () => {
    gateway = await startGateway({ store, config: { development: { allowInsecureSseC: true } } });
    await send('PUT');
    await send('PUT', 'single', { body: 'eleven byte' });
    await send('PUT', 'zero', { body: '' });
    await send('PUT', 'customer', { body: 'mine', headers: own });
    await upload('parts', 'SHA256');
    await upload('bare');
  });
  afterAll(() => gateway.stop());

  it.each([
    ['single', 11],
    ['zero', 0],
  ])('of an object that is not in parts: %s', async (key, size) => {
    const head = await send('HEAD', key);
    const { status, headers, text } = await attributes(key);
    expect([status, headers['last-modified'], headers['content-type']]).toEqual([
      200,
      head.headers['last-modified'],
      'application/xml',
    ]);
    expect(xmlText(text, 'ObjectSize')).toBe(String(size));
    expect(`"${xmlText(text, 'ETag')}"`).toBe(head.headers.etag);
    expect(xmlText(text, 'StorageClass')).toBe('STANDARD');
    expect(text).not.toMatch(/ObjectParts|Checksum/);
    expect(text).toContain('<GetObjectAttributesResponse xmlns="http://s3.amazonaws.com/doc/2006-03-01/">');
  });

  it('what was not asked for is not told', async () => {
    const { text } = await attributes('parts', ' ObjectSize ');
    expect(xmlText(text, 'ObjectSize')).toBe(String(parts.reduce((sum, part) => sum + part.length, 0)));
    expect(text).not.toMatch(/ETag|Checksum|ObjectParts|StorageClass/);
  });

  it("an object in parts: sizes and checksums under the client's numbers", async () => {
    const { text } = await attributes('parts');
    const digests = parts.map((part) => sha256(part).toString('base64'));
    const composite = sha256(Buffer.concat(parts.map(sha256))).toString('base64');
    expect(xmlTexts(text, 'ChecksumSHA256')).toEqual([composite, ...digests]);
    expect(xmlText(text, 'ChecksumType')).toBe('COMPOSITE');
    expect(xmlTexts(text, 'PartNumber')).toEqual(['2', '5', '9']);
    expect(xmlTexts(text, 'Size')).toEqual(parts.map((part) => String(part.length)));
    expect([xmlText(text, 'PartsCount'), xmlText(text, 'IsTruncated')]).toEqual(['3', 'false']);
  });

  it('without checksums the sizes alone', async () => {
    const { text } = await attributes('bare');
    expect(xmlTexts(text, 'Size')).toEqual(parts.map((part) => String(part.length)));
    expect(text).not.toContain('Checksum');
  });

  it('page by page', async () => {
    const seen: string[] = [];
    let marker = '0';
    for (let page = 0; page < 5; page += 1) {
      const paging = { 'x-amz-max-parts': '1', 'x-amz-part-number-marker': marker };
      const { text } = await attributes('parts', 'ObjectParts', paging);
      expect([xmlText(text, 'PartNumberMarker'), xmlText(text, 'MaxParts')]).toEqual([marker, '1']);
      seen.push(...xmlTexts(text, 'PartNumber'));
      marker = xmlText(text, 'NextPartNumberMarker');
      if (xmlText(text, 'IsTruncated') === 'false') break;
    }
    expect(seen).toEqual(['2', '5', '9']);
    expect(xmlTexts((await attributes('parts', 'ObjectParts', { 'x-amz-max-parts': '0' })).text, 'Part')).toEqual([]);
  });

  it('SSE-C: the key is demanded, whatever is asked', async () => {
    for (const names of ['ObjectSize', EVERYTHING]) {
      expect(told(await attributes('customer', names))).toBe('400 InvalidRequest');
      expect(told(await attributes('customer', names, customerKey()))).toBe('403 AccessDenied');
      expect(told(await attributes('single', names, own))).toBe('400 InvalidRequest');
      expect(xmlText((await attributes('customer', names, own)).text, 'ObjectSize')).toBe('4');
    }
  });

  it.each<[string, string, Headers, string]>([
    ['nothing asked', '', {}, '400 InvalidRequest'],
    ['an unknown attribute', 'ETag,Owner', {}, '400 InvalidArgument'],
    ['a max-parts that is none', 'ETag', { 'x-amz-max-parts': '-1' }, '400 InvalidArgument'],
    ['a marker that is none', 'ETag', { 'x-amz-part-number-marker': 'x' }, '400 InvalidArgument'],
  ])('%s', async (_title, names, headers, expected) => {
    expect(told(await attributes('single', names, headers))).toBe(expected);
  });

  it('what is not there', async () => {
    expect(told(await attributes('nothing'))).toBe('404 NoSuchKey');
    expect(told(await attributes('nothing', 'ETag'))).toBe('404 NoSuchKey');
  });
});
