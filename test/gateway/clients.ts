import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { Agent } from 'node:https';
import { Readable } from 'node:stream';
import { GetObjectCommand, PutObjectCommand, type ServerSideEncryption } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { Client as MinioClient } from 'minio';
import { USER, type TestGateway } from '../support/gateway.ts';

const SSE = 'x-amz-server-side-encryption';

/** How a mode is asked for: headers of the PUT, and of the GET. */
export interface SseHeaders {
  readonly put: Readonly<Record<string, string>>;
  readonly get: Readonly<Record<string, string>>;
}

export interface Target {
  readonly gateway: TestGateway;
  /** PEM file of the authority of the gateway's certificate. */
  readonly caFile: string;
  readonly bucket: string;
  readonly key: string;
  readonly sse: SseHeaders;
}

/** Puts and gets one object with one client; both give the SHA-256 of the bytes that passed. */
export interface Client {
  put(target: Target, body: Iterable<Buffer>, size: number): Promise<void>;
  get(target: Target): Promise<string>;
}

async function digestOf(stream: AsyncIterable<Buffer>): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of stream) hash.update(chunk);
  return hash.digest('hex');
}

/** `PutObject` of a stream of known length: one request, its checksum in the trailer. */
export const sdk: Client = {
  async put({ gateway, bucket, key, sse }, body, size) {
    const command = new PutObjectCommand({
      Bucket: bucket,
      Key: key,
      Body: Readable.from(body, { objectMode: false }),
      ContentLength: size,
      ...parameters(sse.put),
    });
    await gateway.client().send(command);
  },
  async get({ gateway, bucket, key, sse }) {
    const command = new GetObjectCommand({ Bucket: bucket, Key: key, ...parameters(sse.get) });
    const { Body } = await gateway.client().send(command);
    return digestOf(Body as Readable);
  },
};

/** The headers as the SDK's parameters. */
function parameters(headers: Readonly<Record<string, string>>) {
  const mode = headers[SSE] as ServerSideEncryption | undefined;
  return {
    ...(mode === undefined ? {} : { ServerSideEncryption: mode }),
    ...customerOptions(headers),
  };
}

function customerOptions(headers: Readonly<Record<string, string>>) {
  const [algorithm, key, md5] = ['algorithm', 'key', 'key-md5'].map((name) => headers[`${SSE}-customer-${name}`] ?? '');
  if (algorithm === '') return {};
  return { SSECustomerAlgorithm: algorithm, SSECustomerKey: key, SSECustomerKeyMD5: md5 } as Record<string, string>;
}

function minioClient({ gateway }: Target): MinioClient {
  const { hostname, port } = new URL(gateway.raw.endpoint);
  return new MinioClient({
    endPoint: hostname,
    port: Number(port),
    useSSL: true,
    accessKey: USER.accessKeyId,
    secretKey: USER.secretAccessKey,
    region: 'us-east-1',
    transportAgent: new Agent({ ...(gateway.ca === undefined ? {} : { ca: gateway.ca }) }),
  });
}

/** A body under the part size goes as one PUT. */
export const minio: Client = {
  async put(target, body, size) {
    const stream = Readable.from(body, { objectMode: false });
    await minioClient(target).putObject(target.bucket, target.key, stream, size, { ...target.sse.put });
  },
  async get(target) {
    const options = customerOptions(target.sse.get);
    return digestOf(await minioClient(target).getObject(target.bucket, target.key, options));
  },
};

/**
 * `curl --aws-sigv4`. Older ones do not send x-amz-content-sha256 by themselves; given as a header, it is signed.
 * They also sort `…-customer-key-md5` before `…-customer-key`, which no SigV4 server takes: with SSE-C the same curl
 * uses a presigned URL.
 */
export const curl: Client = {
  async put(target, body) {
    const bytes = Buffer.concat([...body]);
    const send = ['-X', 'PUT', '-H', 'content-type: text/plain', '--data-binary', '@-'];
    if (hasCustomerKey(target.sse.put)) {
      const command = new PutObjectCommand(parametersOf(target, target.sse.put));
      await runCurl(target, [...headerOptions(target.sse.put), ...send, await presign(target, command)], bytes);
      return;
    }
    const { stderr } = await runCurl(target, [...signOptions(target, target.sse.put), ...send], bytes);
    const signed = /SignedHeaders=([^,]*)/i.exec(stderr)?.[1]?.split(';') ?? [];
    const missing = ['x-amz-content-sha256', ...Object.keys(target.sse.put)].filter((name) => !signed.includes(name));
    if (missing.length > 0) throw new Error(`curl did not sign ${missing.join(', ')}`);
  },
  async get(target) {
    const headers = target.sse.get;
    const options = hasCustomerKey(headers)
      ? [...headerOptions(headers), await presign(target, new GetObjectCommand(parametersOf(target, headers)))]
      : signOptions(target, headers);
    const { stdout } = await runCurl(target, options, undefined);
    return createHash('sha256').update(stdout).digest('hex');
  },
};

type Headers = Readonly<Record<string, string>>;

function hasCustomerKey(headers: Headers): boolean {
  return `${SSE}-customer-key` in headers;
}

function parametersOf({ bucket, key }: Target, headers: Headers) {
  return { Bucket: bucket, Key: key, ...parameters(headers) };
}

function headerOptions(headers: Headers): string[] {
  return Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
}

function signOptions({ gateway, bucket, key }: Target, headers: Headers): string[] {
  const { endpoint, accessKeyId, secretAccessKey } = gateway.raw;
  return [
    ...['--aws-sigv4', 'aws:amz:us-east-1:s3', '--user', `${accessKeyId}:${secretAccessKey}`],
    ...headerOptions({ 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD', ...headers }),
    `${endpoint}/${bucket}/${key}`,
  ];
}

function presign({ gateway }: Target, command: PutObjectCommand | GetObjectCommand): Promise<string> {
  // Otherwise the checksum of the body that the signer has not got goes into the URL.
  const client = gateway.client({ requestChecksumCalculation: 'WHEN_REQUIRED' });
  return getSignedUrl(client, command, { expiresIn: 300 });
}

function runCurl(
  { caFile }: Target,
  options: readonly string[],
  body: Buffer | undefined,
): Promise<{ stdout: Buffer; stderr: string }> {
  const args = ['-q', '-v', '-s', '--fail-with-body', '--noproxy', '*', '--cacert', caFile, ...options];
  return new Promise((resolve, reject) => {
    const child = execFile('curl', args, { encoding: 'buffer' }, (err, stdout, stderr) => {
      if (err === null) resolve({ stdout, stderr: stderr.toString('latin1') });
      else if (err.code === 'ENOENT') reject(new Error('curl is not on this machine; install it', { cause: err }));
      else reject(new Error(`curl: ${stdout.toString('latin1')}\n${stderr.toString('latin1')}`));
    });
    child.stdin?.end(body);
  });
}
