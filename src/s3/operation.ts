import type { ChecksumAlgorithm } from './checksum.ts';
import type { CopySource } from './names.ts';
import type { AttributesAsked } from './object-attributes.ts';
import type { RangeSpec } from './range.ts';
import type { OperationRow } from './rows.ts';

interface Base {
  readonly row: OperationRow;
}
interface OnBucket extends Base {
  readonly bucket: string;
}
interface OnObject extends OnBucket {
  readonly key: string;
}
interface OnVersion extends OnObject {
  /** A version id or `null`, as the client wrote it. */
  readonly versionId?: string;
}

export interface ListBuckets extends Base {
  readonly kind: 'ListBuckets';
  readonly prefix?: string;
  readonly continuationToken?: string;
  readonly bucketRegion?: string;
  /** 1..10,000; all of them without it. */
  readonly maxBuckets?: number;
}
export interface CreateBucket extends OnBucket {
  readonly kind: 'CreateBucket';
}
export interface HeadBucket extends OnBucket {
  readonly kind: 'HeadBucket';
}
export interface DeleteBucket extends OnBucket {
  readonly kind: 'DeleteBucket';
}
export interface GetBucketLocation extends OnBucket {
  readonly kind: 'GetBucketLocation';
}
export interface GetBucketEncryption extends OnBucket {
  readonly kind: 'GetBucketEncryption';
}
export interface PutBucketEncryption extends OnBucket {
  readonly kind: 'PutBucketEncryption';
}
export interface DeleteBucketEncryption extends OnBucket {
  readonly kind: 'DeleteBucketEncryption';
}
export interface GetBucketCors extends OnBucket {
  readonly kind: 'GetBucketCors';
}
export interface PutBucketCors extends OnBucket {
  readonly kind: 'PutBucketCors';
}
export interface DeleteBucketCors extends OnBucket {
  readonly kind: 'DeleteBucketCors';
}

/** What the three listings share. Absent and empty are the same for prefix, delimiter and markers. */
export interface ListParameters extends OnBucket {
  readonly prefix: string;
  readonly delimiter: string;
  /** 0..1000. */
  readonly maxKeys: number;
  readonly encodingType?: 'url';
}
export interface ListObjects extends ListParameters {
  readonly kind: 'ListObjects';
  readonly marker: string;
}
export interface ListObjectsV2 extends ListParameters {
  readonly kind: 'ListObjectsV2';
  readonly continuationToken?: string;
  readonly startAfter?: string;
  readonly fetchOwner: boolean;
}
export interface ListObjectVersions extends ListParameters {
  readonly kind: 'ListObjectVersions';
  readonly keyMarker: string;
  readonly versionIdMarker?: string;
}

export interface PutObject extends OnObject {
  readonly kind: 'PutObject';
}
/** A browser's form: its fields were verified against its policy before this was read from them. */
export interface PostObject extends OnObject {
  readonly kind: 'PostObject';
  /** The status of an answer without a redirect. */
  readonly success: 200 | 201 | 204;
  readonly redirect?: string;
}
export interface CopyObject extends OnObject {
  readonly kind: 'CopyObject';
  readonly source: CopySource;
  /** Metadata and content headers come from the request (`REPLACE`), not from the source. */
  readonly replaceMetadata: boolean;
  readonly replaceTags: boolean;
  /** `x-amz-checksum-algorithm`: what the copy's checksum is to be. */
  readonly checksum?: ChecksumAlgorithm;
}
export interface UpdateObjectEncryption extends OnVersion {
  readonly kind: 'UpdateObjectEncryption';
}
interface Read extends OnVersion {
  readonly range?: RangeSpec;
  /** 1..10,000. */
  readonly partNumber?: number;
  /** Response headers that the client overrides (`response-content-type` …); applied by the gateway, never the store. */
  readonly overrides: Readonly<Record<string, string>>;
  /** `x-amz-checksum-mode: ENABLED`. */
  readonly checksumMode: boolean;
}
export interface GetObject extends Read {
  readonly kind: 'GetObject';
}
export interface HeadObject extends Read {
  readonly kind: 'HeadObject';
}
export interface GetObjectAttributes extends OnVersion, AttributesAsked {
  readonly kind: 'GetObjectAttributes';
}
export interface DeleteObject extends OnVersion {
  readonly kind: 'DeleteObject';
}
export interface DeleteObjects extends OnBucket {
  readonly kind: 'DeleteObjects';
}
export interface CreateMultipartUpload extends OnObject {
  readonly kind: 'CreateMultipartUpload';
}
interface OnUpload extends OnObject {
  /** The store's, opaque; never empty. */
  readonly uploadId: string;
}
export interface UploadPart extends OnUpload {
  readonly kind: 'UploadPart';
  /** 1..10,000. */
  readonly partNumber: number;
}
export interface UploadPartCopy extends OnUpload {
  readonly kind: 'UploadPartCopy';
  /** 1..10,000. */
  readonly partNumber: number;
  readonly source: CopySource;
  /** `x-amz-copy-source-range`, to be wholly inside of the source. */
  readonly range?: { readonly first: number; readonly last: number };
}
export interface CompleteMultipartUpload extends OnUpload {
  readonly kind: 'CompleteMultipartUpload';
}
export interface AbortMultipartUpload extends OnUpload {
  readonly kind: 'AbortMultipartUpload';
}
export interface ListParts extends OnUpload {
  readonly kind: 'ListParts';
  /** 0..1000. */
  readonly maxParts: number;
  readonly partNumberMarker: number;
  readonly encodingType?: 'url';
}
export interface ListMultipartUploads extends OnBucket {
  readonly kind: 'ListMultipartUploads';
  readonly prefix: string;
  readonly delimiter: string;
  /** 0..1000. */
  readonly maxUploads: number;
  readonly keyMarker: string;
  readonly uploadIdMarker: string;
  readonly encodingType?: 'url';
}
/** An operation that the store answers by itself, re-signed; `query` is what goes on. */
export interface Forward extends OnBucket {
  readonly kind: 'Forward';
  readonly name: string;
  readonly key?: string;
  readonly versionId?: string;
  readonly query: readonly (readonly [name: string, value: string])[];
}

export type Operation =
  | ListBuckets
  | CreateBucket
  | HeadBucket
  | DeleteBucket
  | GetBucketLocation
  | GetBucketEncryption
  | PutBucketEncryption
  | DeleteBucketEncryption
  | GetBucketCors
  | PutBucketCors
  | DeleteBucketCors
  | ListObjects
  | ListObjectsV2
  | ListObjectVersions
  | PutObject
  | PostObject
  | CopyObject
  | UpdateObjectEncryption
  | GetObject
  | HeadObject
  | GetObjectAttributes
  | DeleteObject
  | DeleteObjects
  | CreateMultipartUpload
  | UploadPart
  | UploadPartCopy
  | CompleteMultipartUpload
  | AbortMultipartUpload
  | ListParts
  | ListMultipartUploads
  | Forward;

export type Understood = Exclude<Operation, Forward>;

export interface OperationRequest {
  readonly method: string;
  /** Raw, still percent-encoded path, without the query. */
  readonly path: string;
  readonly query: ReadonlyMap<string, string>;
  readonly headers: Readonly<Record<string, string>>;
  /** Of a browser's form, verified. */
  readonly form?: { readonly fields: ReadonlyMap<string, string> };
}
