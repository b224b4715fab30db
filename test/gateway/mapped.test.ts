import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { codeOf } from '../support/attacker.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { RawUpload } from '../support/multipart.ts';
import { postForm } from '../support/post-form.ts';
import { s3, xmlText, xmlTexts, type RawRequest, type RawResponse } from '../support/s3-raw.ts';

type Query = Readonly<Record<string, string>>;

const V2 = { 'list-type': '2' };

describe.each(inject('stores'))('a bucket that is mapped to a prefix over $name', (store) => {
  const run = randomBytes(4).toString('hex');
  const [target, mapped, beside] = [`common-${run}`, `map-${run}`, `beside-${run}`];
  let gateway: TestGateway;

  /** Begins a page of versions at the marker, not behind it, so that no client comes to the end (docs/STORES.md). */
  const atMarker = store.name === 'versitygw';
  /** Lists open uploads to who names their whole key only. */
  const byWholeKey = store.name === 'minio';
  const atStore = (request: Omit<RawRequest, 'bucket'>) => s3(store, { ...request, bucket: target });
  const through = (request: Omit<RawRequest, 'bucket'>, bucket = mapped) => s3(gateway.raw, { ...request, bucket });
  const list = (query: Query, bucket = mapped) => through({ method: 'GET', query }, bucket);
  const adopt = (bucket: string, prefix: string) =>
    gateway.admin('POST', `/kms/buckets/${bucket}/adopt`, {
      mode: 'encrypted-only',
      target: { bucket: target, prefix },
    });
  const told = (answer: RawResponse): string => `${answer.status} ${codeOf(answer)}`.trim();
  /** Whether the store takes a key for a path, so that dots in it mean another one: such keys are refused. */
  const takesPaths = async () => (await through({ method: 'GET', key: './none' })).status === 501;
  const secrets = () =>
    Promise.all(
      ['other/secret', 'secret', 'teams/secret'].map(async (key) => (await atStore({ method: 'GET', key })).text),
    );

  beforeAll(async () => {
    gateway = await startGateway({ store });
    await atStore({ method: 'PUT' });
    for (const key of ['other/secret', 'secret', 'teams/secret'])
      await atStore({ method: 'PUT', key, body: 'not theirs' });
    expect((await adopt(mapped, 'team/')).status).toBe(200);
    expect((await adopt(beside, 'beside/')).status).toBe(200);
    for (const key of ['a', 'd/b', 'd/c']) expect((await through({ method: 'PUT', key, body: key })).status).toBe(200);
    await through({ method: 'PUT', key: 'secret', body: 'a neighbour' }, beside);
  });
  afterAll(() => gateway.stop());

  it('has its own name and keys', async () => {
    for (const bad of ['../', 'team/../other/', '/team/', 'team//', 'team', './'])
      expect([bad, (await adopt(`no-${run}`, bad)).status]).toEqual([bad, 400]);
    const names = xmlTexts((await s3(gateway.raw, { method: 'GET' })).text, 'Name');
    expect([names.includes(mapped), names.includes(target)]).toEqual([true, false]);
    expect((await through({ method: 'HEAD' })).status).toBe(200);
    expect((await through({ method: 'HEAD' }, target)).status).toBe(404);
    expect(told(await through({ method: 'DELETE' }, target))).toMatch(/^409/);
    expect(told(await through({ method: 'PUT' }))).toMatch(/^409/);
    expect((await atStore({ method: 'GET', key: 'team/d/b' })).status).toBe(200);
    for (const selector of ['tagging', 'policy', 'lifecycle', 'acl', 'notification']) {
      expect((await list({ [selector]: '' })).status).toBe(501);
    }
  });

  it.each<[string, Query, string[], string[]]>([
    ['ListObjects', {}, ['a', 'd/b', 'd/c'], []],
    ['ListObjects from a marker, with a delimiter', { marker: 'a', delimiter: '/' }, [], ['d/']],
    ['ListObjectsV2', V2, ['a', 'd/b', 'd/c'], []],
    ['ListObjectsV2 behind a key, with a delimiter', { ...V2, 'start-after': 'a', delimiter: '/' }, [], ['d/']],
    ['ListObjectsV2 of a prefix', { ...V2, prefix: 'd/' }, ['d/b', 'd/c'], []],
    ['ListObjectVersions', { versions: '' }, ['a', 'd/b', 'd/c'], []],
    ['ListObjectVersions behind a key', { versions: '', 'key-marker': 'd/b' }, atMarker ? ['d/b', 'd/c'] : ['d/c'], []],
    ['ListObjectVersions with a delimiter', { versions: '', delimiter: '/' }, ['a'], ['d/']],
  ])('%s', async (_, query, keys, groups) => {
    const { status, text } = await list(query);
    expect([status, xmlTexts(text, 'Key'), xmlText(text, 'Name')]).toEqual([200, keys, mapped]);
    expect(xmlTexts(text, 'Prefix').slice(1)).toEqual(groups);
    expect(text).not.toMatch(/team|secret|other/);
  });

  it.each<[string, Query, Readonly<Record<string, string>>]>([
    ['ListObjects', { delimiter: '|' }, { marker: 'NextMarker' }],
    ['ListObjectsV2', V2, { 'continuation-token': 'NextContinuationToken' }],
    [
      'ListObjectVersions',
      { versions: '' },
      { 'key-marker': 'NextKeyMarker', 'version-id-marker': 'NextVersionIdMarker' },
    ],
  ])('%s, page by page', async (_, query, markers) => {
    if (atMarker && 'versions' in query) return;
    const keys: string[] = [];
    let next: Query = {};
    for (let page = 0; page < 5; page += 1) {
      const { text } = await list({ ...query, ...next, 'max-keys': '1' });
      keys.push(...xmlTexts(text, 'Key'));
      expect(text).not.toContain('team');
      if (xmlText(text, 'IsTruncated') !== 'true') break;
      next = Object.fromEntries(Object.entries(markers).map(([name, field]) => [name, xmlText(text, field)]));
    }
    expect(keys).toEqual(['a', 'd/b', 'd/c']);
  });

  it('uploads: listed under their own keys, completed under their own address', async () => {
    const key = 'd/up lo+ad 100%';
    const upload = await RawUpload.create(gateway.raw, mapped, key, {});
    const near = await RawUpload.create(gateway.raw, beside, 'near', {});
    const part = await upload.part(1, Buffer.from('the only part'));
    const open = await list({ uploads: '' });
    const own = [[key], [upload.id]];
    expect([xmlTexts(open.text, 'Key'), xmlTexts(open.text, 'UploadId')]).toEqual(byWholeKey ? [[], []] : own);
    for (const query of [{ 'key-marker': '../' }, { prefix: '../' }, { prefix: '../beside/' }] as Query[]) {
      expect(xmlTexts((await list({ uploads: '', ...query })).text, 'UploadId')).not.toContain(near.id);
    }
    const parts = await upload.list();
    expect([xmlText(parts.text, 'Bucket'), xmlText(parts.text, 'Key'), xmlTexts(parts.text, 'ETag')]).toEqual([
      mapped,
      key,
      [part.etag],
    ]);
    // Another bucket's upload is none here, though it lies in the same one at the store.
    const foreign = new RawUpload(gateway.raw, mapped, 'near', near.id);
    for (const answer of [await foreign.list(), await foreign.send(1, { body: 'x' })]) {
      expect(told(answer)).toBe('404 NoSuchUpload');
    }
    // MinIO answers so to every id.
    expect(told(await foreign.abort())).toBe(store.name === 'minio' ? '204' : '404 NoSuchUpload');
    await near.part(1, Buffer.from('is still open'));
    const done = await upload.complete([part]);
    const place = `/${mapped}/d/up%20lo%2Bad%20100%25`;
    expect([done.status, xmlText(done.text, 'Location')]).toEqual([200, gateway.raw.endpoint + place]);
    expect([xmlText(done.text, 'Bucket'), xmlText(done.text, 'Key')]).toEqual([mapped, key]);
    for (const { text } of [open, parts, done]) expect(text).not.toMatch(/team|common/);
    expect((await through({ method: 'GET', key })).text).toBe('the only part');
    expect((await through({ method: 'DELETE', key })).status).toBe(204);
    expect((await near.abort()).status).toBe(204);
  });

  it('a form', async () => {
    const sent = await postForm(gateway.raw, mapped, {
      fields: [
        ['key', 'd/${filename}'],
        ['success_action_status', '201'],
      ],
      conditions: [
        { bucket: mapped },
        ...['$key', '$success_action_status', '$x-amz-algorithm', '$x-amz-credential', '$x-amz-date'].map((name) => [
          'starts-with',
          name,
          '',
        ]),
      ],
      filename: '../../other/secret',
    });
    expect([sent.status, xmlText(sent.text, 'Key')]).toEqual([201, 'd/secret']);
    expect(sent.text).not.toMatch(/team|common/);
    expect((await atStore({ method: 'HEAD', key: 'team/d/secret' })).status).toBe(200);
    expect((await through({ method: 'DELETE', key: 'd/secret' })).status).toBe(204);
  });

  it.each([
    '../other/secret',
    'd/../../other/secret',
    './../secret',
    '%2e%2e/secret',
    '..%2Fother%2Fsecret',
    '..',
    '../../common/secret',
  ])('the key %s leads nowhere else', async (key) => {
    for (const method of ['GET', 'HEAD'] as const) {
      expect([403, 404, 501]).toContain((await through({ method, key })).status);
    }
    const encoded = key.split('/').map(encodeURIComponent).join('/');
    for (const source of [`/${mapped}/${encoded}`, `${mapped}/${encodeURIComponent(key)}`]) {
      const copied = await through({ method: 'PUT', key: 'copy', headers: { 'x-amz-copy-source': source } });
      expect([403, 404, 501]).toContain(copied.status);
    }
    await through({ method: 'PUT', key, body: 'written over' });
    await through({ method: 'PUT', key, headers: { 'x-amz-copy-source': `/${mapped}/a` } });
    await postForm(gateway.raw, mapped, { fields: [['key', key]] });
    const created = await through({ method: 'POST', key, query: { uploads: '' } });
    if (created.status === 200)
      await new RawUpload(gateway.raw, mapped, key, xmlText(created.text, 'UploadId')).abort();
    expect(await secrets()).toEqual(Array(3).fill('not theirs'));
    const body = `<Delete><Object><Key>${key}</Key></Object></Delete>`;
    const headers = { 'content-md5': createHash('md5').update(body).digest('base64') };
    const batch = await through({ method: 'POST', query: { delete: '' }, body, headers });
    const refused = /(^|\/)\.\.?(\/|$)/.test(key) && (await takesPaths());
    expect(xmlTexts(batch.text, 'Code')).toEqual(refused ? ['AccessDenied'] : []);
    expect((await through({ method: 'DELETE', key })).status).toBe(refused ? 501 : 204);
    expect(await secrets()).toEqual(Array(3).fill('not theirs'));
    expect((await through({ method: 'GET', key: 'secret' }, beside)).text).toBe('a neighbour');
  });

  it.each<[string, Query]>([
    ['a prefix above', { prefix: '../' }],
    ['a prefix beside', { ...V2, prefix: '../other/' }],
    ['a prefix by a detour', { ...V2, prefix: 'd/../../other/' }],
    ['versions of a prefix above', { versions: '', prefix: '../' }],
    ['uploads of a prefix above', { uploads: '', prefix: '../' }],
    ['a delimiter out of the prefix', { ...V2, delimiter: 'm/' }],
    ['the whole prefix as delimiter', { ...V2, delimiter: 'team/' }],
    ['a marker above', { marker: '../' }],
    ['a start above', { ...V2, 'start-after': '../other/' }],
    ['a key marker above', { versions: '', 'key-marker': '../other/' }],
  ])('a listing shows no neighbour: %s', async (_, query) => {
    const { status, text } = await list(query);
    // MinIO takes no marker that is not of the prefix.
    if (query.prefix === undefined) expect([200, 400]).toContain(status);
    else expect(status).toBe((await takesPaths()) ? 501 : 200);
    const names = [...xmlTexts(text, 'Key'), ...xmlTexts(text, 'Prefix')];
    expect(names.filter((name) => /secret|other|team|^$/.test(name) && name !== (query.prefix ?? ''))).toEqual([]);
  });

  it('a continuation token is opaque, and of this bucket alone', async () => {
    const page = await list({ ...V2, 'max-keys': '1', prefix: 'd/' });
    const token = xmlText(page.text, 'NextContinuationToken');
    expect(page.text).not.toContain('team');
    expect(Buffer.from(token, 'base64url').toString('latin1')).not.toContain('team');
    const next = await list({ ...V2, prefix: 'd/', 'continuation-token': token });
    expect([xmlTexts(next.text, 'Key'), xmlText(next.text, 'ContinuationToken')]).toEqual([['d/c'], token]);
    const own = xmlText((await list({ ...V2, 'max-keys': '1' })).text, 'NextContinuationToken');
    const bent = own.replace(/.$/, (last) => (last === 'A' ? 'Q' : 'A'));
    const version = Buffer.from(own, 'base64url');
    version.writeUInt32BE(7);
    const texts = ['', 'a', 'other/', 'team/a', 'secret'];
    const forged = [...texts, ...texts.flatMap((text) => [btoa(text), Buffer.from(text).toString('base64url')])];
    for (const wrong of [...forged, bent, version.toString('base64url'), own.slice(0, 6)]) {
      expect([wrong, told(await list({ ...V2, 'continuation-token': wrong }))]).toEqual([wrong, '400 InvalidArgument']);
    }
    expect(told(await list({ ...V2, 'continuation-token': own }, beside))).toBe('400 InvalidArgument');
    await gateway.restart();
    expect(xmlTexts((await list({ ...V2, 'continuation-token': own })).text, 'Key')).toEqual(['d/b', 'd/c']);
  });

  it('is deleted when nothing of it is left, and its neighbours stay', async () => {
    expect((await through({ method: 'DELETE' })).status).toBe(409);
    const keys = ['a', 'd/b', 'd/c'].map((key) => `<Object><Key>${key}</Key></Object>`).join('');
    const body = `<Delete>${keys}</Delete>`;
    const headers = { 'content-md5': createHash('md5').update(body).digest('base64') };
    const gone = await through({ method: 'POST', query: { delete: '' }, body, headers });
    expect(xmlTexts(gone.text, 'Key')).toEqual(['a', 'd/b', 'd/c']);
    expect((await through({ method: 'DELETE' })).status).toBe(204);
    expect(await secrets()).toEqual(Array(3).fill('not theirs'));
    const names = xmlTexts((await s3(gateway.raw, { method: 'GET' })).text, 'Name');
    expect([names.includes(mapped), names.includes(beside)]).toEqual([false, true]);
  });
});
