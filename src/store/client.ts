import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { hash } from 'node:crypto';
import { EMPTY_SHA256 } from '../sigv4/canonical.ts';
import { encodeKey } from '../sigv4/encode.ts';
import { plainFraming, signedFraming, trailerFraming, type BodyFraming } from '../sigv4/framing.ts';
import { createSigner, type SignedRequest } from '../sigv4/sign.ts';
import type { StoreCredentials } from '../sigv4/types.ts';
import { locator, type Address } from './address.ts';
import { createConnections, type Connections } from './connections.ts';
import { aborted, misuse, unreachable } from './faults.ts';
import type { StoreClient, StoreRequest, StoreTraits } from './port.ts';
import { Exchange } from './response.ts';
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

interface Head extends SignedRequest {
  readonly address: Address;
}

/** The end of the body must be part of the message where the store keeps bodies that were cut off (docs of the traits). */
export function framingFor(traits: StoreTraits, length: number, digested = false): BodyFraming {
  if (traits.refusesShortBody && !(digested && traits.acceptsTrailers)) return plainFraming(length);
  return traits.acceptsTrailers ? trailerFraming(length) : signedFraming(length);
}

/** A request that asks for something to hold. It is sent once, whatever happens to its connection. */
function conditional(headers: Readonly<Record<string, string>> = {}): boolean {
  return Object.keys(headers).some((name) => name.startsWith('if-') || name.startsWith('x-amz-copy-source-if-'));
}

type HeadOf = (request: StoreRequest, headers: Readonly<Record<string, string>>, payloadHash: string) => Head;

function headMaker(options: StoreClientOptions): HeadOf {
  const locate = locator(options.endpoint, options.pathStyle);
  const signer = createSigner({ region: options.region, service: 's3' });
  return (request, headers, payloadHash) => {
    const address = locate(request, encodeKey);
    const signed = signer.sign({
      method: request.method,
      host: address.host,
      path: address.path,
      ...(request.query === undefined ? {} : { query: request.query }),
      // Stored bytes are wanted as they are stored.
      headers: { ...headers, 'accept-encoding': 'identity' },
      payloadHash,
      credentials: request.credentials ?? options.credentials,
      now: options.clock(),
    });
    return { ...signed, address };
  };
}

/** Requests without a body or with a small one, over undici. */
function requester(headOf: HeadOf, connections: Connections, timeouts: StoreTimeouts): StoreClient['request'] {
  // Async, so that a misuse is a rejection like every other failure.
  return async (request) => {
    const { method, body, signal } = request;
    if (signal?.aborted === true) throw aborted(signal.reason);
    if (body !== undefined && (method === 'GET' || method === 'HEAD')) throw misuse(`a ${method} has no body`);
    // A body that is framed already (the probe's wrong trailer) says so itself.
    const payloadHash =
      request.headers?.['x-amz-content-sha256'] ?? (body === undefined ? EMPTY_SHA256 : hash('sha256', body, 'hex'));
    const head = headOf(request, request.headers ?? {}, payloadHash);
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
        connections.dispatch({ ...dispatch, exchange }, fresh);
      };
      attempt(false);
    });
  };
}

interface Uploads {
  upload: StoreClient['upload'];
  close(): void;
}

/** Large PUTs, over `http.request`: its write callbacks say when a buffer may be freed. */
function uploader(options: StoreClientOptions, headOf: HeadOf, timeouts: StoreTimeouts): Uploads {
  const secure = options.endpoint.protocol === 'https:';
  const agentOptions = {
    keepAlive: true,
    timeout: timeouts.keepAliveMs,
    scheduling: 'lifo' as const,
    maxSockets: options.connections ?? Infinity,
  };
  const agent = secure ? new HttpsAgent({ ...agentOptions, ...options.tls }) : new HttpAgent(agentOptions);
  const upload: StoreClient['upload'] = (request, length) => {
    if (!Number.isSafeInteger(length) || length < 0) throw misuse('a length is a whole number');
    const framing = framingFor(options.traits, length, request.digested);
    // Signed once: a second attempt sends the same head, to which the signatures of chunks are chained.
    const head = headOf({ ...request, method: 'PUT' }, framedHeaders(framing, request.headers), framing.payloadHash);
    const origin = new URL(head.address.origin);
    return new HttpUpload({
      length,
      frames: framing.begin(head.seed),
      wireLength: framing.wireLength,
      timeouts,
      signal: request.signal,
      replayable: !conditional(request.headers),
      open: (expectContinue, fresh) =>
        (secure ? httpsRequest : httpRequest)({
          hostname: origin.hostname.replace(/^\[|\]$/g, ''),
          port: origin.port,
          method: 'PUT',
          path: head.target,
          headers: expectContinue ? { ...head.headers, expect: '100-continue' } : { ...head.headers },
          agent: fresh ? false : agent,
          ...(secure ? options.tls : {}),
        }),
    });
  };
  return { upload, close: () => agent.destroy() };
}

/**
 * The object's own coding and no `aws-chunked`: versitygw keeps that on the object, where it would break the metadata's
 * digest; the framing is known by `x-amz-content-sha256` (seen on versitygw, SeaweedFS and radosgw).
 */
function framedHeaders(framing: BodyFraming, own: Readonly<Record<string, string>> = {}): Record<string, string> {
  const framed = framing.headers(own);
  if (own['content-encoding'] === undefined) delete framed['content-encoding'];
  else framed['content-encoding'] = own['content-encoding'];
  return framed;
}

export function createStoreClient(options: StoreClientOptions): StoreClient {
  const timeouts: StoreTimeouts = { ...DEFAULT_TIMEOUTS, ...options.timeouts };
  const headOf = headMaker(options);
  const connections = createConnections(timeouts, options);
  const uploads = uploader(options, headOf, timeouts);
  return {
    request: requester(headOf, connections, timeouts),
    upload: uploads.upload,
    traits: options.traits,
    close: async () => {
      uploads.close();
      await connections.close();
    },
  };
}
