import { randomBytes } from 'node:crypto';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  type CompleteMultipartUploadCommandOutput,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListPartsCommand,
  UploadPartCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { Client as MinioClient } from 'minio';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { startGateway, USER, type TestGateway } from '../support/gateway.ts';

const MIB = 1024 ** 2;

const MODES = {
  'SSE-S3': { ServerSideEncryption: 'AES256' },
  'SSE-KMS with a context': {
    ServerSideEncryption: 'aws:kms',
    SSEKMSEncryptionContext: Buffer.from('{"department":"accounts"}').toString('base64'),
  },
} as const;

/** One upload, driven by hand. */
class Parts {
  readonly #s3: S3Client;
  readonly place: { Bucket: string; Key: string; UploadId: string };

  private constructor(s3: S3Client, place: Parts['place']) {
    this.#s3 = s3;
    this.place = place;
  }

  static async create(s3: S3Client, Bucket: string, Key: string, more: object = {}): Promise<Parts> {
    const { UploadId = '' } = await s3.send(new CreateMultipartUploadCommand({ Bucket, Key, ...more }));
    return new Parts(s3, { Bucket, Key, UploadId });
  }

  async send(PartNumber: number, Body: Buffer, more: object = {}): Promise<{ PartNumber: number; ETag: string }> {
    const { ETag = '' } = await this.#s3.send(new UploadPartCommand({ ...this.place, PartNumber, Body, ...more }));
    return { PartNumber, ETag };
  }

  async complete(
    parts: readonly { PartNumber: number; ETag: string }[],
    more: object = {},
  ): Promise<CompleteMultipartUploadCommandOutput> {
    const MultipartUpload = { Parts: [...parts] };
    return this.#s3.send(new CompleteMultipartUploadCommand({ ...this.place, MultipartUpload, ...more }));
  }

  async list(more: object = {}): Promise<(readonly [number, number, string])[]> {
    const { Parts: parts = [] } = await this.#s3.send(new ListPartsCommand({ ...this.place, ...more }));
    return parts.map(({ PartNumber = 0, Size = 0, ETag = '' }) => [PartNumber, Size, ETag] as const);
  }

  abort(): Promise<unknown> {
    return this.#s3.send(new AbortMultipartUploadCommand(this.place));
  }
}

function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'no error',
    (err: unknown) => (err as Error).name,
  );
}

describe.each(inject('stores'))('over $name', (store) => {
  let gateway: TestGateway;
  let s3: S3Client;
  // The trait of this name (docs/STORES.md).
  const completesSubset = store.name !== 'radosgw';
  const Bucket = `multipart-${randomBytes(4).toString('hex')}`;
  beforeAll(async () => {
    gateway = await startGateway({ store });
    s3 = gateway.client();
    await s3.send(new CreateBucketCommand({ Bucket }));
  }, 60_000);
  afterAll(() => gateway.stop());

  async function read(Key: string, more: object = {}): Promise<Buffer> {
    const { Body } = await s3.send(new GetObjectCommand({ Bucket, Key, ...more }));
    return Buffer.from((await Body?.transformToByteArray()) ?? []);
  }

  it.each(Object.entries(MODES))(
    'shuffled parallel parts come back whole, in ranges and by number, with %s',
    async (name, sse) => {
      const Key = `shuffled/${name}`;
      const bodies = [randomBytes(5 * MIB), randomBytes(6 * MIB + 17), randomBytes(100_001)];
      const upload = await Parts.create(s3, Bucket, Key, { ...sse, Metadata: { colour: 'blue' }, ContentType: 'a/b' });
      const parts = await Promise.all(
        shuffled(bodies.map((body, i) => ({ body, number: 2 * i + 1 }))).map(({ body, number }) =>
          upload.send(number, body),
        ),
      );
      parts.sort((a, b) => a.PartNumber - b.PartNumber);
      expect(await upload.list()).toEqual(
        parts.map(({ PartNumber, ETag }, i) => [PartNumber, bodies[i]?.length, ETag]),
      );
      const { ETag } = await upload.complete(parts);
      const whole = Buffer.concat(bodies);
      expect(whole.equals(await read(Key))).toBe(true);
      const head = await s3.send(new HeadObjectCommand({ Bucket, Key }));
      expect(head).toMatchObject({
        ContentLength: whole.length,
        ETag,
        Metadata: { colour: 'blue' },
        ContentType: 'a/b',
      });
      const listed = await s3.send(new ListObjectsV2Command({ Bucket, Prefix: Key }));
      expect(listed.Contents?.map(({ Size, ETag: tag }) => [Size, tag])).toEqual([[whole.length, ETag]]);
      for (const [first, last] of [
        [0, 0],
        [5 * MIB - 1, 5 * MIB],
        [4 * MIB, whole.length - 1],
        [whole.length - 10, whole.length + 99],
      ] as const) {
        const piece = await read(Key, { Range: `bytes=${first}-${last}` });
        expect(whole.subarray(first, last + 1).equals(piece)).toBe(true);
      }
      expect(whole.subarray(-70_000).equals(await read(Key, { Range: 'bytes=-70000' }))).toBe(true);
      const second = await s3.send(new GetObjectCommand({ Bucket, Key, PartNumber: 2 }));
      expect(second).toMatchObject({ PartsCount: 3, ContentLength: bodies[1]?.length });
      expect(bodies[1]?.equals(Buffer.from((await second.Body?.transformToByteArray()) ?? []))).toBe(true);
    },
  );

  it('lib-storage and minio-js upload in parts', async () => {
    const body = randomBytes(12 * MIB + 5);
    await new Upload({ client: s3, params: { Bucket, Key: 'lib-storage', Body: body } }).done();
    expect(body.equals(await read('lib-storage'))).toBe(true);
    const { hostname, port } = new URL(gateway.raw.endpoint);
    const minio = new MinioClient({
      endPoint: hostname,
      port: Number(port),
      useSSL: false,
      accessKey: USER.accessKeyId,
      secretKey: USER.secretAccessKey,
      partSize: 5 * MIB,
    });
    await minio.putObject(Bucket, 'minio', body, body.length);
    expect(body.equals(await read('minio'))).toBe(true);
  });

  it('one small part, and a part of nothing', async () => {
    for (const size of [0, 1, 65_536, 5 * MIB]) {
      const Key = `one/${size}`;
      const upload = await Parts.create(s3, Bucket, Key);
      const body = randomBytes(size);
      const part = await upload.send(1, body);
      await upload.complete([part]);
      expect(body.equals(await read(Key))).toBe(true);
      expect(await s3.send(new HeadObjectCommand({ Bucket, Key }))).toMatchObject({ ContentLength: size });
    }
  });

  it('a part 10,000 of any size: the store has the manifest under that number', async () => {
    const upload = await Parts.create(s3, Bucket, 'last');
    const [first, last] = [randomBytes(5 * MIB), randomBytes(9 * MIB + 1)];
    const parts = [await upload.send(1, first), await upload.send(10_000, last)];
    await upload.complete(parts);
    expect((await read('last')).equals(Buffer.concat([first, last]))).toBe(true);
    const seam = await read('last', { Range: `bytes=${5 * MIB - 1}-${5 * MIB}` });
    expect(seam.equals(Buffer.concat([first.subarray(-1), last.subarray(0, 1)]))).toBe(true);
    const second = await s3.send(new GetObjectCommand({ Bucket, Key: 'last', PartNumber: 2 }));
    expect(second).toMatchObject({ PartsCount: 2, ContentLength: last.length });
    await second.Body?.transformToByteArray();
  });

  it('a part sent again: the ETag picks the attempt, where its bytes are still there', async () => {
    const upload = await Parts.create(s3, Bucket, 'again');
    const [first, larger, smaller] = [randomBytes(5 * MIB), randomBytes(7 * MIB), randomBytes(5 * MIB + 3)];
    const stale = [await upload.send(1, first), await upload.send(1, larger)];
    const current = await upload.send(1, smaller);
    const [old, other] = [randomBytes(1000), randomBytes(2000)];
    const small = await upload.send(2, old);
    await upload.send(2, other);
    for (const part of stale) expect(await codeOf(upload.complete([part, small]))).toBe('InvalidPart');
    await upload.complete([current, small]);
    expect(Buffer.concat([smaller, old]).equals(await read('again'))).toBe(true);
  });

  it.each([[1], [2]])(
    'part %i, the last, sent again with less than 5 MiB takes the place of the longer attempt',
    async (last) => {
      const key = `shorter-${last}`;
      const upload = await Parts.create(s3, Bucket, key);
      const bodies = last === 1 ? [] : [randomBytes(5 * MIB)];
      const parts = await Promise.all(bodies.map((body) => upload.send(1, body)));
      await upload.send(last, randomBytes(6 * MIB));
      const short = randomBytes(1000);
      parts.push(await upload.send(last, short));
      const { ETag } = await upload.complete(parts);
      expect((await upload.complete(parts)).ETag).toBe(ETag);
      expect((await read(key)).equals(Buffer.concat([...bodies, short]))).toBe(true);
    },
  );

  it('a list that leaves parts out, where the store can; where not, nothing is lost', async () => {
    const bodies = [5 * MIB, 5 * MIB, 5 * MIB + 1].map((length) => randomBytes(length));
    for (const left of [0, 2]) {
      const key = `left-${left}`;
      const upload = await Parts.create(s3, Bucket, key);
      const parts = await Promise.all(bodies.map((body, i) => upload.send(i + 1, body)));
      const some = upload.complete(parts.filter((_, i) => i !== left));
      if (completesSubset) await some;
      else expect(await codeOf(some)).toBe('NotImplemented');
      if (!completesSubset) await upload.complete(parts);
      const whole = bodies.filter((_, i) => !completesSubset || i !== left);
      expect((await read(key)).equals(Buffer.concat(whole))).toBe(true);
    }
  });

  it('an older attempt, put aside, never destroys the newer one that lies at the store', async () => {
    const upload = await Parts.create(s3, Bucket, 'older');
    const [first, second] = [randomBytes(5 * MIB), randomBytes(6 * MIB)];
    const one = await upload.send(1, first);
    const short = await upload.send(2, randomBytes(1000));
    const newest = await upload.send(2, second);
    if (!completesSubset) expect(await codeOf(upload.complete([one, short]))).toBe('NotImplemented');
    await upload.complete([one, newest]);
    expect((await read('older')).equals(Buffer.concat([first, second]))).toBe(true);
  });

  it('order, sizes and lists that are wrong', async () => {
    const upload = await Parts.create(s3, Bucket, 'wrong');
    const [a, b] = [await upload.send(1, randomBytes(1000)), await upload.send(2, randomBytes(1000))];
    expect(await codeOf(upload.complete([b, a]))).toBe('InvalidPartOrder');
    expect(await codeOf(upload.complete([a, b]))).toBe('EntityTooSmall');
    expect(await codeOf(upload.complete([{ ...a, ETag: b.ETag }]))).toBe('InvalidPart');
    expect(await codeOf(upload.complete([]))).toBe('MalformedXML');
    expect(await codeOf(read('wrong'))).toBe('NoSuchKey');
    const uploads = await s3.send(new ListMultipartUploadsCommand({ Bucket, Prefix: 'wrong' }));
    expect(uploads.Uploads?.map(({ Key, UploadId }) => [Key, UploadId])).toEqual([['wrong', upload.place.UploadId]]);
    await upload.abort();
    expect(await codeOf(upload.send(1, randomBytes(10)))).toBe('NoSuchUpload');
    expect(await codeOf(upload.send(1, randomBytes(5 * MIB)))).toBe('NoSuchUpload');
    expect(await codeOf(upload.list())).toBe('NoSuchUpload');
    expect(await codeOf(upload.complete([a]))).toBe('NoSuchUpload');
  });

  it('Complete again, and twice at once, has the same answer', async () => {
    const upload = await Parts.create(s3, Bucket, 'twice');
    const parts = [await upload.send(1, randomBytes(5 * MIB)), await upload.send(2, randomBytes(10))];
    const answers = await Promise.all([upload.complete(parts), upload.complete(parts)]);
    answers.push(await upload.complete(parts));
    const { ETag } = await s3.send(new HeadObjectCommand({ Bucket, Key: 'twice' }));
    expect(ETag).toMatch(/^"[^"]+-\d+"$/);
    expect(answers.map((answer) => answer.ETag)).toEqual([ETag, ETag, ETag]);
    expect(await codeOf(upload.complete(parts.slice(0, 1)))).toBe('NoSuchUpload');
  });
});
