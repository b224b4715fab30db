import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { traitsOf } from '../../src/store/traits.ts';
import { Site } from '../stores/site.ts';
import { codeOf } from '../support/attacker.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import type { RawResponse } from '../support/s3-raw.ts';

const store =
  inject('stores').find(({ name }) => name === 'devstore') ?? expect.fail('the embedded store has every trait');
const OLD = randomBytes(5_011);
/** Long enough to lie at the store as a part. */
const PART = randomBytes(5 * 1024 ** 2);
const OCTETS = Buffer.from('naïve €').toString('latin1');
const ANOTHER = '"0123456789abcdef0123456789abcdef-01"';

type Send = (site: Site, key: string) => Promise<RawResponse>;

/** What a store without the trait would lose or pass over, and what one with it answers. */
const ROWS: readonly (readonly [title: string, key: string, held: number, send: Send])[] = [
  ['putIfMatch', 'k', 412, (site, key) => site.put(key, 'new', { 'if-match': ANOTHER })],
  ['putIfNoneMatch', 'k', 412, (site, key) => site.put(key, 'new', { 'if-none-match': '*' })],
  ['deleteIfMatch', 'k', 412, (site, key) => site.send('DELETE', key, { headers: { 'if-match': ANOTHER } })],
  [
    'completeIfNoneMatch',
    'k',
    412,
    async (site, key) => {
      const upload = await site.createUpload(key);
      return upload.complete([await upload.part(1, Buffer.from('new'))], { 'if-none-match': '*' });
    },
  ],
  [
    'completesSubset',
    'k',
    200,
    async (site, key) => {
      const upload = await site.createUpload(key);
      await upload.part(1, PART);
      return upload.complete([await upload.part(2, PART)]);
    },
  ],
  ['keepsSlashBody', 'k/', 200, (site, key) => site.put(key, 'new')],
  ['keepsRedirect', 'k', 200, (site, key) => site.put(key, 'new', { 'x-amz-website-redirect-location': '/x' })],
  ['keepsOctets', 'k', 200, (site, key) => site.put(key, 'new', { 'x-amz-meta-name': OCTETS })],
  ['keepsOctets, parts', 'k', 200, (site, key) => created(site, key, { 'x-amz-meta-name': OCTETS })],
  ['keepsOctets, copy', 'k', 200, (site, key) => replaced(site, key, { 'x-amz-meta-name': OCTETS })],
  ['keepsPathsApart', 'x/../k', 200, (site, key) => site.put(key, 'new')],
];

function created(site: Site, key: string, headers: Readonly<Record<string, string>>): Promise<RawResponse> {
  return site.send('POST', key, { query: { uploads: '' }, headers });
}

function replaced(site: Site, key: string, headers: Readonly<Record<string, string>>): Promise<RawResponse> {
  const copy = { 'x-amz-copy-source': `/${site.bucket}/${key}`, 'x-amz-metadata-directive': 'REPLACE' };
  return site.put(key, '', { ...copy, ...headers });
}

describe('a store', () => {
  let gateways: TestGateway[];
  const sites = new Map<boolean, Site>();

  beforeAll(async () => {
    gateways = await Promise.all(
      [false, true].map(async (has) => {
        const traits = traitsOf(() => has);
        const gateway = await startGateway({ store, config: { store: { traits } } });
        const site = new Site(gateway.raw, `traits-${String(has)}-${randomBytes(4).toString('hex')}`);
        expect((await site.send('PUT', undefined)).status).toBe(200);
        sites.set(has, site);
        return gateway;
      }),
    );
  });
  afterAll(() => Promise.all(gateways.map((gateway) => gateway.stop())));

  const siteOf = (has: boolean): Site => sites.get(has) ?? expect.fail('no gateway');

  it.each(ROWS)('without %s: 501, and the object there stays as it was', async (_trait, key, _held, send) => {
    const site = siteOf(false);
    expect((await site.put('k', OLD)).status).toBe(200);
    const answer = await send(site, key);
    expect([answer.status, codeOf(answer)]).toEqual([501, 'NotImplemented']);
    expect((await site.get('k')).body.equals(OLD)).toBe(true);
  });

  it.each(ROWS)('with %s: no 501', async (_trait, key, held, send) => {
    const site = siteOf(true);
    expect((await site.put('k', OLD)).status).toBe(200);
    expect((await send(site, key)).status).toBe(held);
    if (held === 200) expect((await site.get(key)).status).toBe(200);
  });
});
