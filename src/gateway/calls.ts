import { checksumPlan } from '../s3/checksum.ts';
import { payloadReader } from '../sigv4/chunked.ts';
import type { StoreRequest, StoreResponse } from '../store/port.ts';
import { collectBody } from './objects/body.ts';
import type { Exchange } from './exchange.ts';

/** Answers of the store that are read whole: listings of 1,000 long keys, configurations. */
export const ANSWER_LIMIT = 8 * 1024 * 1024;

/** A request to the store on the caller's behalf: with the identity's own credentials where it has some. */
export function callStore(x: Exchange, request: StoreRequest): Promise<StoreResponse> {
  return x.rooms.store.request({ ...request, signal: x.signal, ...credentials(x) });
}

/** An identity's own credentials at the store. */
export function credentials(x: Exchange): Pick<StoreRequest, 'credentials'> {
  const own = x.caller.identity.store;
  return own === undefined ? {} : { credentials: own };
}

/** The small body of a request, with everything that was said of it verified. */
export async function smallBody(x: Exchange, limit: number): Promise<Buffer> {
  const checksum = checksumPlan(x.caller.request.headers);
  x.body.accept();
  const { bytes, trailers } = await collectBody(x.body.req, payloadReader(x.caller), limit);
  checksum.update(bytes);
  checksum.verify(trailers);
  return bytes;
}
