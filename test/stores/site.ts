import { s3, xmlText, type RawRequest, type RawResponse, type RawStore } from '../support/s3-raw.ts';

/** A store and a bucket of one's own in it. */
export class Site {
  readonly store: RawStore;
  readonly bucket: string;

  constructor(store: RawStore, bucket: string) {
    this.store = store;
    this.bucket = bucket;
  }

  send(method: RawRequest['method'], key: string | undefined, more: Partial<RawRequest> = {}): Promise<RawResponse> {
    return s3(this.store, { bucket: this.bucket, method, ...more, ...(key !== undefined && { key }) });
  }

  put(key: string, body: Buffer | string, headers: RawRequest['headers'] = {}): Promise<RawResponse> {
    return this.send('PUT', key, { body, headers });
  }

  get(key: string, headers: RawRequest['headers'] = {}): Promise<RawResponse> {
    return this.send('GET', key, { headers });
  }

  async etag(key: string): Promise<string> {
    return (await this.send('HEAD', key)).headers.etag ?? '';
  }

  async createUpload(key: string, headers: RawRequest['headers'] = {}): Promise<Upload> {
    const { text } = await this.send('POST', key, { query: { uploads: '' }, headers });
    return new Upload(this, key, xmlText(text, 'UploadId'));
  }
}

export interface CompletedPart {
  readonly number: number;
  readonly etag: string;
}

export class Upload {
  readonly #site: Site;
  readonly #key: string;
  readonly id: string;

  constructor(site: Site, key: string, id: string) {
    this.#site = site;
    this.#key = key;
    this.id = id;
  }

  async part(number: number, body: Buffer): Promise<CompletedPart> {
    const { headers } = await this.send(number, { body });
    return { number, etag: headers.etag ?? '' };
  }

  send(number: number, request: Partial<RawRequest>): Promise<RawResponse> {
    const query = { partNumber: String(number), uploadId: this.id };
    return this.#site.send('PUT', this.#key, { ...request, query });
  }

  complete(parts: readonly CompletedPart[], headers: RawRequest['headers'] = {}): Promise<RawResponse> {
    const list = parts.map((p) => `<Part><PartNumber>${p.number}</PartNumber><ETag>${p.etag}</ETag></Part>`).join('');
    const body = `<CompleteMultipartUpload>${list}</CompleteMultipartUpload>`;
    return this.#site.send('POST', this.#key, { query: { uploadId: this.id }, body, headers });
  }

  parts(): Promise<RawResponse> {
    return this.#site.send('GET', this.#key, { query: { uploadId: this.id } });
  }

  abort(): Promise<RawResponse> {
    return this.#site.send('DELETE', this.#key, { query: { uploadId: this.id } });
  }
}
