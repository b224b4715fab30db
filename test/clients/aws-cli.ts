import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { expect } from 'vitest';
import type { Client, Session } from './client.ts';
import { KMS_KEY, LARGE_SIZE, PART_SIZE, SMALL_SIZE, type Place } from './place.ts';
import { failureOf } from '../support/program.ts';

export const awsCli: Client = {
  name: 'AWS CLI',
  version: 'aws-cli/2.9',
  source: 'Debian `awscli`',
  settings: [
    {
      set: '`--endpoint-url`',
      why: 'before version 2.13 neither the environment nor the configuration file can name it',
    },
    { set: '`--sse-c-key fileb://…` and `--sse-c AES256` at every command', why: 'the CLI keeps no customer keys' },
  ],
  lacks: { check: 'the CLI has no such command' },
  async open(place) {
    await mkdir(place.path('.aws'));
    const sizes = '    multipart_threshold = 5MB\n    multipart_chunksize = 5MB\n';
    const s3 = `s3 =\n    addressing_style = path\n    signature_version = s3v4\n${sizes}`;
    await writeFile(place.path('.aws', 'config'), `[default]\nregion = us-east-1\n${s3}`);
    return new AwsCli(place);
  },
};

/** The commands that report progress. */
const PROGRESS = ['cp', 'mv', 'sync'];

class AwsCli implements Session {
  readonly #place: Place;

  constructor(place: Place) {
    this.#place = place;
  }

  async #aws(...args: readonly string[]): Promise<string> {
    const { gateway, caFile } = this.#place;
    const env = {
      AWS_ACCESS_KEY_ID: gateway.accessKeyId,
      AWS_SECRET_ACCESS_KEY: gateway.secretAccessKey,
      AWS_MAX_ATTEMPTS: '1',
      AWS_EC2_METADATA_DISABLED: 'true',
      ...(gateway.ca === undefined ? {} : { AWS_CA_BUNDLE: caFile }),
    };
    const options = ['--endpoint-url', gateway.endpoint, '--output', 'json'];
    return (await this.#place.run('aws', [...options, ...args], { env })).stdout;
  }

  #s3(command: string, ...args: readonly string[]): Promise<string> {
    return this.#aws('s3', command, ...args, ...(PROGRESS.includes(command) ? ['--no-progress'] : []));
  }

  async #api(command: string, ...args: readonly string[]): Promise<Record<string, unknown>> {
    const stdout = await this.#aws('s3api', command, ...args);
    return stdout === '' ? {} : (JSON.parse(stdout) as Record<string, unknown>);
  }

  #url(key: string, bucket = this.#place.bucket): string {
    return `s3://${bucket}/${key}`;
  }

  async #both(prefix: string, bucket: string, ...options: readonly string[]): Promise<void> {
    const { small, large } = this.#place;
    await this.#s3('cp', small.path, this.#url(`${prefix}/small`, bucket), ...options);
    await this.#s3('cp', large.path, this.#url(`${prefix}/large`, bucket), ...options);
  }

  async version(): Promise<string> {
    return (await this.#place.run('aws', ['--version'])).stdout;
  }

  async #sync(): Promise<void> {
    const tree = await this.#place.makeTree('tree', 12);
    expect(await this.#s3('sync', tree, this.#url('tree'))).toContain('upload:');
    expect(await this.#s3('sync', tree, this.#url('tree'))).toBe('');
    const back = this.#place.path('tree.back');
    await this.#s3('sync', this.#url('tree'), back);
    await this.#place.expectSameTree(back, tree);
    expect(await this.#s3('sync', this.#url('tree'), back)).toBe('');
  }

  async #delete(): Promise<void> {
    const { bucket } = this.#place;
    await this.#s3('rm', this.#url('small.bin'));
    expect(await this.#place.status(bucket, 'small.bin')).toBe(404);
    // `s3 rm --recursive` deletes one by one; this is DeleteObjects.
    const Objects = [{ Key: 'large.bin' }, { Key: 'nothing' }];
    await this.#api('delete-objects', '--bucket', bucket, '--delete', JSON.stringify({ Objects, Quiet: true }));
    await this.#s3('rm', '--recursive', this.#url(''));
    expect(await this.#s3('ls', '--recursive', this.#url('')).catch(() => '')).toBe('');
  }

  readonly steps: Session['steps'] = {
    upload: async () => {
      const { small, bucket } = this.#place;
      await this.#s3(
        'cp',
        small.path,
        this.#url('small.bin'),
        '--metadata',
        'colour=blue',
        '--content-type',
        'text/x-small',
      );
      await this.#place.expectObject(bucket, 'small.bin', small, 'aws:kms');
    },
    multipart: async () => {
      const { large, bucket } = this.#place;
      await this.#s3('cp', large.path, this.#url('large.bin'));
      await this.#place.expectObject(bucket, 'large.bin', large, 'aws:kms');
    },
    head: async () => {
      const head = await this.#api('head-object', '--bucket', this.#place.bucket, '--key', 'small.bin');
      const ServerSideEncryption = 'aws:kms';
      const rest = { ContentType: 'text/x-small', Metadata: { colour: 'blue' }, ServerSideEncryption };
      expect(head).toMatchObject({ ContentLength: SMALL_SIZE, ...rest });
    },
    list: async () => {
      const rows = (await this.#s3('ls', this.#url(''))).trim().split('\n');
      expect(rows.map((row) => row.split(/ +/).slice(2))).toEqual([
        [String(LARGE_SIZE), 'large.bin'],
        [String(SMALL_SIZE), 'small.bin'],
      ]);
    },
    download: async () => {
      const { small, large } = this.#place;
      for (const [key, sample] of [
        ['small.bin', small],
        ['large.bin', large],
      ] as const) {
        await this.#s3('cp', this.#url(key), this.#place.path(`${key}.back`));
        await this.#place.expectFile(this.#place.path(`${key}.back`), sample);
      }
    },
    range: async () => {
      const { bucket, large } = this.#place;
      const range = `bytes=${PART_SIZE - 7}-${PART_SIZE + 7}`;
      await this.#api('get-object', '--bucket', bucket, '--key', 'large.bin', '--range', range, 'range.back');
      const got = await readFile(this.#place.path('range.back'));
      expect(got).toEqual(large.bytes.subarray(PART_SIZE - 7, PART_SIZE + 8));
    },
    copy: async () => {
      const { small, bucket } = this.#place;
      await this.#s3('cp', this.#url('small.bin'), this.#url('copy/small'));
      await this.#place.expectObject(bucket, 'copy/small', small, 'aws:kms');
      expect(await this.#api('head-object', '--bucket', bucket, '--key', 'copy/small')).toMatchObject({
        Metadata: { colour: 'blue' },
      });
    },
    'copy in parts': async () => {
      const { large, bucket } = this.#place;
      await this.#s3('cp', this.#url('large.bin'), this.#url('copy/parts'));
      await this.#place.expectObject(bucket, 'copy/parts', large, 'aws:kms');
    },
    move: async () => {
      const { small, bucket } = this.#place;
      await this.#s3('cp', small.path, this.#url('move/from'));
      await this.#s3('mv', this.#url('move/from'), this.#url('move/to'));
      await this.#place.expectObject(bucket, 'move/to', small, 'aws:kms');
      expect(await this.#place.status(bucket, 'move/from')).toBe(404);
    },
    sync: () => this.#sync(),
    presign: async () => {
      const { small, gateway, caFile } = this.#place;
      const url = (await this.#s3('presign', this.#url('small.bin'))).trim();
      const ca = gateway.ca === undefined ? [] : ['--cacert', caFile];
      await this.#place.run('curl', ['-q', '-sS', '--fail-with-body', ...ca, '--output', 'presigned.back', url]);
      await this.#place.expectFile(this.#place.path('presigned.back'), small);
    },
    'SSE-S3': async () => {
      const { small, large, bucket } = this.#place;
      await this.#both('sse-s3', bucket, '--sse', 'AES256');
      await this.#place.expectObject(bucket, 'sse-s3/small', small, 'AES256');
      await this.#place.expectObject(bucket, 'sse-s3/large', large, 'AES256');
    },
    'SSE-KMS': async () => {
      const { small, large, other } = this.#place;
      await this.#both('sse-kms', other, '--sse', 'aws:kms', '--sse-kms-key-id', KMS_KEY);
      await this.#place.expectObject(other, 'sse-kms/small', small, 'aws:kms');
      await this.#place.expectObject(other, 'sse-kms/large', large, 'aws:kms');
    },
    'SSE-C': async () => {
      const { small, large, other } = this.#place;
      await this.#both('sse-c', other, ...this.#customer('key'));
      await this.#place.expectCustomerObject(other, 'sse-c/small', small);
      await this.#place.expectCustomerObject(other, 'sse-c/large', large);
      await this.#s3('cp', this.#url('sse-c/large', other), 'sse-c.back', ...this.#customer('key'));
      await this.#place.expectFile(this.#place.path('sse-c.back'), large);
    },
    'SSE-C, wrong key': async () => {
      const { other } = this.#place;
      const asked = this.#s3('cp', this.#url('sse-c/small', other), 'wrong.back', ...this.#customer('wrongKey'));
      expect(await failureOf(asked)).toContain('403');
    },
    'SSE-C over HTTP': async () => {
      const { other } = this.#place;
      expect(await failureOf(this.#both('sse-c', other, ...this.#customer('key')))).toContain('InvalidRequest');
      expect(await this.#place.status(other, 'sse-c/small')).toBe(404);
    },
    delete: () => this.#delete(),
  };

  #customer(key: 'key' | 'wrongKey'): string[] {
    return ['--sse-c', 'AES256', '--sse-c-key', `fileb://${this.#place[key].file}`];
  }
}
