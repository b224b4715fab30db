import { randomBytes } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, inject, it } from 'vitest';
import type { Rooms } from '../../src/gateway/exchange.ts';
import { createGateway } from '../../src/gateway/index.ts';
import { startGateway } from '../support/gateway.ts';
import { s3, xmlText } from '../support/s3-raw.ts';

const store = inject('stores')[0] ?? expect.fail('no store runs');

describe('more requests at once than are allowed', () => {
  it('503 SlowDown before anything is read, health and admin apart; served again afterwards', async () => {
    const gateway = await startGateway({ store, config: { data: { concurrentRequests: 2 } } });
    try {
      const place = { bucket: `guard-${randomBytes(4).toString('hex')}`, key: 'k' };
      expect((await s3(gateway.raw, { method: 'PUT', bucket: place.bucket })).status).toBe(200);
      let release = (): void => undefined;
      const until = new Promise<void>((resolve) => (release = resolve));
      const body = randomBytes(300_000);
      const slow = ['a', 'b'].map((key) =>
        s3(gateway.raw, { ...place, key, method: 'PUT', body, pauseAfter: { bytes: 1000, until } }),
      );
      // An unsigned request is not even looked at.
      const refused = async () => {
        const { status, headers } = await fetch(`${gateway.raw.endpoint}/${place.bucket}/k`);
        return [status, headers.get('retry-after')];
      };
      await expect.poll(refused, { timeout: 20_000 }).toEqual([503, '1']);
      const put = await s3(gateway.raw, { ...place, method: 'PUT', body, payload: 'UNSIGNED-PAYLOAD' });
      expect([put.status, xmlText(put.text, 'Code')]).toEqual([503, 'SlowDown']);
      expect((await fetch(`${gateway.adminUrl}/health/ready`)).status).toBe(200);
      expect((await gateway.admin('GET', '/kms/status')).status).toBe(200);
      release();
      expect((await Promise.all(slow)).map(({ status }) => status)).toEqual([200, 200]);
      expect((await s3(gateway.raw, { ...place, method: 'GET', key: 'a' })).body.equals(body)).toBe(true);
      expect((await s3(gateway.raw, { ...place, method: 'GET' })).status).toBe(404);
    } finally {
      await gateway.stop();
    }
  });
});

describe('an error that nothing within takes', () => {
  const servers: Server[] = [];
  let unexpected: string[];
  beforeEach(() => (unexpected = []));
  afterEach(() => servers.splice(0).forEach((server) => server.close()));

  const broken = (message: string) => (): never => {
    throw new Error(message);
  };
  const entry = { add: () => undefined, finish: () => undefined, fields: {} };

  /** What is there answers 403 to every request that is not signed. */
  async function ask(spoil: { readonly audit?: object; readonly observe?: () => never }) {
    const rooms = {
      settings: { region: 'us-east-1' },
      clock: () => new Date(),
      entropy: (bytes: number) => randomBytes(bytes),
      audit: { begin: () => entry, ...spoil.audit },
    } as unknown as Rooms;
    const gateway = createGateway({
      rooms,
      lookup: () => undefined,
      acceptedRegions: [],
      trustedProxies: [],
      idleMs: 1000,
      keepAliveMs: 1000,
      concurrentRequests: 10,
      observe: spoil.observe ?? (() => undefined),
      unexpected: (err) => unexpected.push((err as Error).message),
    });
    // As Express does: whoever calls does not look at the promise again. A rejection would fail the run.
    const server = createServer((req, res) => void gateway.serve(req, res, req.url ?? '', ''));
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const answer = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/b/k`, {
      headers: { connection: 'close' },
    });
    return [answer.status, xmlText(await answer.text(), 'Code')];
  }

  it('before anything is known of the request: 500', async () => {
    expect(await ask({ audit: { begin: broken('begin') } })).toEqual([500, 'InternalError']);
    expect(unexpected).toEqual(['begin']);
  });

  it('behind the answer: the answer stays', async () => {
    expect(await ask({ observe: broken('observe') })).toEqual([403, 'AccessDenied']);
    expect(await ask({ audit: { begin: () => ({ ...entry, finish: broken('finish') }) } })).toEqual([
      403,
      'AccessDenied',
    ]);
    expect(unexpected).toEqual(['observe', 'finish']);
  });
});
