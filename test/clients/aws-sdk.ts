import { readFileSync } from 'node:fs';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { Readable } from 'node:stream';
import {
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  UploadPartCopyCommand,
  type PutObjectCommandInput,
} from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { expect } from 'vitest';
import type { Client, Session } from './client.ts';
import {
  digest,
  KMS_KEY,
  LARGE_SIZE,
  PART_SIZE,
  SMALL_SIZE,
  type CustomerKey,
  type Place,
  type Sample,
} from './place.ts';
import { failureOf } from '../support/program.ts';

const VERSION = '3.1169.0';

export const awsSdk: Client = {
  name: 'AWS SDK for JavaScript',
  version: VERSION,
  source: 'npm `@aws-sdk/client-s3`, `@aws-sdk/lib-storage`, `@aws-sdk/s3-request-presigner`',
  settings: [
    {
      set: '`endpoint`, `forcePathStyle: true`',
      why: 'unless the gateway has `data.baseHosts` and a wildcard certificate',
    },
    {
      set: "`requestChecksumCalculation: 'WHEN_REQUIRED'` for presigned PUTs",
      why: 'otherwise the checksum of an empty body goes into the URL (the gateway ignores it, other servers may not)',
    },
  ],
  lacks: {
    sync: 'the SDK has no such operation',
    check: 'the SDK compares checksums at every transfer; it has no check afterwards',
    move: 'the SDK has no such operation',
  },
  open: (place) => Promise.resolve(new AwsSdk(place)),
};

const customer = ({ bytes }: CustomerKey) => ({
  SSECustomerAlgorithm: 'AES256',
  SSECustomerKey: bytes.toString('base64'),
});

class AwsSdk implements Session {
  readonly #place: Place;
  readonly #s3: S3Client;

  constructor(place: Place) {
    this.#place = place;
    const agents =
      place.transport === 'https'
        ? { httpsAgent: new HttpsAgent({ ca: readFileSync(place.caFile), keepAlive: true }) }
        : { httpAgent: new HttpAgent({ keepAlive: true }) };
    const { endpoint, region, accessKeyId, secretAccessKey } = place.gateway;
    this.#s3 = new S3Client({
      ...{ endpoint, region, forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } },
      requestHandler: agents,
    });
  }

  version(): Promise<string> {
    const path = new URL('../../node_modules/@aws-sdk/client-s3/package.json', import.meta.url);
    return Promise.resolve((JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version);
  }

  close(): Promise<void> {
    this.#s3.destroy();
    return Promise.resolve();
  }

  async #upload(
    Bucket: string,
    Key: string,
    { bytes }: Sample,
    more: Partial<PutObjectCommandInput> = {},
  ): Promise<void> {
    const params = { Bucket, Key, Body: Readable.from([bytes], { objectMode: false }), ...more };
    await new Upload({ client: this.#s3, params, partSize: PART_SIZE, queueSize: 3 }).done();
  }

  async #bytes(Bucket: string, Key: string, more: object = {}): Promise<Uint8Array> {
    const { Body } = await this.#s3.send(new GetObjectCommand({ Bucket, Key, ...more }));
    return (await Body?.transformToByteArray()) ?? new Uint8Array();
  }

  async #bothModes(prefix: string, bucket: string, more: Partial<PutObjectCommandInput>): Promise<void> {
    const { small } = this.#place;
    const put = { Bucket: bucket, Key: `${prefix}/small`, Body: small.bytes, ...more };
    await this.#s3.send(new PutObjectCommand(put));
    await this.#upload(bucket, `${prefix}/large`, this.#place.large, more);
  }

  async #copyInParts(): Promise<void> {
    const { bucket, large } = this.#place;
    const target = { Bucket: bucket, Key: 'copy/parts' };
    const { UploadId } = await this.#s3.send(new CreateMultipartUploadCommand(target));
    const copyPart = async (PartNumber: number) => {
      const [first, end] = [(PartNumber - 1) * PART_SIZE, Math.min(PartNumber * PART_SIZE, LARGE_SIZE)];
      const { CopyPartResult } = await this.#s3.send(
        new UploadPartCopyCommand({
          ...{ ...target, UploadId, PartNumber, CopySource: `${bucket}/large.bin` },
          CopySourceRange: `bytes=${first}-${end - 1}`,
        }),
      );
      return { PartNumber, ETag: CopyPartResult?.ETag };
    };
    const Parts = await Promise.all([1, 2, 3].map(copyPart));
    await this.#s3.send(new CompleteMultipartUploadCommand({ ...target, UploadId, MultipartUpload: { Parts } }));
    await this.#place.expectObject(bucket, 'copy/parts', large, 'aws:kms');
  }

  async #presign(): Promise<void> {
    const { bucket, small, caFile, transport } = this.#place;
    const put = await getSignedUrl(this.#s3, new PutObjectCommand({ Bucket: bucket, Key: 'presigned' }));
    const get = await getSignedUrl(this.#s3, new GetObjectCommand({ Bucket: bucket, Key: 'presigned' }));
    const curl = ['-q', '-sS', '--fail-with-body', ...(transport === 'https' ? ['--cacert', caFile] : [])];
    await this.#place.run('curl', [...curl, '--upload-file', small.path, put]);
    const back = this.#place.path('presigned.bin');
    await this.#place.run('curl', [...curl, '--output', back, get]);
    await this.#place.expectFile(back, small);
  }

  readonly steps: Session['steps'] = {
    upload: async () => {
      const { bucket, small } = this.#place;
      const put = { Bucket: bucket, Key: 'small.bin', Body: small.bytes, Metadata: { colour: 'blue' } };
      const answer = await this.#s3.send(new PutObjectCommand({ ...put, ContentType: 'text/x-small' }));
      expect(answer.ServerSideEncryption).toBe('aws:kms');
      await this.#place.expectObject(bucket, 'small.bin', small, 'aws:kms');
    },
    multipart: async () => {
      const { bucket, large } = this.#place;
      await this.#upload(bucket, 'large.bin', large);
      await this.#place.expectObject(bucket, 'large.bin', large, 'aws:kms');
    },
    head: async () => {
      const head = await this.#s3.send(new HeadObjectCommand({ Bucket: this.#place.bucket, Key: 'small.bin' }));
      expect(head).toMatchObject({
        ContentLength: SMALL_SIZE,
        ContentType: 'text/x-small',
        Metadata: { colour: 'blue' },
      });
      expect(head.SSEKMSKeyId).toMatch(new RegExp(`key/${KMS_KEY}$`));
    },
    list: async () => {
      const { Contents } = await this.#s3.send(new ListObjectsV2Command({ Bucket: this.#place.bucket }));
      expect(Contents?.map(({ Key, Size }) => [Key, Size])).toEqual([
        ['large.bin', LARGE_SIZE],
        ['small.bin', SMALL_SIZE],
      ]);
    },
    download: async () => {
      const { bucket, small, large } = this.#place;
      expect(digest(await this.#bytes(bucket, 'small.bin'))).toBe(digest(small.bytes));
      expect(digest(await this.#bytes(bucket, 'large.bin'))).toBe(digest(large.bytes));
    },
    range: async () => {
      const got = await this.#bytes(this.#place.bucket, 'large.bin', {
        Range: `bytes=${PART_SIZE - 7}-${PART_SIZE + 7}`,
      });
      expect(Buffer.from(got)).toEqual(this.#place.large.bytes.subarray(PART_SIZE - 7, PART_SIZE + 8));
    },
    copy: async () => {
      const { bucket, small } = this.#place;
      const copy = { Bucket: bucket, Key: 'copy/small', CopySource: `${bucket}/small.bin` };
      await this.#s3.send(new CopyObjectCommand(copy));
      await this.#place.expectObject(bucket, 'copy/small', small, 'aws:kms');
    },
    'copy in parts': () => this.#copyInParts(),
    presign: () => this.#presign(),
    'SSE-S3': async () => {
      const { bucket, small, large } = this.#place;
      await this.#bothModes('sse-s3', bucket, { ServerSideEncryption: 'AES256' });
      await this.#place.expectObject(bucket, 'sse-s3/small', small, 'AES256');
      await this.#place.expectObject(bucket, 'sse-s3/large', large, 'AES256');
    },
    'SSE-KMS': async () => {
      const { other, small, large } = this.#place;
      const SSEKMSEncryptionContext = Buffer.from('{"department":"accounts"}').toString('base64');
      const mode = { ServerSideEncryption: 'aws:kms', SSEKMSKeyId: KMS_KEY, SSEKMSEncryptionContext } as const;
      await this.#bothModes('sse-kms', other, mode);
      await this.#place.expectObject(other, 'sse-kms/small', small, 'aws:kms');
      await this.#place.expectObject(other, 'sse-kms/large', large, 'aws:kms');
    },
    'SSE-C': async () => {
      const { other, small, large, key } = this.#place;
      await this.#bothModes('sse-c', other, customer(key));
      await this.#place.expectCustomerObject(other, 'sse-c/small', small);
      await this.#place.expectCustomerObject(other, 'sse-c/large', large);
      expect(digest(await this.#bytes(other, 'sse-c/large', customer(key)))).toBe(digest(large.bytes));
    },
    'SSE-C, wrong key': async () => {
      const { other, wrongKey } = this.#place;
      expect(await failureOf(this.#bytes(other, 'sse-c/small', customer(wrongKey)))).toContain('AccessDenied');
    },
    'SSE-C over HTTP': async () => {
      const { other, key } = this.#place;
      expect(await failureOf(this.#bothModes('sse-c', other, customer(key)))).toContain('InvalidRequest');
      expect(await this.#place.status(other, 'sse-c/small')).toBe(404);
    },
    delete: async () => {
      const { bucket } = this.#place;
      await this.#s3.send(new DeleteObjectCommand({ Bucket: bucket, Key: 'small.bin' }));
      expect(await this.#place.status(bucket, 'small.bin')).toBe(404);
      const { Contents = [] } = await this.#s3.send(new ListObjectsV2Command({ Bucket: bucket }));
      const Objects = Contents.map(({ Key }) => ({ Key }));
      await this.#s3.send(new DeleteObjectsCommand({ Bucket: bucket, Delete: { Objects } }));
      expect((await this.#s3.send(new ListObjectsV2Command({ Bucket: bucket }))).KeyCount).toBe(0);
    },
  };
}
