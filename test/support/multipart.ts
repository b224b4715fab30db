import { s3, xmlText, type RawRequest, type RawResponse, type RawStore } from './s3-raw.ts';

type Headers = Readonly<Record<string, string>>;

export interface Listed {
  readonly partNumber: number;
  readonly etag: string;
  /** `ChecksumSHA256` … and its text. */
  readonly checksum?: readonly [name: string, text: string];
}

/** One upload in parts by the raw client: it sends what no SDK would. */
export class RawUpload {
  readonly #raw: RawStore;
  readonly #place: { readonly bucket: string; readonly key: string };
  readonly id: string;

  constructor(raw: RawStore, bucket: string, key: string, id: string) {
    this.#raw = raw;
    this.#place = { bucket, key };
    this.id = id;
  }

  static async create(raw: RawStore, bucket: string, key: string, headers: Headers = {}): Promise<RawUpload> {
    const answer = await s3(raw, { method: 'POST', bucket, key, query: { uploads: '' }, headers });
    if (answer.status !== 200) throw new Error(`CreateMultipartUpload: ${answer.status} ${answer.text}`);
    return new RawUpload(raw, bucket, key, xmlText(answer.text, 'UploadId'));
  }

  /** The same upload through another gateway. */
  through(raw: RawStore): RawUpload {
    return new RawUpload(raw, this.#place.bucket, this.#place.key, this.id);
  }

  send(partNumber: number, more: Partial<RawRequest>): Promise<RawResponse> {
    const query = { uploadId: this.id, partNumber: String(partNumber) };
    return s3(this.#raw, { ...more, ...this.#place, method: 'PUT', query });
  }

  async part(partNumber: number, body: Buffer, headers: Headers = {}): Promise<Listed> {
    const answer = await this.send(partNumber, { body, headers, payload: 'UNSIGNED-PAYLOAD' });
    if (answer.status !== 200) throw new Error(`UploadPart ${partNumber}: ${answer.status} ${answer.text}`);
    return { partNumber, etag: String(answer.headers.etag) };
  }

  complete(parts: readonly Listed[], headers: Headers = {}): Promise<RawResponse> {
    const list = parts.map(({ partNumber, etag, checksum }) => {
      const sum = checksum === undefined ? '' : `<${checksum[0]}>${checksum[1]}</${checksum[0]}>`;
      return `<Part><PartNumber>${partNumber}</PartNumber><ETag>${etag}</ETag>${sum}</Part>`;
    });
    const body = `<CompleteMultipartUpload>${list.join('')}</CompleteMultipartUpload>`;
    return s3(this.#raw, { ...this.#place, method: 'POST', query: { uploadId: this.id }, body, headers });
  }

  list(): Promise<RawResponse> {
    return s3(this.#raw, { ...this.#place, method: 'GET', query: { uploadId: this.id } });
  }

  abort(): Promise<RawResponse> {
    return s3(this.#raw, { ...this.#place, method: 'DELETE', query: { uploadId: this.id } });
  }
}
