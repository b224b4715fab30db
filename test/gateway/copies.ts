import { randomBytes } from 'node:crypto';
import { expect, inject } from 'vitest';
import { codeOf } from '../support/attacker.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { customerKey } from '../support/modes.ts';
import { RawUpload } from '../support/multipart.ts';
import { s3, xmlText, type RawRequest, type RawResponse } from '../support/s3-raw.ts';
import { startStoreProxy, type StoreProxy } from '../support/store-proxy.ts';

export type Headers = Readonly<Record<string, string>>;

export const SSE = 'x-amz-server-side-encryption';
export const COPY = 'x-amz-copy-source';
export const KMS = { [SSE]: 'aws:kms' };
export const REPLACE = { 'x-amz-metadata-directive': 'REPLACE' };
export const own = customerKey();
const ARN = 'arn:aws:kms:us-east-1:000000000000:key/data';

export function forSource(headers: Headers): Headers {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name.replace('x-amz-', `${COPY}-`), value]),
  );
}

export function told(answer: RawResponse): string {
  return `${answer.status} ${codeOf(answer)}`.trim();
}

export const stores = inject('stores');
export const bucketName = (): string => `places-${randomBytes(5).toString('hex')}`;

/** A gateway behind a proxy, and its requests. */
export class Fixture {
  gateway!: TestGateway;
  proxy!: StoreProxy;

  async start(store: (typeof stores)[number]): Promise<void> {
    this.proxy = await startStoreProxy(store);
    this.gateway = await startGateway({
      store: this.proxy.store,
      config: { development: { allowInsecureSseC: true }, data: { slowReplySeconds: 1 } },
    });
  }

  async stop(): Promise<void> {
    await this.gateway.stop();
    await this.proxy.stop();
  }

  send(method: RawRequest['method'], bucket: string, key?: string, rest: Partial<RawRequest> = {}) {
    return s3(this.gateway.raw, { method, bucket, ...(key === undefined ? {} : { key }), ...rest });
  }

  async bucket(headers: Headers = {}): Promise<string> {
    const bucket = bucketName();
    expect(told(await this.send('PUT', bucket, undefined, { headers }))).toBe('200');
    return bucket;
  }

  async put(bucket: string, key: string, body: Buffer | string, headers: Headers = {}): Promise<RawResponse> {
    const made = await this.send('PUT', bucket, key, { body, headers });
    expect(told(made)).toBe('200');
    return made;
  }

  /** `from` as `bucket/key`, with a version id where it has one. */
  copy(from: string, bucket: string, key: string, headers: Headers = {}): Promise<RawResponse> {
    return this.send('PUT', bucket, key, { headers: { [COPY]: from, ...headers } });
  }

  upload(bucket: string, key: string, headers: Headers = {}): Promise<RawUpload> {
    return RawUpload.create(this.gateway.raw, bucket, key, headers);
  }

  /** One part that is a copy, and the object that it makes. */
  async partOf(from: string, bucket: string, key: string, headers: Headers = {}): Promise<RawResponse> {
    const upload = await this.upload(bucket, key);
    const part = await upload.send(1, { headers: { [COPY]: from, ...headers } });
    if (part.status === 200) {
      expect(told(await upload.complete([{ partNumber: 1, etag: xmlText(part.text, 'ETag') }]))).toBe('200');
    } else await upload.abort();
    return part;
  }

  update(bucket: string, key: string, query: Readonly<Record<string, string>> = {}): Promise<RawResponse> {
    const body = `<ObjectEncryption><SSE-KMS><KMSKeyArn>${ARN}</KMSKeyArn></SSE-KMS></ObjectEncryption>`;
    return this.send('PUT', bucket, key, { query: { encryption: '', ...query }, body });
  }

  async block(bucket: string, type: 'SSE-C' | 'NONE'): Promise<void> {
    const rule = `<ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault><BlockedEncryptionTypes><EncryptionType>${type}</EncryptionType></BlockedEncryptionTypes>`;
    const body = `<ServerSideEncryptionConfiguration><Rule>${rule}</Rule></ServerSideEncryptionConfiguration>`;
    expect(told(await this.send('PUT', bucket, undefined, { query: { encryption: '' }, body }))).toBe('200');
  }
}
