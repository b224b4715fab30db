import { createHash, createHmac, createSecretKey } from 'node:crypto';
import { ServiceError } from '../../src/errors.ts';
import type { RequestHead, Signer, Verified } from '../../src/sigv4/types.ts';
import { createVerifier, type Verifier, type VerifierOptions } from '../../src/sigv4/verify.ts';

/** The credentials of AWS's published examples. */
export const ACCESS_KEY_ID = 'AKIAIOSFODNN7EXAMPLE';
export const SECRET = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY';
export const NOW = new Date('2013-05-24T00:00:00Z');
export const TIMESTAMP = '20130524T000000Z';
export const EMPTY = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

export interface Person extends Signer {
  readonly name: string;
}

export function signerOf(accessKeyId = ACCESS_KEY_ID, secret = SECRET): Signer {
  return { accessKeyId, secret: createSecretKey(Buffer.from(`AWS4${secret}`)) };
}

export const alice: Person = { ...signerOf(), name: 'alice' };

export function verifierOf(options: Partial<VerifierOptions<Person>> = {}): Verifier<Person> {
  return createVerifier<Person>({
    lookup: (id) => (id === ACCESS_KEY_ID ? alice : undefined),
    regions: ['us-east-1'],
    services: ['s3'],
    ...options,
  });
}

/** Node's `rawHeaders` of an object. */
export function raw(headers: Readonly<Record<string, string>>): string[] {
  return Object.entries(headers).flat();
}

export function verify(head: RequestHead, now: Date = NOW): Verified<Person> {
  return verifierOf().verify(head, now);
}

/** The code of the ServiceError that `act` throws; anything else fails the test. */
export function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (err) {
    if (err instanceof ServiceError) return err.code;
    throw err;
  }
  return 'accepted';
}

const hmac = (key: Buffer | string, text: string): Buffer => createHmac('sha256', key).update(text, 'latin1').digest();
const sha256 = (text: string | Buffer): string =>
  createHash('sha256')
    .update(typeof text === 'string' ? Buffer.from(text, 'latin1') : text)
    .digest('hex');

export interface Draft {
  readonly method?: string;
  readonly path?: string;
  /** Raw, and already in canonical form. */
  readonly query?: string;
  /** Lower-cased; `host`, `x-amz-date` and `x-amz-content-sha256` are added unless given; undefined leaves one out. */
  readonly headers?: Readonly<Record<string, string | undefined>>;
  /** Headers that go out without being signed. */
  readonly unsigned?: Readonly<Record<string, string>>;
  readonly scope?: string;
  readonly timestamp?: string;
  readonly payloadHash?: string;
  readonly accessKeyId?: string;
  readonly secret?: string;
  /** Presigned: seconds, or any text. */
  readonly expires?: string;
}

/** A client of our own, written straight from AWS's page and with nothing of `src/`, so that each field can be bent. */
export function draft(given: Draft, form: 'header' | 'presigned' = 'header'): RequestHead & { signature: string } {
  const { method = 'GET', path = '/bucket/key', timestamp = TIMESTAMP, accessKeyId = ACCESS_KEY_ID } = given;
  const scope = given.scope ?? `${timestamp.slice(0, 8)}/us-east-1/s3/aws4_request`;
  const payloadHash = given.payloadHash ?? (form === 'header' ? EMPTY : 'UNSIGNED-PAYLOAD');
  const implied = form === 'header' ? { 'x-amz-date': timestamp, 'x-amz-content-sha256': payloadHash } : {};
  const headers: Record<string, string> = {};
  const offered: Record<string, string | undefined> = { host: 'localhost:9000', ...implied, ...given.headers };
  for (const [name, value] of Object.entries(offered)) {
    if (value !== undefined) headers[name] = value;
  }
  const names = Object.keys(headers).sort();
  const own =
    form === 'header'
      ? []
      : [
          'X-Amz-Algorithm=AWS4-HMAC-SHA256',
          `X-Amz-Credential=${encodeURIComponent(`${accessKeyId}/${scope}`)}`,
          `X-Amz-Date=${timestamp}`,
          `X-Amz-Expires=${given.expires ?? '60'}`,
          `X-Amz-SignedHeaders=${encodeURIComponent(names.join(';'))}`,
        ];
  const query = [...own, ...(given.query === undefined ? [] : given.query.split('&'))].sort().join('&');
  const lines = names.map((name) => `${name}:${headers[name] ?? ''}\n`).join('');
  const canonical = `${method}\n${path}\n${query}\n${lines}\n${names.join(';')}\n${payloadHash}`;
  const key = signingKeyOf(given.secret ?? SECRET, scope);
  const signature = hmac(key, `AWS4-HMAC-SHA256\n${timestamp}\n${scope}\n${sha256(canonical)}`).toString('hex');
  const authorization = `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope}, SignedHeaders=${names.join(';')}, Signature=${signature}`;
  const sent = { ...headers, ...given.unsigned, ...(form === 'header' ? { authorization } : {}) };
  const signed = form === 'header' ? query : `${query}&X-Amz-Signature=${signature}`;
  return { method, target: signed === '' ? path : `${path}?${signed}`, rawHeaders: raw(sent), signature };
}

export function signingKeyOf(secret: string, scope: string): Buffer {
  let key: Buffer | string = `AWS4${secret}`;
  for (const part of scope.split('/')) key = hmac(key, part);
  return Buffer.from(key);
}

/** Replaces a header of a head, signed or not. */
export function withHeader(head: RequestHead, name: string, value: string): RequestHead {
  const rawHeaders = [...head.rawHeaders];
  const at = rawHeaders.indexOf(name);
  if (at === -1) throw new Error(`no header ${name}`);
  rawHeaders[at + 1] = value;
  return { ...head, rawHeaders };
}

export const SCOPE = '20130524/us-east-1/s3/aws4_request';

/** An aws-chunked body, one chunk per part and a last empty one; signed when a seed signature is given. */
export function chunkedBody(
  parts: readonly Buffer[],
  options: { seed?: string; trailer?: readonly [name: string, value: string] | undefined; newline?: string } = {},
): Buffer {
  const key = signingKeyOf(SECRET, SCOPE);
  let previous = options.seed ?? '';
  const sign = (kind: string, digests: string): string => {
    previous = hmac(key, `AWS4-HMAC-SHA256-${kind}\n${TIMESTAMP}\n${SCOPE}\n${previous}\n${digests}`).toString('hex');
    return previous;
  };
  const out: Buffer[] = [];
  for (const part of [...parts, Buffer.alloc(0)]) {
    const signature =
      options.seed === undefined ? '' : `;chunk-signature=${sign('PAYLOAD', `${EMPTY}\n${sha256(part)}`)}`;
    out.push(Buffer.from(`${part.length.toString(16)}${signature}\r\n`));
    if (part.length > 0) out.push(part, Buffer.from('\r\n'));
  }
  if (options.trailer !== undefined) {
    const [name, value] = options.trailer;
    out.push(Buffer.from(`${name}:${value}${options.newline ?? '\r\n'}`));
    if (options.seed !== undefined) {
      out.push(Buffer.from(`x-amz-trailer-signature:${sign('TRAILER', sha256(`${name}:${value}\n`))}\r\n`));
    }
  }
  out.push(Buffer.from('\r\n'));
  return Buffer.concat(out);
}
