import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { Site } from '../stores/site.ts';
import { startStore } from '../stores/start.ts';
import type { RunningStore, StoreName } from '../stores/store.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { runProgram, type Output, type RunOptions } from '../support/program.ts';
import { xmlTexts } from '../support/s3-raw.ts';
import { Search, type Needle } from '../support/search.ts';

export interface Application {
  readonly name: string;
  readonly store: StoreName;
  /** Why this store of all. */
  readonly because: string;
  readonly tls?: boolean;
}

const KEY = '<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>data</KMSMasterKeyID>';
const BY_DEFAULT = `<ApplyServerSideEncryptionByDefault>${KEY}</ApplyServerSideEncryptionByDefault>`;
const ENCRYPTION = `<ServerSideEncryptionConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Rule>${BY_DEFAULT}</Rule></ServerSideEncryptionConfiguration>`;

/** Where one application works: a store of its own, a gateway over it, a bucket whose default is SSE-KMS, and a home. */
export class AppSite {
  readonly store: RunningStore;
  readonly gateway: TestGateway;
  readonly bucket: Site;
  readonly home: string;

  private constructor(store: RunningStore, gateway: TestGateway, bucket: Site, home: string) {
    [this.store, this.gateway, this.bucket, this.home] = [store, gateway, bucket, home];
  }

  static async start({ name, store: storeName, tls = false }: Application): Promise<AppSite> {
    const store = await startStore(storeName);
    const gateway = await startGateway({ store, tls }).catch(async (err: unknown) => {
      await store.stop();
      throw err;
    });
    const bucket = new Site(gateway.raw, `${name}-${randomBytes(4).toString('hex')}`);
    const site = new AppSite(store, gateway, bucket, await mkdtemp(join(tmpdir(), `app-${name}-`)));
    try {
      await site.#prepare();
      return site;
    } catch (err) {
      await site.stop();
      throw err;
    }
  }

  async #prepare(): Promise<void> {
    // Some applications run as a user of their own.
    await chmod(this.home, 0o755);
    if (this.gateway.ca !== undefined) await writeFile(this.caFile, this.gateway.ca);
    const made = await this.bucket.send('PUT', undefined);
    if (made.status !== 200) throw new Error(made.text);
    const set = await this.bucket.send('PUT', undefined, { query: { encryption: '' }, body: ENCRYPTION });
    if (set.status !== 200) throw new Error(set.text);
  }

  async stop(): Promise<void> {
    await this.gateway.stop();
    await this.store.stop();
    await rm(this.home, { recursive: true, force: true });
  }

  get caFile(): string {
    return this.path('ca.pem');
  }

  get endpoint(): string {
    return this.gateway.raw.endpoint;
  }

  path(...names: readonly string[]): string {
    return join(this.home, ...names);
  }

  run(program: string, args: readonly string[], options?: RunOptions): Promise<Output> {
    return runProgram(this.home, program, args, options);
  }

  /** All keys of the bucket. */
  async keys(prefix = ''): Promise<string[]> {
    const keys: string[] = [];
    let token = '';
    do {
      const more = token === '' ? {} : { 'continuation-token': token };
      const { text } = await this.bucket.send('GET', undefined, { query: { 'list-type': '2', prefix, ...more } });
      keys.push(...xmlTexts(text, 'Key'));
      token = xmlTexts(text, 'NextContinuationToken')[0] ?? '';
    } while (token !== '');
    return keys;
  }

  /**
   * Every object is sealed: what a client reads is not what the store holds, neither over the store's own API nor in
   * any of its files. `known` is content of the application that must have been looked for too.
   */
  async expectSealed(known: readonly Needle[]): Promise<void> {
    const keys = await this.keys();
    expect(keys.length).toBeGreaterThan(0);
    const windows: Needle[] = [];
    const atStore = new Site(this.store, this.bucket.bucket);
    const raw: Buffer[] = [];
    for (const key of keys) {
      const { status, body, headers } = await this.bucket.get(key);
      expect(status, key).toBe(200);
      expect(headers['x-amz-server-side-encryption'], key).toBe('aws:kms');
      windows.push(...windowsOf(key, body).filter(({ bytes }) => !isName(keys, bytes)));
      const stored = await atStore.get(key);
      expect(stored.status, key).toBe(200);
      raw.push(stored.body);
    }
    // Written past the gateway, so that the search is seen to find.
    const control = { name: 'control', bytes: randomBytes(16) };
    expect((await atStore.put('control', Buffer.alloc(1 << 20, control.bytes))).status).toBe(200);
    const search = new Search([...windows, ...known, control]);
    expect((await search.inFolders(this.store.dataDirectories)).found).toEqual(['control']);
    expect(raw.flatMap((body) => [...search.inBytes(body)])).toEqual([]);
    await atStore.send('DELETE', 'control');
  }
}

const WINDOW = 16;
const WINDOWS = 32;

/** Windows spread over a body; those with little in them, such as zeros, could be anywhere. */
function windowsOf(key: string, body: Buffer): Needle[] {
  const last = body.length - WINDOW;
  const starts = new Set(Array.from({ length: WINDOWS }, (_, i) => Math.floor((i * last) / (WINDOWS - 1))));
  return [...starts]
    .filter((at) => at >= 0)
    .map((at) => ({ name: `${key} at ${at}`, bytes: Buffer.from(body.subarray(at, at + WINDOW)) }))
    .filter(({ bytes }) => new Set(bytes).size > WINDOW / 2);
}

/** Names are not sealed: a manifest that lists objects holds what the store must know. */
function isName(keys: readonly string[], bytes: Buffer): boolean {
  const text = bytes.toString('latin1');
  return keys.some((key) => key.includes(text));
}
