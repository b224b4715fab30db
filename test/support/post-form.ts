import { createHmac, randomBytes } from 'node:crypto';
import { request } from 'node:http';
import type { RawResponse, RawStore } from './s3-raw.ts';

/** A browser's form, written out from AWS's pages on POST policies alone: it says what no decent page would. */
export interface FormSpec {
  /** In this order, before the file. `key` is `upload.bin` unless given. */
  readonly fields?: readonly (readonly [name: string, value: string])[];
  /** Instead of those that follow from the fields: one `eq` each, and the bucket. */
  readonly conditions?: readonly unknown[];
  /** Beside those. */
  readonly more?: readonly unknown[];
  readonly expiration?: string;
  readonly now?: Date;
  readonly file?: Buffer | string;
  readonly filename?: string;
  /** Changes what is sent, after it was signed: the fields with policy and signature, the file at its place. */
  readonly spoil?: (parts: Part[]) => Part[];
  /** The policy's text, instead of the JSON of the rest. */
  readonly policy?: string;
  readonly region?: string;
  readonly service?: string;
}

export interface Part {
  readonly name: string;
  readonly value: Buffer | string;
  readonly filename?: string;
  readonly type?: string;
}

const hmac = (key: Buffer | string, text: string): Buffer => createHmac('sha256', key).update(text).digest();

/** The parts of the form, signed. */
export function formParts(store: RawStore, bucket: string, spec: FormSpec): Part[] {
  const { fields = [], now = new Date(), file = 'content', filename = 'local name.txt' } = spec;
  const { region = store.region, service = 's3' } = spec;
  const timestamp = now.toISOString().replace(/[-:]|\.\d+/g, '');
  const scope = `${timestamp.slice(0, 8)}/${region}/${service}/aws4_request`;
  const named = fields.some(([name]) => name.toLowerCase() === 'key') ? fields : [['key', 'upload.bin'], ...fields];
  const all: (readonly [string, string])[] = [
    ...(named as (readonly [string, string])[]),
    ['x-amz-algorithm', 'AWS4-HMAC-SHA256'],
    ['x-amz-credential', `${store.accessKeyId}/${scope}`],
    ['x-amz-date', timestamp],
  ];
  const conditions = spec.conditions ?? [{ bucket }, ...all.map(([name, value]) => ({ [name]: value }))];
  const expiration = spec.expiration ?? new Date(now.getTime() + 60_000).toISOString();
  const text = spec.policy ?? JSON.stringify({ expiration, conditions: [...conditions, ...(spec.more ?? [])] });
  const policy = Buffer.from(text).toString('base64');
  const key = [region, service, 'aws4_request'].reduce(
    hmac,
    hmac(`AWS4${store.secretAccessKey}`, timestamp.slice(0, 8)),
  );
  const parts: Part[] = [
    ...all.map(([name, value]) => ({ name, value })),
    { name: 'policy', value: policy },
    { name: 'x-amz-signature', value: hmac(key, policy).toString('hex') },
    { name: 'file', value: file, filename, type: 'text/plain' },
  ];
  return spec.spoil?.(parts) ?? parts;
}

export function encodeForm(parts: readonly Part[], boundary = `form${randomBytes(8).toString('hex')}`): FormBody {
  const pieces = parts.flatMap(({ name, value, filename, type }) => [
    Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="${name}"`),
    Buffer.from(filename === undefined ? '' : `; filename="${filename}"`),
    Buffer.from(type === undefined ? '\r\n\r\n' : `\r\nContent-Type: ${type}\r\n\r\n`),
    Buffer.from(value),
    Buffer.from('\r\n'),
  ]);
  return {
    type: `multipart/form-data; boundary=${boundary}`,
    body: Buffer.concat([...pieces, Buffer.from(`--${boundary}--\r\n`)]),
  };
}

export interface FormBody {
  readonly type: string;
  readonly body: Buffer;
}

export interface SendOptions {
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sends only so many bytes under the whole Content-Length, and destroys the connection. */
  readonly cutAfter?: number;
  /** Sends only so many bytes, and waits for the answer, or for `until` before it sends the rest. */
  readonly holdAfter?: number;
  readonly until?: Promise<void>;
}

export function sendForm(
  store: RawStore,
  bucket: string,
  { type, body }: FormBody,
  { path = `/${bucket}`, headers = {}, cutAfter, holdAfter, until }: SendOptions = {},
): Promise<RawResponse> {
  const { hostname, port } = new URL(store.endpoint);
  return new Promise((resolve) => {
    const all = { 'content-type': type, 'content-length': body.length, ...headers };
    const req = request({ hostname, port, path, method: 'POST', headers: all, agent: false });
    const chunks: Buffer[] = [];
    let answered = false;
    const done = (status: number, received: RawResponse['headers'], complete: boolean): void => {
      const whole = Buffer.concat(chunks);
      resolve({ status, headers: received, body: whole, text: whole.toString('utf8'), complete });
    };
    req.on('response', (res) => {
      answered = true;
      res.on('data', (chunk: Buffer) => chunks.push(chunk));
      res.on('error', () => undefined).on('close', () => done(res.statusCode ?? 0, res.headers, res.complete));
    });
    req.on('error', () => undefined).on('close', () => (answered ? undefined : done(0, {}, false)));
    if (holdAfter !== undefined) {
      req.write(body.subarray(0, holdAfter));
      void until?.then(() => req.end(body.subarray(holdAfter)));
    } else if (cutAfter === undefined) req.end(body);
    else req.write(body.subarray(0, cutAfter), () => setTimeout(() => req.destroy(), 200));
  });
}

/** A signed form, sent. */
export function postForm(
  store: RawStore,
  bucket: string,
  spec: FormSpec = {},
  options: SendOptions = {},
): Promise<RawResponse> {
  return sendForm(store, bucket, encodeForm(formParts(store, bucket, spec)), options);
}
