import { customerKey } from '../support/modes.ts';
import { xmlText, type RawRequest, type RawResponse } from '../support/s3-raw.ts';
import type { Lane } from './lane.ts';
import { bodies, OLD, onePart, ready, type FaultedOperation } from './operation.ts';

type Headers = Readonly<Record<string, string>>;

const SSE = 'x-amz-server-side-encryption';
const META = 'x-amz-meta-of';
const KMS = { [SSE]: 'aws:kms' };
const own = customerKey();
/** More than the store copies at once (`store.largestCopy` of the lanes). */
const large = Buffer.concat([bodies.part, bodies.small]);

/** The key of an object that is copied, and that nothing changes. */
function source(lane: Lane, name: string, body: Buffer, headers: Headers = {}): Promise<string> {
  return lane.shared(`source ${name}`, async () => {
    const key = lane.key('source');
    await ready(lane.site.put(key, body, { [META]: 'source', ...headers }));
    return key;
  });
}

const from = (lane: Lane, key: string, more: Headers = {}): Partial<RawRequest> => ({
  headers: { 'x-amz-copy-source': `${lane.site.bucket}/${key}`, ...more },
});

/** Body, metadata and mode as one reader finds them, in words. */
async function seen(lane: Lane, key: string, known: Readonly<Record<string, Buffer>>, read: Headers = {}) {
  const { status, headers, body, text, complete } = await lane.site.get(key, read);
  if (status !== 200) return `${status} ${xmlText(text, 'Code')}`;
  const name = Object.entries(known).find(([, bytes]) => complete && bytes.equals(body))?.[0];
  const mode = headers[SSE] ?? (headers[`${SSE}-customer-algorithm`] === undefined ? 'none' : 'SSE-C');
  return [name ?? `${body.length} bytes that nobody wrote`, headers[META] ?? 'no metadata', mode].join(', ');
}

const BEFORE = 'old, target, AES256';

/** Where SSE-C is what is asked for, a reader without the key is told 400 once it is there. */
async function target(lane: Lane, key: string, whole: Buffer, read: Headers): Promise<string> {
  const known = { old: OLD, new: whole };
  const without = await seen(lane, key, known);
  return without.startsWith('400') && Object.keys(read).length > 0 ? seen(lane, key, known, read) : without;
}

/** What says that it was done is a whole result; its ETag is the store's word. */
function noResult({ text }: RawResponse): string | undefined {
  const etag = xmlText(text, 'ETag');
  return text.trimEnd().endsWith('</CopyObjectResult>') && /^(?:"[0-9a-f]{32}-\d+")?$/.test(etag) ? undefined : text;
}

interface Copy {
  readonly body: Buffer;
  readonly of?: Headers;
  readonly asked: Headers;
  readonly read?: Headers;
  readonly after: string;
  readonly only?: RegExp;
  readonly heavy?: true;
}

/** Onto another object. */
function copy(name: string, { body, of, asked, read = {}, after, only, heavy }: Copy): FaultedOperation {
  return {
    name,
    ...(only === undefined ? {} : { only }),
    ...(heavy === undefined ? {} : { heavy }),
    async prepare(lane) {
      const copied = await source(lane, name, body, of);
      const key = lane.key('copy');
      await ready(lane.site.put(key, OLD, { [META]: 'target' }));
      return {
        send: () => lane.site.send('PUT', key, from(lane, copied, asked)),
        look: () => target(lane, key, body, read),
        before: BEFORE,
        after,
        wrong: noResult,
      };
    },
  };
}

const UPDATE =
  '<ObjectEncryption><SSE-KMS><KMSKeyArn>arn:aws:kms:us-east-1:000000000000:key/data</KMSKeyArn></SSE-KMS></ObjectEncryption>';

export const COPIES: readonly FaultedOperation[] = [
  copy('CopyObject', {
    body: bodies.small,
    of: { 'x-amz-tagging': 'colour=blue' },
    asked: KMS,
    after: 'new, source, aws:kms',
  }),
  {
    name: 'CopyObject, onto itself',
    // By way of a private key, as on every store that is not known to do it in one step.
    only: /private copy|PUT object copy/,
    async prepare(lane) {
      const key = lane.key('itself');
      await ready(lane.site.put(key, OLD, { [META]: 'target' }));
      const asked = { ...KMS, [META]: 'replaced', 'x-amz-metadata-directive': 'REPLACE' };
      return {
        send: () => lane.site.send('PUT', key, from(lane, key, asked)),
        look: () => seen(lane, key, { old: OLD }),
        before: BEFORE,
        after: 'old, replaced, aws:kms',
        wrong: noResult,
      };
    },
  },
  copy('CopyObject, sealed anew', {
    body: bodies.middle,
    asked: own,
    read: own,
    after: 'new, source, SSE-C',
    only: /^(?:GET|PUT) object$/,
  }),
  copy('CopyObject, in parts', {
    body: large,
    asked: KMS,
    after: 'new, source, aws:kms',
    only: /upload|part/,
    heavy: true,
  }),
  {
    name: 'UploadPartCopy',
    async prepare(lane) {
      const copied = await source(lane, this.name, bodies.middle);
      const key = lane.key('part');
      await ready(lane.site.put(key, OLD));
      const upload = await lane.site.createUpload(key);
      const piece = { 'x-amz-copy-source-range': 'bytes=1000-89999' };
      return onePart({
        ...{ lane, key, upload, body: bodies.middle.subarray(1_000, 90_000) },
        send: () => upload.send(1, from(lane, copied, piece)),
        etagOf: ({ text }) => xmlText(text, 'ETag'),
      });
    },
  },
  {
    name: 'UpdateObjectEncryption',
    only: /^(?:GET|PUT) object$/,
    async prepare(lane) {
      const key = lane.key('update');
      await ready(lane.site.put(key, bodies.small, { [META]: 'target' }));
      return {
        send: () => lane.site.send('PUT', key, { query: { encryption: '' }, body: UPDATE }),
        look: () => seen(lane, key, { old: bodies.small }),
        before: BEFORE,
        after: 'old, target, aws:kms',
      };
    },
  },
];
