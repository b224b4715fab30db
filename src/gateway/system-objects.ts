import { ServiceError } from '../errors.ts';
import { formatDeleteRequest, parseDeleteResult } from '../s3/delete-objects.ts';
import { LISTING_LIMIT, parseListing, type Listing } from '../s3/listing.ts';
import type { StoreClient, StoreRequest, StoreResponse } from '../store/port.ts';
import { errorIn } from './store-errors.ts';
import { contentMd5, XML } from './xml-body.ts';

const RECORD_LIMIT = 16 * 1024;
const DELETE_AT_ONCE = 1000;

/** Copies on their way to their targets (docs/FORMAT.md section 17). */
export const COPIES = 'copies/';

/** An entry of a listing; false ends it. */
type Each = (key: string, modified: number) => unknown;

/** Small objects in the system bucket, always with the service's own credentials. */
export class SystemObjects {
  readonly #store: StoreClient;
  readonly bucket: string;

  constructor(store: StoreClient, bucket: string) {
    this.#store = store;
    this.bucket = bucket;
  }

  request(request: Omit<StoreRequest, 'bucket'>): Promise<StoreResponse> {
    return this.#store.request({ ...request, bucket: this.bucket });
  }

  async put(key: string, body: Buffer): Promise<void> {
    await done(await this.request({ method: 'PUT', key, body }));
  }

  async get(key: string): Promise<Buffer | undefined> {
    const response = await this.request({ method: 'GET', key });
    if (response.status === 200) return response.collect(RECORD_LIMIT);
    response.discard();
    if (response.status === 404) return undefined;
    throw unusable(response);
  }

  async list(prefix: string): Promise<string[]> {
    const keys: string[] = [];
    await this.each(prefix, (key) => keys.push(key));
    return keys;
  }

  /** Every object below `prefix`, until `see` says false. */
  async each(prefix: string, see: Each): Promise<void> {
    await this.#pages([['prefix', prefix]], ({ entries }) =>
      entries.every(({ key, lastModified }) => see(key, Date.parse(lastModified)) !== false),
    );
  }

  /** The names right below `prefix`, each with the slash that ends it. */
  async folders(prefix: string): Promise<string[]> {
    const found: string[] = [];
    const query = [
      ['prefix', prefix],
      ['delimiter', '/'],
    ] as const;
    await this.#pages(query, ({ commonPrefixes }) => found.push(...commonPrefixes) > 0);
    return found;
  }

  async delete(keys: readonly string[]): Promise<void> {
    for (let i = 0; i < keys.length; i += DELETE_AT_ONCE) {
      const body = Buffer.from(formatDeleteRequest(keys.slice(i, i + DELETE_AT_ONCE).map((key) => ({ key }))));
      const headers = { ...XML, ...contentMd5(body) };
      const response = await this.request({ method: 'POST', query: [['delete', '']], headers, body });
      const told = parseDeleteResult(await done(response));
      const left = told.some(({ errorCode }) => errorCode !== undefined && errorCode !== 'NoSuchKey');
      if (left) throw unusable(response);
    }
  }

  async #pages(what: NonNullable<StoreRequest['query']>, more: (page: Listing) => boolean): Promise<void> {
    let token: string | undefined;
    do {
      const query: [string, string][] = [
        ['list-type', '2'],
        ['encoding-type', 'url'],
        ['max-keys', '1000'],
        ...what.map(([name, value]): [string, string] => [name, value]),
      ];
      if (token !== undefined) query.push(['continuation-token', token]);
      const response = await this.request({ method: 'GET', query });
      if (response.status !== 200) {
        response.discard();
        throw unusable(response);
      }
      const page = parseListing('ListObjectsV2', await response.collect(LISTING_LIMIT));
      token = more(page) && page.isTruncated ? page.nextContinuationToken : undefined;
    } while (token !== undefined);
  }
}

/** The answer's body; an Error inside a 200 is one too. */
async function done(response: StoreResponse): Promise<Buffer> {
  const body = await response.collect(LISTING_LIMIT);
  if (response.status !== 200 || errorIn(body) !== undefined) throw unusable(response);
  return body;
}

export function unusable(response: StoreResponse): ServiceError {
  return new ServiceError('ServiceUnavailable', { reason: `system-bucket-${response.status}` });
}
