import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm, stat, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { startDevStore } from '../../src/devstore/server.ts';
import { s3, xmlTexts } from '../support/s3-raw.ts';
import { Site } from '../stores/site.ts';
import { startChild, transpileStore, type Child } from './child.ts';

let code: Awaited<ReturnType<typeof transpileStore>>;
let directory: string;
const children: Child[] = [];

beforeAll(async () => {
  code = await transpileStore();
});
afterAll(() => code.remove());
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'sse-killed-'));
});
afterEach(async () => {
  await Promise.all(children.splice(0).map((child) => child.kill()));
  await rm(directory, { recursive: true, force: true });
});

async function start(): Promise<{ child: Child; site: Site }> {
  const child = await startChild(code.folder, directory);
  children.push(child);
  return { child, site: new Site(child, 'killed') };
}

interface Written {
  /** The digest of the last body that was answered with 200, by key. */
  readonly acknowledged: Map<string, string>;
  /** The body that had no answer when the store died: it may be there, whole, or not at all. */
  readonly unanswered: string;
}

/** Writes over seven keys of its own until the store dies; each body's digest is in its metadata. */
async function write(site: Site, writer: number, count: () => void): Promise<Written> {
  const acknowledged = new Map<string, string>();
  for (let i = 0; ; i += 1) {
    const body = randomBytes(1 + ((i * 7919) % 200_000));
    const digest = sha256(body);
    const key = `${writer}/${i % 7}`;
    const { status } = await site.put(key, body, { 'x-amz-meta-digest': digest });
    if (status !== 200) return { acknowledged, unanswered: digest };
    acknowledged.set(key, digest);
    count();
  }
}

function sha256(body: Buffer): string {
  return createHash('sha256').update(body).digest('hex');
}

it(
  'kill -9 under load: what was acknowledged is there, whole, and nothing is left behind',
  { timeout: 60_000 },
  async () => {
    for (const enough of [4, 30, 90]) {
      const { child, site } = await start();
      await s3(child, { method: 'PUT', bucket: 'killed' });
      let answers = 0;
      const writers = [0, 1, 2, 3].map((writer) => write(site, writer, () => (answers += 1)));
      while (answers < enough) await sleep(5);
      await child.kill();
      const written = await Promise.all(writers);

      const again = await start();
      expect(await readdir(join(directory, 'tmp'))).toEqual([]);
      const { text } = await again.site.send('GET', undefined, { query: { 'list-type': '2' } });
      for (const { acknowledged, unanswered } of written) {
        for (const [key, digest] of acknowledged) {
          const { body, headers } = await again.site.get(key);
          expect([digest, unanswered], key).toContain(sha256(body));
          expect(headers['x-amz-meta-digest'], key).toBe(sha256(body));
          expect(xmlTexts(text, 'Key')).toContain(key);
        }
      }
      await again.child.kill();
    }
  },
);

it('kill -9 in the middle of an upload in parts: the parts are there, and it can be completed', async () => {
  const first = await start();
  await s3(first.child, { method: 'PUT', bucket: 'killed' });
  const upload = await first.site.createUpload('parts', { 'x-amz-meta-kept': 'yes' });
  const part = await upload.part(1, Buffer.from('part one'));
  void upload.send(2, { body: Buffer.alloc(300_000), payload: 'UNSIGNED-PAYLOAD', cutAfter: 100_000 });
  await sleep(50);
  await first.child.kill();

  const { site } = await start();
  const query = { uploadId: upload.id };
  const listed = await site.send('GET', 'parts', { query });
  expect(xmlTexts(listed.text, 'PartNumber')).toEqual(['1']);
  const body = `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>${part.etag}</ETag></Part></CompleteMultipartUpload>`;
  expect((await site.send('POST', 'parts', { query, body })).status).toBe(200);
  const { text, headers } = await site.get('parts');
  expect([text, headers['x-amz-meta-kept']]).toEqual(['part one', 'yes']);
});

it('a damaged file stops the start, and names itself', async () => {
  const { child, site } = await start();
  await s3(child, { method: 'PUT', bucket: 'killed' });
  await site.put('x', 'x');
  await child.kill();
  const objects = join(directory, 'buckets', 'killed', 'objects');
  const [file = ''] = await readdir(objects);
  await truncate(join(objects, file), (await stat(join(objects, file))).size - 1);
  const credentials = { accessKeyId: 'a', secretAccessKey: 'b' };
  const starting = startDevStore({ directory, host: '127.0.0.1', port: 0, credentials, region: 'us-east-1' });
  await expect(starting).rejects.toThrow(new RegExp(`${file} is damaged`));
});
