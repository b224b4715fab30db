import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startOpenBao, type OpenBao } from '../support/openbao.ts';
import { BODY, DATA_KEY, DECRYPT, KMS, OK, openSite, SSE_S3, type Site } from './gateway-site.ts';

/** OpenBao's own audit file says how often a gateway asks it, and for what. */
let bao: OpenBao;
/** Contexts of the background probe and of canaries, as the audit file shows them. */
let background: Set<string>;

beforeAll(async () => {
  bao = await startOpenBao();
  await bao.createKey('data');
  await bao.createKey('s3');
  const labels = ['data', 's3'].flatMap((key) => [
    `express-s3-sse/1/probe/right/${key}`,
    `express-s3-sse/1/probe/wrong/${key}`,
    `express-s3-sse/1/canary/context/${key}`,
  ]);
  background = new Set(await Promise.all(labels.map(hashed)));
});
afterAll(() => bao.stop());

/** The audit file holds values as HMACs under a key of its own. */
async function hashed(label: string): Promise<string> {
  const input = createHash('sha256').update(label).digest('base64');
  const { data } = await bao.must('POST', 'sys/audit-hash/file', { input });
  return String((data as Record<string, unknown>)['hash']);
}

/** Paths that are no use of a key: health, the token's own care, what a key is like. */
const CARE =
  /^(?:read|update) (?:sys\/health|sys\/capabilities-self|auth\/token\/[a-z]+-self|transit\/keys\/sse-[a-z0-9]+)$/;

/** Data calls on behalf of clients since the mark, counted by operation and path; anything unexpected is in it too. */
async function asked(mark: number): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { type, request } of await bao.audit(mark)) {
    const call = `${request.operation} ${request.path}`;
    const context = (request['data'] as Record<string, unknown> | undefined)?.['context'];
    if (type !== 'request' || CARE.test(call) || background.has(String(context))) continue;
    counts[call] = (counts[call] ?? 0) + 1;
  }
  return counts;
}

/** Calls made since the beginning of the work. */
async function during(work: () => Promise<unknown>): Promise<Record<string, number>> {
  const mark = await bao.auditMark();
  await work();
  return asked(mark);
}

/** A thousand requests, sixteen at a time. */
async function each(count: number, request: (i: number) => Promise<{ status: number; text: string }>, text?: string) {
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < count; i = next++) {
      const answer = await request(i);
      if (answer.status !== 200 || (text !== undefined && answer.text !== text)) throw new Error(answer.text);
    }
  };
  await Promise.all(Array.from({ length: 16 }, worker));
}

const BUCKET_KEY = { ...KMS, 'x-amz-server-side-encryption-bucket-key-enabled': 'true' };
const clearCache = (site: Site) => site.server.admin('POST', '/kms/clear-cache');

test('with bucket keys 1000 writes are one data key, and 1000 reads of them one unwrap', async () => {
  const site = await openSite(bao);
  expect(await during(() => each(1000, (i) => site.put(`k${i}`, BUCKET_KEY)))).toEqual({ [DATA_KEY('data')]: 1 });
  // What was made is in the cache.
  expect(await during(() => each(50, (i) => site.get(`k${i}`), BODY))).toEqual({});
  await clearCache(site);
  expect(await during(() => each(1000, (i) => site.get(`k${i}`), BODY))).toEqual({ [DECRYPT('data')]: 1 });
  // A restart finds the bucket key in the control store.
  await site.server.restart();
  expect(await during(() => each(20, (i) => site.put(`again${i}`, BUCKET_KEY)))).toEqual({ [DECRYPT('data')]: 1 });
});

test('SSE-S3 always has bucket keys', async () => {
  const site = await openSite(bao);
  expect(await during(() => each(50, (i) => site.put(`k${i}`, SSE_S3)))).toEqual({ [DATA_KEY('s3')]: 1 });
  await clearCache(site);
  expect(await during(() => each(50, (i) => site.get(`k${i}`), BODY))).toEqual({ [DECRYPT('s3')]: 1 });
});

test('without bucket keys each write is a data key, each cold read an unwrap, and a warm read none', async () => {
  const site = await openSite(bao);
  expect(await during(() => each(20, (i) => site.put(`k${i}`)))).toEqual({ [DATA_KEY('data')]: 20 });
  expect(await during(() => each(20, (i) => site.get(`k${i}`), BODY))).toEqual({ [DECRYPT('data')]: 20 });
  expect(await during(() => each(20, (i) => site.get(`k${i}`), BODY))).toEqual({});
  // Many readers of one cold object share one unwrap.
  await clearCache(site);
  expect(await during(() => each(50, () => site.get('k0'), BODY))).toEqual({ [DECRYPT('data')]: 1 });
  // A context of the client's own is bound to a data key of its own.
  const context = Buffer.from('{"department":"accounts"}').toString('base64');
  const own = { ...BUCKET_KEY, 'x-amz-server-side-encryption-context': context };
  expect(await during(() => each(5, (i) => site.put(`own${i}`, own)))).toEqual({ [DATA_KEY('data')]: 5 });
});

test('HEAD, lists, deletes, SSE-C and what is refused ask nothing', async () => {
  const site = await openSite(bao, { config: { development: { allowInsecureSseC: true } } });
  await site.put('a');
  await site.put('b');
  const key = randomBytes(32);
  const customer = {
    'x-amz-server-side-encryption-customer-algorithm': 'AES256',
    'x-amz-server-side-encryption-customer-key': key.toString('base64'),
    'x-amz-server-side-encryption-customer-key-md5': createHash('md5').update(key).digest('base64'),
  };
  const calls = await during(async () => {
    expect(await site.put('c', customer)).toMatchObject(OK);
    expect(await site.get('c', customer)).toMatchObject({ ...OK, text: BODY });
    expect(await site.call({ method: 'HEAD', key: 'a' })).toMatchObject(OK);
    expect((await site.call({ method: 'GET', query: { 'list-type': '2' } })).text).toContain('<Key>a</Key>');
    expect(await site.call({ method: 'DELETE', key: 'b' })).toMatchObject({ status: 204 });
    expect(await site.get('b')).toMatchObject({ status: 404 });
    expect(await site.get('a', { 'if-none-match': '*' })).not.toMatchObject(OK);
    expect(await site.get('a', { range: 'bytes=100-' })).toMatchObject({ status: 416 });
    const skewed = new Date(Date.now() - 3_600_000);
    expect(await site.call({ method: 'GET', key: 'a', now: skewed })).toMatchObject({ status: 403 });
    expect(
      await site.put('d', { ...KMS, 'x-amz-server-side-encryption-aws-kms-key-id': '../../sys/seal' }),
    ).toMatchObject({ status: 400 });
    for (const header of ['s3:what', 'md5']) {
      expect(await site.put('d', { ...KMS, 'content-md5': header })).toMatchObject({ status: 400 });
    }
  });
  expect(calls).toEqual({});
});
