import { ServiceError } from '../../errors.ts';
import type { ChecksumPlan } from '../../s3/checksum.ts';
import { payloadReader } from '../../sigv4/chunked.ts';
import type { Checksum } from '../../sse/format.ts';
import type {
  StoreClient,
  StoreHeaders,
  StoreRequest,
  StoreResponse,
  StoreUpload,
  UploadRequest,
} from '../../store/port.ts';
import { collectBody, pumpBody, type PayloadSink } from './body.ts';
import { asChecksum } from './checksum.ts';
import type { BucketExchange } from '../exchange.ts';
import { storeError } from '../store-errors.ts';
import { contentMd5 } from '../xml-body.ts';

/** Up to here a body is collected, verified and sealed as one buffer. */
const SMALL = 128 * 1024;

/** What seals a body of known length: a whole object, or one part of one. */
export interface Sealer {
  readonly sealedLength: number;
  update(chunk: Buffer): Buffer[];
  finish(checksum?: Checksum): Buffer[];
}

export interface SealJob {
  readonly x: BucketExchange;
  readonly plan: ChecksumPlan;
  readonly sealer: Sealer;
  /** Plaintext bytes. */
  readonly length: number;
  /** The whole body, where it has been collected already: nothing is read then. */
  readonly collected?: Buffer | undefined;
  /** Where the sealed bytes go. */
  readonly request: Omit<StoreRequest, 'method' | 'body' | 'headers' | 'signal'>;
  /** Made with the checksum as far as it is known when the head has to go. */
  readonly headers: (checksum: Checksum | undefined) => StoreHeaders;
  readonly assertCommittable: () => void;
  /** Ends the stream wherever it is (`endOfStreams`, taken before the key was). */
  readonly ended: AbortSignal;
  /** The store demands a digest of what it gets (Object Lock): Content-MD5, or a trailer behind a stream. */
  readonly digested?: boolean;
}

export interface SealedBody {
  readonly response: StoreResponse;
  readonly checksum: Checksum | undefined;
}

/** Seals the client's body into one PUT: nothing reaches the store's commit before everything about it has verified. */
export function sealBody(job: SealJob): Promise<SealedBody> {
  if (job.collected !== undefined) return sealCollected(job, job.collected, {});
  return job.length <= SMALL ? sealSmall(job) : sealStreamed(job);
}

/** Verified whole, sealed whole, sent with its hash: one request, one buffer. */
async function sealSmall(job: SealJob): Promise<SealedBody> {
  const { x } = job;
  x.body.accept();
  const { bytes, trailers } = await collectBody(x.body.req, payloadReader(x.caller), SMALL, job.ended);
  if (bytes.length !== job.length) throw new ServiceError('IncompleteBody', { reason: 'length' });
  return sealCollected(job, bytes, trailers);
}

async function sealCollected(
  job: SealJob,
  bytes: Buffer,
  trailers: Readonly<Record<string, string>>,
): Promise<SealedBody> {
  const { x, plan, sealer } = job;
  job.ended.throwIfAborted();
  plan.update(bytes);
  const checksum = asChecksum(plan.verify(trailers));
  const body = Buffer.concat([...sealer.update(bytes), ...sealer.finish()]);
  const headers = { ...job.headers(checksum), ...(job.digested === true ? contentMd5(body) : {}) };
  job.assertCommittable();
  const response = await x.rooms.store.request({ ...job.request, method: 'PUT', headers, body });
  return { response, checksum };
}

/** Sealed while it passes. */
function sealStreamed(job: SealJob): Promise<SealedBody> {
  const { x, plan, sealer, assertCommittable } = job;
  const headers = job.headers(asChecksum(plan.declared));
  const feed: Feed = async (sink) => {
    const write = (payload: Buffer): boolean => {
      plan.update(payload);
      return sink.write(payload);
    };
    x.body.accept();
    const counted = { write, drained: () => sink.drained(), keepsNothing: true };
    return asChecksum(plan.verify(await pumpBody(x.body.req, payloadReader(x.caller), counted, job.ended)));
  };
  const request = { ...job.request, headers, signal: x.signal, digested: job.digested === true };
  return sealPassing(x.rooms.store, { request, sealer, feed, assertCommittable });
}

/** Gives plaintext to the sink, and resolves when all of it has verified, with the checksum that is to be kept. */
export type Feed = (sink: PayloadSink) => Promise<Checksum | undefined>;

export interface Passing extends Pick<SealJob, 'sealer' | 'assertCommittable'> {
  readonly request: UploadRequest;
  readonly feed: Feed;
}

/** Seals what `feed` gives while it passes. A failure anywhere destroys the connection to the store before its end. */
export async function sealPassing(store: StoreClient, { request, sealer, feed, ...job }: Passing): Promise<SealedBody> {
  const upload = store.upload(request, sealer.sealedLength);
  try {
    const write = (payload: Buffer): boolean => sendAll(upload, sealer.update(payload));
    const checksum = await beforeAnswer(upload, feed({ write, drained: () => upload.drained() }));
    job.assertCommittable();
    sendAll(upload, sealer.finish(checksum));
    upload.end();
    return { response: await upload.response, checksum };
  } catch (err) {
    upload.destroy();
    throw err;
  }
}

/** The store may refuse before the body has gone (its quota, its policy): its answer then ends the upload. */
async function beforeAnswer<T>(upload: StoreUpload, body: Promise<T>): Promise<T> {
  let complete = false;
  const refused = upload.response.then(async (response): Promise<never> => {
    // After the body it is the answer that the caller waits for, and not ours to read.
    if (complete) return new Promise<never>(() => undefined);
    throw await storeError(response, 'NoSuchBucket');
  });
  refused.catch(() => undefined);
  body.catch(() => undefined);
  const result = await Promise.race([body, refused]);
  complete = true;
  return result;
}

function sendAll(upload: StoreUpload, buffers: readonly Buffer[]): boolean {
  let more = true;
  for (const buffer of buffers) more = upload.write(buffer);
  return more;
}
