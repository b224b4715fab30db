import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeName, formatListing } from '../../src/s3/format-listing.ts';
import { parseListing, storeListQuery, type ListOperation } from '../../src/s3/listing.ts';
import { mapUploads, storeUploadsQuery } from '../../src/s3/multipart.ts';
import type { ListMultipartUploads } from '../../src/s3/operation.ts';
import { parseOperation } from '../../src/s3/parse-operation.ts';
import { codeOf } from './errors.ts';

const NS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"';

function operation(query: Record<string, string>): ListOperation {
  const request = { method: 'GET', path: '/bucket', query: new Map(Object.entries(query)), headers: {} };
  return parseOperation(request, { baseHosts: [], systemBucket: 's3sse-system' }) as ListOperation;
}

/** Sealed sizes are 1000 larger; below that nothing is sealed. */
const VIEW = {
  bucket: 'bucket',
  plaintextSize: (sealed: number) => (sealed >= 1000 ? sealed - 1000 : undefined),
  clientEtag: (etag: string) => etag.replace(/"$/, '-01"'),
};

function translate(query: Record<string, string>, store: string, prefix = ''): string {
  const op = operation(query);
  return formatListing(op, parseListing(op.kind, Buffer.from(store), prefix), VIEW);
}

const V2 = { 'list-type': '2' };
const contents = (key: string, more = '') =>
  `<Contents><Key>${key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>` +
  `<ETag>&quot;d41d&quot;</ETag><Size>1005</Size><StorageClass>STANDARD</StorageClass>${more}</Contents>`;
const result = (inner: string) => `<ListBucketResult ${NS}><Name>store</Name>${inner}</ListBucketResult>`;
const keysOf = (xml: string) => [...xml.matchAll(/<Key>(.*?)<\/Key>/gs)].map((match) => match[1]);

describe('the query towards the store', () => {
  it.each<[Record<string, string>, string, string[]]>([
    [{}, '', ['encoding-type=url', 'max-keys=1000']],
    [{ 'max-keys': '5', prefix: 'a' }, '', ['encoding-type=url', 'max-keys=5', 'prefix=a']],
    [{ marker: 'm', prefix: 'a' }, 'p/', ['encoding-type=url', 'marker=p/m', 'max-keys=1000', 'prefix=p/a']],
    [{}, 'p/', ['encoding-type=url', 'max-keys=1000', 'prefix=p/']],
    [
      { ...V2, 'start-after': 's', 'fetch-owner': 'true', delimiter: '/' },
      'p/',
      [
        'delimiter=/',
        'encoding-type=url',
        'fetch-owner=true',
        'list-type=2',
        'max-keys=1000',
        'prefix=p/',
        'start-after=p/s',
      ],
    ],
    [
      { ...V2, 'continuation-token': 't' },
      '',
      ['continuation-token=t', 'encoding-type=url', 'list-type=2', 'max-keys=1000'],
    ],
    [
      { versions: '', 'key-marker': 'k', 'version-id-marker': 'v' },
      'p/',
      ['encoding-type=url', 'key-marker=p/k', 'max-keys=1000', 'prefix=p/', 'version-id-marker=v', 'versions='],
    ],
  ])('of %j under %j', (query, prefix, expected) => {
    const sent = storeListQuery(operation(query), prefix).map(([name, value]) => `${name}=${value}`);
    expect(sent.sort()).toEqual(expected);
  });
});

describe('a listing', () => {
  it('of V2 is golden', () => {
    const odd = '<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><UserMetadata/>';
    const store = result(
      '<Prefix></Prefix><KeyCount>9</KeyCount><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType>' +
        '<IsTruncated>true</IsTruncated><NextContinuationToken>T+/=</NextContinuationToken>' +
        contents('a%2Fb%20c+d', `<Owner><ID>me</ID></Owner>${odd}`) +
        '<CommonPrefixes><Prefix>x%2F</Prefix></CommonPrefixes>',
    );
    expect(translate({ ...V2, delimiter: '/', prefix: 'a b' }, store)).toBe(
      `<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult ${NS}><Name>bucket</Name><Prefix>a b</Prefix>` +
        '<NextContinuationToken>T+/=</NextContinuationToken><KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys>' +
        '<Delimiter>/</Delimiter><IsTruncated>true</IsTruncated><Contents><Key>a/b c d</Key>' +
        '<LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&quot;d41d-01&quot;</ETag><Size>5</Size>' +
        '<StorageClass>STANDARD</StorageClass></Contents><CommonPrefixes><Prefix>x/</Prefix></CommonPrefixes>' +
        '</ListBucketResult>',
    );
  });

  it('of versions is golden', () => {
    const version = (id: string, latest: boolean) =>
      `<Version><Key>k</Key><VersionId>${id}</VersionId><IsLatest>${latest}</IsLatest><LastModified>t</LastModified>` +
      '<ETag>"e"</ETag><Size>1001</Size><StorageClass>GLACIER</StorageClass><Owner><ID>o</ID>' +
      '<DisplayName>d</DisplayName></Owner></Version>';
    const marker =
      '<DeleteMarker><Key>k</Key><VersionId>m</VersionId><IsLatest>true</IsLatest><LastModified>t</LastModified>' +
      '<Owner><ID>o</ID></Owner></DeleteMarker>';
    const store =
      `<ListVersionsResult ${NS}><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>` +
      `<NextKeyMarker>k%20</NextKeyMarker><NextVersionIdMarker>v%20</NextVersionIdMarker>` +
      `${marker}${version('v2', false)}${version('null', false)}</ListVersionsResult>`;
    const shown = (id: string) =>
      `<Version><Key>k</Key><VersionId>${id}</VersionId><IsLatest>false</IsLatest><LastModified>t</LastModified>` +
      '<ETag>&quot;e-01&quot;</ETag><Size>1</Size><StorageClass>GLACIER</StorageClass><Owner><ID>o</ID>' +
      '<DisplayName>d</DisplayName></Owner></Version>';
    expect(translate({ versions: '', 'key-marker': 'a' }, store)).toBe(
      `<?xml version="1.0" encoding="UTF-8"?>\n<ListVersionsResult ${NS}><Name>bucket</Name><Prefix></Prefix>` +
        '<KeyMarker>a</KeyMarker><VersionIdMarker></VersionIdMarker><NextKeyMarker>k </NextKeyMarker>' +
        '<NextVersionIdMarker>v%20</NextVersionIdMarker><MaxKeys>1000</MaxKeys><IsTruncated>true</IsTruncated>' +
        `${marker}${shown('v2')}${shown('null')}</ListVersionsResult>`,
    );
  });

  it.each([
    ['a space as +', 'a+b', 'a b'],
    ['a space as %20 (radosgw)', 'a%20b', 'a b'],
    ['a slash as %2F (radosgw)', 'a%2Fb', 'a/b'],
    ['a plus', 'a%2Bb', 'a+b'],
    ['two bytes', '%C3%A4', 'ä'],
    ['a control character', 'a%01b', 'a&#1;b'],
    ['a percent sign', '100%25', '100%'],
    ['digits', '00123', '00123'],
    ['markup', '%3Ca%3E%26', '&lt;a&gt;&amp;'],
    ['no UTF-8', 'a%FFb+c', 'a\ufffdb c'],
    ['a broken escape', 'a%zz', 'a%zz'],
  ])('decodes %s', (_, stored, shown) => {
    expect(keysOf(translate(V2, result(`<EncodingType>url</EncodingType>${contents(stored)}`)))).toEqual([shown]);
  });

  it.each(['a%20b+c', '&#34;&quot;'])('of a store that encodes nothing keeps %j', (key) => {
    const [shown] = keysOf(translate({ ...V2, 'encoding-type': 'url' }, result(contents(key))));
    expect(shown).toBe(key === 'a%20b+c' ? 'a%2520b%2Bc' : '%22%22');
  });

  it('encodes again as the client asked', () => {
    const store = result(`<EncodingType>url</EncodingType>${contents('a%2Fb+%2B%7E%2A%C3%A4%21')}`);
    const xml = translate({ ...V2, 'encoding-type': 'url', prefix: 'p q', delimiter: ' ', 'start-after': 'ä' }, store);
    expect(keysOf(xml)).toEqual(['a/b+%2B%7E*%C3%A4%21']);
    for (const part of ['<Prefix>p+q</Prefix>', '<Delimiter>+</Delimiter>', '<StartAfter>%C3%A4</StartAfter>']) {
      expect(xml).toContain(part);
    }
    expect(xml).toContain('<EncodingType>url</EncodingType>');
  });

  it('encodes what every client decodes to the key', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const key = text;
        const encoded = encodeName(key);
        expect(encoded).toMatch(/^[A-Za-z0-9\-_.*/+%]*$/);
        expect(decodeURIComponent(encoded.replaceAll('+', ' '))).toBe(key);
      }),
    );
  });

  it('shows the size of the store where nothing sealed has it', () => {
    expect(translate(V2, result(contents('k').replace('1005', '999')))).toContain('<Size>999</Size>');
  });

  it('shows owners to those who ask, and always in V1', () => {
    const store = result(contents('k', '<Owner><ID>me</ID><DisplayName>Me</DisplayName></Owner>'));
    const owner = '<Owner><ID>me</ID><DisplayName>Me</DisplayName></Owner>';
    expect(translate(V2, store)).not.toContain('Owner');
    expect(translate({ ...V2, 'fetch-owner': 'true' }, store)).toContain(owner);
    expect(translate({}, store)).toContain(owner);
  });

  it('has a storage class where the store names none', () => {
    const store = result(contents('k').replace('<StorageClass>STANDARD</StorageClass>', ''));
    expect(translate(V2, store)).toContain('<StorageClass>STANDARD</StorageClass>');
  });

  it('of a mapped bucket knows nothing of the prefix at the store', () => {
    const store = result(
      '<IsTruncated>true</IsTruncated><NextMarker>team/z</NextMarker>' +
        `${contents('team/')}${contents('team/a')}${contents('other/secret')}<CommonPrefixes><Prefix>team/d/</Prefix></CommonPrefixes>` +
        '<CommonPrefixes><Prefix>other/</Prefix></CommonPrefixes>',
    );
    const xml = translate({ delimiter: '/' }, store, 'team/');
    expect(keysOf(xml)).toEqual(['a']);
    expect(xml.match(/<CommonPrefixes>.*?<\/CommonPrefixes>/g)).toEqual([
      '<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>',
    ]);
    expect(xml).toContain('<NextMarker>z</NextMarker>');
    expect(xml).not.toMatch(/team|secret|other/);
  });

  it('of uploads of a mapped bucket knows nothing of its neighbours, whatever the store lists', () => {
    const upload = (key: string): string => `<Upload><Key>${key}</Key><UploadId>of ${key}</UploadId></Upload>`;
    const group = (prefix: string): string => `<CommonPrefixes><Prefix>${prefix}</Prefix></CommonPrefixes>`;
    const inner = ['team/a', 'other/secret', 'team/'].map(upload).join('') + ['team/d/', 'other/'].map(group).join('');
    const body = `<ListMultipartUploadsResult>${inner}</ListMultipartUploadsResult>`;
    const op = operation({ uploads: '' }) as unknown as ListMultipartUploads;
    const further = operation({ uploads: '', prefix: 'd/', 'key-marker': 'd/e' }) as unknown as ListMultipartUploads;
    expect(storeUploadsQuery(op, 'team/')).toContainEqual(['prefix', 'team/']);
    expect(storeUploadsQuery(further, 'team/')).toEqual(
      expect.arrayContaining([
        ['prefix', 'team/d/'],
        ['key-marker', 'team/d/e'],
      ]),
    );
    const xml = mapUploads(op, Buffer.from(body), 'team/', 'me');
    expect([keysOf(xml), xml.match(/of [^<]*/g)]).toEqual([['a'], ['of team/a']]);
    expect(xml.match(/<CommonPrefixes>.*?<\/CommonPrefixes>/g)).toEqual([group('d/')]);
  });

  it.each<[string, Record<string, string>, string, string | undefined]>([
    ['is the store\u2019s', { delimiter: '/' }, '<NextMarker>n</NextMarker>', 'n'],
    ['is the last name where the store gives none', { delimiter: '/' }, '', 'd/'],
    ['is not given without a delimiter', {}, '<NextMarker>n</NextMarker>', undefined],
  ])('NextMarker %s', (_, query, next, expected) => {
    const inner = `<IsTruncated>true</IsTruncated>${next}${contents('a')}<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>`;
    expect(/<NextMarker>(.*)<\/NextMarker>/.exec(translate(query, result(inner)))?.[1]).toBe(expected);
  });

  it('of max-keys=0 is empty, whatever the store makes of it', () => {
    const store = result(
      `<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>${contents('k')}`,
    );
    const xml = translate({ ...V2, 'max-keys': '0' }, store);
    expect(xml).toContain('<KeyCount>0</KeyCount><MaxKeys>0</MaxKeys><IsTruncated>false</IsTruncated>');
    expect(xml).not.toContain('<Contents>');
  });

  it.each([
    ['another document', '<Error><Code>x</Code></Error>'],
    ['cut off', result(contents('k')).slice(0, -10)],
    ['no size', result(contents('k').replace('<Size>1005</Size>', ''))],
    ['a negative size', result(contents('k').replace('1005', '-1'))],
    ['a size in words', result(contents('k').replace('1005', '1e3'))],
    ['no key', result('<Contents><Size>1</Size></Contents>')],
    ['a DOCTYPE', `<!DOCTYPE x>${result('')}`],
  ])('that is %s is an InternalError', (_, store) => {
    expect(codeOf(() => parseListing('ListObjectsV2', Buffer.from(store)))).toBe('InternalError');
  });

  it('of 1,000 keys is read whole', () => {
    const keys = Array.from({ length: 1000 }, (_, i) => `some%2Fprefix/of/keys/${i}`);
    const store = result(`<EncodingType>url</EncodingType>${keys.map((key) => contents(key)).join('')}`);
    expect(parseListing('ListObjectsV2', Buffer.from(store)).entries.map(({ key }) => key)).toEqual(
      keys.map((key) => decodeURIComponent(key)),
    );
  });
});
