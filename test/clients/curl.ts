import { expect } from 'vitest';
import type { Client, Session } from './client.ts';
import { LARGE_SIZE, PART_SIZE, SMALL_SIZE, type Place } from './place.ts';

const SSE = 'x-amz-server-side-encryption';

/** Seen with 7.88: headers are sorted as whole lines, in which `-` comes before `:`. */
const ORDER =
  'this version signs headers of which one name begins with another (`…-customer-key`, `…-customer-key-MD5`) in an order that no server takes; presigned URLs do it';

export const curl: Client = {
  name: 'curl',
  version: 'curl 7.88',
  source: 'Debian `curl`',
  settings: [
    { set: '`--aws-sigv4 aws:amz:REGION:s3` and `--user KEY:SECRET`', why: 'curl signs by itself' },
    {
      set: '`-H "x-amz-content-sha256: UNSIGNED-PAYLOAD"`',
      why: 'this version does not send the header by itself, and S3 demands it',
    },
    {
      set: '`-H "x-amz-server-side-encryption: aws:kms"` without a key id',
      why: 'see SSE-C below: a bucket default names the key',
    },
  ],
  lacks: {
    multipart: 'curl sends requests; parts are work for a program around it',
    'copy in parts': 'see multipart',
    move: 'curl sends requests; a rename is two of them',
    sync: 'curl has no such operation',
    check: 'curl has no such operation',
    presign: 'curl uses presigned URLs and makes none: other rows of this column use it for theirs',
    'SSE-C': ORDER,
    'SSE-C, wrong key': 'see SSE-C',
    'SSE-C over HTTP': 'see SSE-C',
  },
  open: (place) => Promise.resolve(new Curl(place)),
};

class Curl implements Session {
  readonly #place: Place;

  constructor(place: Place) {
    this.#place = place;
  }

  async #curl(path: string, ...args: readonly string[]): Promise<Buffer> {
    const { accessKeyId, secretAccessKey, endpoint, ca } = this.#place.gateway;
    const signed = ['--aws-sigv4', 'aws:amz:us-east-1:s3', '--user', `${accessKeyId}:${secretAccessKey}`];
    const options = ['-q', '-sS', '--fail-with-body', ...(ca === undefined ? [] : ['--cacert', this.#place.caFile])];
    const header = ['-H', 'x-amz-content-sha256: UNSIGNED-PAYLOAD'];
    return (await this.#place.run('curl', [...options, ...signed, ...header, ...args, `${endpoint}/${path}`])).bytes;
  }

  #at(key: string, bucket = this.#place.bucket): string {
    return `${bucket}/${key}`;
  }

  async version(): Promise<string> {
    return (await this.#place.run('curl', ['--version'])).stdout;
  }

  async #put(bucket: string, prefix: string, mode: 'aws:kms' | 'AES256', ...headers: readonly string[]): Promise<void> {
    const { small, large } = this.#place;
    const options = headers.flatMap((header) => ['-H', header]);
    await this.#curl(this.#at(`${prefix}small.bin`, bucket), ...options, '--upload-file', small.path);
    await this.#place.expectObject(bucket, `${prefix}small.bin`, small, mode);
    // With `Expect: 100-continue`, as curl does by itself above a mebibyte.
    await this.#curl(this.#at(`${prefix}large.bin`, bucket), ...options, '--upload-file', large.path);
    await this.#place.expectObject(bucket, `${prefix}large.bin`, large, mode);
  }

  readonly steps: Session['steps'] = {
    upload: () => this.#put(this.#place.bucket, '', 'aws:kms', 'x-amz-meta-colour: blue', 'content-type: text/x-small'),
    head: async () => {
      const head = (await this.#curl(this.#at('small.bin'), '--head')).toString();
      for (const line of [`content-length: ${SMALL_SIZE}`, 'x-amz-meta-colour: blue', `${SSE}: aws:kms`]) {
        expect(head.toLowerCase()).toContain(line);
      }
    },
    list: async () => {
      const xml = (await this.#curl(`${this.#place.bucket}?list-type=2&prefix=`)).toString();
      expect([...xml.matchAll(/<Size>(\d+)</g)].map((match) => Number(match[1]))).toEqual([LARGE_SIZE, SMALL_SIZE]);
    },
    download: async () => {
      const { small, large } = this.#place;
      expect((await this.#curl(this.#at('small.bin'))).equals(small.bytes)).toBe(true);
      expect((await this.#curl(this.#at('large.bin'))).equals(large.bytes)).toBe(true);
    },
    range: async () => {
      const got = await this.#curl(this.#at('large.bin'), '--range', `${PART_SIZE - 7}-${PART_SIZE + 7}`);
      expect(got).toEqual(this.#place.large.bytes.subarray(PART_SIZE - 7, PART_SIZE + 8));
    },
    copy: async () => {
      const { bucket, small } = this.#place;
      await this.#curl(this.#at('copy'), '-X', 'PUT', '-H', `x-amz-copy-source: /${bucket}/small.bin`);
      await this.#place.expectObject(bucket, 'copy', small, 'aws:kms');
    },
    'SSE-S3': () => this.#put(this.#place.bucket, 'sse-s3/', 'AES256', `${SSE}: AES256`),
    // Without a key's name, for the reason of ORDER: the default key of the service.
    'SSE-KMS': () => this.#put(this.#place.other, 'sse-kms/', 'aws:kms', `${SSE}: aws:kms`),
    delete: async () => {
      const { bucket } = this.#place;
      await this.#curl(this.#at('small.bin'), '-X', 'DELETE');
      expect(await this.#place.status(bucket, 'small.bin')).toBe(404);
    },
  };
}
