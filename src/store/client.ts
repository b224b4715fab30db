import { Agent as HttpAgent, request as httpRequest, type ClientRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { encodeKey, encodeQuery } from '../sigv4/encode.ts';
import type { StoreCredentials } from '../sigv4/types.ts';
import { locator, type Address } from './address.ts';
import { createConnections } from './connections.ts';
import { aborted, misuse, unreachable } from './faults.ts';
import { plainFraming } from './framing.ts';
import type { StoreClient, StoreRequest, StoreResponse, StoreTraits } from './port.ts';
import { Exchange } from './response.ts';
import { headSigner, sha256 } from './signing.ts';
import { DEFAULT_TIMEOUTS, type StoreTimeouts } from './timeouts.ts';
import { HttpUpload } from './upload.ts';

export interface StoreClientOptions {
  readonly endpoint: URL;
  readonly region: string;
  /** The service's own; a request may bring an identity's instead. */
  readonly credentials: StoreCredentials;
  readonly traits: StoreTraits;
  /** `endpoint/bucket/key`; false is `bucket.endpoint/key`. */
  readonly pathStyle: boolean;
  /** An own certificate authority for the store, PEM. */
  readonly tls?: { readonly ca?: string | Buffer };
  readonly clock: () => Date;
  readonly timeouts?: Partial<StoreTimeouts>;
  /** Most connections of each kind (answers, uploads); none by default, as the front decides how much runs at once. */
  readonly connections?: number;
}

interface Head {
  readonly address: Address;
  /** Path and query, as signed. */
  readonly target: string;
  readonly headers: Record<string, string>;
}

/** A request that asks for something to hold. It is sent once, whatever happens to its connection. */
function conditional(headers: Readonly<Record<string, string>> = {}): boolean {
  return Object.keys(headers).some((name) => name.startsWith('if-') || name.startsWith('x-amz-copy-source-if-'));
}

export function createStoreClient(options: StoreClientOptions): StoreClient {
  const timeouts: StoreTimeouts = { ...DEFAULT_TIMEOUTS, ...options.timeouts };
  const locate = locator(options.endpoint, options.pathStyle);
  const sign = headSigner(options.region, options.clock);
  const connections = createConnections(timeouts, options);
  const secure = options.endpoint.protocol === 'https:';
  const agentOptions = {
    keepAlive: true,
    timeout: timeouts.keepAliveMs,
    scheduling: 'lifo' as const,
    maxSockets: options.connections ?? Infinity,
  };
  const agent = secure ? new HttpsAgent({ ...agentOptions, ...options.tls }) : new HttpAgent(agentOptions);

  const headOf = (request: StoreRequest, extra: Readonly<Record<string, string>>): Head => {
    const address = locate(request, encodeKey);
    const query = encodeQuery(request.query ?? []);
    const headers = sign({
      method: request.method,
      host: address.host,
      path: address.path,
      query,
      headers: { ...request.headers, ...extra },
      credentials: request.credentials ?? options.credentials,
    });
    // Unsigned: intermediaries may rewrite it. Stored bytes are wanted as they are stored.
    headers['accept-encoding'] = 'identity';
    return { address, target: query === '' ? address.path : `${address.path}?${query}`, headers };
  };

  const send = (request: StoreRequest): Promise<StoreResponse> => {
    const { method, body, signal } = request;
    if (signal?.aborted === true) return Promise.reject(aborted(signal.reason));
    const head = headOf(request, body === undefined ? {} : { 'x-amz-content-sha256': sha256(body) });
    const replayable = (method === 'GET' || method === 'HEAD') && !conditional(request.headers);
    const slow = method === 'POST' || request.headers?.['x-amz-copy-source'] !== undefined;
    const dispatch = {
      origin: head.address.origin,
      path: head.target,
      method,
      headers: head.headers,
      body: body ?? null,
      headersTimeout: slow ? timeouts.slowHeadersMs : timeouts.headersMs,
      bodyTimeout: timeouts.idleMs,
      // undici closes after a HEAD unless told otherwise.
      reset: false,
    };
    return new Promise((resolve, reject) => {
      const attempt = (fresh: boolean): void => {
        const exchange = new Exchange(method, signal, {
          answered: resolve,
          unanswered: (err, reused) => {
            if (!fresh && reused && replayable && signal?.aborted !== true) attempt(true);
            else reject(unreachable(err));
          },
        });
        connections.dispatch(dispatch, exchange, fresh);
      };
      attempt(false);
    });
  };

  const upload: StoreClient['upload'] = (request, length) => {
    if (!Number.isSafeInteger(length) || length < 0) throw misuse('a length is a whole number');
    const framing = plainFraming();
    // Signed once: a second attempt sends the same head, to which the signatures of chunks are chained.
    const { address, target, headers } = headOf({ ...request, method: 'PUT' }, framing.headers);
    headers['content-length'] = String(framing.wireLength(length));
    const origin = new URL(address.origin);
    return new HttpUpload({
      length,
      framing,
      timeouts,
      signal: request.signal,
      replayable: !conditional(request.headers),
      open: (expectContinue, fresh): ClientRequest => {
        if (expectContinue) headers['expect'] = '100-continue';
        return (secure ? httpsRequest : httpRequest)({
          hostname: origin.hostname.replace(/^\[|\]$/g, ''),
          port: origin.port,
          method: 'PUT',
          path: target,
          headers,
          agent: fresh ? false : agent,
          ...(secure ? options.tls : {}),
        });
      },
    });
  };

  return {
    request: (request) =>
      request.body === undefined || request.method !== 'GET'
        ? send(request)
        : Promise.reject(misuse('a GET has no body')),
    upload,
    traits: options.traits,
    close: async () => {
      agent.destroy();
      await connections.close();
    },
  };
}
