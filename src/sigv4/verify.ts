import { createSecretKey } from 'node:crypto';
import { trimBlanks } from '../bytes.ts';
import { ServiceError } from '../errors.ts';
import { canonicalPath, canonicalRequest, isSignature, stringToSign } from './canonical.ts';
import { AUTHENTICATION_PARAMETERS, malformed, parseCredential, parsePost, type Credential } from './credential.ts';
import { encodeQuery } from './encode.ts';
import { createSigningKeys, scopeString } from './keys.ts';
import { isHeaderValue, parseHead, type ParsedHead } from './parse.ts';
import { isChecksumHeader, parseContentLength, parsePayload, type Payload } from './payload.ts';
import { checkPostPolicy } from './post-policy.ts';
import type { ChunkSeed, RequestHead, Signer, Verified, VerifiedRequest } from './types.ts';

export interface VerifierOptions<I extends Signer> {
  lookup(accessKeyId: string): I | undefined;
  /** Accepted in the credential's scope; the first is the one that errors name. */
  readonly regions: readonly string[];
  /** `s3` on the data plane; `s3` and `execute-api` on the admin plane. */
  readonly services: readonly string[];
  /** Derived signing keys to keep; 1024 unless told. */
  readonly cachedKeys?: number;
}

export interface Verifier<I extends Signer> {
  /**
   * Checks who signed `head`, when and for what; throws a ServiceError, or returns the proof.
   *
   * With `body` (a face that collects small bodies first) the body's SHA-256 is checked too, in every form, and payload
   * modes that leave the body open are refused. Without it the body is still to come, through `payloadReader`.
   */
  verify(head: RequestHead, now: Date, body?: Uint8Array): Verified<I>;
  /** The same for a browser's form, from the fields before its file: what signs is its policy. */
  verifyPost(head: RequestHead, form: SignedForm, now: Date): Verified<I>;
}

export interface SignedForm {
  /** Lower-cased names; `key` expanded, `bucket` the one that is addressed. */
  readonly fields: ReadonlyMap<string, string>;
  /** The headers that the fields stand for; asked for when the fields have verified. */
  headers(): Readonly<Record<string, string>>;
}

/** 15 minutes, either way. */
const MAX_SKEW = 900_000;

export function createVerifier<I extends Signer>(options: VerifierOptions<I>): Verifier<I> {
  const regions = Object.freeze([...options.regions]);
  const services = Object.freeze([...options.services]);
  const keys = createSigningKeys(options.cachedKeys ?? 1024);
  // Stands in for an unknown access key, so that both answers take the same work. What it signs is never accepted.
  const nobody: Signer = { accessKeyId: '', secret: createSecretKey(Buffer.from('AWS4nobody')) };

  /** Who signed `text` with this credential; constant-time, unknown keys included. */
  function authenticate(credential: Credential, text: string): { readonly identity: I; readonly seed: ChunkSeed } {
    const identity = options.lookup(credential.accessKeyId);
    const signingKey = keys.of(identity ?? nobody, credential);
    const matches = isSignature(credential.signature, signingKey, text);
    if (identity === undefined) throw new ServiceError('InvalidAccessKeyId');
    if (!matches) throw new ServiceError('SignatureDoesNotMatch');
    const { timestamp, signature } = credential;
    return { identity, seed: { signingKey, timestamp, scope: scopeString(credential), signature } };
  }

  return {
    verify(request, now, body) {
      const head = parseHead(request);
      refuseToken(head);
      const credential = parseCredential(head);
      checkScope(credential, regions, services);
      checkTime(credential, now.getTime());
      checkCoverage(head, credential.signedHeaders);
      const payload = parsePayload(head, credential, body);
      const canonical = canonicalOf(head, credential, payload);
      const proof = authenticate(credential, stringToSign(credential.timestamp, scopeString(credential), canonical));
      const verified = verifiedRequest(head, credential);
      const contentLength = body?.byteLength ?? parseContentLength(payload.mode, verified.headers);
      return branded(proof, credential, { request: verified, payload: payload.mode, contentLength });
    },

    verifyPost(request, form, now) {
      const head = parseHead(request);
      const { fields } = form;
      refuseToken(head);
      if (fields.has('x-amz-security-token')) throw new ServiceError('InvalidToken');
      // The policy's signature covers nothing of the head.
      checkCoverage(head, ['host']);
      if (head.query.size > 0) throw unsigned();
      const credential = parsePost(fields);
      checkScope(credential, regions, services);
      checkTime(credential, now.getTime());
      const policy = fields.get('policy') ?? '';
      const proof = authenticate(credential, policy);
      const length = checkPostPolicy(policy, fields, now);
      const { method, path, query } = head;
      const headers = Object.assign(Object.create(null) as Record<string, string>, form.headers(), {
        host: head.headers.host ?? '',
      });
      const verified = { method, path, query, headers, form: { fields, length } };
      return branded(proof, credential, { request: verified, payload: { kind: 'unsigned' }, contentLength: 0 });
    },
  };
}

/** The one place where the brand is put on. */
function branded<I extends Signer>(
  proof: Pick<Verified<I>, 'identity' | 'seed'>,
  { form: auth, region, service }: Credential,
  checked: Pick<Verified<I>, 'request' | 'payload' | 'contentLength'>,
): Verified<I> {
  return { ...proof, ...checked, auth, region, service } as Verified<I>;
}

/** A session token that this service has not issued, and it issues none; it is never forwarded. */
function refuseToken(head: ParsedHead): void {
  for (const name of ['x-amz-security-token', 'x-amz-s3session-token']) {
    if (head.headers[name] !== undefined || head.amzQuery.has(name)) throw new ServiceError('InvalidToken');
  }
}

function checkScope(credential: Credential, regions: readonly string[], services: readonly string[]): void {
  const { form, region, service, date } = credential;
  if (date !== credential.timestamp.slice(0, 8)) {
    throw malformed(form, `Invalid credential date "${date}". This date is not the same as X-Amz-Date.`);
  }
  if (!regions.includes(region)) {
    const expected = regions[0] ?? '';
    // Clients that guessed the region wrong look for the header and sign again.
    throw malformed(form, `the region '${region}' is wrong; expecting '${expected}'`, {
      'x-amz-bucket-region': expected,
    });
  }
  if (!services.includes(service)) {
    throw malformed(form, `incorrect service "${service}". This endpoint belongs to "${services[0] ?? ''}".`);
  }
}

function checkTime(credential: Credential, now: number): void {
  const age = now - credential.time;
  if (credential.form === 'header') {
    if (Math.abs(age) > MAX_SKEW) throw new ServiceError('RequestTimeTooSkewed');
    return;
  }
  if (age < -MAX_SKEW) {
    throw new ServiceError('AccessDenied', { message: 'Request is not valid yet', reason: 'presigned-early' });
  }
  if (age > credential.expires * 1000) {
    throw new ServiceError('AccessDenied', { message: 'Request has expired', reason: 'presigned-expired' });
  }
}

/**
 * `host` and every `x-amz-*` header must be under the signature, in both forms: an unsigned SSE header on a presigned URL
 * would let whoever holds the URL choose the key. A signed header that did not arrive is a changed request.
 */
function checkCoverage(head: ParsedHead, signedHeaders: readonly string[]): void {
  for (const name in head.headers) {
    if ((name === 'host' || name.startsWith('x-amz-')) && !signedHeaders.includes(name)) throw unsigned();
  }
  if (!signedHeaders.includes('host')) throw unsigned();
  for (const name of signedHeaders) {
    if (head.headers[name] === undefined) {
      throw new ServiceError('SignatureDoesNotMatch', { reason: 'signed-header-missing' });
    }
  }
}

function unsigned(): ServiceError {
  return new ServiceError('AccessDenied', {
    message: 'There were headers present in the request which were not signed',
    reason: 'unsigned-header',
  });
}

function canonicalOf(head: ParsedHead, credential: Credential, payload: Payload): string {
  return canonicalRequest({
    method: head.method,
    path: canonicalPath(head.path, credential.service),
    query: encodeQuery(credential.form === 'header' ? head.query : withoutSignature(head.query)),
    headers: head.headers,
    signedHeaders: credential.signedHeaders,
    payloadHash: payload.literal,
  });
}

function* withoutSignature(query: ReadonlyMap<string, string>): Iterable<readonly [string, string]> {
  for (const pair of query) if (pair[0].toLowerCase() !== 'x-amz-signature') yield pair;
}

function verifiedRequest(head: ParsedHead, credential: Credential): VerifiedRequest {
  const { method, path, query, headers } = head;
  if (credential.form === 'header') return { method, path, query, headers };
  const rest = new Map<string, string>();
  for (const [name, value] of query) if (!name.toLowerCase().startsWith('x-amz-')) rest.set(name, value);
  return { method, path, query: rest, headers: mergeQuery(head) };
}

/**
 * What an SDK moved from the headers into the URL goes back to where handlers look. Not a checksum: SDKs presign the one
 * of an empty body, long before there is a body. Not a customer key: URLs are logged everywhere.
 */
function mergeQuery(head: ParsedHead): Record<string, string> {
  const headers = Object.assign(Object.create(null) as Record<string, string>, head.headers);
  for (const [name, text] of head.amzQuery) {
    if (AUTHENTICATION_PARAMETERS.has(name) || isChecksumHeader(name) || name === 'x-amz-sdk-checksum-algorithm')
      continue;
    // The same bytes as a header would have brought, in Node's latin1, and without the blanks that no header has around
    // it: the store would drop them where a policy has seen them.
    const value = trimBlanks(Buffer.from(text, 'utf8').toString('latin1'));
    const before = headers[name];
    if (!/^[a-z0-9-]+$/.test(name) || !isHeaderValue(value) || (before !== undefined && before !== value)) {
      throw malformed('presigned', 'an x-amz- parameter cannot stand for a header');
    }
    if (name.endsWith('server-side-encryption-customer-key')) {
      throw new ServiceError('InvalidRequest', {
        message: 'A customer-provided key must be sent as a header, not in the URL.',
        reason: 'customer-key-in-url',
      });
    }
    headers[name] = value;
  }
  return headers;
}
