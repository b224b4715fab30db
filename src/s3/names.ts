import { ServiceError } from '../errors.ts';

/** Object keys are at most 1,024 bytes of UTF-8 (S3 "Naming objects"). */
export const MAX_KEY_BYTES = 1024;

const LONE_SURROGATE = /\p{Surrogate}/u;
const BUCKET_NAME = /^[a-z0-9](?:[a-z0-9.-]{1,61})[a-z0-9]$/;
const IPV4 = /^\d{1,3}(?:\.\d{1,3}){3}$/;
/**
 * At AWS these suffixes make a name an alias for something else (access point, object lambda, multi-region, directory
 * and table buckets). An alias could reach the system bucket by another name, so they are refused everywhere.
 */
const ALIAS_SUFFIXES = ['-s3alias', '--ol-s3', '.mrap', '--x-s3', '--table-s3'] as const;
/** Reserved for new buckets only: an older one may have such a name and stays reachable. */
const RESERVED_PREFIXES = ['xn--', 'sthree-', 'amzn-s3-demo-'] as const;

/** S3 "General purpose bucket naming rules". */
export function assertBucketName(name: string): void {
  const valid =
    BUCKET_NAME.test(name) &&
    !name.includes('..') &&
    !IPV4.test(name) &&
    !ALIAS_SUFFIXES.some((suffix) => name.endsWith(suffix));
  if (!valid) throw new ServiceError('InvalidBucketName');
}

/** The rules that AWS checks for a new bucket on top. */
export function assertNewBucketName(name: string): void {
  assertBucketName(name);
  if (RESERVED_PREFIXES.some((prefix) => name.startsWith(prefix))) throw new ServiceError('InvalidBucketName');
}

/**
 * A key may hold any character but NUL: stores whose keys are paths cut a name off there, and one object would answer
 * for another. Empty and over-long keys and lone surrogates (not UTF-8) are refused too.
 */
export function assertKey(key: string): void {
  if (key === '' || key.includes('\0') || LONE_SURROGATE.test(key)) throw new ServiceError('InvalidURI');
  if (Buffer.byteLength(key) > MAX_KEY_BYTES) throw new ServiceError('KeyTooLongError');
}

/** A request target is printable ASCII (RFC 3986); a raw `#` cannot be told from a fragment. */
const RAW_PATH = /^\/[\x21\x22\x24-\x7e]*$/;

/** Percent-decoding with strict UTF-8; `+` stays `+` (RFC 3986; every SDK sends a space as %20). */
function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw new ServiceError('InvalidURI', { cause });
  }
}

export interface Address {
  readonly bucket?: string;
  readonly key?: string;
}

/** The bucket that a virtual-hosted request names by its Host, or undefined for path style. */
export function bucketOfHost(host: string | undefined, baseHosts: readonly string[]): string | undefined {
  if (host === undefined || host.startsWith('[')) return undefined;
  const name = host.toLowerCase().replace(/:\d*$/, '').replace(/\.$/, '');
  if (baseHosts.some((base) => base.toLowerCase() === name)) return undefined;
  // The longest base wins: with `example.com` and `s3.example.com` configured, `b.s3.example.com` is bucket `b`.
  const base = baseHosts
    .map((candidate) => `.${candidate.toLowerCase()}`)
    .filter((suffix) => name.endsWith(suffix))
    .sort((a, b) => b.length - a.length)[0];
  return base === undefined ? undefined : name.slice(0, -base.length);
}

/** Splits a raw, still encoded path into bucket and key; nothing is normalised (`a//b` and `a/../b` are keys). */
export function parseAddress(path: string, host: string | undefined, baseHosts: readonly string[]): Address {
  if (!RAW_PATH.test(path)) throw new ServiceError('InvalidURI');
  const hosted = bucketOfHost(host, baseHosts);
  const rest = path.slice(1);
  if (hosted !== undefined) return address(hosted, rest);
  if (rest === '') return {};
  const slash = rest.indexOf('/');
  return slash === -1 ? address(decode(rest), '') : address(decode(rest.slice(0, slash)), rest.slice(slash + 1));
}

function address(bucket: string, rawKey: string): Address {
  assertBucketName(bucket);
  if (rawKey === '') return { bucket };
  const key = decode(rawKey);
  assertKey(key);
  return { bucket, key };
}

export interface CopySource {
  readonly bucket: string;
  readonly key: string;
  readonly versionId?: string;
}

/**
 * An upload or version id is the store's own: opaque to us, and copied into requests. What no store issues is none, and
 * some make a path of it (versitygw aborts `../other/upload`): no dot segments, and no slash in front.
 */
export function isStoreId(text: string): boolean {
  return /^[\x21-\x7e]{1,1024}$/.test(text) && !/^[/\\]|(?:^|[/\\])\.{1,2}(?:[/\\]|$)/.test(text);
}

/**
 * `x-amz-copy-source`: `[/]bucket/key[?versionId=id]`, percent-encoded once (CopyObject, UploadPartCopy). Access point
 * ARNs are refused: they are names of buckets that the gateway cannot resolve.
 */
export function parseCopySource(header: string): CopySource {
  const invalid = (cause?: unknown) =>
    new ServiceError('InvalidArgument', {
      message: 'Copy Source must mention the source bucket and key: sourcebucket/sourcekey',
      cause,
    });
  const [, path, query] = /^\/?([^?]*)(?:\?(.*))?$/s.exec(header) ?? [];
  if (path === undefined) throw invalid();
  const versionId = query === undefined ? undefined : /^versionId=([^&=]+)$/.exec(query)?.[1];
  if (query !== undefined && versionId === undefined) throw invalid();
  try {
    const decoded = decodeURIComponent(path);
    if (/^arn:/i.test(decoded)) {
      throw new ServiceError('InvalidArgument', {
        message: 'The copy source may not be an ARN: name the bucket and the key.',
        reason: 'copy-source-arn',
      });
    }
    const slash = decoded.indexOf('/');
    if (slash < 1) throw invalid();
    const source = { bucket: decoded.slice(0, slash), key: decoded.slice(slash + 1) };
    assertBucketName(source.bucket);
    assertKey(source.key);
    if (versionId === undefined) return source;
    const version = decodeURIComponent(versionId);
    if (!isStoreId(version)) throw invalid();
    return { ...source, versionId: version };
  } catch (cause) {
    if (cause instanceof ServiceError && cause.code !== 'InvalidURI') throw cause;
    throw invalid(cause);
  }
}
