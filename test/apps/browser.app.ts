import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { GetObjectCommand, PutBucketCorsCommand, PutObjectCommand, type CORSConfiguration } from '@aws-sdk/client-s3';
import { createPresignedPost } from '@aws-sdk/s3-presigned-post';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { clientEnvironment } from '../support/program.ts';
import { documented } from './documented.ts';
import { AppSite, type Application } from './site.ts';
import { digest } from './tree.ts';

const APPLICATION: Application = {
  name: 'browser',
  store: 'seaweedfs',
  because: "its own CORS answers would let every origin in: what the page sees must be the gateway's",
};
const MiB = 1024 ** 2;
const FILE = randomBytes(3 * MiB + 17);

/** What the scripts of upload.html answer. */
interface Answer {
  readonly status: number;
  readonly etag?: string;
  readonly text?: string;
  readonly mode?: string;
  readonly contentRange?: string;
  readonly sha256?: string;
}

describe(`a page of another origin in Chromium over ${APPLICATION.store}`, () => {
  let site: AppSite;
  let browser: Browser;
  let [allowed, other]: readonly (Server | undefined)[] = [];
  let page: Page;
  let stranger: Page;
  const preflights: string[] = [];

  beforeAll(async () => {
    site = await AppSite.start(APPLICATION);
    [allowed, other] = await Promise.all([servePage(), servePage()]);
    const rules = documented('Upload page in a browser', { 'https://app.example': originOf(allowed) });
    const CORSConfiguration = JSON.parse(rules) as CORSConfiguration;
    const Bucket = site.bucket.bucket;
    await site.gateway.client().send(new PutBucketCorsCommand({ Bucket, CORSConfiguration }));
    await writeFile(site.path('picture.bin'), FILE);
    browser = await chromium.launch({ executablePath: '/usr/bin/chromium', env: clientEnvironment(site.home) });
    page = await openPage(browser, originOf(allowed), preflights);
    stranger = await openPage(browser, originOf(other), []);
  });
  afterAll(async () => {
    await browser.close();
    for (const server of [allowed, other]) server?.close();
    await site.stop();
  });

  const presignedPut = (Key: string): Promise<string> =>
    getSignedUrl(site.gateway.client(), new PutObjectCommand({ Bucket: site.bucket.bucket, Key }), { expiresIn: 300 });
  const presignedGet = (Key: string): Promise<string> =>
    getSignedUrl(site.gateway.client(), new GetObjectCommand({ Bucket: site.bucket.bucket, Key }), { expiresIn: 300 });
  const presignedPost = (Key: string, more: Record<string, string> = {}) =>
    createPresignedPost(site.gateway.client(), {
      Bucket: site.bucket.bucket,
      Key,
      Fields: { 'Content-Type': 'image/x-test', ...more },
      Conditions: [['content-length-range', 1, 8 * MiB]],
      Expires: 300,
    });
  const expectStored = async (key: string): Promise<void> => {
    const { status, body } = await site.bucket.get(key);
    expect(status).toBe(200);
    expect(digest(body)).toBe(digest(FILE));
  };

  it('the browser submits a form with a file, and comes back to the page', async () => {
    const back = `${originOf(allowed)}/done`;
    await run(page, 'fillForm', await presignedPost('form', { success_action_redirect: back }));
    await page.setInputFiles('input[type=file]', site.path('picture.bin'));
    await Promise.all([page.waitForURL(`${back}?*`), page.click('button')]);
    const told = new URL(page.url()).searchParams;
    expect([told.get('bucket'), told.get('key')]).toEqual([site.bucket.bucket, 'form']);
    await expectStored('form');
  });

  it('a script posts the same form, and sees the answer', async () => {
    await page.setInputFiles('input[type=file]', site.path('picture.bin'));
    const answer = await run(page, 'postForm', await presignedPost('posted', { success_action_status: '201' }));
    expect(answer.status).toBe(201);
    expect(answer.etag).toMatch(/^"[^"]+"$/);
    expect(answer.text).toContain('<Key>posted</Key>');
    await expectStored('posted');
  });

  it('a script puts a file, after the preflight that this takes', async () => {
    const url = await presignedPut('put');
    expect(await run(page, 'putFile', { url })).toEqual({ status: 200, mode: 'aws:kms' });
    expect(preflights).toEqual([url]);
    await expectStored('put');
  });

  it('a script reads a range', async () => {
    const answer = await run(page, 'readRange', { url: await presignedGet('put'), range: 'bytes=70000-169999' });
    expect(answer).toEqual({
      status: 206,
      contentRange: `bytes 70000-169999/${FILE.length}`,
      sha256: digest(FILE.subarray(70_000, 170_000)),
    });
  });

  it('a page of an origin that is not allowed writes and reads nothing, with URLs as good', async () => {
    await stranger.setInputFiles('input[type=file]', site.path('picture.bin'));
    const put = run(stranger, 'putFile', { url: await presignedPut('stranger') });
    await expect(put).rejects.toThrow('Failed to fetch');
    expect((await site.bucket.send('HEAD', 'stranger')).status).toBe(404);
    const read = run(stranger, 'readRange', { url: await presignedGet('put'), range: 'bytes=0-9' });
    await expect(read).rejects.toThrow('Failed to fetch');
  });

  it('what it stored is sealed', () => site.expectSealed([]));
});

async function servePage(): Promise<Server> {
  const content = await readFile(join(import.meta.dirname, 'upload.html'));
  const server = createServer((_request, response) => {
    response.setHeader('content-type', 'text/html').end(content);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

/** One of the page's own functions. */
function run(page: Page, name: string, argument: object): Promise<Answer> {
  return page.evaluate<Answer>(`${name}(${JSON.stringify(argument)})`);
}

/** `localhost`, while the gateway is at 127.0.0.1: another site, and one whose scripts may use the browser's own crypto. */
function originOf(server: Server | undefined): string {
  return `http://localhost:${(server?.address() as AddressInfo).port}`;
}

async function openPage(browser: Browser, origin: string, preflights: string[]): Promise<Page> {
  const page = await browser.newPage();
  const devtools = await page.context().newCDPSession(page);
  devtools.on('Network.requestWillBeSent', ({ request }) => {
    if (request.method === 'OPTIONS') preflights.push(request.url);
  });
  await devtools.send('Network.enable');
  await page.goto(origin);
  return page;
}
