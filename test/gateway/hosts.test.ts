import { createHash, randomBytes } from 'node:crypto';
import { request } from 'node:http';
import { CreateBucketCommand, GetObjectCommand, HeadObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { OPERATION_ROWS } from '../../src/s3/rows.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { s3, xmlText, xmlTexts, type RawRequest } from '../support/s3-raw.ts';

const SSE = 'x-amz-server-side-encryption';

describe.each(inject('stores'))('who is asked, and under which name, over $name', (store) => {
  let gateway: TestGateway;
  const bucket = `hosts.${randomBytes(4).toString('hex')}`;
  const name = (): string => `map-${randomBytes(4).toString('hex')}`;

  beforeAll(async () => {
    const data = { baseHosts: ['s3.example.test'], trustedProxies: ['127.0.0.1'] };
    gateway = await startGateway({ store, config: { data } });
    await gateway.client().send(new CreateBucketCommand({ Bucket: bucket }));
    await s3(gateway.raw, { method: 'PUT', bucket, key: 'a/b', body: 'content' });
  });
  afterAll(() => gateway.stop());

  /** As a client that signed for `host`, with what a proxy (or somebody who would like to be one) adds unsigned. */
  const asked = (url: string, headers: Record<string, string>) =>
    new Promise<{ status: number; text: string }>((resolve, reject) => {
      const { port, pathname, search } = new URL(url);
      const options = { host: '127.0.0.1', port, path: pathname + search, headers, agent: false };
      request(options, (res) => {
        let text = '';
        res.on('data', (chunk: Buffer) => (text += chunk.toString()));
        res.on('end', () => resolve({ status: res.statusCode ?? 0, text }));
      })
        .on('error', reject)
        .end();
    });
  const presigned = async (endpoint: string, forcePathStyle: boolean) => {
    const client = gateway.client({ endpoint, forcePathStyle });
    const url = new URL(await getSignedUrl(client, new GetObjectCommand({ Bucket: bucket, Key: 'a/b' })));
    const here = new URL(gateway.raw.endpoint);
    return { host: url.host, url: `${here.origin}${url.pathname}${url.search}` };
  };

  it.each([
    ['path style', 'http://s3.example.test:8443', true],
    ['virtual-host style, a dot in the name', 'http://s3.example.test:8443', false],
    ['another host', 'http://elsewhere.test', true],
    ['an IPv6 literal', 'http://[2001:db8::1]:9000', true],
  ])('%s', async (_, endpoint, pathStyle) => {
    const { host, url } = await presigned(endpoint, pathStyle);
    expect(await asked(url, { host })).toEqual({ status: 200, text: 'content' });
    expect(await asked(url, { host: 'proxy.internal', 'x-forwarded-host': host })).toEqual({
      status: 200,
      text: 'content',
    });
    expect((await asked(url, { host: 'other.test' })).status).toBe(403);
  });

  it('nobody but a configured address names the host', async () => {
    const other = await startGateway({ store, config: { data: { baseHosts: ['s3.example.test'] } } });
    try {
      const forged = { host: new URL(other.raw.endpoint).host, 'x-forwarded-host': `${bucket}.s3.example.test` };
      const { host, url } = await presigned('http://s3.example.test', false);
      const there = url.replace(new URL(gateway.raw.endpoint).origin, other.raw.endpoint);
      expect((await asked(there, { ...forged, 'x-forwarded-host': host })).status).not.toBe(200);
      expect((await asked(there, { host })).status).not.toBe(403);
    } finally {
      await other.stop();
    }
  });

  it.each(OPERATION_ROWS.map((row) => [`${row.method} ${row.name}`, row] as const))(
    '%s is refused without a signature',
    async (_, row) => {
      const path = { service: '/', bucket: `/${bucket}`, object: `/${bucket}/a/b` }[row.level];
      const query = row.selector.map((selector) => `${selector}=1`).join('&');
      const headers = row.selectorHeader === undefined ? {} : { [row.selectorHeader]: `/${bucket}/a/b` };
      const answer = await fetch(`${gateway.raw.endpoint}${path}?${query}`, { method: row.method, headers });
      expect(answer.status).toBe(403);
      const text = await answer.text();
      if (row.method !== 'HEAD') expect(xmlText(text, 'Code')).toBe('AccessDenied');
    },
  );

  it('a presigned PUT keeps SSE, metadata and nothing that was not signed', async () => {
    const command = new PutObjectCommand({
      Bucket: bucket,
      Key: 'put',
      ServerSideEncryption: 'aws:kms',
      Metadata: { who: 'me' },
    });
    const url = await getSignedUrl(gateway.client(), command, { unhoistableHeaders: new Set([SSE]) });
    expect(url).toContain('x-amz-meta-who');
    const send = (headers: Record<string, string>) => fetch(url, { method: 'PUT', body: 'presigned', headers });
    expect((await send({})).status).toBe(403);
    expect((await send({ [SSE]: 'AES256' })).status).toBe(403);
    expect((await send({ [SSE]: 'aws:kms', 'x-amz-meta-more': 'x' })).status).toBe(403);
    expect((await send({ [SSE]: 'aws:kms' })).status).toBe(200);
    const head = await gateway.client().send(new HeadObjectCommand({ Bucket: bucket, Key: 'put' }));
    expect([head.ServerSideEncryption, head.Metadata, head.ContentLength]).toEqual(['aws:kms', { who: 'me' }, 9]);
  });

  it('a bucket that is mapped has its own name and keys, and nothing of its neighbours', async () => {
    const [target, mapped] = [name(), name()];
    const atStore = (request: Omit<RawRequest, 'bucket'>) => s3(store, { ...request, bucket: target });
    const through = (request: Omit<RawRequest, 'bucket'>, of = mapped) => s3(gateway.raw, { ...request, bucket: of });
    await atStore({ method: 'PUT' });
    await atStore({ method: 'PUT', key: 'other/secret', body: 'not theirs' });
    const adopt = (prefix: string) =>
      gateway.admin('POST', `/kms/buckets/${mapped}/adopt`, {
        mode: 'encrypted-only',
        target: { bucket: target, prefix },
      });
    for (const bad of ['../', 'team/../other/', '/team/', 'team//', 'team', './'])
      expect([bad, (await adopt(bad)).status]).toEqual([bad, 400]);
    expect((await adopt('team/')).status).toBe(200);

    const names = async () => xmlTexts((await s3(gateway.raw, { method: 'GET' })).text, 'Name');
    expect(await names()).toContain(mapped);
    expect(await names()).not.toContain(target);
    expect((await through({ method: 'HEAD' })).status).toBe(200);
    expect((await through({ method: 'HEAD' }, target)).status).toBe(404);
    expect((await through({ method: 'DELETE' }, target)).status).toBe(409);
    expect((await through({ method: 'PUT' })).status).toBe(409);
    for (const key of ['a', 'd/b', 'd/c']) expect((await through({ method: 'PUT', key, body: key })).status).toBe(200);
    expect((await atStore({ method: 'GET', key: 'team/d/b' })).status).toBe(200);
    const listed = async (query: Record<string, string>) => (await through({ method: 'GET', query })).text;
    expect(xmlTexts(await listed({}), 'Key')).toEqual(['a', 'd/b', 'd/c']);
    const v2 = await listed({ 'list-type': '2', delimiter: '/', 'start-after': 'a' });
    expect([xmlTexts(v2, 'Key'), xmlTexts(v2, 'Prefix')]).toEqual([[], expect.arrayContaining(['d/'])]);
    const page = await listed({ 'list-type': '2', 'max-keys': '1', prefix: 'd/' });
    const token = xmlText(page, 'NextContinuationToken');
    expect(xmlTexts(await listed({ 'list-type': '2', prefix: 'd/', 'continuation-token': token }), 'Key')).toEqual([
      'd/c',
    ]);
    for (const prefix of ['../', '../other/', 'x/../../other/'])
      expect(await listed({ prefix })).not.toContain('secret');
    expect((await through({ method: 'GET', key: '../other/secret' })).text).not.toContain('not theirs');
    for (const selector of ['tagging', 'policy', 'lifecycle', 'acl', 'notification']) {
      expect((await through({ method: 'GET', query: { [selector]: '' } })).status).toBe(501);
    }
    expect((await through({ method: 'DELETE' })).status).toBe(409);
    const keys = ['a', 'd/b', 'd/c'].map((key) => `<Object><Key>${key}</Key></Object>`).join('');
    const body = `<Delete>${keys}</Delete>`;
    const md5 = createHash('md5').update(body).digest('base64');
    const gone = await through({ method: 'POST', query: { delete: '' }, body, headers: { 'content-md5': md5 } });
    expect(xmlTexts(gone.text, 'Key')).toEqual(['a', 'd/b', 'd/c']);
    expect((await through({ method: 'DELETE' })).status).toBe(204);
    expect((await atStore({ method: 'GET', key: 'other/secret' })).text).toBe('not theirs');
    expect(await names()).not.toContain(mapped);
  });
});
