import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { copyFile, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import type { Client, Session } from './client.ts';
import { KMS_KEY, LARGE_SIZE, PART_SIZE, SMALL_SIZE, type Place } from './place.ts';
import { clientEnvironment } from '../support/program.ts';

export const s3fs: Client = {
  name: 's3fs',
  version: 'V1.90',
  source: 'Debian `s3fs`',
  settings: [
    { set: '`use_path_request_style`', why: 'unless the gateway has `data.baseHosts` and a wildcard certificate' },
    {
      set: '`nomultipart` together with `use_sse`',
      why: 'this version sends the option with single uploads only: an upload in parts gets the default of the bucket, and fails with a key of its own',
    },
    {
      set: 'not `enable_content_md5` together with a check of ETags',
      why: 'the ETag of an encrypted object is not its MD5',
    },
    {
      set: 'the variable `CURL_CA_BUNDLE`, and `retries` above 1',
      why: 'a private authority; it is read at the first retry only',
    },
  ],
  lacks: {
    copy: 'a file system has no copy: reading and writing is what `cp` does on it',
    'copy in parts': 'see copy',
    sync: 'a file system has no such operation',
    check: 'a file system has no such operation',
    presign: 'a file system makes no URLs',
    'SSE-C over HTTP': 'it refuses to mount without TLS',
  },
  async impossible() {
    try {
      await (await open('/dev/fuse', 'r+')).close();
      return undefined;
    } catch (err) {
      return `/dev/fuse cannot be opened (${(err as NodeJS.ErrnoException).code ?? 'unknown'})`;
    }
  },
  async open(place) {
    const { accessKeyId, secretAccessKey } = place.gateway;
    await writeFile(place.path('passwd-s3fs'), `${accessKeyId}:${secretAccessKey}\n`, { mode: 0o600 });
    const session = new S3fs(place);
    session.mounted = await Mount.make(place, place.bucket);
    return session;
  },
};

/** A mounted bucket; s3fs runs in the foreground as our child. */
class Mount {
  readonly folder: string;
  readonly #child: ChildProcess;
  #said = '';

  private constructor(place: Place, bucket: string, options: readonly string[]) {
    const { gateway, folder, caFile } = place;
    this.folder = place.path(`mount-${bucket}-${options.join('').replaceAll(/[^a-z0-9]/g, '')}`);
    const all = [
      ...[`url=${gateway.endpoint}`, `passwd_file=${place.path('passwd-s3fs')}`, 'use_path_request_style'],
      ...['multipart_size=5', 'singlepart_copy_limit=5', 'stat_cache_expire=1', 'retries=2', ...options],
    ];
    mkdirSync(this.folder);
    const args = [bucket, this.folder, '-f', ...all.flatMap((option) => ['-o', option])];
    const env = clientEnvironment(folder, gateway.ca === undefined ? {} : { CURL_CA_BUNDLE: caFile });
    this.#child = spawn('/usr/bin/s3fs', args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
    const keep = (chunk: Buffer | Error): void => {
      this.#said += String(chunk);
    };
    this.#child.stdout?.on('data', keep);
    this.#child.stderr?.on('data', keep);
    this.#child.on('error', keep);
  }

  static async make(place: Place, bucket: string, ...options: readonly string[]): Promise<Mount> {
    const mount = new Mount(place, bucket, options);
    const outside = (await stat(place.folder)).dev;
    const until = Date.now() + 30_000;
    for (;;) {
      const device = await stat(mount.folder).catch(() => undefined);
      if (device !== undefined && device.dev !== outside) break;
      if (mount.#child.exitCode !== null || Date.now() > until) {
        await place.run('fusermount', ['-u', mount.folder]).catch(() => undefined);
        throw new Error(`s3fs did not mount: ${mount.#said}`);
      }
      await sleep(50);
    }
    return mount;
  }

  path(...names: readonly string[]): string {
    return [this.folder, ...names].join('/');
  }

  async end(place: Place): Promise<void> {
    const ended = new Promise<void>((resolve) => this.#child.once('exit', () => resolve()));
    await place.run('fusermount', ['-u', this.folder]);
    if (this.#child.exitCode === null) await ended;
  }
}

class S3fs implements Session {
  readonly #place: Place;
  mounted: Mount | undefined;

  constructor(place: Place) {
    this.#place = place;
  }

  get #mount(): Mount {
    if (this.mounted === undefined) throw new Error('not mounted');
    return this.mounted;
  }

  async close(): Promise<void> {
    await this.mounted?.end(this.#place);
  }

  async version(): Promise<string> {
    return (await this.#place.run('s3fs', ['--version'])).stdout;
  }

  /** Mounts with these options, and runs `work` there. */
  async #with(bucket: string, options: readonly string[], work: (mount: Mount) => Promise<void>): Promise<void> {
    const mount = await Mount.make(this.#place, bucket, ...options);
    try {
      await work(mount);
    } finally {
      await mount.end(this.#place);
    }
  }

  async #both(bucket: string, prefix: string, options: readonly string[]): Promise<void> {
    const { small, large } = this.#place;
    await this.#with(bucket, ['nomultipart', ...options], async (mount) => {
      await copyFile(small.path, mount.path(`${prefix}-small`));
      await copyFile(large.path, mount.path(`${prefix}-large`));
      expect((await readFile(mount.path(`${prefix}-large`))).equals(large.bytes)).toBe(true);
    });
  }

  async #sealed(bucket: string, prefix: string, mode: 'aws:kms' | 'AES256', option: string): Promise<void> {
    await this.#both(bucket, prefix, [option]);
    await this.#place.expectObject(bucket, `${prefix}-small`, this.#place.small, mode);
    await this.#place.expectObject(bucket, `${prefix}-large`, this.#place.large, mode);
  }

  /** A file with the key in base64, as the mount option wants it. */
  async #custom(name: 'key' | 'wrongKey'): Promise<string> {
    const file = this.#place.path(`${name}.base64`);
    await writeFile(file, `${this.#place[name].bytes.toString('base64')}\n`, { mode: 0o600 });
    return `use_sse=custom:${file}`;
  }

  readonly steps: Session['steps'] = {
    upload: async () => {
      const { bucket, small } = this.#place;
      await copyFile(small.path, this.#mount.path('small.bin'));
      await this.#place.expectObject(bucket, 'small.bin', small, 'aws:kms');
    },
    multipart: async () => {
      const { bucket, large } = this.#place;
      await copyFile(large.path, this.#mount.path('large.bin'));
      await this.#place.expectObject(bucket, 'large.bin', large, 'aws:kms');
    },
    head: async () => {
      expect((await stat(this.#mount.path('small.bin'))).size).toBe(SMALL_SIZE);
    },
    list: async () => {
      await sleep(1100); // past its cache
      const names = (await readdir(this.#mount.folder)).sort();
      const sizes = await Promise.all(names.map(async (name) => (await stat(this.#mount.path(name))).size));
      expect([names, sizes]).toEqual([
        ['large.bin', 'small.bin'],
        [LARGE_SIZE, SMALL_SIZE],
      ]);
    },
    download: async () => {
      await this.#place.expectFile(this.#mount.path('small.bin'), this.#place.small);
      await this.#place.expectFile(this.#mount.path('large.bin'), this.#place.large);
    },
    range: async () => {
      const file = await open(this.#mount.path('large.bin'));
      const { buffer } = await file.read(Buffer.alloc(15), 0, 15, PART_SIZE - 7).finally(() => file.close());
      expect(buffer).toEqual(this.#place.large.bytes.subarray(PART_SIZE - 7, PART_SIZE + 8));
    },
    move: async () => {
      const { bucket, small, large } = this.#place;
      for (const [name, sample] of [
        ['small.bin', small],
        ['large.bin', large],
      ] as const) {
        await copyFile(sample.path, this.#mount.path(`move-${name}`));
        await rename(this.#mount.path(`move-${name}`), this.#mount.path(`moved-${name}`));
        await this.#place.expectObject(bucket, `moved-${name}`, sample, 'aws:kms');
        expect(await this.#place.status(bucket, `move-${name}`)).toBe(404);
      }
    },
    'SSE-S3': () => this.#sealed(this.#place.bucket, 'sse-s3', 'AES256', 'use_sse=1'),
    'SSE-KMS': () => this.#sealed(this.#place.other, 'sse-kms', 'aws:kms', `use_sse=kmsid:${KMS_KEY}`),
    'SSE-C': async () => {
      const { other, small, large } = this.#place;
      await this.#both(other, 'sse-c', [await this.#custom('key')]);
      await this.#place.expectCustomerObject(other, 'sse-c-small', small);
      await this.#place.expectCustomerObject(other, 'sse-c-large', large);
    },
    'SSE-C, wrong key': async () => {
      const option = await this.#custom('wrongKey');
      await this.#with(this.#place.other, [option], async (mount) => {
        // Without an error: the file seems to be empty.
        expect(await readFile(mount.path('sse-c-small')).catch(() => Buffer.alloc(0))).toHaveLength(0);
      });
    },
    delete: async () => {
      const { bucket } = this.#place;
      await rm(this.#mount.path('small.bin'));
      expect(await this.#place.status(bucket, 'small.bin')).toBe(404);
      for (const name of await readdir(this.#mount.folder)) await rm(this.#mount.path(name), { recursive: true });
      await sleep(1100);
      expect(await readdir(this.#mount.folder)).toEqual([]);
    },
  };
}
