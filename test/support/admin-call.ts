import { SignatureV4 } from '@smithy/signature-v4';
import { Sha256 } from '@aws-crypto/sha256-js';

export interface AdminReply {
  readonly status: number;
  readonly text: string;
  /** The parsed body; tests read it field by field. */
  readonly body: Record<string, unknown>;
}

/** One signed call to an admin listener, by the SDK's own signer. */
export async function adminCall(
  endpoint: string,
  credentials: { readonly accessKeyId: string; readonly secretAccessKey: string },
  method: 'GET' | 'POST',
  path: string,
  body?: unknown,
): Promise<AdminReply> {
  const url = new URL(path, endpoint);
  const text = body === undefined ? undefined : JSON.stringify(body);
  const signer = new SignatureV4({ service: 'execute-api', region: 'us-east-1', credentials, sha256: Sha256 });
  const signed = await signer.sign({
    method,
    protocol: url.protocol,
    hostname: url.hostname,
    port: Number(url.port),
    path: url.pathname,
    query: {},
    headers: { host: url.host, 'content-type': 'application/json' },
    ...(text === undefined ? {} : { body: text }),
  });
  const headers = { ...signed.headers };
  delete headers.host;
  const answer = await fetch(url, { method, headers, ...(text === undefined ? {} : { body: text }) });
  const answered = await answer.text();
  return { status: answer.status, text: answered, body: parse(answered) };
}

function parse(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return {};
  }
}
