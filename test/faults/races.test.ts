import { mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { StoreTraits } from '../../src/store/port.ts';
import { probeTraits, type Findings } from '../../src/store/probe.ts';
import { TRAITS } from '../../src/store/traits.ts';
import { clientFor } from '../store/clients.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { customerKey } from '../support/modes.ts';
import { s3, xmlText } from '../support/s3-raw.ts';
import { KINDS } from './kinds.ts';
import { startLane, type Lane } from './lane.ts';

const store = inject('stores')[0] ?? expect.fail('no store runs');
let lane: Lane;
let lanes: Readonly<Record<'pinned' | 'not pinned', Lane>>;
beforeAll(async () => {
  // The second one cannot tell the store which bytes it means: those that it gets are looked at.
  lanes = { pinned: await startLane(store), 'not pinned': await startLane(store, ['copySourceIfMatch']) };
  lane = lanes.pinned;
});
afterAll(() => Promise.all(Object.values(lanes).map((one) => one.stop())));

async function inParts(key: string, body: Buffer): Promise<void> {
  const upload = await lane.site.createUpload(key);
  expect((await upload.complete([await upload.part(1, body)])).status).toBe(200);
}

async function single(key: string, body: Buffer): Promise<void> {
  expect((await lane.site.put(key, body)).status).toBe(200);
}

const MAKERS = { single, 'in parts': inParts };
const READS = [
  ['a range in parts', 'in parts', 'bytes=1000-1999', [1000, 2000], 2],
  ['a suffix', 'single', 'bytes=-500', [-500, undefined], 2],
] as const;

describe('an object that is overwritten between two requests of one read', () => {
  const rows = READS.flatMap(([name, first, range, slice, steps]) =>
    (['single', 'in parts'] as const).flatMap((second) =>
      Array.from({ length: steps - 1 }, (_, at) => ({ name, first, second, range, slice, at: at + 1 })),
    ),
  );

  it.each(rows)('$name, then $second, before request $at: all old, all new, or asked to retry', async (row) => {
    const key = lane.key('moved');
    const [old, next] = [randomBytes(4000), randomBytes(5000)];
    await MAKERS[row.first](key, old);
    lane.proxy.interrupt(row.at, () => MAKERS[row.second](key, next));
    const { status, body, complete } = await lane.site.get(key, { range: row.range });
    const { calls } = await lane.proxy.disarm();
    expect(calls.length).toBeGreaterThan(row.at + 1);
    const [from, to] = row.slice;
    const right = [old, next].some((bytes) => bytes.subarray(from, to).equals(body));
    expect({ whole: status === 206 && complete && right, retry: status === 503 }).toSatisfy(
      (seen: { whole: boolean; retry: boolean }) => seen.whole || seen.retry,
    );
    const again = await lane.site.get(key, { range: row.range });
    expect([again.status, next.subarray(from, to).equals(again.body)]).toEqual([206, true]);
  });
});

const KMS = { 'x-amz-server-side-encryption': 'aws:kms' };
const UPDATE =
  '<ObjectEncryption><SSE-KMS><KMSKeyArn>arn:aws:kms:us-east-1:000000000000:key/data</KMSKeyArn></SSE-KMS></ObjectEncryption>';

interface Racing {
  /** Asks for it; gives where it is to be read. */
  readonly ask: (from: string, to: string) => Promise<{ status: number; text: string }>;
  readonly at: 'from' | 'to';
  readonly read?: Readonly<Record<string, string>>;
  /** Requests to the store before which the source is written. */
  readonly steps: number;
  /** The same where the store pins no source. */
  readonly pinless?: number;
  /** What it is of afterwards, where it is done. */
  readonly of: 'old or new' | 'new';
}

const copied = (headers: Readonly<Record<string, string>>): Racing['ask'] => {
  return (from, to) =>
    lane.site.send('PUT', to, { headers: { 'x-amz-copy-source': `${lane.site.bucket}/${from}`, ...headers } });
};
const own = customerKey();
const COPIES: Readonly<Record<string, Racing>> = {
  CopyObject: { ask: copied(KMS), at: 'to', steps: 2, pinless: 5, of: 'old or new' },
  'a conditional CopyObject': { ask: copied({ 'if-none-match': '*' }), at: 'to', steps: 3, of: 'old or new' },
  'CopyObject, sealed anew': { ask: copied(own), at: 'to', read: own, steps: 3, of: 'old or new' },
  'CopyObject onto itself': {
    ask: (from) => copied(KMS)(from, from),
    at: 'from',
    steps: 5,
    pinless: 5,
    of: 'old or new',
  },
  UpdateObjectEncryption: {
    ask: (key) => lane.site.send('PUT', key, { query: { encryption: '' }, body: UPDATE }),
    at: 'from',
    steps: 3,
    of: 'new',
  },
  UploadPartCopy: {
    async ask(from, to) {
      const upload = await lane.site.createUpload(to);
      const source = { 'x-amz-copy-source': `${lane.site.bucket}/${from}`, 'x-amz-copy-source-range': 'bytes=0-3999' };
      const part = await upload.send(1, { headers: source });
      return upload.complete([{ number: 1, etag: xmlText(part.text, 'ETag') }]);
    },
    at: 'to',
    steps: 5,
    of: 'old or new',
  },
};

describe('an object that is overwritten while it is copied', () => {
  const rows = Object.entries(COPIES).flatMap(([name, { steps, pinless = 0 }]) =>
    (['single', 'in parts'] as const).flatMap((first) => [
      ...Array.from({ length: steps }, (_, at) => ({ name, first, at, source: 'pinned' as const })),
      ...Array.from({ length: pinless }, (_, at) => ({ name, first, at, source: 'not pinned' as const })),
    ]),
  );
  afterAll(() => {
    lane = lanes.pinned;
  });

  it.each(rows)('$name of an object $first, $source, before request $at: what is acknowledged opens', async (row) => {
    lane = lanes[row.source];
    const { ask, at, read = {}, of } = COPIES[row.name] ?? expect.fail('no such row');
    const keys = { from: lane.key('source'), to: lane.key('target') };
    const [old, next] = [randomBytes(4000), randomBytes(4000)];
    await MAKERS[row.first](keys.from, old);
    lane.proxy.interrupt(row.at, () => single(keys.from, next));
    const answer = await ask(keys.from, keys.to);
    const { calls } = await lane.proxy.disarm();
    expect(calls.length).toBeGreaterThan(row.at + 1);
    const found = await lane.site.get(keys[at], read);
    const is = old.equals(found.body) ? 'old' : next.equals(found.body) ? 'new' : `${found.status} ${found.text}`;
    const done = answer.status === 200 && !answer.text.includes('<Error>');
    // Whatever it came to, the upload is there.
    if (at === 'from') expect(is).toMatch(of === 'new' ? /^new$/ : /^(?:old|new)$/);
    else if (done) expect(is).toMatch(/^(?:old|new)$/);
    else expect([503, 404]).toEqual([answer.status, found.status]);
    expect((await lane.site.get(keys.from)).status).toBe(200);
  });
});

it('a control store that takes nothing: 503, the old default holds, and a retry mends it', async () => {
  const { bucket } = lane.site;
  const rule = (algorithm: string) =>
    `<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>${algorithm}</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>`;
  const put = () => lane.site.send('PUT', undefined, { query: { encryption: '' }, body: rule('aws:kms') });
  const get = () => lane.site.send('GET', undefined, { query: { encryption: '' } });
  const folder = join(lane.gateway.folder, 'control', 'buckets.d');
  const [record = ''] = readdirSync(folder).filter((name) => name.startsWith(`${bucket}.`));
  const inTheWay = join(folder, `${bucket}.${Number(record.split('.').at(-1)) + 1}`);
  mkdirSync(inTheWay);
  expect((await put()).status).toBe(503);
  rmdirSync(inTheWay);
  expect((await get()).text).toContain('AES256');
  expect((await put()).status).toBe(200);
  expect((await get()).text).toContain('aws:kms');
});

describe('the first look at a store', () => {
  async function probed(at: number, kind: string): Promise<Findings> {
    const proxy = await FaultProxy.start(store);
    const fault = KINDS.find(({ name }) => name === kind)?.fault ?? expect.fail('no such kind');
    const client = (traits: StoreTraits) =>
      clientFor(proxy.store, traits, { timeouts: { headersMs: 2000, slowHeadersMs: 2000, idleMs: 2000 } });
    const bucket = `probed-${randomBytes(6).toString('hex')}`;
    expect((await s3(store, { method: 'PUT', bucket })).status).toBe(200);
    proxy.arm(at, fault);
    try {
      return await probeTraits({ client, systemBucket: bucket, run: 'run' });
    } finally {
      await proxy.disarm();
      await proxy.stop();
    }
  }

  // What is found is kept: a trait that a hiccup hides would be missing until somebody asks again.
  it.each(['500', 'answer lost', 'done, and 500', 'garbage', 'short body'])(
    'with "%s": a trait is found, or unknown',
    async (kind) => {
      const found = await Promise.all(Array.from({ length: 9 }, (_, i) => probed(i * 6, kind)));
      const truth = await probed(1_000_000, kind);
      const wrong = found.flatMap((findings) =>
        TRAITS.filter(({ name }) => findings[name] === false && truth[name] !== false),
      );
      expect(wrong.map(({ name }) => name)).toEqual([]);
    },
    60_000,
  );
});
