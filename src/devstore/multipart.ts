import { createHash, randomBytes } from 'node:crypto';
import { ServiceError } from '../errors.ts';
import { collect, isoTime, nameEncoder, numberOf, queryOf, xmlReply, type Call, type Handler } from './call.ts';
import { checkWrite, parseRange, quote, unquote } from './conditions.ts';
import { readRange, type Draft } from './disk.ts';
import { copyRange, fill, findSource, newRecord, pump } from './object-calls.ts';
import type { Bucket, ObjectRecord, Part, Upload } from './objects.ts';
import { parseXml } from './xml.ts';

/** AWS, "multipart upload limits". */
const MAX_PARTS = 10_000;
const MIN_PART_BYTES = 5 * 1024 ** 2;
const PAGE = 1000;

export const createMultipartUpload: Handler = async (call) => {
  const bucket = call.disk.bucket(call.bucket);
  const id = randomBytes(16).toString('hex');
  await call.disk.createUpload(bucket, { id, ...newRecord(call), initiated: call.now() });
  return xmlReply('InitiateMultipartUploadResult', { Bucket: call.bucket, Key: call.key, UploadId: id });
};

export const uploadPart: Handler = async (call) => {
  const found = findUpload(call);
  const number = partNumber(call);
  const draft = await fill(call, (sink) => call.body.stream(sink));
  const part = await keepPart(call, found, number, draft);
  return { status: 200, headers: { etag: quote(part.etag) } };
};

export const uploadPartCopy: Handler = async (call) => {
  const found = findUpload(call);
  const number = partNumber(call);
  const source = findSource(call);
  const { size } = source.record;
  const header = call.request.headers['x-amz-copy-source-range'];
  const range = parseRange(header, size);
  // AWS wants the whole of the range to exist: bytes=first-last, last inside the source.
  const last = Number(/^bytes=\d+-(\d+)$/.exec(header ?? '')?.[1]);
  if (header !== undefined && (!range || !(last < size))) throw new ServiceError('InvalidArgument');
  const draft = await copyRange(call, source, range ?? { start: 0, end: size });
  const part = await keepPart(call, found, number, draft);
  return xmlReply('CopyPartResult', { LastModified: isoTime(part.modified), ETag: quote(part.etag) });
};

async function keepPart(call: Call, { bucket, upload }: Found, number: number, draft: Draft): Promise<Part> {
  const part = { number, size: draft.size, etag: draft.md5(), modified: call.now() };
  await call.disk.commitPart(bucket, upload, draft, part);
  return part;
}

export const completeMultipartUpload: Handler = async (call) => {
  const wanted = parseParts(await collect(call.body, 2 * 1024 * 1024));
  const again = completedBefore(call);
  if (again) return completed(call, again.etag);
  const { bucket, upload } = findUpload(call);
  checkWrite(call.request.headers, bucket.objects.get(call.key));
  const parts = selectParts(upload, wanted);
  const draft = await fill(call, (sink) => joinParts(call, upload, parts, sink));
  const record: ObjectRecord = {
    key: call.key,
    headers: upload.headers,
    tags: upload.tags,
    size: draft.size,
    etag: etagOf(parts),
    modified: call.now(),
    uploadId: upload.id,
  };
  await call.disk.commit(bucket, draft, record, (current) => {
    if (bucket.uploads.get(upload.id) !== upload) throw new ServiceError('NoSuchUpload');
    // A part that was sent again while the parts were joined is no longer the one whose ETag was checked.
    if (parts.some((part) => upload.parts.get(part.number) !== part)) throw new ServiceError('InvalidPart');
    checkWrite(call.request.headers, current);
  });
  await call.disk.deleteUpload(bucket, upload);
  return completed(call, record.etag);
};

/** A client that lost our answer completes again, and AWS says 200 to it; its condition was met the first time. */
function completedBefore(call: Call): ObjectRecord | undefined {
  const record = call.disk.bucket(call.bucket).objects.get(call.key);
  return record?.uploadId === queryOf(call, 'uploadId') ? record : undefined;
}

function completed(call: Call, etag: string): ReturnType<typeof xmlReply> {
  const { bucket: Bucket, key: Key } = call;
  return xmlReply('CompleteMultipartUploadResult', { Location: `/${Bucket}/${Key}`, Bucket, Key, ETag: quote(etag) });
}

interface WantedPart {
  readonly number: number;
  readonly etag: string;
}

function parseParts(xml: Buffer): WantedPart[] {
  const parts = parseXml(xml, 'CompleteMultipartUpload')
    .all('Part')
    .map((part) => ({ number: Number(part.text('PartNumber')), etag: unquote(part.text('ETag')) }));
  if (parts.length === 0 || parts.length > MAX_PARTS) throw new ServiceError('MalformedXML');
  return parts;
}

function selectParts(upload: Upload, wanted: readonly WantedPart[]): Part[] {
  if (wanted.some(({ number }, i) => number <= (wanted[i - 1]?.number ?? 0)))
    throw new ServiceError('InvalidPartOrder');
  const parts = wanted.map(({ number, etag }) => {
    const part = upload.parts.get(number);
    if (part?.etag !== etag) throw new ServiceError('InvalidPart');
    return part;
  });
  if (parts.slice(0, -1).some(({ size }) => size < MIN_PART_BYTES)) throw new ServiceError('EntityTooSmall');
  return parts;
}

async function joinParts(
  call: Call,
  upload: Upload,
  parts: readonly Part[],
  sink: (chunk: Buffer) => Promise<void>,
): Promise<void> {
  for (const part of parts) {
    if (upload.parts.get(part.number) !== part) throw new ServiceError('InvalidPart');
    await pump(readRange(call.disk.openPart(upload, part), 0, part.size), sink);
  }
}

/** MD5 of the parts' MD5s, with their number behind it. */
function etagOf(parts: readonly Part[]): string {
  const hash = createHash('md5');
  for (const { etag } of parts) hash.update(etag, 'hex');
  return `${hash.digest('hex')}-${parts.length}`;
}

export const abortMultipartUpload: Handler = async (call) => {
  const { bucket, upload } = findUpload(call);
  await call.disk.deleteUpload(bucket, upload);
  return { status: 204 };
};

export const listParts: Handler = (call) => {
  const { upload } = findUpload(call);
  const encode = nameEncoder(call);
  const limit = Math.min(numberOf(call, 'max-parts', PAGE), PAGE);
  const marker = numberOf(call, 'part-number-marker', 0);
  const parts = [...upload.parts.values()].filter(({ number }) => number > marker).sort((a, b) => a.number - b.number);
  const page = parts.slice(0, limit);
  const truncated = limit > 0 && parts.length > limit;
  return xmlReply('ListPartsResult', {
    Bucket: call.bucket,
    Key: encode(call.key),
    UploadId: upload.id,
    EncodingType: call.request.query.get('encoding-type'),
    Owner: { ID: call.owner, DisplayName: call.owner },
    Initiator: { ID: call.owner, DisplayName: call.owner },
    StorageClass: upload.headers['x-amz-storage-class'] ?? 'STANDARD',
    PartNumberMarker: marker,
    NextPartNumberMarker: page.at(-1)?.number ?? 0,
    MaxParts: limit,
    IsTruncated: truncated,
    Part: page.map(({ number, modified, etag, size }) => ({
      PartNumber: number,
      LastModified: isoTime(modified),
      ETag: quote(etag),
      Size: size,
    })),
  });
};

export const listMultipartUploads: Handler = (call) => {
  // Rolling keys up is for listings of objects; here nobody has needed it.
  if (queryOf(call, 'delimiter') !== '') throw new ServiceError('NotImplemented');
  const bucket = call.disk.bucket(call.bucket);
  const encode = nameEncoder(call);
  const limit = Math.min(numberOf(call, 'max-uploads', PAGE), PAGE);
  const [prefix, keyMarker, idMarker] = ['prefix', 'key-marker', 'upload-id-marker'].map((name) => queryOf(call, name));
  const start = { key: keyMarker ?? '', id: idMarker === '' || idMarker === undefined ? '\uffff' : idMarker };
  const uploads = [...bucket.uploads.values()]
    .filter(({ key }) => key.startsWith(prefix ?? ''))
    .filter((upload) => start.key === '' || compareUploads(start, upload) < 0)
    .sort(compareUploads);
  const page = uploads.slice(0, limit);
  const truncated = limit > 0 && uploads.length > limit;
  const last = page.at(-1);
  return xmlReply('ListMultipartUploadsResult', {
    Bucket: call.bucket,
    KeyMarker: encode(keyMarker ?? ''),
    UploadIdMarker: idMarker,
    NextKeyMarker: truncated && last ? encode(last.key) : undefined,
    NextUploadIdMarker: truncated ? last?.id : undefined,
    Prefix: encode(prefix ?? ''),
    EncodingType: call.request.query.get('encoding-type'),
    MaxUploads: limit,
    IsTruncated: truncated,
    Upload: page.map(({ key, id, initiated, headers }) => ({
      Key: encode(key),
      UploadId: id,
      Initiator: { ID: call.owner, DisplayName: call.owner },
      Owner: { ID: call.owner, DisplayName: call.owner },
      StorageClass: headers['x-amz-storage-class'] ?? 'STANDARD',
      Initiated: isoTime(initiated),
    })),
  });
};

/** By the key's bytes, then by id: a total order that pages can be cut from. */
function compareUploads(a: { key: string; id: string }, b: { key: string; id: string }): number {
  return Buffer.compare(Buffer.from(a.key), Buffer.from(b.key)) || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}

interface Found {
  readonly bucket: Bucket;
  readonly upload: Upload;
}

function findUpload(call: Call): Found {
  const bucket = call.disk.bucket(call.bucket);
  const upload = bucket.uploads.get(queryOf(call, 'uploadId'));
  if (upload?.key !== call.key) throw new ServiceError('NoSuchUpload');
  return { bucket, upload };
}

function partNumber(call: Call): number {
  const number = numberOf(call, 'partNumber', 0);
  if (number < 1 || number > MAX_PARTS)
    throw new ServiceError('InvalidArgument', { message: 'Part number must be an integer between 1 and 10000.' });
  return number;
}
