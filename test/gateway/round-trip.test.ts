import { randomBytes } from 'node:crypto';
import {
  CreateBucketCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { startGateway, type TestGateway } from '../support/gateway.ts';

const MODES = {
  'bucket default': {},
  'SSE-S3': { ServerSideEncryption: 'AES256' },
  'SSE-KMS': { ServerSideEncryption: 'aws:kms', SSEKMSKeyId: 'data' },
  'SSE-KMS with a context': {
    ServerSideEncryption: 'aws:kms',
    SSEKMSEncryptionContext: Buffer.from('{"department":"accounts"}').toString('base64'),
  },
} as const;

/** Around every boundary of the format and of the code: segment, small body, part unit of the size formula. */
const SIZES = [0, 1, 11, 65_535, 65_536, 65_537, 131_072, 131_073, 1_000_000, 5_242_880, 5_242_881];

describe.each(inject('stores'))('over $name', (store) => {
  let gateway: TestGateway;
  const Bucket = `round-trip-${randomBytes(4).toString('hex')}`;
  beforeAll(async () => {
    gateway = await startGateway({ store });
    await gateway.client().send(new CreateBucketCommand({ Bucket }));
  });
  afterAll(() => gateway.stop());

  it.each(Object.entries(MODES))('every size comes back, and is listed, with %s', async (_name, sse) => {
    const s3 = gateway.client();
    const prefix = randomBytes(4).toString('hex');
    for (const size of SIZES) {
      const Key = `${prefix}/${String(size).padStart(9, '0')}`;
      const body = randomBytes(size);
      const put = await s3.send(
        new PutObjectCommand({ Bucket, Key, Body: body, Metadata: { colour: 'blue' }, ...sse }),
      );
      const got = await s3.send(new GetObjectCommand({ Bucket, Key }));
      expect(body.equals((await got.Body?.transformToByteArray()) ?? new Uint8Array(1))).toBe(true);
      const head = await s3.send(new HeadObjectCommand({ Bucket, Key }));
      expect(head).toMatchObject({ ContentLength: size, ETag: put.ETag, Metadata: { colour: 'blue' } });
      expect(got).toMatchObject({ ContentLength: size, ETag: put.ETag, Metadata: { colour: 'blue' } });
    }
    const listed = await s3.send(new ListObjectsV2Command({ Bucket, Prefix: prefix }));
    expect(listed.Contents?.map(({ Size }) => Size)).toEqual(SIZES);
  });
});
