import { randomBytes } from 'node:crypto';
import { readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { Site } from '../stores/site.ts';
import { startGateway, type GatewayOptions, type TestGateway } from '../support/gateway.ts';
import { startOpenBao, type OpenBao } from '../support/openbao.ts';
import { xmlText, type RawResponse } from '../support/s3-raw.ts';
import { transpile, type Transpiled } from '../support/transpile.ts';
import { listed, putPrevious, see, settle } from './previous.ts';

/** Uploads that find the service, and not the client, failing: stopped, without its records, killed, without its Vault. */
/** Of the two paths of a PUT: collected and sealed whole, and sealed while it passes. */
const SIZES = [100_000, 3_000_000];
const LONG = { timeout: 120_000 };
const SSE = { 'x-amz-server-side-encryption': 'aws:kms' };

let code: Transpiled;
let bao: OpenBao;
beforeAll(async () => {
  [code, bao] = await Promise.all([transpile(), startOpenBao()]);
  await Promise.all([bao.createKey('data'), bao.createKey('s3')]);
});
afterAll(() => Promise.all([code.remove(), bao.stop()]));

interface UnderWay {
  /** Sends the rest of the body. */
  readonly finish: () => void;
  readonly answers: Promise<RawResponse[]>;
}

/** Uploads over `old` and under `new` that have their key (the audit says so), and most of their body at the gateway. */
async function begin(gateway: TestGateway, site: Site, body: Buffer, keys: readonly string[]): Promise<UnderWay> {
  let finish = (): void => undefined;
  const until = new Promise<void>((resolve) => (finish = resolve));
  const intents = (): unknown[] => gateway.auditRecords().filter(({ type }) => type === 'intent');
  const before = intents().length;
  const pauseAfter = { bytes: Math.floor(body.length * 0.8), until };
  const request = { body, payload: 'UNSIGNED-PAYLOAD', headers: SSE, pauseAfter };
  const answers = Promise.all(keys.map((key) => site.send('PUT', key, request)));
  await expect.poll(() => intents().length, { timeout: 20_000 }).toBe(before + keys.length);
  await sleep(200);
  return { finish, answers };
}

const outcome = ({ status, text }: RawResponse): unknown[] => [status, xmlText(text, 'Code')];
const UNAVAILABLE = [503, 'ServiceUnavailable'];

describe.each(inject('stores'))('an upload over $name', (store) => {
  const open: TestGateway[] = [];
  afterAll(() => Promise.all(open.map((gateway) => gateway.stop())));

  async function start(options: Partial<GatewayOptions>): Promise<{ gateway: TestGateway; site: () => Site }> {
    const gateway = await startGateway({ store, ...options });
    open.push(gateway);
    const bucket = `service-${randomBytes(4).toString('hex')}`;
    const site = (): Site => new Site(gateway.raw, bucket);
    expect((await site().send('PUT', undefined)).status).toBe(200);
    return { gateway, site };
  }

  describe('through one gateway', () => {
    let gateway: TestGateway;
    let site: Site;
    beforeAll(async () => {
      const started = await start({});
      ({ gateway } = started);
      site = started.site();
    });

    const stops = [
      ['its streams are aborted', { streams: 'abort' }, 0, false],
      ['a drain ends before it', { streams: 'drain', drain_seconds: 1 }, 1500, false],
      ['its streams are aborted, and it is started again', { streams: 'abort' }, 0, true],
    ] as const;
    it.each(stops)('fails when the service is stopped and %s', LONG, async (how, request, wait, again) => {
      const before = await putPrevious(site, `${how}/old`, randomBytes(5000));
      const keys = [`${how}/old`, `${how}/new`];
      const uploads = [];
      for (const size of SIZES) uploads.push(await begin(gateway, site, randomBytes(size), keys));
      expect((await gateway.admin('POST', '/kms/stop', { reason: 'test', ...request })).status).toBe(200);
      if (again) await gateway.admin('POST', '/kms/start');
      await sleep(wait);
      for (const { finish, answers } of uploads) {
        finish();
        expect((await answers).map(outcome)).toEqual([UNAVAILABLE, UNAVAILABLE]);
      }
      if (!again) await gateway.admin('POST', '/kms/start');
      await settle(store);
      expect(await see(site, `${how}/old`)).toEqual(before);
      expect(await listed(site, `${how}/`)).toEqual([`${how}/old`]);
    });

    it.each(SIZES)('of %i bytes that ends within the drain is whole', LONG, async (size) => {
      const body = randomBytes(size);
      const upload = await begin(gateway, site, body, [`drained/${size}`]);
      await gateway.admin('POST', '/kms/stop', { reason: 'test', streams: 'drain', drain_seconds: 60 });
      upload.finish();
      expect((await upload.answers).map(({ status }) => status)).toEqual([200]);
      await gateway.admin('POST', '/kms/start');
      expect((await site.get(`drained/${size}`)).body.equals(body)).toBe(true);
    });

    it('takes no key when the audit file cannot be written', LONG, async () => {
      const before = await putPrevious(site, 'audit/old', randomBytes(5000));
      const folder = join(gateway.folder, 'audit');
      renameSync(folder, `${folder}-away`);
      writeFileSync(folder, 'in the way');
      for (const name of readdirSync(`${folder}-away`)) rmSync(join(`${folder}-away`, name));
      // The sink looks once a second whether its file is still there.
      await sleep(1200);
      for (const size of SIZES) {
        for (const key of ['audit/old', 'audit/new']) {
          expect(outcome(await site.put(key, randomBytes(size), SSE))).toEqual(UNAVAILABLE);
        }
      }
      expect(outcome(await site.get('audit/old'))).toEqual(UNAVAILABLE);
      rmSync(folder);
      renameSync(`${folder}-away`, folder);
      expect(await see(site, 'audit/old')).toEqual(before);
      expect(await listed(site, 'audit/')).toEqual(['audit/old']);
    });
  });

  it('leaves the previous object when the gateway is killed in its middle', LONG, async () => {
    const { gateway, site } = await start({ child: code });
    const before = await putPrevious(site(), 'old', randomBytes(5000));
    const uploads = [];
    for (const size of SIZES) uploads.push(await begin(gateway, site(), randomBytes(size), ['old', `new/${size}`]));
    await gateway.child.kill();
    for (const { answers } of uploads)
      expect((await answers).map(outcome)).toEqual([
        [0, ''],
        [0, ''],
      ]);
    await settle(store);
    await gateway.restart();
    expect(await see(site(), 'old')).toEqual(before);
    expect(await listed(site(), '')).toEqual(['old']);
  });

  it('leaves the previous object when Vault is gone and no key is cached', LONG, async () => {
    const { roleId, secretId } = await bao.appRole('interrupted');
    const secretIdFile = join(bao.folder, `secret-${randomBytes(4).toString('hex')}`);
    writeFileSync(secretIdFile, secretId, { mode: 0o600 });
    const { gateway, site } = await start({ vault: { bao, roleId, secretIdFile } });
    const before = await putPrevious(site(), 'old', randomBytes(5000));
    expect((await gateway.admin('POST', '/kms/clear-cache')).status).toBe(200);
    await bao.kill();
    try {
      for (const size of SIZES) {
        for (const key of ['old', 'new']) {
          expect(outcome(await site().put(key, randomBytes(size), SSE))).toEqual(UNAVAILABLE);
        }
      }
      expect(await listed(site(), '')).toEqual(['old']);
    } finally {
      await bao.restart();
    }
    await expect.poll(async () => (await site().get('old')).status, { timeout: 30_000, interval: 500 }).toBe(200);
    expect(await see(site(), 'old')).toEqual(before);
  });
});
