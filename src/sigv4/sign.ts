import { ServiceError } from '../errors.ts';
import { ALGORITHM, canonicalPath, canonicalRequest, signatureOf, stringToSign } from './canonical.ts';
import { isoBasic } from './credential.ts';
import { encodeQuery } from './encode.ts';
import { createSigningKeys, scopeString } from './keys.ts';
import { isHeaderValue } from './parse.ts';
import type { ChunkSeed, StoreCredentials } from './types.ts';

export interface SignerOptions {
  readonly region: string;
  readonly service: 's3' | 'execute-api';
  /** Derived signing keys to keep; 256 unless told. */
  readonly cachedKeys?: number;
}

export interface UnsignedRequest {
  readonly method: string;
  /** As it is to stand in `Host`. */
  readonly host: string;
  /** Encoded (`encodeKey`); sent and signed as it stands, so nothing on the way may normalise it. */
  readonly path: string;
  /** Decoded. */
  readonly query?: readonly (readonly [name: string, value: string])[];
  /** Lower-cased; never host, authorization or x-amz-date. Values as latin1, as Node gives and takes them. */
  readonly headers: Readonly<Record<string, string>>;
  /** Hex SHA-256 of the body, or a literal (`UNSIGNED-PAYLOAD`, a framing's `payloadHash`). */
  readonly payloadHash: string;
  readonly credentials: StoreCredentials;
  readonly now: Date;
}

export interface SignedRequest {
  /** Request target: path and encoded query. */
  readonly target: string;
  /** Everything to send: the given headers, host, x-amz-date, x-amz-content-sha256, authorization. */
  readonly headers: Readonly<Record<string, string>>;
  /** For signed chunks. */
  readonly seed: ChunkSeed;
}

export interface RequestSigner {
  sign(request: UnsignedRequest): SignedRequest;
}

/** Hop-by-hop (RFC 9110 section 7.6.1), or rewritten by balancers on the way: not under the signature. */
const UNSIGNED = new Set([
  'accept-encoding',
  'connection',
  'expect',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'user-agent',
]);

export function createSigner(options: SignerOptions): RequestSigner {
  const { region, service } = options;
  const keys = createSigningKeys(options.cachedKeys ?? 256);
  return {
    sign(request) {
      const { credentials, method } = request;
      const timestamp = isoBasic(request.now.getTime());
      const headers = headersToSend(request, timestamp);
      const signedHeaders = Object.keys(headers)
        .filter((name) => !UNSIGNED.has(name))
        .sort();
      const query = request.query === undefined ? '' : encodeQuery(request.query);
      const scope = { date: timestamp.slice(0, 8), region, service };
      const signingKey = keys.of(credentials, scope);
      const scopeText = scopeString(scope);
      const canonical = canonicalRequest({
        method,
        path: canonicalPath(request.path, service),
        query,
        headers,
        signedHeaders,
        payloadHash: request.payloadHash,
      });
      const signature = signatureOf(signingKey, stringToSign(timestamp, scopeText, canonical));
      headers['authorization'] =
        `${ALGORITHM} Credential=${credentials.accessKeyId}/${scopeText}, ` +
        `SignedHeaders=${signedHeaders.join(';')}, Signature=${signature}`;
      return {
        target: query === '' ? request.path : `${request.path}?${query}`,
        headers,
        seed: { signingKey, timestamp, scope: scopeText, signature },
      };
    },
  };
}

function headersToSend(request: UnsignedRequest, timestamp: string): Record<string, string> {
  const headers: Record<string, string> = { ...request.headers };
  headers['host'] = request.host;
  headers['x-amz-date'] = timestamp;
  headers['x-amz-content-sha256'] = request.payloadHash;
  const { sessionToken } = request.credentials;
  if (sessionToken !== undefined) headers['x-amz-security-token'] = sessionToken;
  for (const name in headers) {
    // The last line before the wire: no value may end its header and begin another.
    if (!isHeaderValue(headers[name] ?? '')) throw new ServiceError('InternalError', { reason: 'store-header-form' });
  }
  return headers;
}
