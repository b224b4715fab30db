import { randomBytes } from 'node:crypto';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { GetObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { Site } from '../stores/site.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import type { ChildMemory } from '../support/gateway-child.ts';
import type { RawResponse } from '../support/s3-raw.ts';
import { startSlowLink, type SlowLink } from '../support/slow-link.ts';
import { transpile, type Transpiled } from '../support/transpile.ts';

/**
 * What one stream holds when the other side stands still: a slow store under a PUT, a slow client under a GET. The
 * gateway runs in a process of its own; what it has in use is counted after a full garbage collection, which does not
 * depend on the machine's load as the resident set does.
 */
const MiB = 1024 ** 2;
const STREAMS = 8;
const BODY = Buffer.alloc(256 * MiB, randomBytes(4096));

let code: Transpiled;
let link: SlowLink;
let gateway: TestGateway;
let site: Site;

beforeAll(async () => {
  const store = inject('stores')[0] ?? expect.fail('no store in this run');
  [code, link] = await Promise.all([transpile(), startSlowLink(store.endpoint)]);
  gateway = await startGateway({ store: { ...store, endpoint: link.endpoint }, child: code });
  site = new Site(gateway.raw, `memory-${randomBytes(4).toString('hex')}`);
  expect((await site.send('PUT', undefined)).status).toBe(200);
  expect((await put('large')).status).toBe(200);
});
afterAll(async () => {
  await site.send('DELETE', 'large');
  await gateway.stop();
  await Promise.all([link.stop(), code.remove()]);
});

function put(key: string): Promise<RawResponse> {
  return site.send('PUT', key, { frame: () => BODY, frameLength: BODY.length, payload: 'UNSIGNED-PAYLOAD' });
}

/** When what was in flight has come to a stand, or does not come to one. */
async function used(): Promise<ChildMemory> {
  let last = await gateway.child.memory();
  for (let looks = 0; ; looks += 1) {
    await sleep(300);
    const now = await gateway.child.memory();
    if (Math.abs(now.used - last.used) < MiB / 4 || looks === 30) return now;
    last = now;
  }
}

async function stalledPuts(): Promise<ChildMemory> {
  link.hold(4 * MiB);
  const answers = Promise.all(Array.from({ length: STREAMS }, (_, i) => put(`put-${i}`)));
  await expect.poll(() => link.held(), { timeout: 30_000 }).toBeGreaterThanOrEqual(STREAMS);
  const memory = await used();
  link.cut();
  expect((await answers).map(({ status }) => status)).toEqual(Array.from({ length: STREAMS }, () => 503));
  link.release();
  return memory;
}

async function stalledGets(): Promise<ChildMemory> {
  const client = gateway.client();
  const command = () => new GetObjectCommand({ Bucket: site.bucket, Key: 'large' });
  const bodies = await Promise.all(
    Array.from({ length: STREAMS }, async () => (await client.send(command())).Body as Readable),
  );
  for (const body of bodies) body.once('readable', () => void body.read(1));
  const memory = await used();
  for (const body of bodies) body.on('error', () => undefined).destroy();
  return memory;
}

it.each([
  ['a slow store under a PUT', stalledPuts],
  ['a slow client under a GET', stalledGets],
])('%s: at most 2 MiB a stream', { timeout: 180_000 }, async (_name, stall) => {
  // The first time also grows what is kept for the next: pools, code, connections.
  await stall();
  const before = await used();
  const during = await stall();
  expect((during.used - before.used) / STREAMS).toBeLessThan(2 * MiB);
  // The allocator gives back in pieces of its own: a wide margin, and still far from the bodies.
  expect(during.resident - before.resident).toBeLessThan(STREAMS * 2 * MiB + 32 * MiB);
});
