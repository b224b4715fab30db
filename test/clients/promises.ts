import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { Site } from '../stores/site.ts';
import type { RawRequest, RawResponse, RawStore } from '../support/s3-raw.ts';

const NEW = randomBytes(3_000_000);
const SMALL_NEW = NEW.subarray(0, 100_000);
const ANOTHER = '"0123456789abcdef0123456789abcdef-01"';

/** What holds on every store, whatever it can do. `npm test` has the whole of it, on fewer stores. */
export function promises(gatewayOf: () => RawStore): void {
  describe('whatever the store', () => {
    const old = randomBytes(5_011);
    let site: Site;

    beforeAll(async () => {
      site = new Site(gatewayOf(), `promises-${randomBytes(4).toString('hex')}`);
      expect((await site.send('PUT', undefined)).status).toBe(200);
    });

    const keepsOld = async (key: string, work: () => Promise<unknown>): Promise<void> => {
      expect((await site.put(key, old, { 'x-amz-meta-of': 'old' })).status).toBe(200);
      await work();
      const { status, headers, body } = await site.get(key);
      expect([status, headers['x-amz-meta-of'], body.equals(old)]).toEqual([200, 'old', true]);
    };

    it.each<[string, Partial<RawRequest>]>([
      ['cut off', { cutAfter: 2_000_000 }],
      ['of another hash', { payload: '0'.repeat(64) }],
    ])('the object under an upload that is %s stays as it was', (name, request) =>
      keepsOld(name, async () => {
        await site.send('PUT', name, { body: NEW, ...request });
        // A store notices the end of a connection when it does.
        await sleep(500);
      }),
    );

    it('the object under an upload in parts that is aborted stays as it was', () =>
      keepsOld('aborted', async () => {
        const upload = await site.createUpload('aborted');
        expect((await upload.part(1, NEW)).etag).not.toBe('');
        expect((await upload.abort()).status).toBe(204);
      }));

    it('an upload that is acknowledged opens again, whatever octets its metadata has', async () => {
      const raw = Buffer.from('naïve €').toString('latin1');
      const { status } = await site.put('octets', old, { 'x-amz-meta-raw': raw });
      const back = await site.get('octets');
      const seen = [back.status, back.headers['x-amz-meta-raw'], back.body.equals(old)];
      if (status === 200) expect(seen).toEqual([200, raw, true]);
      else expect([status, back.status]).toEqual([501, 404]);
    });

    it.each<[string, (key: string) => Promise<RawResponse>]>([
      ['If-None-Match: * on PUT', (key) => site.put(key, NEW, { 'if-none-match': '*' })],
      ['If-Match on PUT', (key) => site.put(key, NEW, { 'if-match': ANOTHER })],
      ['If-Match on DELETE', (key) => site.send('DELETE', key, { headers: { 'if-match': ANOTHER } })],
      [
        'If-None-Match: * on Complete',
        async (key) => {
          const upload = await site.createUpload(key);
          return upload.complete([await upload.part(1, SMALL_NEW)], { 'if-none-match': '*' });
        },
      ],
    ])('%s is held or refused, never passed over', (name, send) =>
      keepsOld(name, async () => expect([412, 501]).toContain((await send(name)).status)),
    );
  });
}
