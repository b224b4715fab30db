import { readFile, writeFile } from 'node:fs/promises';
import { expect } from 'vitest';
import type { Client, Session } from './client.ts';
import { KMS_KEY, LARGE_SIZE, SMALL_SIZE, type Place } from './place.ts';

export const s3cmd: Client = {
  name: 's3cmd',
  version: '2.3',
  source: 'Debian `s3cmd`',
  settings: [
    {
      set: '`host_base` and `host_bucket` to the same host, without `%(bucket)s`',
      why: 'this is its way to say path style',
    },
    { set: '`ca_certs_file`', why: 'for a private authority' },
    { set: '`signature_v2 = False`', why: 'the gateway takes version 4 only' },
  ],
  lacks: {
    check: 'it has no such command',
    presign: '`signurl` signs with version 2, which the gateway refuses',
    'SSE-C': 'its headers go with uploads only: what it wrote it could not read',
    'SSE-C, wrong key': 'see SSE-C',
    'SSE-C over HTTP': 'see SSE-C',
  },
  async open(place) {
    const { gateway, host, transport } = place;
    const lines = [
      ...['[default]', `access_key = ${gateway.accessKeyId}`, `secret_key = ${gateway.secretAccessKey}`],
      ...[`host_base = ${host}`, `host_bucket = ${host}`, 'bucket_location = us-east-1', 'signature_v2 = False'],
      ...[`use_https = ${transport === 'https' ? 'True' : 'False'}`, `ca_certs_file = ${place.caFile}`],
      ...[
        'multipart_chunk_size_mb = 5',
        'multipart_copy_chunk_size_mb = 5',
        'max_retries = 1',
        'progress_meter = False',
        'guess_mime_type = False',
      ],
    ];
    await writeFile(place.path('.s3cfg'), `${lines.join('\n')}\n`);
    return new S3cmd(place);
  },
};

class S3cmd implements Session {
  readonly #place: Place;

  constructor(place: Place) {
    this.#place = place;
  }

  async #s3cmd(...args: readonly string[]): Promise<string> {
    const { stdout, stderr } = await this.#place.run('s3cmd', args);
    return `${stdout}${stderr}`;
  }

  #url(key: string, bucket = this.#place.bucket): string {
    return `s3://${bucket}/${key}`;
  }

  version(): Promise<string> {
    return this.#s3cmd('--version');
  }

  async #both(
    prefix: string,
    bucket: string,
    mode: 'aws:kms' | 'AES256',
    ...options: readonly string[]
  ): Promise<void> {
    const { small, large } = this.#place;
    await this.#s3cmd('put', ...options, small.path, this.#url(`${prefix}/small`, bucket));
    await this.#s3cmd('put', ...options, large.path, this.#url(`${prefix}/large`, bucket));
    await this.#place.expectObject(bucket, `${prefix}/small`, small, mode);
    await this.#place.expectObject(bucket, `${prefix}/large`, large, mode);
  }

  /** It compares sizes and MD5, the latter from metadata that it writes itself (`s3cmd-attrs`). */
  async #sync(): Promise<void> {
    const tree = await this.#place.makeTree('tree', 12);
    expect(await this.#s3cmd('sync', `${tree}/`, this.#url('tree/'))).toContain('upload:');
    expect(await this.#s3cmd('sync', `${tree}/`, this.#url('tree/'))).not.toContain('upload:');
    const back = `${this.#place.path('tree.back')}/`;
    await this.#s3cmd('sync', this.#url('tree/'), back);
    await this.#place.expectSameTree(back.slice(0, -1), tree);
    expect(await this.#s3cmd('sync', this.#url('tree/'), back)).not.toContain('download:');
  }

  readonly steps: Session['steps'] = {
    upload: async () => {
      const { bucket, small } = this.#place;
      const headers = ['--add-header', 'x-amz-meta-colour:blue', '--mime-type', 'text/x-small'];
      await this.#s3cmd('put', ...headers, small.path, this.#url('small.bin'));
      await this.#place.expectObject(bucket, 'small.bin', small, 'aws:kms');
    },
    multipart: async () => {
      const { bucket, large } = this.#place;
      await this.#s3cmd('put', large.path, this.#url('large.bin'));
      await this.#place.expectObject(bucket, 'large.bin', large, 'aws:kms');
    },
    head: async () => {
      const info = await this.#s3cmd('info', this.#url('small.bin'));
      expect(info).toMatch(
        new RegExp(`File size: ${SMALL_SIZE}[^]*MIME type: text/x-small[^]*SSE: +aws:kms[^]*colour: blue`),
      );
    },
    list: async () => {
      const rows = (await this.#s3cmd('ls', this.#url(''))).trim().split('\n');
      expect(rows.map((row) => row.split(/ +/).slice(2))).toEqual([
        [String(LARGE_SIZE), this.#url('large.bin')],
        [String(SMALL_SIZE), this.#url('small.bin')],
      ]);
    },
    download: async () => {
      const { small, large } = this.#place;
      for (const [key, sample] of [
        ['small.bin', small],
        ['large.bin', large],
      ] as const) {
        expect(await this.#s3cmd('get', this.#url(key), this.#place.path(`${key}.back`))).not.toContain('WARNING');
        await this.#place.expectFile(this.#place.path(`${key}.back`), sample);
      }
    },
    range: async () => {
      // The rest of a download that was cut off.
      const { large } = this.#place;
      const path = this.#place.path('continued.back');
      await writeFile(path, large.bytes.subarray(0, 6_000_000));
      await this.#s3cmd('get', '--continue', this.#url('large.bin'), path);
      expect((await readFile(path)).equals(large.bytes)).toBe(true);
    },
    copy: async () => {
      const { bucket, small } = this.#place;
      await this.#s3cmd('cp', this.#url('small.bin'), this.#url('copy/small'));
      await this.#place.expectObject(bucket, 'copy/small', small, 'aws:kms');
    },
    'copy in parts': async () => {
      const { bucket, large } = this.#place;
      await this.#s3cmd('cp', this.#url('large.bin'), this.#url('copy/parts'));
      await this.#place.expectObject(bucket, 'copy/parts', large, 'aws:kms');
    },
    move: async () => {
      const { bucket, small } = this.#place;
      await this.#s3cmd('put', small.path, this.#url('move/from'));
      await this.#s3cmd('mv', this.#url('move/from'), this.#url('move/to'));
      await this.#place.expectObject(bucket, 'move/to', small, 'aws:kms');
      expect(await this.#place.status(bucket, 'move/from')).toBe(404);
    },
    sync: () => this.#sync(),
    'SSE-S3': () => this.#both('sse-s3', this.#place.bucket, 'AES256', '--server-side-encryption'),
    'SSE-KMS': () => this.#both('sse-kms', this.#place.other, 'aws:kms', `--server-side-encryption-kms-id=${KMS_KEY}`),
    delete: async () => {
      const { bucket } = this.#place;
      await this.#s3cmd('del', this.#url('small.bin'));
      expect(await this.#place.status(bucket, 'small.bin')).toBe(404);
      await this.#s3cmd('del', '--recursive', '--force', this.#url(''));
      expect(await this.#s3cmd('ls', '--recursive', this.#url(''))).toBe('');
    },
  };
}
