import { randomBytes } from 'node:crypto';
import { get as httpGet, type IncomingMessage } from 'node:http';
import { GetObjectCommand } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { RawUpload, type Listed } from '../support/multipart.ts';
import { s3 } from '../support/s3-raw.ts';
import { transpile, type Transpiled } from '../support/transpile.ts';

/**
 * Many parts at once, shuffled, a third of them sent before with other bytes. `TEST_FULL_SIZE=1` makes it the 5 GiB of
 * 1,000 parts for which it stands.
 */
const FULL = process.env.TEST_FULL_SIZE === '1';
const PARTS = FULL ? 1000 : 20;
const STREAMS = 16;
const MIB = 1024 ** 2;
const PART = FULL ? Math.ceil((5 * 1024 * MIB) / PARTS) : 5 * MIB;
const BASE = randomBytes(PART);
const bucket = `volume-${randomBytes(4).toString('hex')}`;

let code: Transpiled;
let gateway: TestGateway;
beforeAll(async () => {
  const store = inject('stores').at(-1) ?? expect.fail('no store in this run');
  code = await transpile();
  gateway = await startGateway({ store, child: code });
  await s3(gateway.raw, { method: 'PUT', bucket });
}, 60_000);
afterAll(async () => {
  await s3(gateway.raw, { method: 'DELETE', bucket, key: 'large' });
  await gateway.stop();
  await code.remove();
});

/** The bytes of one attempt: each segment of it is another than that of any other attempt. */
function bytesOf(part: number, attempt: number): Buffer {
  const out = Buffer.from(BASE);
  for (let at = 0; at + 8 <= out.length; at += 65_536) {
    out.writeUInt32BE(part, at);
    out.writeUInt32BE(attempt, at + 4);
  }
  return out;
}

async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  await Promise.all(
    Array.from({ length: STREAMS }, async () => {
      for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
    }),
  );
}

function shuffled(count: number): number[] {
  return Array.from({ length: count }, (_, i) => ({ number: i + 1, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ number }) => number);
}

/** Compares while it reads: nothing of the size of the object is held here. */
async function matches(url: string): Promise<boolean> {
  const answer = await new Promise<IncomingMessage>((resolve, reject) => httpGet(url, resolve).on('error', reject));
  let at = 0;
  let part = bytesOf(1, 1);
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    for (let done = 0; done < chunk.length;) {
      const from = at % PART;
      if (from === 0) part = bytesOf(at / PART + 1, 1);
      const piece = Math.min(PART - from, chunk.length - done);
      if (!part.subarray(from, from + piece).equals(chunk.subarray(done, done + piece))) return false;
      at += piece;
      done += piece;
    }
  }
  return answer.statusCode === 200 && at === PARTS * PART;
}

/** Above 430 parts the manifest is longer than what is read of the end at once. */
async function rangeMatches(first: number, length: number): Promise<boolean> {
  const range = `bytes=${first}-${first + length - 1}`;
  const answer = await s3(gateway.raw, { method: 'GET', bucket, key: 'large', headers: { range } });
  const part = Math.floor(first / PART);
  const around = Buffer.concat([bytesOf(part + 1, 1), bytesOf(part + 2, 1)]);
  const expected = around.subarray(first - part * PART).subarray(0, length);
  return answer.status === 206 && answer.body.equals(expected);
}

it(
  `${PARTS} parts come back identical, and no stream holds more than a MiB`,
  { timeout: FULL ? 1_800_000 : 180_000 },
  async () => {
    const upload = await RawUpload.create(gateway.raw, bucket, 'large');
    // What is kept for the next time is grown first: connections, pools, code.
    await inParallel(shuffled(PARTS).slice(0, STREAMS), async (number) => {
      await upload.part(number, bytesOf(number, 0));
    });
    const base = await gateway.child.memory();
    const used: number[] = [];
    const resident: number[] = [];
    const look = setInterval(() => {
      void gateway.child.memory().then((memory) => {
        used.push(memory.used);
        resident.push(memory.resident);
      });
    }, 1000);
    const begun = performance.now();
    const parts: Listed[] = [];
    await inParallel(shuffled(PARTS), async (number) => {
      if (number % 3 === 0) await upload.part(number, bytesOf(number, 2));
      parts.push(await upload.part(number, bytesOf(number, 1)));
    });
    parts.sort((a, b) => a.partNumber - b.partNumber);
    const sent = performance.now();
    expect((await upload.complete(parts)).status).toBe(200);
    const completed = performance.now();
    const command = new GetObjectCommand({ Bucket: bucket, Key: 'large' });
    expect(await matches(await getSignedUrl(gateway.client(), command, { expiresIn: 3600 }))).toBe(true);
    clearInterval(look);
    await gateway.restart();
    for (const first of [PART - 10, (PARTS - 1) * PART - 10, Math.floor(PARTS / 2) * PART + 70_000]) {
      expect(await rangeMatches(first, 20)).toBe(true);
    }
    const seconds = [sent - begun, completed - sent, performance.now() - completed].map((ms) => (ms / 1000).toFixed(1));
    const mib = (bytes: number): string => (bytes / MIB).toFixed(1);
    if (FULL) {
      process.stdout.write(
        `parts, Complete, GET: ${seconds.join(', ')} s; in use: base ${mib(base.used)}, most ${mib(Math.max(...used))} MiB; resident: base ${mib(base.resident)}, most ${mib(Math.max(...resident))} MiB\n`,
      );
    }
    expect((Math.max(base.used, ...used) - base.used) / STREAMS).toBeLessThan(MIB);
  },
);
