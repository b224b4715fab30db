import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { codeOf } from '../support/attacker.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { s3, xmlText, xmlTexts, type RawRequest, type RawResponse } from '../support/s3-raw.ts';
import type { StoreName } from '../stores/store.ts';

/** What a store does otherwise, in the place of the answer that AWS gives. */
type Gaps = Partial<Record<StoreName, readonly [instead: string, reason: string]>>;

const versioning = (status: string): Partial<RawRequest> => ({
  query: { versioning: '' },
  body: `<VersioningConfiguration><Status>${status}</Status></VersioningConfiguration>`,
});
const KMS = { 'x-amz-server-side-encryption': 'aws:kms' };
const stores = inject('stores');
const withVersions = stores.filter(({ name }) => name !== 'devstore');

function told(answer: RawResponse): string {
  return `${answer.status} ${codeOf(answer)}`.trim();
}

function versionOf({ headers }: RawResponse): string {
  return String(headers['x-amz-version-id']);
}

describe.each(stores.filter(({ name }) => name === 'devstore'))('over $name, which has no versions', (store) => {
  it('turning versions on is refused, and nothing pretends to have any', async () => {
    const gateway = await startGateway({ store });
    const bucket = `versions-${randomBytes(4).toString('hex')}`;
    const send = (method: RawRequest['method'], rest: Partial<RawRequest> = {}): Promise<RawResponse> =>
      s3(gateway.raw, { method, bucket, ...rest });
    try {
      await send('PUT');
      expect(told(await send('PUT', versioning('Enabled')))).toBe('501 NotImplemented');
      const { status, text } = await send('GET', { query: { versioning: '' } });
      expect([status, xmlTexts(text, 'Status')]).toEqual([200, []]);
      const put = await send('PUT', { key: 'k', body: 'x' });
      expect(put.headers).not.toHaveProperty('x-amz-version-id');
      const query = { versionId: 'ABCD' };
      expect(told(await send('GET', { key: 'k', query }))).toBe('404 NoSuchVersion');
      expect(told(await send('HEAD', { key: 'k', query }))).toBe('404');
      expect(told(await send('DELETE', { key: 'k', query }))).toBe('404 NoSuchVersion');
      expect((await send('GET', { key: 'k' })).text).toBe('x');
    } finally {
      await gateway.stop();
    }
  });
});

describe.each(withVersions)('versions over $name', (store) => {
  const bucket = `versions-${randomBytes(4).toString('hex')}`;
  const large = randomBytes(200_000);
  let gateway: TestGateway;
  /** Versions of `k`, oldest first: before versioning, small, and streamed under another key. */
  const puts: RawResponse[] = [];
  const bodies = [Buffer.from('before there were versions'), Buffer.from('small'), large];
  const versions = (): string[] => ['null', ...puts.slice(1).map(versionOf)];

  function send(method: RawRequest['method'], key?: string, rest: Partial<RawRequest> = {}): Promise<RawResponse> {
    return s3(gateway.raw, { method, bucket, ...(key === undefined ? {} : { key }), ...rest });
  }
  const read = (method: 'GET' | 'HEAD', versionId: string, headers = {}): Promise<RawResponse> =>
    send(method, 'k', { query: { versionId }, headers });
  const expected = (right: string, gaps: Gaps = {}): string => gaps[store.name]?.[0] ?? right;

  beforeAll(async () => {
    gateway = await startGateway({ store });
    await send('PUT');
    puts.push(await send('PUT', 'k', { body: 'before there were versions', headers: { 'x-amz-meta-v': '0' } }));
    expect((await send('GET', undefined, { query: { versioning: '' } })).text).not.toContain('<Status>');
    expect(told(await send('PUT', undefined, versioning('Enabled')))).toBe('200');
    puts.push(await send('PUT', 'k', { body: 'small', headers: { 'x-amz-meta-v': '1' } }));
    puts.push(await send('PUT', 'k', { body: large, headers: { 'x-amz-meta-v': '2', ...KMS } }));
    expect(puts.map(told)).toEqual(['200', '200', '200']);
  });
  afterAll(() => gateway.stop());

  it('GetBucketVersioning tells', async () => {
    expect(xmlTexts((await send('GET', undefined, { query: { versioning: '' } })).text, 'Status')).toEqual(['Enabled']);
    expect(told(await send('PUT', undefined, versioning('Sometimes')))).toMatch(/^400 /);
  });

  it('each PUT has a version, and each version its own bytes, metadata, ETag and encryption', async () => {
    expect(new Set(versions()).size).toBe(3);
    for (const [index, versionId] of versions().entries()) {
      const body = bodies[index] ?? Buffer.alloc(0);
      const get = await read('GET', versionId);
      const head = await read('HEAD', versionId);
      expect([get.status, get.body.equals(body), head.status]).toEqual([200, true, 200]);
      for (const { headers } of [get, head]) {
        expect([headers['x-amz-version-id'], headers.etag]).toEqual([versionId, puts[index]?.headers.etag]);
        expect([headers['x-amz-meta-v'], headers['content-length']]).toEqual([String(index), String(body.length)]);
        expect(headers['x-amz-server-side-encryption']).toBe(index === 2 ? 'aws:kms' : 'AES256');
      }
      const suffix = await read('GET', versionId, { range: 'bytes=-4' });
      expect([suffix.status, suffix.body.equals(body.subarray(-4))]).toEqual([206, true]);
      const first = await read('GET', versionId, { range: 'bytes=1-3' });
      expect([first.headers['content-range'], first.body.equals(body.subarray(1, 4))]).toEqual([
        `bytes 1-3/${body.length}`,
        true,
      ]);
    }
    expect((await send('GET', 'k')).headers['x-amz-version-id']).toBe(versions()[2]);
  });

  it("conditions speak of the version's own ETag", async () => {
    const [, older, newer] = versions();
    const [, olderPut, newerPut] = puts;
    const tags = [olderPut?.headers.etag ?? '', newerPut?.headers.etag ?? ''];
    for (const [versionId = '', own = '', other = ''] of [
      [older, ...tags],
      [newer, ...tags.toReversed()],
    ]) {
      expect((await read('GET', versionId, { 'if-match': own })).status).toBe(200);
      expect((await read('GET', versionId, { 'if-match': other })).status).toBe(412);
      expect((await read('HEAD', versionId, { 'if-none-match': own })).status).toBe(304);
      expect((await read('HEAD', versionId, { 'if-none-match': other })).status).toBe(200);
      expect((await read('GET', versionId, { range: 'bytes=-1', 'if-match': other })).status).toBe(412);
    }
  });

  it('an upload in parts is a version, its parts are read by number', async () => {
    const parts = [randomBytes(5 * 1024 ** 2), Buffer.from('the last part')];
    const created = await send('POST', 'k', { query: { uploads: '' } });
    const uploadId = xmlText(created.text, 'UploadId');
    const etags: string[] = [];
    for (const [index, body] of parts.entries()) {
      const query = { uploadId, partNumber: String(index + 1) };
      etags.push((await send('PUT', 'k', { query, body })).headers.etag ?? '');
    }
    const list = etags.map((etag, i) => `<Part><PartNumber>${i + 1}</PartNumber><ETag>${etag}</ETag></Part>`);
    const body = `<CompleteMultipartUpload>${list.join('')}</CompleteMultipartUpload>`;
    const completed = await send('POST', 'k', { query: { uploadId }, body });
    expect(completed.status).toBe(200);
    const versionId = versionOf(await send('HEAD', 'k'));
    expect(completed.headers['x-amz-version-id']).toBe(versionId);
    const over = versionOf(await send('PUT', 'k', { body: 'over it' }));
    const last = await send('GET', 'k', { query: { versionId, partNumber: '2' } });
    expect([last.status, last.text, last.headers['x-amz-mp-parts-count']]).toEqual([206, 'the last part', '2']);
    expect((await read('GET', versionId)).body.equals(Buffer.concat(parts))).toBe(true);
    for (const id of [over, versionId])
      expect((await send('DELETE', 'k', { query: { versionId: id } })).status).toBe(204);
  });

  it('tags are of a version', async () => {
    const [, older = '', newer = ''] = versions();
    const body = '<Tagging><TagSet><Tag><Key>of</Key><Value>older</Value></Tag></TagSet></Tagging>';
    const tagging = (method: RawRequest['method'], versionId: string, rest = {}): Promise<RawResponse> =>
      send(method, 'k', { query: { tagging: '', versionId }, ...rest });
    expect((await tagging('PUT', older, { body })).status).toBe(200);
    expect(xmlTexts((await tagging('GET', older)).text, 'Value')).toEqual(['older']);
    expect(xmlTexts((await tagging('GET', newer)).text, 'Value')).toEqual([]);
    expect((await tagging('DELETE', older)).status).toBe(204);
    expect(xmlTexts((await tagging('GET', older)).text, 'Value')).toEqual([]);
    expect((await read('GET', older)).text).toBe('small');
  });

  it('a version that never was', async () => {
    // The last digit of an id that there is, so that its form is right.
    const [, , newer = ''] = versions();
    const never = newer.replace(/.$/, (last) => (last === '0' ? '1' : '0'));
    expect(told(await read('GET', never))).toBe('404 NoSuchVersion');
    expect(told(await read('HEAD', never))).toBe('404');
    expect(told(await read('GET', never, { range: 'bytes=-2' }))).toBe('404 NoSuchVersion');
    expect(told(await send('GET', 'k', { query: { tagging: '', versionId: never } }))).toBe('404 NoSuchVersion');
    const malformed = await read('GET', 'no-such-version');
    const gaps: Gaps = { versitygw: ['400 InvalidArgument', 'as AWS does for what is no id'] };
    expect(told(malformed)).toBe(expected('404 NoSuchVersion', gaps));
    expect(told(await send('GET', 'k', { query: { versionId: '' } }))).toBe('400 InvalidArgument');
  });

  it('a deletion leaves a marker, which is listed, is no object, and goes away again', async () => {
    const deleted = await send('DELETE', 'k');
    expect([deleted.status, deleted.headers['x-amz-delete-marker']]).toEqual([204, 'true']);
    const marker = versionOf(deleted);
    const gone = await send('GET', 'k');
    const NO_MARKER = 'says nothing of the marker';
    expect(`${told(gone)} ${String(gone.headers['x-amz-delete-marker'])}`).toBe(
      expected('404 NoSuchKey true', {
        seaweedfs: ['404 NoSuchKey undefined', NO_MARKER],
        radosgw: ['404 NoSuchKey undefined', NO_MARKER],
      }),
    );
    expect(told(await send('HEAD', 'k'))).toBe('404');
    for (const method of ['GET', 'HEAD'] as const) {
      const answer = await read(method, marker);
      expect(told(answer)).toBe(method === 'GET' ? '405 MethodNotAllowed' : '405');
      expect([answer.headers['x-amz-delete-marker'], answer.headers.allow]).toEqual(['true', 'DELETE']);
      expect(answer.headers['last-modified']).toMatch(/ GMT$/);
    }
    const { text } = await send('GET', undefined, { query: { versions: '' } });
    expect(xmlText(text.slice(text.indexOf('<DeleteMarker>')), 'VersionId')).toBe(marker);
    const [, , newer = ''] = versions();
    expect((await read('GET', newer)).body.equals(large)).toBe(true);

    const undone = await send('DELETE', 'k', { query: { versionId: marker } });
    expect([undone.status, undone.headers['x-amz-delete-marker'], versionOf(undone)]).toEqual([204, 'true', marker]);
    const back = await send('GET', 'k');
    const latest = back.body.equals(large) ? 'the newest' : back.text;
    const gaps: Gaps = { versitygw: ['before there were versions', 'takes the null version for the newest'] };
    expect(`${back.status} ${latest}`).toBe(`200 ${expected('the newest', gaps)}`);
  });

  it('ListObjectVersions: plaintext sizes and ETags, page by page', async () => {
    const marker = versionOf(await send('DELETE', 'other'));
    const seen: string[] = [];
    let query: Record<string, string> = { versions: '', 'max-keys': '2', 'encoding-type': 'url' };
    for (let page = 0; page < 10; page += 1) {
      const { status, text } = await send('GET', undefined, { query });
      expect([status, text.includes('<MaxKeys>2</MaxKeys>')]).toEqual([200, true]);
      for (const [, kind = '', entry = ''] of text.matchAll(/<(Version|DeleteMarker)>(.*?)<\/\1>/gs)) {
        const fields = ['Key', 'VersionId', 'Size', 'ETag'].map((name) => xmlText(entry, name));
        seen.push([kind, ...fields].join(' ').trim());
      }
      if (xmlText(text, 'IsTruncated') !== 'true') break;
      const next = { 'key-marker': xmlText(text, 'NextKeyMarker') };
      const id = xmlText(text, 'NextVersionIdMarker');
      query = { ...query, ...next, ...(id === '' ? {} : { 'version-id-marker': id }) };
    }
    const wanted = versions().map(
      (versionId, i) => `Version k ${versionId} ${bodies[i]?.length ?? 0} ${puts[i]?.headers.etag ?? ''}`,
    );
    const markers = store.name === 'versitygw' ? [] : [`DeleteMarker other ${marker}`];
    expect([...seen].sort()).toEqual([...wanted, ...markers].sort());
  });

  it('DeleteObjects takes versions, each with an outcome', async () => {
    const kept = versionOf(await send('PUT', 'batch', { body: 'kept' }));
    const doomed = versionOf(await send('PUT', 'batch', { body: 'doomed' }));
    const plain = versionOf(await send('PUT', 'plain', { body: 'plain' }));
    const objects = `<Object><Key>batch</Key><VersionId>${doomed}</VersionId></Object><Object><Key>plain</Key></Object>`;
    const answer = await send('POST', undefined, { query: { delete: '' }, body: `<Delete>${objects}</Delete>` });
    expect([answer.status, xmlTexts(answer.text, 'Error')]).toEqual([200, []]);
    expect(xmlTexts(answer.text, 'Key').sort()).toEqual(['batch', 'plain']);
    expect(xmlTexts(answer.text, 'VersionId')).toEqual([doomed]);
    expect(xmlTexts(answer.text, 'DeleteMarkerVersionId')).toHaveLength(1);
    expect((await send('GET', 'batch')).text).toBe('kept');
    expect((await send('GET', 'batch', { query: { versionId: kept } })).text).toBe('kept');
    expect(told(await send('GET', 'batch', { query: { versionId: doomed } }))).toBe('404 NoSuchVersion');
    expect(told(await send('GET', 'plain'))).toBe('404 NoSuchKey');
    expect((await send('GET', 'plain', { query: { versionId: plain } })).text).toBe('plain');
  });

  it('suspended: the null version is written over, the others stay', async () => {
    const old = versionOf(await send('PUT', 'pause', { body: 'a version' }));
    expect(told(await send('PUT', undefined, versioning('Suspended')))).toBe('200');
    await send('PUT', 'pause', { body: 'first null' });
    await send('PUT', 'pause', { body: 'second null' });
    expect((await send('GET', 'pause')).text).toBe('second null');
    expect((await send('GET', 'pause', { query: { versionId: 'null' } })).text).toBe('second null');
    expect((await send('GET', 'pause', { query: { versionId: old } })).text).toBe('a version');
    const { text } = await send('GET', undefined, { query: { versions: '', prefix: 'pause' } });
    expect(xmlTexts(text, 'VersionId').sort()).toEqual([old, 'null'].sort());
    expect((await send('DELETE', 'pause', { query: { versionId: 'null' } })).status).toBe(204);
    expect((await send('GET', 'pause')).text).toBe('a version');
  });

  it('a bucket that holds nothing but old versions is not empty', async () => {
    const own = { bucket: `${bucket}-old` };
    await send('PUT', undefined, own);
    await send('PUT', undefined, { ...own, ...versioning('Enabled') });
    await send('PUT', 'k', { ...own, body: 'x' });
    expect((await send('DELETE', 'k', own)).status).toBe(204);
    expect(told(await send('DELETE', undefined, own))).toBe('409 BucketNotEmpty');
  });
});
