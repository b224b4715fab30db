import { createHash, type KeyObject } from 'node:crypto';
import { equalBytes, takeKey } from '../bytes.ts';
import { ServiceError, type ErrorCode } from '../errors.ts';
import { parseContextHeader, type EncryptionContext } from './context.ts';
import { KEY_LENGTH, type SseMode } from './format.ts';

const SSE = 'x-amz-server-side-encryption';
const KEY_ID = `${SSE}-aws-kms-key-id`;
const CONTEXT = `${SSE}-context`;
const BUCKET_KEY = `${SSE}-bucket-key-enabled`;
const CUSTOMER = `${SSE}-customer`;
const COPY_CUSTOMER = 'x-amz-copy-source-server-side-encryption-customer';

/** Every SSE request header: none of them ever goes to the store. */
export const SSE_HEADERS: readonly string[] = [
  SSE,
  KEY_ID,
  CONTEXT,
  BUCKET_KEY,
  ...[CUSTOMER, COPY_CUSTOMER].flatMap((family) => [`${family}-algorithm`, `${family}-key`, `${family}-key-md5`]),
];

/** ARNs are far shorter; the key service decides whether the reference names a key. */
const MAX_KEY_REFERENCE = 2048;
// Canonical base64 of 32 and of 16 bytes: the unused bits of the last character are zero.
const BASE64_32 = /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/;
const BASE64_16 = /^[A-Za-z0-9+/]{21}[AQgw]==$/;

type Headers = Readonly<Record<string, string | undefined>>;

export interface NoSse {
  readonly mode: 'none';
  /** A bucket-key header by itself, which overrides that setting of the bucket's default. */
  readonly bucketKey: boolean | undefined;
}

export interface CustomerKey {
  readonly mode: 'SSE-C';
  readonly key: KeyObject;
  /** Base64, for the response header only: it is never stored. */
  readonly keyMd5: string;
}

export interface KmsRequest {
  readonly mode: 'SSE-KMS';
  /** Key id, ARN or alias as the client gave it; undefined asks for the default key. */
  readonly keyReference: string | undefined;
  /** The client's own pairs. */
  readonly context: EncryptionContext;
  readonly bucketKey: boolean | undefined;
}

/** What a request says of encryption. */
export type SseRequest = NoSse | { readonly mode: 'SSE-S3' } | KmsRequest | CustomerKey;
/** After the bucket's default: what the object will be. */
export type EffectiveSse = { readonly mode: 'SSE-S3' } | (KmsRequest & { readonly bucketKey: boolean }) | CustomerKey;
/** What a read says: a customer key or nothing. */
export type SseReadRequest = { readonly mode: 'none' } | CustomerKey;

/** A bucket's default encryption; never set means SSE-S3, as on AWS since 2023. */
export type BucketDefault =
  | { readonly mode: 'SSE-S3' }
  | { readonly mode: 'SSE-KMS'; readonly keyReference: string | undefined; readonly bucketKey: boolean };

export interface SseTransport {
  /** TLS to the client, or a configured proxy that says so. */
  readonly secureTransport: boolean;
  /** Development setting: customer keys over plain HTTP. */
  readonly allowInsecureCustomerKeys?: boolean;
  /** BlockedEncryptionTypes of the bucket names SSE-C; for writes. */
  readonly customerKeysBlocked?: boolean;
}

function refuse(code: ErrorCode, message: string, reason: string): never {
  throw new ServiceError(code, { message, reason });
}

/** PutObject, CreateMultipartUpload, CopyObject (its destination), POST object. */
export function parseWriteSse(headers: Headers, transport: SseTransport): SseRequest {
  const customer = hasCustomerKey(headers, CUSTOMER);
  if (customer) {
    requireSecure(transport);
    if (transport.customerKeysBlocked === true) refuseBlocked();
    if ([SSE, KEY_ID, CONTEXT, BUCKET_KEY].some((name) => headers[name] !== undefined)) {
      refuse(
        'InvalidArgument',
        'Server Side Encryption with Customer provided key is incompatible with the encryption method specified',
        'sse-combined',
      );
    }
    return parseCustomerKey(headers, CUSTOMER, 'write');
  }
  return parseManaged(headers);
}

/** BlockedEncryptionTypes: "any PutObject, CopyObject, PostObject, Multipart Upload … request that specifies SSE-C". */
export function refuseBlocked(): never {
  refuse('AccessDenied', 'SSE-C is blocked for this bucket.', 'sse-c-blocked');
}

function parseManaged(headers: Headers): SseRequest {
  const algorithm = headers[SSE];
  const keyReference = headers[KEY_ID];
  const context = headers[CONTEXT];
  const bucketKey = parseBoolean(headers[BUCKET_KEY]);
  if (algorithm === 'aws:kms:dsse') {
    // Two layers of encryption: nothing here makes a second one, and one must not be passed off as two.
    refuse('NotImplemented', 'Dual-layer encryption (aws:kms:dsse) is not implemented.', 'sse-dsse');
  }
  if (algorithm !== undefined && algorithm !== 'AES256' && algorithm !== 'aws:kms') {
    refuse('InvalidArgument', 'The encryption method specified is not supported', 'sse-algorithm');
  }
  if (algorithm === 'aws:kms') {
    if (keyReference !== undefined && (keyReference === '' || keyReference.length > MAX_KEY_REFERENCE)) {
      refuse('InvalidArgument', `The header ${KEY_ID} is not valid.`, 'sse-key-id');
    }
    return {
      mode: 'SSE-KMS',
      keyReference,
      context: context === undefined ? [] : parseContextHeader(context),
      bucketKey,
    };
  }
  if (keyReference !== undefined || context !== undefined) {
    const name = keyReference === undefined ? CONTEXT : KEY_ID;
    refuse(
      'InvalidArgument',
      `Server Side Encryption with AWS KMS managed key requires HTTP header ${SSE} : aws:kms`,
      `sse-without-kms:${name.slice(SSE.length + 1)}`,
    );
  }
  return algorithm === 'AES256' ? { mode: 'SSE-S3' } : { mode: 'none', bucketKey };
}

function parseBoolean(value: string | undefined): boolean | undefined {
  if (value === undefined) return undefined;
  const lower = value.toLowerCase();
  if (lower !== 'true' && lower !== 'false') {
    refuse('InvalidArgument', `The header ${BUCKET_KEY} must be true or false.`, 'sse-bucket-key');
  }
  return lower === 'true';
}

/** GetObject, HeadObject, GetObjectAttributes, ListParts: a customer key or nothing. */
export function parseReadSse(headers: Headers, transport: SseTransport): SseReadRequest {
  if ([SSE, KEY_ID, CONTEXT, BUCKET_KEY].some((name) => headers[name] !== undefined)) {
    refuse('InvalidRequest', `The header ${SSE} is not supported for this operation.`, 'sse-on-read');
  }
  if (!hasCustomerKey(headers, CUSTOMER)) return { mode: 'none' };
  requireSecure(transport);
  return parseCustomerKey(headers, CUSTOMER, 'read');
}

/** UploadPart and UploadPartCopy: a customer key or nothing, complete as in a write. */
export function parsePartSse(headers: Headers, transport: SseTransport): SseReadRequest {
  if ([SSE, KEY_ID, CONTEXT, BUCKET_KEY].some((name) => headers[name] !== undefined)) {
    refuse('InvalidArgument', `${SSE} header is not supported for this operation.`, 'sse-on-part');
  }
  if (!hasCustomerKey(headers, CUSTOMER)) return { mode: 'none' };
  requireSecure(transport);
  if (transport.customerKeysBlocked === true) refuseBlocked();
  return parseCustomerKey(headers, CUSTOMER, 'write');
}

/** CopyObject and UploadPartCopy: the key of the source. */
export function parseCopySourceSse(headers: Headers, transport: SseTransport): SseReadRequest {
  if (!hasCustomerKey(headers, COPY_CUSTOMER)) return { mode: 'none' };
  requireSecure(transport);
  return parseCustomerKey(headers, COPY_CUSTOMER, 'read');
}

function hasCustomerKey(headers: Headers, family: string): boolean {
  return ['-algorithm', '-key', '-key-md5'].some((name) => headers[family + name] !== undefined);
}

function requireSecure(transport: SseTransport): void {
  if (transport.secureTransport || transport.allowInsecureCustomerKeys === true) return;
  refuse(
    'InvalidRequest',
    'Requests specifying Server Side Encryption with Customer provided keys must be made over a secure connection.',
    'sse-c-insecure',
  );
}

const CUSTOMER_MUST = 'Requests specifying Server Side Encryption with Customer provided keys must provide';

function parseCustomerKey(headers: Headers, family: string, use: 'write' | 'read'): CustomerKey {
  const algorithm = headers[`${family}-algorithm`];
  const key = headers[`${family}-key`];
  const keyMd5 = headers[`${family}-key-md5`];
  if (algorithm === undefined) {
    refuse('InvalidArgument', `${CUSTOMER_MUST} a valid encryption algorithm.`, 'sse-c-algorithm');
  }
  if (algorithm !== 'AES256') throw new ServiceError('InvalidEncryptionAlgorithmError', { reason: 'sse-c-algorithm' });
  if (key === undefined) refuse('InvalidArgument', `${CUSTOMER_MUST} an appropriate secret key.`, 'sse-c-key');
  if (keyMd5 === undefined) {
    if (use === 'read') throw new ServiceError('AccessDenied', { reason: 'sse-c-md5' });
    refuse('InvalidArgument', `${CUSTOMER_MUST} the client calculated MD5 of the secret key.`, 'sse-c-md5');
  }
  if (!BASE64_32.test(key)) {
    refuse('InvalidArgument', 'The secret key was invalid for the specified algorithm.', 'sse-c-key');
  }
  // `Buffer.from` would leave the key in a pooled slab.
  const bytes = Buffer.alloc(KEY_LENGTH);
  bytes.write(key, 'base64');
  const digest = createHash('md5').update(bytes).digest();
  const secret = takeKey(bytes);
  if (!BASE64_16.test(keyMd5) || !equalBytes(Buffer.from(keyMd5, 'base64'), digest)) {
    refuse(
      'InvalidArgument',
      'The calculated MD5 hash of the key did not match the hash that was provided.',
      'sse-c-md5',
    );
  }
  return { mode: 'SSE-C', key: secret, keyMd5 };
}

/** A read that does not fit the object's mode; decidable only with its envelope. */
export function requireReadMode(request: SseReadRequest, mode: SseMode): void {
  if (mode === 'SSE-C' && request.mode === 'none') {
    refuse(
      'InvalidRequest',
      'The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object.',
      'sse-c-missing',
    );
  }
  if (mode !== 'SSE-C' && request.mode === 'SSE-C') {
    refuse('InvalidRequest', 'The encryption parameters are not applicable to this object.', 'sse-c-not-applicable');
  }
}

/**
 * The bucket's default where the request names nothing. A request for `aws:kms` without a key means the default key,
 * not the bucket's (as AWS does); the bucket-key setting is the bucket's unless the request has one.
 */
export function applyDefault(request: SseRequest, bucketDefault: BucketDefault | undefined): EffectiveSse {
  const inherited = bucketDefault?.mode === 'SSE-KMS' && bucketDefault.bucketKey;
  switch (request.mode) {
    case 'SSE-S3':
    case 'SSE-C':
      return request;
    case 'SSE-KMS':
      return { ...request, bucketKey: request.bucketKey ?? inherited };
    case 'none':
      if (bucketDefault?.mode !== 'SSE-KMS') return { mode: 'SSE-S3' };
      return {
        mode: 'SSE-KMS',
        keyReference: bucketDefault.keyReference,
        context: [],
        bucketKey: request.bucketKey ?? inherited,
      };
  }
}

/** What an answer says of an object's encryption. */
export type SseAnswer =
  | { readonly mode: 'SSE-S3' }
  | {
      readonly mode: 'SSE-KMS';
      readonly keyName: string;
      readonly bucketKey: boolean;
      readonly context: EncryptionContext;
    }
  | { readonly mode: 'SSE-C'; readonly keyMd5: string };

/** `write`: Put, Create, Copy; `part`: UploadPart and its copy; `complete`; `read`: Get, Head. */
export type SseAnswerKind = 'write' | 'part' | 'complete' | 'read';

/** The SSE response headers, as AWS gives them: the whole key ARN, bucket key only when true, the context on writes only. */
export function sseResponseHeaders(answer: SseAnswer, kind: SseAnswerKind): Record<string, string> {
  switch (answer.mode) {
    case 'SSE-S3':
      return { [SSE]: 'AES256' };
    case 'SSE-KMS':
      return {
        [SSE]: 'aws:kms',
        [KEY_ID]: answer.keyName,
        ...(answer.bucketKey ? { [BUCKET_KEY]: 'true' } : {}),
        ...(kind === 'write' && answer.context.length > 0 ? { [CONTEXT]: contextHeader(answer.context) } : {}),
      };
    case 'SSE-C':
      if (kind === 'complete') return {};
      return { [`${CUSTOMER}-algorithm`]: 'AES256', [`${CUSTOMER}-key-md5`]: answer.keyMd5 };
  }
}

function contextHeader(context: EncryptionContext): string {
  const members = context.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`);
  return Buffer.from(`{${members.join(',')}}`, 'utf8').toString('base64');
}
