import { createHmac, hash } from 'node:crypto';
import { canonicalRequest, EMPTY_SHA256, stringToSign } from '../sigv4/canonical.ts';
import { createSigningKeys, scopeString } from '../sigv4/keys.ts';
import type { StoreCredentials } from '../sigv4/types.ts';

export interface Signing {
  readonly method: string;
  readonly host: string;
  readonly path: string;
  readonly query: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly credentials: StoreCredentials;
}
export type SignHead = (signing: Signing) => Record<string, string>;

export function headSigner(region: string, clock: () => Date): SignHead {
  const keys = createSigningKeys(64);
  return ({ method, host, path, query, headers, credentials }) => {
    const timestamp = clock()
      .toISOString()
      .replace(/[-:]|\.\d{3}/g, '');
    const scope = { date: timestamp.slice(0, 8), region, service: 's3' };
    const all: Record<string, string> = { ...headers, host, 'x-amz-date': timestamp };
    if (credentials.sessionToken !== undefined) all['x-amz-security-token'] = credentials.sessionToken;
    const payloadHash = (all['x-amz-content-sha256'] ??= EMPTY_SHA256);
    const signedHeaders = Object.keys(all).sort();
    const canonical = canonicalRequest({ method, path, query, headers: all, signedHeaders, payloadHash });
    const signature = createHmac('sha256', keys.of(credentials, scope))
      .update(stringToSign(timestamp, scopeString(scope), canonical))
      .digest('hex');
    all['authorization'] =
      `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scopeString(scope)}, SignedHeaders=${signedHeaders.join(';')}, Signature=${signature}`;
    return all;
  };
}

export function sha256(body: Buffer): string {
  return hash('sha256', body, 'hex');
}
