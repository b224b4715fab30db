import type { Readable } from 'node:stream';
import { ServiceError } from '../errors.ts';
import { stripAwsChunked } from '../sigv4/chunked.ts';
import { isHeaderValue } from '../sigv4/parse.ts';
import { collect, isoTime, xmlReply, type Call, type Handler, type Reply } from './call.ts';
import {
  checkCopySource,
  checkRead,
  checkWrite,
  parseRange,
  quote,
  type ByteRange,
  type Headers,
} from './conditions.ts';
import { readRange, type Draft } from './disk.ts';
import type { Bucket, ObjectRecord } from './objects.ts';
import { parseXml } from './xml.ts';

const MAX_KEY_BYTES = 1024;
/** AWS, "user-defined object metadata": 2 KB over all names (without `x-amz-meta-`) and values. */
const MAX_METADATA_BYTES = 2048;
const META = 'x-amz-meta-';
const STORAGE_CLASS = 'x-amz-storage-class';
const OVERRIDABLE = ['cache-control', 'content-disposition', 'content-language', 'content-type', 'expires'];
const CONTENT_HEADERS = [...OVERRIDABLE, 'x-amz-website-redirect-location'];
const OVERRIDES = [...OVERRIDABLE, 'content-encoding'];
/** AWS's limit for a copy in one request. */
const MAX_COPY = 5 * 1024 ** 3;

export const putObject: Handler = async (call) => {
  const bucket = call.disk.bucket(call.bucket);
  const record = newRecord(call);
  // Before the body, so that a client need not send it in vain; what counts is the check at the commit.
  checkWrite(call.request.headers, bucket.objects.get(call.key));
  const draft = await fill(call, (sink) => call.body.stream(sink));
  const stored = { ...record, size: draft.size, etag: draft.md5(), modified: call.now() };
  await call.disk.commit(bucket, draft, stored, (current) => checkWrite(call.request.headers, current));
  return { status: 200, headers: { etag: quote(stored.etag) } };
};

export const getObject: Handler = (call) => {
  const { bucket, record, range, reply } = describe(call);
  const { start, end } = range ?? { start: 0, end: record.size };
  return { ...reply, file: { fd: call.disk.openObject(bucket, record), start, end } };
};

/** The same headers as GET, a range included (AWS answers 206 to it). */
export const headObject: Handler = (call) => describe(call).reply;

export const deleteObject: Handler = async (call) => {
  checkVersion(call);
  await call.disk.deleteObject(call.disk.bucket(call.bucket), call.key, (current) => {
    const ifMatch = call.request.headers['if-match'];
    if (ifMatch !== undefined) checkWrite({ 'if-match': ifMatch }, current);
  });
  return { status: 204 };
};

export const copyObject: Handler = async (call) => {
  const bucket = call.disk.bucket(call.bucket);
  const { headers } = call.request;
  const source = findSource(call);
  const replace = directive(headers['x-amz-metadata-directive']);
  const replaceTags = directive(headers['x-amz-tagging-directive']);
  if (source.bucket === bucket && source.record.key === call.key && !replace && !headers[STORAGE_CLASS])
    throw new ServiceError('InvalidRequest', {
      message: 'This copy request is illegal because it copies an object to itself without changing anything.',
    });
  if (source.record.size > MAX_COPY) throw new ServiceError('InvalidRequest');
  const fresh = newRecord(call);
  const draft = await copyRange(call, source, { start: 0, end: source.record.size });
  const record: ObjectRecord = {
    key: call.key,
    headers: replace ? fresh.headers : withStorageClass(source.record.headers, fresh.headers[STORAGE_CLASS]),
    tags: replaceTags ? fresh.tags : source.record.tags,
    size: draft.size,
    etag: draft.md5(),
    modified: call.now(),
  };
  await call.disk.commit(bucket, draft, record, (current) => checkWrite(headers, current));
  return xmlReply('CopyObjectResult', { LastModified: isoTime(record.modified), ETag: quote(record.etag) });
};

export const getObjectTagging: Handler = (call) => {
  checkVersion(call);
  const { tags } = find(call.disk.bucket(call.bucket), call.key);
  return xmlReply('Tagging', { TagSet: { Tag: tags.map(([Key, Value]) => ({ Key, Value })) } });
};

export const putObjectTagging: Handler = async (call) => {
  checkVersion(call);
  const [set] = parseXml(await collect(call.body, 64 * 1024), 'Tagging').all('TagSet');
  if (!set) throw new ServiceError('MalformedXML');
  return retag(
    call,
    set.all('Tag').map((tag) => [tag.text('Key'), tag.text('Value')]),
    200,
  );
};

export const deleteObjectTagging: Handler = (call) => {
  checkVersion(call);
  return retag(call, [], 204);
};

/** Tags stand in the record, which is written anew with the body: dear, and never half done. */
async function retag(call: Call, tags: ObjectRecord['tags'], status: number): Promise<Reply> {
  checkTags(tags);
  const bucket = call.disk.bucket(call.bucket);
  const record = find(bucket, call.key);
  const draft = await copyRange(call, { bucket, record }, { start: 0, end: record.size });
  await call.disk.commit(bucket, draft, { ...record, tags }, (current) => {
    if (current !== record) throw new ServiceError('OperationAborted');
  });
  return { status };
}

/** Writes a draft; whatever goes wrong, nothing is left of it. */
export async function fill(
  call: Call,
  write: (sink: (chunk: Buffer) => Promise<void>) => Promise<void>,
): Promise<Draft> {
  const draft = await call.disk.draft();
  try {
    await write((chunk) => draft.write(chunk));
    return draft;
  } catch (err) {
    await draft.discard();
    throw err;
  }
}

export interface Source {
  readonly bucket: Bucket;
  readonly record: ObjectRecord;
}

/** Copies bytes of an object as it is now: the file is opened before anything is awaited. */
export async function copyRange(call: Call, { bucket, record }: Source, { start, end }: ByteRange): Promise<Draft> {
  const bytes = readRange(call.disk.openObject(bucket, record), start, end);
  try {
    return await fill(call, (sink) => pump(bytes, sink));
  } finally {
    bytes.destroy();
  }
}

export async function pump(bytes: Readable, sink: (chunk: Buffer) => Promise<void>): Promise<void> {
  for await (const chunk of bytes) await sink(chunk as Buffer);
}

/** The object that `x-amz-copy-source` names (percent-encoded, with or without a leading slash), conditions checked. */
export function findSource(call: Call): Source {
  const text = call.request.headers['x-amz-copy-source'] ?? '';
  const [path = '', version] = text.replace(/^\//, '').split(/\?versionId=/);
  const decoded = decodeName(path);
  const slash = decoded.indexOf('/');
  if (slash <= 0 || slash === decoded.length - 1) throw new ServiceError('InvalidArgument');
  if (version !== undefined && version !== 'null') throw new ServiceError('NoSuchVersion');
  const bucket = call.disk.bucket(decoded.slice(0, slash));
  const record = find(bucket, decoded.slice(slash + 1));
  checkCopySource(call.request.headers, record);
  return { bucket, record };
}

export function decodeName(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (err) {
    throw new ServiceError('InvalidURI', { cause: err });
  }
}

export function find(bucket: Bucket, key: string): ObjectRecord {
  const record = bucket.objects.get(key);
  if (!record) throw new ServiceError('NoSuchKey');
  return record;
}

function describe(call: Call): Source & { range: ByteRange | undefined; reply: Reply } {
  checkVersion(call);
  const bucket = call.disk.bucket(call.bucket);
  const record = find(bucket, call.key);
  checkRead(call.request.headers, record);
  const range = parseRange(call.request.headers['range'], record.size);
  const { start, end } = range ?? { start: 0, end: record.size };
  const headers: Record<string, string> = {
    'content-type': 'binary/octet-stream',
    ...record.headers,
    ...overrides(call),
    'accept-ranges': 'bytes',
    'content-length': String(end - start),
    etag: quote(record.etag),
    'last-modified': new Date(record.modified).toUTCString(),
  };
  if (range) headers['content-range'] = `bytes ${start}-${end - 1}/${record.size}`;
  if (record.tags.length > 0) headers['x-amz-tagging-count'] = String(record.tags.length);
  return { bucket, record, range, reply: { status: range ? 206 : 200, headers } };
}

function overrides(call: Call): Headers {
  const found = OVERRIDES.flatMap((name) => {
    const value = call.request.query.get(`response-${name}`);
    if (value === undefined) return [];
    // As a header would have brought it: the bytes of its UTF-8, and no line of its own.
    const bytes = Buffer.from(value, 'utf8').toString('latin1');
    if (!isHeaderValue(bytes)) throw new ServiceError('InvalidArgument');
    return [[name, bytes] as const];
  });
  return Object.fromEntries(found);
}

/** What a new object keeps of its request. */
export function newRecord(call: Call): Pick<ObjectRecord, 'key' | 'headers' | 'tags'> {
  if (Buffer.byteLength(call.key, 'utf8') > MAX_KEY_BYTES) throw new ServiceError('KeyTooLongError');
  const { headers } = call.request;
  const kept = Object.entries(headers).filter(([name]) => CONTENT_HEADERS.includes(name) || name.startsWith(META));
  const metadata = kept.filter(([name]) => name.startsWith(META));
  const bytes = metadata.reduce((sum, [name, value]) => sum + name.length - META.length + value.length, 0);
  if (bytes > MAX_METADATA_BYTES) throw new ServiceError('MetadataTooLarge');
  // The framing of the request is no property of the object; what else is encoded stays.
  const encoding = stripAwsChunked(headers['content-encoding']);
  if (encoding !== undefined) kept.push(['content-encoding', encoding]);
  const storageClass = headers[STORAGE_CLASS] ?? 'STANDARD';
  if (storageClass !== 'STANDARD') kept.push([STORAGE_CLASS, storageClass]);
  const tags = [...new URLSearchParams(headers['x-amz-tagging'] ?? '')];
  checkTags(tags);
  return { key: call.key, headers: Object.fromEntries(kept), tags };
}

/** AWS, "object tagging": at most ten tags, unique names of 1 to 128 characters, values of at most 256. */
function checkTags(tags: ObjectRecord['tags']): void {
  const names = new Set(tags.map(([name]) => name));
  const isValid = tags.every(([name, value]) => name !== '' && name.length <= 128 && value.length <= 256);
  if (tags.length > 10 || names.size !== tags.length || !isValid)
    throw new ServiceError('InvalidArgument', { message: 'The tags provided are not valid.' });
}

function directive(value: string | undefined): boolean {
  if (value !== undefined && value !== 'COPY' && value !== 'REPLACE') throw new ServiceError('InvalidArgument');
  return value === 'REPLACE';
}

/** The storage class is the request's, never the source's (AWS, CopyObject). */
function withStorageClass(headers: Headers, storageClass: string | undefined): Headers {
  const rest = Object.fromEntries(Object.entries(headers).filter(([name]) => name !== STORAGE_CLASS));
  return storageClass === undefined ? rest : { ...rest, [STORAGE_CLASS]: storageClass };
}

/** Versioning is not offered: the one version of an object is `null`. */
function checkVersion(call: Call): void {
  const version = call.request.query.get('versionId') ?? 'null';
  if (version !== 'null') throw new ServiceError('NoSuchVersion');
}
