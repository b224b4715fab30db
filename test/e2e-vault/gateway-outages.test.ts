import { createHash, randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startOpenBao, type OpenBao } from '../support/openbao.ts';
import {
  BODY,
  credential,
  DECRYPT,
  KMS,
  LOGIN,
  OK,
  openSite,
  siteOf,
  SSE_S3,
  UNAVAILABLE,
  wait,
  type Site,
} from './gateway-site.ts';

/** What clients see while a real OpenBao is sealed, killed, over its quota or says no. No gateway is restarted for it. */
let bao: OpenBao;

beforeAll(async () => {
  bao = await startOpenBao();
  await bao.createKey('data');
  await bao.createKey('s3');
});
afterAll(() => bao.stop());

const CUSTOMER = randomBytes(32);
const SSE_C = {
  'x-amz-server-side-encryption-customer-algorithm': 'AES256',
  'x-amz-server-side-encryption-customer-key': CUSTOMER.toString('base64'),
  'x-amz-server-side-encryption-customer-key-md5': createHash('md5').update(CUSTOMER).digest('base64'),
};
const INSECURE = { development: { allowInsecureSseC: true } };
const DENIED = { status: 403, text: expect.stringContaining('<Code>AccessDenied</Code>') as string };

/** Polled as a client would: the breaker lets a trial through after its pause. */
async function served(site: Site, key: string): Promise<void> {
  await expect.poll(async () => (await site.get(key)).text, { timeout: 30_000, interval: 200 }).toBe(BODY);
}

describe('sealed or killed', () => {
  const outages: readonly (readonly [string, () => Promise<void>, () => Promise<void>])[] = [
    ['sealed', () => bao.seal(), () => bao.unseal()],
    ['killed', () => bao.kill(), () => bao.restart()],
  ];
  test.each(outages)('%s: 503 for what the cache may not answer, and served again afterwards', async (_, down, up) => {
    const site = await openSite(bao, { config: INSECURE });
    for (const key of ['cold', 'warm']) expect(await site.put(key)).toMatchObject(OK);
    expect(await site.put('s3', SSE_S3)).toMatchObject(OK);
    expect(await site.put('c', SSE_C)).toMatchObject(OK);
    expect(await site.get('warm')).toMatchObject(OK);

    await down();
    expect(await site.get('cold')).toMatchObject(UNAVAILABLE);
    expect(await site.put('warm', KMS, 'another one')).toMatchObject(UNAVAILABLE);
    expect(await site.get('warm')).toMatchObject({ ...OK, text: BODY });
    // The bucket key of SSE-S3 is in the cache, and so serves writes too.
    expect(await site.put('s3-new', SSE_S3)).toMatchObject(OK);
    for (const key of ['s3', 's3-new']) expect(await site.get(key)).toMatchObject({ ...OK, text: BODY });
    expect(await site.get('c', SSE_C)).toMatchObject(OK);
    expect(await site.call({ method: 'HEAD', key: 'cold' })).toMatchObject(OK);
    expect((await site.call({ method: 'GET' })).text).toContain('<Key>cold</Key>');
    expect([await site.health('live'), await site.health('ready')]).toEqual([200, 200]);

    await up();
    await served(site, 'cold');
    await served(site, 'warm');
    expect(await site.put('after')).toMatchObject(OK);
  });

  test('within cache_stale_seconds an expired key serves while the KMS is away, and no longer once it was denied', async () => {
    await bao.writePolicy('stale', await dataPolicy());
    const role = { policies: ['stale'] };
    const lenient = await openSite(bao, { kms: { cache_ttl_seconds: 1, cache_stale_seconds: 3600 }, role });
    const strict = await openSite(bao, { kms: { cache_ttl_seconds: 1 }, role });
    for (const site of [lenient, strict]) {
      await site.put('a');
      expect(await site.get('a')).toMatchObject(OK);
    }
    await bao.seal();
    await wait(1_200);
    expect(await strict.get('a')).toMatchObject(UNAVAILABLE);
    expect(await lenient.get('a')).toMatchObject({ ...OK, text: BODY });
    expect(await lenient.status()).toMatchObject({ cache: { staleHits: 1 } });
    await bao.unseal();
    await served(strict, 'a');
    await served(lenient, 'a');

    await bao.writePolicy('stale', (await dataPolicy()).replaceAll('transit/decrypt/', 'transit/elsewhere/'));
    await wait(1_200);
    expect(await lenient.get('a')).toMatchObject(DENIED);
    await bao.seal();
    expect((await lenient.get('a')).status).not.toBe(200);
    await bao.unseal();
  });

  test('a gateway that starts while the KMS is down is live and ready, not Running, and recovers by itself', async () => {
    const configured = await openSite(bao, { config: INSECURE });
    await configured.put('old');
    const later = await credential(bao, 'later');
    const stopped = await credential(bao, 'held');
    await bao.kill();
    await configured.server.restart();
    // Never configured before: its configuration file is all that there is.
    const fresh = await siteOf(later, 'later', { config: INSECURE });
    const held = await siteOf(stopped, 'held', { config: INSECURE });
    expect(await held.server.admin('POST', '/kms/stop', { reason: 'held', streams: 'abort' })).toMatchObject(OK);
    for (const [site, state] of [[configured, 'Error'] as const, [fresh, 'NotConfigured'] as const]) {
      // Starting in between, whenever it is tried again.
      await expect.poll(async () => (await site.status())['state']).toBe(state);
      const health = [await site.health('live'), await site.health('ready'), await site.health('ready?kms=1')];
      expect(health).toEqual([200, 200, 503]);
      expect(await site.put('new')).toMatchObject(UNAVAILABLE);
      expect(await site.put('c', SSE_C)).toMatchObject(OK);
      expect(await site.get('c', SSE_C)).toMatchObject({ ...OK, text: BODY });
      expect(await site.call({ method: 'GET' })).toMatchObject(OK);
    }
    expect(await configured.get('old')).toMatchObject(UNAVAILABLE);

    await bao.restart();
    for (const site of [configured, fresh]) {
      await expect.poll(() => site.health('ready?kms=1'), { timeout: 40_000 }).toBe(200);
      expect(await site.put('new')).toMatchObject(OK);
    }
    await served(configured, 'old');
    // What the file brought is the service's own now.
    await fresh.server.restart();
    await served(fresh, 'new');
    // The file configures it, and starts nothing that somebody has stopped.
    await expect.poll(async () => (await held.status())['backend'], { timeout: 40_000 }).toBe('vault');
    expect(await held.status()).toMatchObject({ state: 'Stopped', stop: { reason: 'held' } });
    expect(await held.put('new')).toMatchObject(UNAVAILABLE);
    expect(await held.server.admin('POST', '/kms/start')).toMatchObject(OK);
    expect(await held.put('new')).toMatchObject(OK);
  });

  test('stop while sealed is durable; start while sealed fails, and stays stopped', async () => {
    const site = await openSite(bao);
    await site.put('a');
    await bao.seal();
    const stop = await site.server.admin('POST', '/kms/stop', { reason: 'sealed', streams: 'abort' });
    expect(stop).toMatchObject({ status: 200, body: { state: 'Stopped', applied: 'cluster', durable: true } });
    expect(await site.get('a')).toMatchObject(UNAVAILABLE);
    const start = await site.server.admin('POST', '/kms/start');
    expect(start).toMatchObject({ status: 503, body: { error: { code: 'ServiceUnavailable' } } });
    expect(await site.status()).toMatchObject({
      state: 'Stopped',
      desired: 'stopped',
      reason: 'kms-unavailable',
      stop: { reason: 'sealed' },
    });
    await bao.unseal();
    // Nobody but an administrator ends a stop.
    await wait(500);
    expect(await site.get('a')).toMatchObject(UNAVAILABLE);
    expect(await site.server.admin('POST', '/kms/start')).toMatchObject(OK);
    expect(await site.get('a')).toMatchObject({ ...OK, text: BODY });
  });
});

describe('tokens, SecretIDs and policies', () => {
  test('a revoked token is replaced by one login, and no client notices', async () => {
    const site = await openSite(bao);
    for (const key of ['a', 'b', 'c']) await site.put(key);
    await bao.revokeLogins();
    const mark = await bao.auditMark();
    const answers = await Promise.all([...['a', 'b', 'c'].map((key) => site.get(key)), site.put('d'), site.put('e')]);
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
    expect((await bao.calls(mark)).filter((call) => call === LOGIN)).toHaveLength(1);
  });

  test('tokens that live for two seconds are renewed and replaced in time', async () => {
    const site = await openSite(bao, { role: { ttl: 2, maxTtl: 4 }, kms: { enable_cache: false } });
    const until = Date.now() + 6_000;
    const statuses = new Set<number>();
    for (let i = 0; Date.now() < until; i++) {
      statuses.add((await site.put(`k${i % 5}`)).status).add((await site.get(`k${i % 5}`)).status);
      await wait(100);
    }
    expect([...statuses]).toEqual([200]);
  });

  test('a SecretID that was refused is not sent again by later attempts; a new one in its file is', async () => {
    const site = await openSite(bao);
    await site.put('a');
    const good = await readFile(site.secretIdFile, 'utf8');
    await writeFile(site.secretIdFile, 'bad');
    const mark = await bao.auditMark();
    await site.server.restart();
    expect(await site.status()).toMatchObject({ state: 'Error', reason: 'kms-denied' });
    // Six would lock the role, for the good one too.
    for (let i = 0; i < 6; i++) await site.server.admin('POST', '/kms/start');
    expect(await site.get('a')).toMatchObject(UNAVAILABLE);
    expect((await bao.calls(mark)).filter((call) => call === LOGIN)).toHaveLength(1);
    await writeFile(site.secretIdFile, good);
    expect(await site.server.admin('POST', '/kms/start')).toMatchObject(OK);
    expect(await site.get('a')).toMatchObject({ ...OK, text: BODY });
  });

  test('a policy without decrypt: 403, one question about the token, no login', async () => {
    await bao.writePolicy('changing', await dataPolicy());
    const site = await openSite(bao, { role: { policies: ['changing'] } });
    const keys = ['a', 'b', 'c', 'd', 'e'];
    for (const key of keys) await site.put(key);
    await bao.writePolicy('changing', (await dataPolicy()).replaceAll('transit/decrypt/', 'transit/elsewhere/'));
    const mark = await bao.auditMark();
    for (const key of [...keys, ...keys]) expect(await site.get(key)).toMatchObject(DENIED);
    const calls = await bao.calls(mark);
    expect(calls.filter((call) => call === LOGIN)).toEqual([]);
    expect(calls.filter((call) => call === DECRYPT('data'))).toHaveLength(1);
    expect(calls.filter((call) => call === 'read auth/token/lookup-self').length).toBeLessThanOrEqual(2);
    expect(await site.put('f')).toMatchObject(OK);
  });

  test('a quota of the server is SlowDown, and over when it is over', async () => {
    const site = await openSite(bao, { kms: { retry_attempts: 1, timeout_seconds: 2 } });
    await site.put('a');
    await bao.quota('tight', 'transit', 1, 60);
    const answers = await Promise.all(Array.from({ length: 6 }, (_, i) => site.put(`b${i}`)));
    await bao.dropQuota('tight');
    const slow = answers.filter(({ text }) => text.includes('<Code>SlowDown</Code>'));
    expect(slow.length).toBeGreaterThanOrEqual(5);
    for (const answer of slow) expect(answer).toMatchObject({ status: 503, headers: { 'retry-after': '1' } });
    expect(await site.put('c')).toMatchObject(OK);
    expect(await site.get('a')).toMatchObject({ ...OK, text: BODY });
  });
});

function dataPolicy(): Promise<string> {
  return readFile(join(import.meta.dirname, '..', '..', 'docker', 'vault', 'data-role.hcl'), 'utf8');
}
