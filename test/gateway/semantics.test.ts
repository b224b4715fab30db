import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { codeOf } from '../support/attacker.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { s3, xmlTexts, type RawRequest, type RawResponse } from '../support/s3-raw.ts';
import type { StoreName } from '../stores/store.ts';

type Headers = Readonly<Record<string, string>>;

/** What a store cannot do, in the place of the answer that it should give. */
type Gaps = Partial<Record<StoreName, readonly [instead: string, reason: string]>>;

const HOLDS_NO_CONDITION: readonly [string, string] = ['501 NotImplemented', 'it passes the condition over'];

function told(answer: RawResponse): string {
  return `${answer.status} ${codeOf(answer)}`.trim();
}

describe.each(inject('stores'))('semantics over $name', (store) => {
  const bucket = `semantics-${randomBytes(4).toString('hex')}`;
  const body = randomBytes(200_000);
  let gateway: TestGateway;
  let etag = '';
  beforeAll(async () => {
    gateway = await startGateway({ store });
    expect((await send('PUT')).status).toBe(200);
    const { headers } = await send('PUT', 'object', { body });
    etag = headers.etag ?? '';
    await send('PUT', 'zero', { body: '' });
  });
  afterAll(() => gateway.stop());

  function send(method: RawRequest['method'], key?: string, rest: Partial<RawRequest> = {}): Promise<RawResponse> {
    return s3(gateway.raw, { method, bucket, ...(key === undefined ? {} : { key }), ...rest });
  }

  const expected = (right: string, gaps: Gaps = {}): string => gaps[store.name]?.[0] ?? right;

  describe('conditions of reads', () => {
    const past = 'Thu, 01 Jan 2015 00:00:00 GMT';
    const future = new Date(Date.now() + 3_600_000).toUTCString();
    it.each<[string, (tag: string) => Headers, number]>([
      ['If-Match of the ETag', (tag) => ({ 'if-match': tag }), 200],
      ['If-Match of the ETag without quotes', (tag) => ({ 'if-match': tag.replaceAll('"', '') }), 200],
      ['If-Match in a list', (tag) => ({ 'if-match': `"${'0'.repeat(32)}-01", ${tag}` }), 200],
      ['If-Match *', () => ({ 'if-match': '*' }), 200],
      ['If-Match of another', () => ({ 'if-match': `"${'0'.repeat(32)}-01"` }), 412],
      ["If-Match of the store's own ETag", (tag) => ({ 'if-match': tag.replace('-01', '') }), 412],
      ['If-None-Match of the ETag', (tag) => ({ 'if-none-match': tag }), 304],
      ['If-None-Match *', () => ({ 'if-none-match': '*' }), 304],
      ['If-None-Match of another', () => ({ 'if-none-match': `"${'0'.repeat(32)}-01"` }), 200],
      ["If-None-Match of the store's own ETag", (tag) => ({ 'if-none-match': tag.replace('-01', '') }), 200],
      ['If-Modified-Since in the past', () => ({ 'if-modified-since': past }), 200],
      ['If-Modified-Since now', () => ({ 'if-modified-since': new Date().toUTCString() }), 304],
      ['If-Unmodified-Since in the past', () => ({ 'if-unmodified-since': past }), 412],
      ['If-Unmodified-Since in the future', () => ({ 'if-unmodified-since': future }), 200],
      ['If-Match beside a date that fails', (tag) => ({ 'if-match': tag, 'if-unmodified-since': past }), 200],
      ['If-Match of the ETag in its weak form', (tag) => ({ 'if-match': `W/${tag}` }), 412],
      ['If-None-Match of the ETag in its weak form', (tag) => ({ 'if-none-match': `W/${tag}` }), 304],
      ['If-None-Match in a list', (tag) => ({ 'if-none-match': `"${'0'.repeat(32)}-01", ${tag}` }), 304],
      ['If-None-Match beside a date', (tag) => ({ 'if-none-match': tag, 'if-modified-since': past }), 304],
      [
        'If-None-Match of another beside a date',
        () => ({ 'if-none-match': `"${'0'.repeat(32)}-01"`, 'if-modified-since': future }),
        200,
      ],
      ['If-Match and If-None-Match of the ETag', (tag) => ({ 'if-match': tag, 'if-none-match': tag }), 304],
      ['If-Match of another before a 304', (tag) => ({ 'if-match': '"0-01"', 'if-none-match': tag }), 412],
      ['a date that is none', () => ({ 'if-modified-since': 'yesterday', 'if-unmodified-since': '2015' }), 200],
    ])('%s', async (_title, headersOf, status) => {
      expect(etag).toMatch(/^"[0-9a-f]{32}-01"$/);
      const headers = headersOf(etag);
      const get = await send('GET', 'object', { headers });
      const head = await send('HEAD', 'object', { headers });
      const range = await send('GET', 'object', { headers: { ...headers, range: 'bytes=0-9' } });
      const suffix = await send('GET', 'object', { headers: { ...headers, range: 'bytes=-10' } });
      const partial = status === 200 ? 206 : status;
      const statuses = [get, head, range, suffix].map((answer) => answer.status);
      expect(statuses).toEqual([status, status, partial, partial]);
      // A date alone: versitygw and radosgw answer 304 without an ETag, and there is none to be known. Within the second
      // of Last-Modified versitygw answers 200, and the gateway's own 304 has the ETag.
      const bare = headers['if-none-match'] === undefined && ['versitygw', 'radosgw'].includes(store.name);
      if (status === 304) {
        for (const answer of [get, head]) {
          expect(answer.text).toBe('');
          expect(bare ? [undefined, etag] : [etag]).toContain(answer.headers.etag);
        }
      }
      if (status === 412) expect(codeOf(get)).toBe('PreconditionFailed');
    });

    it('an ETag list that is none is 400', async () => {
      expect(told(await send('GET', 'object', { headers: { 'if-match': '"a" "b"' } }))).toBe('400 InvalidArgument');
    });

    it('a missing object is 404 under every condition', async () => {
      for (const headers of [{ 'if-match': etag }, { 'if-none-match': '*' }]) {
        expect((await send('GET', 'nothing', { headers })).status).toBe(404);
      }
    });
  });

  describe('conditions of writes and deletions', () => {
    const write = (headers: Headers, text: string): Promise<RawResponse> =>
      send('PUT', 'conditional', { headers, body: text });

    it('If-None-Match: * makes an object once', async () => {
      await send('DELETE', 'conditional');
      expect((await write({ 'if-none-match': '*' }, 'first')).status).toBe(200);
      expect(told(await write({ 'if-none-match': '*' }, 'second'))).toBe('412 PreconditionFailed');
      expect((await send('GET', 'conditional')).text).toBe('first');
      expect(told(await write({ 'if-none-match': etag }, 'third'))).toBe('501 NotImplemented');
    });

    it('a long body under a condition that fails is 412, though versitygw resets on it', async () => {
      const gaps: Gaps = { radosgw: HOLDS_NO_CONDITION };
      await write({}, 'first');
      const long = (headers: Headers) => send('PUT', 'conditional', { headers, body: randomBytes(3_000_000) });
      expect(told(await long({ 'if-none-match': '*' }))).toBe('412 PreconditionFailed');
      const other = await long({ 'if-match': `"${'0'.repeat(32)}-01"` });
      expect(told(other)).toBe(expected('412 PreconditionFailed', gaps));
      await send('DELETE', 'conditional');
      const missing = await long({ 'if-match': `"${'0'.repeat(32)}-01"` });
      // AWS says 404, some say 412.
      expect(told(missing)).toMatch(
        gaps[store.name] === undefined ? /^4(?:04 NoSuchKey|12 PreconditionFailed)$/ : /^501/,
      );
    });

    it('If-Match writes over what was read, and nothing else', async () => {
      const gaps: Gaps = { radosgw: HOLDS_NO_CONDITION };
      const first = (await write({}, 'first')).headers.etag ?? '';
      expect(told(await write({ 'if-match': first }, 'second'))).toBe(expected('200', gaps));
      expect(told(await write({ 'if-match': first }, 'third'))).toBe(expected('412 PreconditionFailed', gaps));
      expect((await send('GET', 'conditional')).text).toBe(gaps[store.name] === undefined ? 'second' : 'first');
    });

    it('a streamed PUT under If-Match', async () => {
      const gaps: Gaps = { radosgw: HOLDS_NO_CONDITION };
      const first = (await write({}, 'first')).headers.etag ?? '';
      const large = { headers: { 'if-match': `"${'0'.repeat(32)}-01"` }, body };
      expect(told(await send('PUT', 'conditional', large))).toBe(expected('412 PreconditionFailed', gaps));
      expect((await send('GET', 'conditional')).headers.etag).toBe(first);
    });

    it.each<[RawRequest['method'], Headers]>([
      ['PUT', { 'if-modified-since': 'Thu, 01 Jan 2015 00:00:00 GMT' }],
      ['PUT', { 'if-unmodified-since': 'Thu, 01 Jan 2015 00:00:00 GMT' }],
      ['PUT', { 'if-match': '*', 'if-none-match': '*' }],
      ['DELETE', { 'if-none-match': '*' }],
      ['DELETE', { 'if-unmodified-since': 'Thu, 01 Jan 2015 00:00:00 GMT' }],
      ['DELETE', { 'x-amz-if-match-size': '5' }],
      ['DELETE', { 'x-amz-if-match-last-modified-time': 'Thu, 01 Jan 2015 00:00:00 GMT' }],
    ])('%s with %j is refused, never passed over', async (method, headers) => {
      await write({}, 'first');
      const answer = await send(method, 'conditional', { headers, ...(method === 'PUT' ? { body: 'second' } : {}) });
      expect(told(answer)).toBe('501 NotImplemented');
      expect((await send('GET', 'conditional')).text).toBe('first');
    });

    it('DELETE with If-Match', async () => {
      const gaps: Gaps = { radosgw: HOLDS_NO_CONDITION };
      const first = (await write({}, 'first')).headers.etag ?? '';
      const wrong = await send('DELETE', 'conditional', { headers: { 'if-match': `"${'0'.repeat(32)}-01"` } });
      expect(told(wrong)).toBe(expected('412 PreconditionFailed', gaps));
      expect((await send('GET', 'conditional')).text).toBe('first');
      expect(told(await send('DELETE', 'conditional', { headers: { 'if-match': first } }))).toBe(expected('204', gaps));
    });
  });

  describe('ranges', () => {
    it.each<[string, number, number]>([
      ['bytes=0-0', 0, 1],
      ['bytes=0-99', 0, 100],
      ['bytes=65530-65550', 65_530, 65_551],
      ['bytes=131072-', 131_072, 200_000],
      ['bytes=199999-', 199_999, 200_000],
      ['bytes=100-999999999', 100, 200_000],
      ['bytes=-1', 199_999, 200_000],
      ['bytes=-100000', 100_000, 200_000],
      ['bytes=-999999999', 0, 200_000],
      ['bytes=0-', 0, 200_000],
    ])('%s', async (range, from, to) => {
      const answer = await send('GET', 'object', { headers: { range } });
      expect([answer.status, answer.headers['content-range']]).toEqual([206, `bytes ${from}-${to - 1}/200000`]);
      expect(answer.headers['content-length']).toBe(String(to - from));
      expect(answer.body.equals(body.subarray(from, to))).toBe(true);
      const head = await send('HEAD', 'object', { headers: { range } });
      expect([head.status, head.headers['content-range']]).toEqual([206, answer.headers['content-range']]);
    });

    it.each(['bytes=5-2', 'bytes=a-b', 'lines=0-1', 'bytes=0-1,5-6', 'bytes=-', ''])('%j is ignored', async (range) => {
      const answer = await send('GET', 'object', { headers: { range } });
      expect([answer.status, answer.body.length]).toEqual([200, 200_000]);
    });

    it.each([
      ['object', 'bytes=200000-', 200_000],
      ['object', 'bytes=999999999999999999999-', 200_000],
      ['object', 'bytes=-0', 200_000],
      ['zero', 'bytes=0-', 0],
      ['zero', 'bytes=0-9', 0],
      ['zero', 'bytes=-5', 0],
    ])('%s, %s: 416 with the size', async (key, range, size) => {
      const answer = await send('GET', key, { headers: { range } });
      expect(told(answer)).toBe('416 InvalidRange');
      expect(answer.headers['content-range']).toBe(`bytes */${size}`);
    });

    it('partNumber=1 is the whole object, as a part of one; 2 is none', async () => {
      const first = await send('GET', 'object', { query: { partNumber: '1' } });
      expect([first.status, first.headers['content-range'], first.body.equals(body)]).toEqual([
        206,
        'bytes 0-199999/200000',
        true,
      ]);
      expect(first.headers).not.toHaveProperty('x-amz-mp-parts-count');
      const head = await send('HEAD', 'object', { query: { partNumber: '1' } });
      expect([head.status, head.headers['content-range'], head.headers['content-length']]).toEqual([
        206,
        'bytes 0-199999/200000',
        '200000',
      ]);
      expect((await send('GET', 'zero', { query: { partNumber: '1' } })).status).toBe(200);
      expect(told(await send('GET', 'object', { query: { partNumber: '2' } }))).toBe('416 InvalidPartNumber');
      expect(told(await send('HEAD', 'object', { query: { partNumber: '2' } }))).toBe('416');
      const both = { query: { partNumber: '1' }, headers: { range: 'bytes=0-1' } };
      expect(told(await send('GET', 'object', both))).toBe('400 InvalidRequest');
    });

    it('zero bytes', async () => {
      const answer = await send('GET', 'zero');
      expect([answer.status, answer.headers['content-length'], answer.text]).toEqual([200, '0', '']);
      expect((await send('HEAD', 'zero')).headers['content-length']).toBe('0');
    });
  });

  describe('what is kept beside the body', () => {
    const kept: Headers = {
      'content-type': 'text/plain; charset=utf-8',
      'cache-control': 'private,  max-age=60',
      'content-disposition': 'attachment; filename="a b.txt"',
      'content-language': 'nl, de',
      expires: 'Thu, 01 Jan 2037 00:00:00 GMT',
      'x-amz-meta-plain': 'ann',
      'x-amz-meta-spaces': 'a  b',
      'x-amz-meta-encoded': '=?UTF-8?B?w6nDqW4=?=',
    };

    it('comes back as it was sent, from GET, HEAD and a range', async () => {
      await send('PUT', 'kept', { headers: { ...kept, 'content-encoding': 'gzip' }, body: 'text' });
      for (const answer of [
        await send('GET', 'kept'),
        await send('HEAD', 'kept'),
        await send('GET', 'kept', { headers: { range: 'bytes=0-1' } }),
      ]) {
        expect(answer.headers).toMatchObject({ ...kept, 'content-encoding': 'gzip' });
        expect(
          Object.keys(answer.headers)
            .filter((name) => name.startsWith('x-amz-meta-'))
            .sort(),
        ).toEqual(['x-amz-meta-encoded', 'x-amz-meta-plain', 'x-amz-meta-spaces']);
      }
    });

    it('octets beyond ASCII: UTF-8 as browsers and old clients send it', async () => {
      const raw = Buffer.from('naïve €', 'utf8').toString('latin1');
      for (const body of ['small', randomBytes(200_000)]) {
        expect((await send('PUT', 'octets', { headers: { 'x-amz-meta-raw': raw }, body })).status).toBe(200);
        for (const method of ['GET', 'HEAD'] as const) {
          const answer = await send(method, 'octets');
          expect([answer.status, answer.headers['x-amz-meta-raw']]).toEqual([200, raw]);
        }
      }
    });

    it('aws-chunked is stripped, the other codings stay', async () => {
      await send('PUT', 'chunked', { headers: { 'content-encoding': 'aws-chunked' }, body: 'text' });
      expect((await send('GET', 'chunked')).headers['content-encoding']).toBeUndefined();
      await send('PUT', 'chunked', { headers: { 'content-encoding': 'gzip,aws-chunked' }, body: 'text' });
      expect((await send('GET', 'chunked')).headers['content-encoding']).toBe('gzip');
    });

    it('no Content-Type is binary/octet-stream; an empty value of metadata opens again', async () => {
      await send('PUT', 'bare', { headers: { 'x-amz-meta-empty': '' }, body: 'text' });
      const answer = await send('GET', 'bare');
      expect([answer.status, answer.text, answer.headers['content-type']]).toEqual([
        200,
        'text',
        'binary/octet-stream',
      ]);
    });

    it('response-* overrides, of GET and HEAD, in the answer alone', async () => {
      const query = {
        'response-content-type': 'text/html',
        'response-cache-control': 'no-store',
        'response-content-disposition': 'inline',
        'response-content-encoding': 'identity',
        'response-content-language': 'en',
        'response-expires': 'Fri, 02 Jan 2037 00:00:00 GMT',
      };
      const names = Object.entries(query).map(([name, value]) => [name.replace('response-', ''), value]);
      for (const answer of [
        await send('GET', 'kept', { query }),
        await send('HEAD', 'kept', { query }),
        await send('GET', 'kept', { query, headers: { range: 'bytes=0-1' } }),
      ]) {
        expect(answer.headers).toMatchObject(Object.fromEntries(names) as Headers);
      }
      for (const value of ['a\r\nset-cookie: b', 'a\nb', 'a\0', 'price: €']) {
        const split = await send('GET', 'kept', { query: { 'response-content-disposition': value } });
        expect(told(split)).toBe('400 InvalidArgument');
      }
      expect((await send('GET', 'kept')).headers).toMatchObject(kept);
    });

    it('metadata beyond what the stores keep is refused, and nothing is written', async () => {
      const headers = { 'x-amz-meta-long': 'x'.repeat(1200) };
      expect(told(await send('PUT', 'too-much', { headers, body: 'x' }))).toBe('400 MetadataTooLarge');
      expect((await send('GET', 'too-much')).status).toBe(404);
      const most = { 'x-amz-meta-long': 'x'.repeat(1100) };
      expect(told(await send('PUT', 'enough', { headers: most, body: 'x' }))).toBe('200');
      expect((await send('GET', 'enough')).headers['x-amz-meta-long']).toHaveLength(1100);
    });

    it("a client cannot set the envelope's name", async () => {
      const headers = { 'x-amz-meta-express-s3-sse': 'AAAA' };
      expect(told(await send('PUT', 'forged', { headers, body: 'x' }))).toBe('400 InvalidArgument');
      expect((await send('HEAD', 'kept')).headers).not.toHaveProperty('x-amz-meta-express-s3-sse');
    });

    it('tags: with the PUT, and their round trip; the object stays readable', async () => {
      await send('PUT', 'tagged', { headers: { 'x-amz-tagging': 'colour=blue' }, body: 'text' });
      const tags = async (): Promise<string[]> => {
        const { text } = await send('GET', 'tagged', { query: { tagging: '' } });
        return xmlTexts(text, 'Key').map((key, i) => `${key}=${xmlTexts(text, 'Value')[i]}`);
      };
      expect(await tags()).toEqual(['colour=blue']);
      const text = '<Tagging><TagSet><Tag><Key>size</Key><Value>big</Value></Tag></TagSet></Tagging>';
      expect((await send('PUT', 'tagged', { query: { tagging: '' }, body: text })).status).toBe(200);
      expect(await tags()).toEqual(['size=big']);
      expect((await send('DELETE', 'tagged', { query: { tagging: '' } })).status).toBe(204);
      expect(await tags()).toEqual([]);
      expect((await send('GET', 'tagged')).text).toBe('text');
    });
  });

  describe('keys', () => {
    const PATHS = 'keys are paths there';
    const refused = (...names: StoreName[]): Gaps =>
      Object.fromEntries(names.map((name) => [name, ['refused', PATHS]]));
    it.each<[string, string, Gaps]>([
      ['unicode and every ASCII mark', 'p/ !"#$%&\'()*+,-.0:;<=>?@[]^_`{|}~ä€😀', {}],
      ['a percent sign', 'a%2Fb%zz', {}],
      ['a plus', 'a+b c', {}],
      ['two slashes', 'a//b', refused('seaweedfs', 'versitygw')],
      ['a slash first', '/x', refused('seaweedfs', 'versitygw')],
      ['dots', 'e/../f', refused('seaweedfs', 'versitygw')],
      ['dots out of the bucket', '../../outside', refused('seaweedfs', 'versitygw')],
      ['1024 bytes', `long-${'k'.repeat(1019)}`, refused('seaweedfs', 'versitygw')],
      ['1025 bytes', `long-${'k'.repeat(1020)}`, refused('devstore', 'seaweedfs', 'versitygw', 'radosgw')],
    ])('%s', async (_title, key, gaps) => {
      const put = await send('PUT', key, { body: 'by its own name' });
      expect(put.status === 200 ? 'kept' : 'refused').toBe(expected('kept', gaps));
      expect(put.status).not.toBe(500);
      if (put.status !== 200) return;
      expect((await send('GET', key)).text).toBe('by its own name');
      expect((await send('HEAD', key)).headers['content-length']).toBe('15');
    });

    it.each<[string, Gaps]>([
      [
        '',
        {
          seaweedfs: ['501 NotImplemented', 'drops the metadata of such keys'],
          versitygw: ['200', 'kept, but as application/x-directory: another Content-Type does not verify'],
        },
      ],
      [
        'with a body',
        {
          seaweedfs: ['501 NotImplemented', 'drops body and metadata of such keys'],
          versitygw: ['501 NotImplemented', 'refuses such a body'],
        },
      ],
    ])('a slash last %s', async (text, gaps) => {
      const headers = { 'content-type': 'application/x-directory' };
      const put = await send('PUT', 'photos/', { headers, body: text });
      expect(told(put)).toBe(expected('200', gaps));
      if (put.status === 200) expect((await send('GET', 'photos/')).text).toBe(text);
    });
  });

  it('DeleteObjects: each key has an outcome of its own', async () => {
    for (const key of ['d/1', 'd/<&>"', 'd/é']) await send('PUT', key, { body: 'x' });
    const objects = ['d/1', 'd/&lt;&amp;&gt;&quot;', 'd/é', 'd/missing'].map(
      (key) => `<Object><Key>${key}</Key></Object>`,
    );
    const text = `<Delete>${objects.join('')}</Delete>`;
    const answer = await send('POST', undefined, { query: { delete: '' }, body: text });
    expect(answer.status).toBe(200);
    expect(xmlTexts(answer.text, 'Key').sort()).toEqual(['d/1', 'd/<&>"', 'd/missing', 'd/é']);
    expect(answer.text).not.toContain('<Error>');
    for (const key of ['d/1', 'd/<&>"', 'd/é']) expect((await send('GET', key)).status).toBe(404);
    const one = `<Delete><Quiet>true</Quiet><Object><Key>d/1</Key></Object></Delete>`;
    expect((await send('POST', undefined, { query: { delete: '' }, body: one })).text).not.toContain('<Deleted>');
  });

  it('what is not there', async () => {
    expect(told(await send('GET', 'nothing'))).toBe('404 NoSuchKey');
    expect(told(await send('GET', 'nothing', { headers: { range: 'bytes=0-1' } }))).toBe('404 NoSuchKey');
    expect(told(await send('GET', 'nothing', { headers: { range: 'bytes=-1' } }))).toBe('404 NoSuchKey');
    expect(await send('HEAD', 'nothing')).toMatchObject({ status: 404, text: '' });
    expect(told(await send('DELETE', 'nothing'))).toBe('204');
    const elsewhere = { bucket: `${bucket}-none` };
    expect(told(await send('GET', 'k', elsewhere))).toBe('404 NoSuchBucket');
    expect(told(await send('PUT', 'k', { ...elsewhere, body: 'x' }))).toBe('404 NoSuchBucket');
    expect(told(await send('HEAD', undefined, elsewhere))).toBe('404');
    expect(told(await send('DELETE', undefined, elsewhere))).toBe('404 NoSuchBucket');
  });

  describe('buckets', () => {
    it('made, there, not empty, emptied, gone', async () => {
      const own = { bucket: `${bucket}-life` };
      expect(told(await send('PUT', undefined, own))).toBe('200');
      expect(told(await send('PUT', undefined, own))).toBe('409 BucketAlreadyOwnedByYou');
      expect(told(await send('HEAD', undefined, own))).toBe('200');
      await send('PUT', 'k', { ...own, body: 'x' });
      expect(told(await send('DELETE', undefined, own))).toBe('409 BucketNotEmpty');
      expect((await send('GET', 'k', own)).text).toBe('x');
      await send('DELETE', 'k', own);
      expect(told(await send('DELETE', undefined, own))).toBe('204');
      expect(told(await send('HEAD', undefined, own))).toBe('404');
    });

    it('ListBuckets shows them, and never the system bucket', async () => {
      const { text } = await s3(gateway.raw, { method: 'GET' });
      expect(xmlTexts(text, 'Name')).toContain(bucket);
      expect(text).not.toContain(gateway.systemBucket);
      expect(told(await send('GET', 'k', { bucket: gateway.systemBucket }))).toBe('403 AccessDenied');
      expect(told(await send('DELETE', undefined, { bucket: gateway.systemBucket }))).toBe('403 AccessDenied');
    });

    it('an empty bucket of the store is adopted; one that holds objects is refused, and says how to adopt it', async () => {
      const [empty, full] = [{ bucket: `${bucket}-empty` }, { bucket: `${bucket}-full` }];
      for (const { bucket: name } of [empty, full]) await s3(store, { method: 'PUT', bucket: name });
      await s3(store, { method: 'PUT', ...full, key: 'old', body: 'plaintext' });
      expect(told(await send('PUT', 'new', { ...empty, body: 'x' }))).toBe('200');
      expect((await send('GET', 'new', empty)).text).toBe('x');
      for (const [method, key] of [
        ['PUT', 'new'],
        ['GET', 'old'],
        ['GET', undefined],
      ] as const) {
        const answer = await send(method, key, { ...full, ...(method === 'PUT' ? { body: 'x' } : {}) });
        expect(told(answer)).toBe('409 InvalidBucketState');
        expect(answer.text).toContain('adopt');
      }
      // Making it again is no way around that.
      expect(told(await send('PUT', undefined, full))).toMatch(/^409 /);
      expect(told(await send('GET', 'old', full))).toBe('409 InvalidBucketState');
    });
  });
});
