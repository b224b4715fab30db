import { access, writeFile } from 'node:fs/promises';
import { expect } from 'vitest';
import type { Client, Session } from './client.ts';
import { KMS_KEY, LARGE_SIZE, PART_SIZE, SMALL_SIZE, type Place } from './place.ts';
import { failureOf, type Output } from '../support/program.ts';

const VIRTUAL_HOSTS = {
  set: 'nothing; the gateway has `data.baseHosts`, and a certificate for `*.` that name',
  why: 'with this provider rclone always uses virtual-host style, whatever `force_path_style` says',
};

/** The same program under each `provider`, which decides what it sends and what it believes. */
export const rclones: readonly Client[] = (['Other', 'AWS', 'Ceph', 'Minio'] as const).map((provider) => ({
  name: `rclone (${provider})`,
  version: 'v1.60',
  source: 'Debian `rclone`',
  settings: [
    provider === 'AWS' ? VIRTUAL_HOSTS : { set: '`force_path_style = true`', why: 'its default, for this provider' },
    {
      set: '`no_check_bucket = true`',
      why: 'only to save a request per run; creating a bucket that is there does no harm',
    },
  ],
  lacks: {},
  async open(place) {
    const { gateway } = place;
    const endpoint = provider === 'AWS' ? place.virtualHostEndpoint : gateway.endpoint;
    const lines = [
      ...['[s3]', 'type = s3', `provider = ${provider}`, `endpoint = ${endpoint}`, 'region = us-east-1'],
      ...[`access_key_id = ${gateway.accessKeyId}`, `secret_access_key = ${gateway.secretAccessKey}`],
      ...['no_check_bucket = true', 'use_multipart_etag = false', 'upload_cutoff = 5Mi', 'chunk_size = 5Mi'],
    ];
    await writeFile(place.path('rclone.conf'), `${lines.join('\n')}\n`);
    return new Rclone(place, provider === 'Other' ? place.manyFiles : 12, provider === 'AWS');
  },
}));

class Rclone implements Session {
  readonly #place: Place;
  readonly #treeSize: number;
  readonly #hosts: boolean;

  constructor(place: Place, treeSize: number, hosts: boolean) {
    this.#hosts = hosts;
    this.#place = place;
    this.#treeSize = treeSize;
  }

  async #rclone(...args: readonly string[]): Promise<string> {
    const { stdout, stderr } = await this.#run(...args);
    return `${stdout}${stderr}`;
  }

  #run(...args: readonly string[]): Promise<Output> {
    const { gateway, caFile } = this.#place;
    const ca = gateway.ca === undefined ? [] : ['--ca-cert', caFile];
    const options = ['--config', this.#place.path('rclone.conf'), '--retries', '1', '--low-level-retries', '1', ...ca];
    return this.#start('rclone', [...args, ...options]);
  }

  #start(program: string, args: readonly string[]): Promise<Output> {
    return this.#hosts ? this.#place.runWithHosts(program, args) : this.#place.run(program, args);
  }

  #at(key: string, bucket = this.#place.bucket): string {
    return `s3:${bucket}/${key}`;
  }

  async #both(prefix: string, bucket: string, ...options: readonly string[]): Promise<void> {
    const { small, large } = this.#place;
    await this.#rclone('copyto', small.path, this.#at(`${prefix}/small`, bucket), ...options);
    await this.#rclone('copyto', large.path, this.#at(`${prefix}/large`, bucket), ...options);
  }

  async version(): Promise<string> {
    return (await this.#place.run('rclone', ['version'])).stdout;
  }

  /** `sync` compares sizes and times (which it keeps in metadata): a second one with nothing to do copies nothing. */
  async #sync(): Promise<void> {
    const tree = await this.#place.makeTree('tree', this.#treeSize);
    const fast = ['--transfers', '8', '--checkers', '8', '--stats-one-line', '-v'];
    expect(copied(await this.#rclone('sync', tree, this.#at('tree'), ...fast))).toBe(this.#treeSize);
    expect(copied(await this.#rclone('sync', tree, this.#at('tree'), ...fast))).toBe(0);
    expect(copied(await this.#rclone('sync', tree, this.#at('tree'), ...fast, '--size-only'))).toBe(0);
    const back = this.#place.path('tree.back');
    expect(copied(await this.#rclone('sync', this.#at('tree'), back, ...fast))).toBe(this.#treeSize);
    await this.#place.expectSameTree(back, tree);
    expect(copied(await this.#rclone('sync', this.#at('tree'), back, ...fast))).toBe(0);
  }

  async #sealed(
    prefix: string,
    bucket: string,
    mode: 'aws:kms' | 'AES256',
    ...options: readonly string[]
  ): Promise<void> {
    const { small, large } = this.#place;
    await this.#both(prefix, bucket, ...options);
    await this.#place.expectObject(bucket, `${prefix}/small`, small, mode);
    await this.#place.expectObject(bucket, `${prefix}/large`, large, mode);
  }

  #customer(key: 'key' | 'wrongKey'): string[] {
    const { headers } = this.#place[key];
    const name = 'x-amz-server-side-encryption-customer-key';
    return [
      ...['--s3-sse-customer-algorithm', 'AES256', '--s3-sse-customer-key-base64', headers[name] ?? ''],
      ...['--s3-sse-customer-key-md5', headers[`${name}-md5`] ?? ''],
    ];
  }

  readonly steps: Session['steps'] = {
    upload: async () => {
      const { small, bucket } = this.#place;
      await this.#rclone('copyto', small.path, this.#at('small.bin'));
      await this.#place.expectObject(bucket, 'small.bin', small, 'aws:kms');
    },
    multipart: async () => {
      const { large, bucket } = this.#place;
      await this.#rclone('copyto', large.path, this.#at('large.bin'));
      await this.#place.expectObject(bucket, 'large.bin', large, 'aws:kms');
    },
    head: async () => {
      const [item] = JSON.parse(await this.#rclone('lsjson', '--metadata', this.#at('small.bin'))) as object[];
      expect(item).toMatchObject({ Size: SMALL_SIZE, Metadata: { 'content-type': 'application/octet-stream' } });
    },
    list: async () => {
      expect((await this.#rclone('lsf', '--format', 'ps', this.#at(''))).trim().split('\n')).toEqual([
        `large.bin;${LARGE_SIZE}`,
        `small.bin;${SMALL_SIZE}`,
      ]);
    },
    download: async () => {
      const { small, large } = this.#place;
      for (const [key, sample] of [
        ['small.bin', small],
        ['large.bin', large],
      ] as const) {
        await this.#rclone('copyto', this.#at(key), this.#place.path(`${key}.back`));
        await this.#place.expectFile(this.#place.path(`${key}.back`), sample);
      }
    },
    range: async () => {
      const { bytes } = await this.#run(
        'cat',
        '--offset',
        String(PART_SIZE - 7),
        '--count',
        '15',
        this.#at('large.bin'),
      );
      expect(bytes).toEqual(this.#place.large.bytes.subarray(PART_SIZE - 7, PART_SIZE + 8));
    },
    copy: async () => {
      const { small, bucket } = this.#place;
      expect(await this.#rclone('copyto', '-v', this.#at('small.bin'), this.#at('copy/small'))).toContain(
        '(server-side copy)',
      );
      await this.#place.expectObject(bucket, 'copy/small', small, 'aws:kms');
    },
    'copy in parts': async () => {
      const { large, bucket } = this.#place;
      await this.#rclone('copyto', '--s3-copy-cutoff', '5Mi', this.#at('large.bin'), this.#at('copy/parts'));
      await this.#place.expectObject(bucket, 'copy/parts', large, 'aws:kms');
    },
    move: async () => {
      const { small, bucket } = this.#place;
      await this.#rclone('copyto', small.path, this.#at('move/from'));
      await this.#rclone('moveto', this.#at('move/from'), this.#at('move/to'));
      await this.#place.expectObject(bucket, 'move/to', small, 'aws:kms');
      expect(await this.#place.status(bucket, 'move/from')).toBe(404);
    },
    sync: () => this.#sync(),
    check: async () => {
      const tree = await this.#place.makeTree('checked', 12);
      await this.#rclone('copy', tree, this.#at('checked'));
      expect(await this.#rclone('check', '--download', tree, this.#at('checked'))).toContain('0 differences found');
      expect(await this.#rclone('check', tree, this.#at('checked'))).toContain('0 differences found');
    },
    presign: async () => {
      const { small, gateway, caFile } = this.#place;
      const url = (await this.#rclone('link', '--expire', '10m', this.#at('small.bin'))).trim();
      const ca = gateway.ca === undefined ? [] : ['--cacert', caFile];
      await this.#start('curl', ['-q', '-sS', '--fail-with-body', ...ca, '--output', 'presigned.back', url]);
      await this.#place.expectFile(this.#place.path('presigned.back'), small);
    },
    'SSE-S3': () => this.#sealed('sse-s3', this.#place.bucket, 'AES256', '--s3-server-side-encryption', 'AES256'),
    'SSE-KMS': () => {
      const options = ['--s3-server-side-encryption', 'aws:kms', '--s3-sse-kms-key-id', KMS_KEY];
      return this.#sealed('sse-kms', this.#place.other, 'aws:kms', ...options);
    },
    'SSE-C': async () => {
      const { small, large, other } = this.#place;
      await this.#both('sse-c', other, ...this.#customer('key'));
      await this.#place.expectCustomerObject(other, 'sse-c/small', small);
      await this.#place.expectCustomerObject(other, 'sse-c/large', large);
      await this.#rclone(
        'copyto',
        this.#at('sse-c/large', other),
        this.#place.path('sse-c.back'),
        ...this.#customer('key'),
      );
      await this.#place.expectFile(this.#place.path('sse-c.back'), large);
    },
    'SSE-C, wrong key': async () => {
      const { other } = this.#place;
      // A HEAD that is refused makes it look for a folder of that name, which is empty.
      const back = this.#place.path('wrong.back');
      await this.#rclone('copyto', this.#at('sse-c/small', other), back, ...this.#customer('wrongKey')).catch(() => '');
      await expect(access(back)).rejects.toThrow('ENOENT');
    },
    'SSE-C over HTTP': async () => {
      const { other } = this.#place;
      await failureOf(this.#both('sse-c', other, ...this.#customer('key')));
      expect(await this.#place.status(other, 'sse-c/small')).toBe(404);
    },
    delete: async () => {
      const { bucket } = this.#place;
      await this.#rclone('deletefile', this.#at('small.bin'));
      expect(await this.#place.status(bucket, 'small.bin')).toBe(404);
      await this.#rclone('purge', this.#at('checked'));
      await this.#rclone('delete', this.#at(''));
      expect(await this.#rclone('lsf', '-R', '--files-only', this.#at(''))).toBe('');
    },
  };
}

/** How many files a `-v` run says that it copied. */
function copied(said: string): number {
  return [...said.matchAll(/INFO {2}: .*: Copied \(/g)].length;
}
