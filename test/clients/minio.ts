import { readFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { CopyConditions, CopyDestinationOptions, CopySourceOptions, Client as MinioClient } from 'minio';
import { expect } from 'vitest';
import type { Client, Session } from './client.ts';
import { digest, KMS_KEY, LARGE_SIZE, PART_SIZE, SMALL_SIZE, type CustomerKey, type Place } from './place.ts';
import { failureOf } from '../support/program.ts';

const SSE = 'x-amz-server-side-encryption';

export const minioJs: Client = {
  name: 'minio (JavaScript)',
  version: '8.0.7',
  source: 'npm `minio`',
  settings: [
    { set: 'SSE headers as metadata of `putObject`', why: 'it sends names that begin with `x-amz-` as they are' },
    { set: 'with SSE-C, `partSize` above the size of the object', why: 'it sends the key with single uploads only' },
    { set: '`useSSL` and an own `transportAgent` for a private authority', why: 'it has no option for one' },
  ],
  lacks: {
    sync: 'the library has no such operation',
    check: 'the library has no such operation',
    move: 'the library has no such operation',
  },
  open: (place) => Promise.resolve(new Minio(place)),
};

class Minio implements Session {
  readonly #place: Place;
  readonly #minio: MinioClient;

  constructor(place: Place) {
    this.#place = place;
    const { hostname, port } = new URL(place.gateway.endpoint);
    const { region, accessKeyId: accessKey, secretAccessKey: secretKey } = place.gateway;
    const tls = place.transport === 'https' ? { transportAgent: new Agent({ ca: readFileSync(place.caFile) }) } : {};
    this.#minio = new MinioClient({
      ...{ endPoint: hostname, port: Number(port), useSSL: place.transport === 'https', region },
      ...{ accessKey, secretKey, partSize: PART_SIZE, ...tls },
    });
  }

  version(): Promise<string> {
    const path = new URL('../../node_modules/minio/package.json', import.meta.url);
    return Promise.resolve((JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version);
  }

  async #both(bucket: string, prefix: string, headers: Readonly<Record<string, string>>): Promise<void> {
    const { small, large } = this.#place;
    await this.#minio.putObject(bucket, `${prefix}/small`, small.bytes, SMALL_SIZE, { ...headers });
    await this.#minio.fPutObject(bucket, `${prefix}/large`, large.path, { ...headers });
  }

  async #read(bucket: string, key: string, { headers }: Partial<CustomerKey> = {}): Promise<string> {
    const options = {
      ...(headers === undefined ? {} : { SSECustomerAlgorithm: 'AES256' }),
      ...(headers === undefined ? {} : { SSECustomerKey: headers[`${SSE}-customer-key`] ?? '' }),
      ...(headers === undefined ? {} : { SSECustomerKeyMD5: headers[`${SSE}-customer-key-md5`] ?? '' }),
    };
    const chunks: Buffer[] = [];
    for await (const chunk of await this.#minio.getObject(bucket, key, options)) chunks.push(chunk as Buffer);
    return digest(Buffer.concat(chunks));
  }

  async #names(): Promise<[string, number][]> {
    const found: [string, number][] = [];
    for await (const item of this.#minio.listObjectsV2(this.#place.bucket, '', true)) {
      const { name, size } = item as { name: string; size: number };
      found.push([name, size]);
    }
    return found;
  }

  readonly steps: Session['steps'] = {
    upload: async () => {
      const { bucket, small } = this.#place;
      const metadata = { 'Content-Type': 'text/x-small', colour: 'blue' };
      await this.#minio.putObject(bucket, 'small.bin', small.bytes, SMALL_SIZE, metadata);
      await this.#place.expectObject(bucket, 'small.bin', small, 'aws:kms');
    },
    multipart: async () => {
      const { bucket, large } = this.#place;
      await this.#minio.fPutObject(bucket, 'large.bin', large.path);
      await this.#place.expectObject(bucket, 'large.bin', large, 'aws:kms');
    },
    head: async () => {
      const stat = await this.#minio.statObject(this.#place.bucket, 'small.bin');
      expect(stat.size).toBe(SMALL_SIZE);
      expect(stat.metaData).toMatchObject({ 'content-type': 'text/x-small', colour: 'blue', [SSE]: 'aws:kms' });
    },
    list: async () => {
      expect(await this.#names()).toEqual([
        ['large.bin', LARGE_SIZE],
        ['small.bin', SMALL_SIZE],
      ]);
    },
    download: async () => {
      const { bucket, small, large } = this.#place;
      expect(await this.#read(bucket, 'small.bin')).toBe(digest(small.bytes));
      // It compares the size of what came with the HEAD's.
      await this.#minio.fGetObject(bucket, 'large.bin', this.#place.path('large.back'));
      await this.#place.expectFile(this.#place.path('large.back'), large);
    },
    range: async () => {
      const stream = await this.#minio.getPartialObject(this.#place.bucket, 'large.bin', PART_SIZE - 7, 15);
      const chunks: Buffer[] = [];
      for await (const chunk of stream) chunks.push(chunk as Buffer);
      expect(Buffer.concat(chunks)).toEqual(this.#place.large.bytes.subarray(PART_SIZE - 7, PART_SIZE + 8));
    },
    copy: async () => {
      const { bucket, small } = this.#place;
      await this.#minio.copyObject(bucket, 'copy/small', `/${bucket}/small.bin`, new CopyConditions());
      await this.#place.expectObject(bucket, 'copy/small', small, 'aws:kms');
    },
    'copy in parts': async () => {
      const { bucket, large, small } = this.#place;
      const target = new CopyDestinationOptions({ Bucket: bucket, Object: 'copy/parts' });
      const sources = ['large.bin', 'small.bin'].map((name) => new CopySourceOptions({ Bucket: bucket, Object: name }));
      await this.#minio.composeObject(target, sources);
      const bytes = Buffer.concat([large.bytes, small.bytes]);
      await this.#place.expectObject(bucket, 'copy/parts', { path: '', bytes }, 'aws:kms');
    },
    presign: async () => {
      const { bucket, small, caFile, transport } = this.#place;
      const curl = ['-q', '-sS', '--fail-with-body', ...(transport === 'https' ? ['--cacert', caFile] : [])];
      const put = await this.#minio.presignedPutObject(bucket, 'presigned', 300);
      await this.#place.run('curl', [...curl, '--upload-file', small.path, put]);
      const back = this.#place.path('presigned.back');
      const get = await this.#minio.presignedGetObject(bucket, 'presigned', 300);
      await this.#place.run('curl', [...curl, '--output', back, get]);
      await this.#place.expectFile(back, small);
    },
    'SSE-S3': async () => {
      const { bucket, small, large } = this.#place;
      await this.#both(bucket, 'sse-s3', { [SSE]: 'AES256' });
      await this.#place.expectObject(bucket, 'sse-s3/small', small, 'AES256');
      await this.#place.expectObject(bucket, 'sse-s3/large', large, 'AES256');
    },
    'SSE-KMS': async () => {
      const { other, small, large } = this.#place;
      await this.#both(other, 'sse-kms', { [SSE]: 'aws:kms', [`${SSE}-aws-kms-key-id`]: KMS_KEY });
      await this.#place.expectObject(other, 'sse-kms/small', small, 'aws:kms');
      await this.#place.expectObject(other, 'sse-kms/large', large, 'aws:kms');
    },
    'SSE-C': async () => {
      const { other, small, key } = this.#place;
      await this.#minio.putObject(other, 'sse-c/small', small.bytes, SMALL_SIZE, { ...key.headers });
      await this.#place.expectCustomerObject(other, 'sse-c/small', small);
      expect(await this.#read(other, 'sse-c/small', key)).toBe(digest(small.bytes));
    },
    'SSE-C, wrong key': async () => {
      const { other, wrongKey } = this.#place;
      expect(await failureOf(this.#read(other, 'sse-c/small', wrongKey))).toMatch(/AccessDenied|Access Denied|403/);
    },
    'SSE-C over HTTP': async () => {
      const { other, small, key } = this.#place;
      const put = this.#minio.putObject(other, 'sse-c/small', small.bytes, SMALL_SIZE, { ...key.headers });
      expect(await failureOf(put)).toContain('must be made over a secure connection');
      expect(await this.#place.status(other, 'sse-c/small')).toBe(404);
    },
    delete: async () => {
      const { bucket } = this.#place;
      await this.#minio.removeObject(bucket, 'small.bin');
      expect(await this.#place.status(bucket, 'small.bin')).toBe(404);
      await this.#minio.removeObjects(
        bucket,
        (await this.#names()).map(([name]) => name),
      );
      expect(await this.#names()).toEqual([]);
    },
  };
}
