import { randomBytes } from 'node:crypto';
import { CreateBucketCommand, GetBucketCorsCommand, PutBucketCorsCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { s3, xmlText } from '../support/s3-raw.ts';

const PAGE = 'https://app.page.test';
const CORS = 'access-control-';

describe.each(inject('stores').slice(0, 1))('CORS', (store) => {
  let gateway: TestGateway;
  const bucket = `cors-${randomBytes(4).toString('hex')}`;
  const bare = `bare-${randomBytes(4).toString('hex')}`;
  const rules = [
    {
      ID: 'pages',
      AllowedOrigins: ['https://*.page.test', 'http://exact.test:8080', 'https://lap*ap.test'],
      AllowedMethods: ['GET', 'PUT'],
      AllowedHeaders: ['x-amz-*', 'Content-Type'],
      ExposeHeaders: ['ETag', 'x-amz-version-id'],
      MaxAgeSeconds: 600,
    },
    { AllowedOrigins: ['*'], AllowedMethods: ['HEAD'] },
  ];

  beforeAll(async () => {
    gateway = await startGateway({ store });
    const client = gateway.client();
    for (const Bucket of [bucket, bare]) await client.send(new CreateBucketCommand({ Bucket }));
    await client.send(new PutBucketCorsCommand({ Bucket: bucket, CORSConfiguration: { CORSRules: rules } }));
    await s3(gateway.raw, { method: 'PUT', bucket, key: 'a', body: 'content' });
  });
  afterAll(() => gateway.stop());

  const preflight = (headers: Record<string, string>, name = bucket, path = '/a') =>
    fetch(`${gateway.raw.endpoint}/${name}${path}`, { method: 'OPTIONS', headers });
  const ask = (origin: string, method: string, names?: string): Record<string, string> => ({
    origin,
    'access-control-request-method': method,
    ...(names === undefined ? {} : { 'access-control-request-headers': names }),
  });
  const corsOf = (headers: Headers): string[] => [...headers.keys()].filter((name) => name.startsWith(CORS));

  it('gives the rules back as they were put', async () => {
    const { CORSRules } = await gateway.client().send(new GetBucketCorsCommand({ Bucket: bucket }));
    expect(CORSRules).toMatchObject(rules);
    const none = await s3(gateway.raw, { method: 'GET', bucket: bare, query: { cors: '' } });
    expect([none.status, xmlText(none.text, 'Code')]).toEqual([404, 'NoSuchCORSConfiguration']);
  });

  it('answers a preflight without a signature', async () => {
    const answer = await preflight(ask(PAGE, 'PUT', 'X-Amz-Meta-A, content-type'));
    expect([answer.status, await answer.text()]).toEqual([200, '']);
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      [`${CORS}allow-origin`]: PAGE,
      [`${CORS}allow-methods`]: 'GET, PUT',
      [`${CORS}allow-headers`]: 'x-amz-meta-a, content-type',
      [`${CORS}expose-headers`]: 'ETag, x-amz-version-id',
      [`${CORS}max-age`]: '600',
      [`${CORS}allow-credentials`]: 'true',
      vary: 'Origin, Access-Control-Request-Headers, Access-Control-Request-Method',
    });
    const anybody = await preflight(ask('https://elsewhere.test', 'HEAD'));
    expect(anybody.headers.get(`${CORS}allow-origin`)).toBe('*');
    expect(anybody.headers.has(`${CORS}allow-credentials`)).toBe(false);
  });

  it.each([
    ['another origin', ask('https://page.test.evil.test', 'GET'), bucket, 403, 'This CORS request is not allowed'],
    ['the origin without what the wildcard stands before', ask('https://page.test', 'GET'), bucket, 403, 'not allowed'],
    ['the wildcard within one letter', ask('https://lap.test', 'GET'), bucket, 403, 'not allowed'],
    ['another scheme', ask('http://app.page.test', 'GET'), bucket, 403, 'not allowed'],
    ['another port', ask('http://exact.test', 'GET'), bucket, 403, 'not allowed'],
    ['another method', ask(PAGE, 'DELETE'), bucket, 403, 'not allowed'],
    ['a method of the other rule', ask(PAGE, 'HEAD', 'x-amz-date'), bucket, 403, 'not allowed'],
    ['another header', ask(PAGE, 'GET', 'x-amz-date, authorization'), bucket, 403, 'not allowed'],
    ['a bucket without rules', ask(PAGE, 'GET'), bare, 403, 'CORS is not enabled for this bucket'],
    ['a bucket that there is not', ask(PAGE, 'GET'), 'no-such-bucket', 403, 'CORS is not enabled for this bucket'],
    ['no origin', { 'access-control-request-method': 'GET' }, bucket, 400, 'Origin request header needed'],
    ['no method', { origin: PAGE }, bucket, 400, 'Access-Control-Request-Method'],
  ])('refuses a preflight with %s', async (_, headers, name, status, message) => {
    const answer = await preflight(headers, name);
    expect(answer.status).toBe(status);
    expect(xmlText(await answer.text(), 'Message')).toContain(message);
    expect(corsOf(answer.headers)).toEqual([]);
  });

  it('the system bucket has none', async () => {
    expect((await preflight(ask(PAGE, 'GET'), gateway.systemBucket)).status).toBe(403);
  });

  it('tells nobody which buckets there are', async () => {
    const OTHERWISE = ['x-amz-request-id', 'date', 'content-length'];
    const told = async (name: string, path = '/a') => {
      const answer = await preflight(ask(PAGE, 'GET'), name, path);
      const text = (await answer.text()).replace(/<(Resource|RequestId)>[^<]*/g, '<$1>');
      const headers = [...answer.headers].filter(([header]) => !OTHERWISE.includes(header));
      return [answer.status, text, headers];
    };
    const nothing = await told('no-such-bucket');
    expect(await told(bare)).toEqual(nothing);
    expect(await told(gateway.systemBucket)).toEqual(nothing);
    expect(await told('', '')).toEqual(nothing);
  });

  it('puts the headers on answers and on errors, by the origin and the method', async () => {
    const get = (key: string, origin: string, method: 'GET' | 'DELETE' = 'GET') =>
      s3(gateway.raw, { method, bucket, key, headers: { origin } });
    const found = await get('a', PAGE);
    expect([found.status, found.text]).toEqual([200, 'content']);
    const missing = await get('none', PAGE);
    expect([missing.status, xmlText(missing.text, 'Code')]).toEqual([404, 'NoSuchKey']);
    for (const { headers } of [found, missing]) {
      expect(headers).toMatchObject({
        [`${CORS}allow-origin`]: PAGE,
        [`${CORS}expose-headers`]: 'ETag, x-amz-version-id',
      });
      expect(headers.vary).toContain('Origin');
    }
    const anonymous = await fetch(`${gateway.raw.endpoint}/${bucket}/a`, { headers: { origin: PAGE } });
    expect([anonymous.status, anonymous.headers.get(`${CORS}allow-origin`)]).toEqual([403, PAGE]);
    for (const other of [await get('a', 'https://elsewhere.test'), await get('none', PAGE, 'DELETE')]) {
      expect(Object.keys(other.headers).filter((name) => name.startsWith(CORS))).toEqual([]);
    }
    const plain = await s3(gateway.raw, { method: 'GET', bucket, key: 'a' });
    expect([plain.status, plain.headers.vary]).toEqual([200, undefined]);
  });

  const rule = (inner: string) => `<CORSConfiguration><CORSRule>${inner}</CORSRule></CORSConfiguration>`;
  const [origin, method] = ['<AllowedOrigin>*</AllowedOrigin>', '<AllowedMethod>GET</AllowedMethod>'];
  it.each([
    ['no rule', '<CORSConfiguration></CORSConfiguration>', 'MalformedXML'],
    ['no origin', rule(method), 'MalformedXML'],
    ['no method', rule(origin), 'MalformedXML'],
    ['an unknown method', rule(`${origin}<AllowedMethod>PATCH</AllowedMethod>`), 'InvalidRequest'],
    ['two wildcards', rule(`${method}<AllowedOrigin>*.*</AllowedOrigin>`), 'InvalidRequest'],
    ['a wildcard among what is exposed', rule(`${origin}${method}<ExposeHeader>x-*</ExposeHeader>`), 'InvalidRequest'],
    ['an unknown element', rule(`${origin}${method}<Other/>`), 'MalformedXML'],
    [
      'a header that ends its line',
      rule(`${origin}${method}<ExposeHeader>a&#13;&#10;b</ExposeHeader>`),
      'MalformedXML',
    ],
    [
      '101 rules',
      `<CORSConfiguration>${`<CORSRule>${origin}${method}</CORSRule>`.repeat(101)}</CORSConfiguration>`,
      'MalformedXML',
    ],
  ])('refuses rules with %s, and keeps the old ones', async (_, body, code) => {
    const answer = await s3(gateway.raw, { method: 'PUT', bucket, query: { cors: '' }, body });
    expect([answer.status, xmlText(answer.text, 'Code')]).toEqual([400, code]);
    expect((await preflight(ask(PAGE, 'GET'))).status).toBe(200);
  });

  it('deletes the rules, and a restart finds what was put', async () => {
    await gateway.restart();
    expect((await preflight(ask(PAGE, 'GET'))).status).toBe(200);
    expect((await s3(gateway.raw, { method: 'DELETE', bucket, query: { cors: '' } })).status).toBe(204);
    expect((await preflight(ask(PAGE, 'GET'))).status).toBe(403);
  });
});
