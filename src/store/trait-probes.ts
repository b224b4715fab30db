import { aborted } from './faults.ts';
import type { StoreClient, StoreRequest, StoreTraits } from './port.ts';

/** What a probe works with: objects of its own under one prefix of the system bucket, and clients that frame as told. */
export interface ProbeBench {
  readonly bucket: string;
  /** A key of this run. Every key that was named is deleted afterwards. */
  key(name: string): string;
  client(traits: Partial<StoreTraits>): StoreClient;
  pause(ms: number): Promise<void>;
}

/** True: does what AWS S3 does. False: it does not. A throw: could not be found out. */
export type Probe = (bench: ProbeBench) => Promise<boolean>;

const OLD = Buffer.from('the object that was there before');
const CUT_LENGTH = 192 * 1024;
const PART = Buffer.from('a part of an upload');
const CUT_AFTER = 96 * 1024;
const COPY_SOURCE = 'x-amz-copy-source';
/** A store may commit a moment after it saw the end of the connection. */
const LATE_COMMIT_MS = [100, 200, 500];

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

type Call = Omit<StoreRequest, 'bucket'>;

async function call(bench: ProbeBench, request: Call, client = bench.client({})): Promise<Answer> {
  const response = await client.request({ ...request, bucket: bench.bucket });
  const body = await response.collect(256 * 1024);
  return { status: response.status, headers: response.headers, body };
}

/** A status that says nothing about the trait (no permission, overload, a fault) leaves it unknown. */
function telling(answer: Answer): Answer {
  if (answer.status === 401 || answer.status === 403 || answer.status === 429 || answer.status === 503) {
    throw aborted(`status ${answer.status}`);
  }
  return answer;
}

async function putOld(bench: ProbeBench, key: string): Promise<Answer> {
  const answer = telling(await call(bench, { method: 'PUT', key, body: OLD }));
  if (answer.status !== 200) throw aborted(`status ${answer.status}`);
  return answer;
}

async function holds(bench: ProbeBench, key: string, body: Buffer): Promise<boolean> {
  const answer = telling(await call(bench, { method: 'GET', key }));
  return answer.status === 200 && answer.body.equals(body);
}

/** What a cut upload is made of. */
const CUT_PIECE = Buffer.alloc(32 * 1024, 0x5a);

/** The short body was there in the old object's place: no second look takes that back, for it may be luck. */
export class ShortBodyKept extends Error {}

/** Cuts an upload in its middle, as the gateway does when something did not verify. Is the old object still there? */
async function survivesCut(bench: ProbeBench, key: string, framing: Partial<StoreTraits>): Promise<boolean> {
  await putOld(bench, key);
  const upload = bench.client(framing).upload({ bucket: bench.bucket, key }, CUT_LENGTH);
  for (let sent = 0; sent < CUT_AFTER; sent += 32 * 1024) {
    if (!upload.write(Buffer.from(CUT_PIECE))) await upload.drained();
  }
  // The bytes are to arrive, or there is nothing to cut.
  await bench.pause(100);
  upload.destroy();
  for (const ms of LATE_COMMIT_MS) {
    await bench.pause(ms);
    const answer = telling(await call(bench, { method: 'GET', key }));
    if (answer.status === 200 && answer.body.equals(OLD)) continue;
    if (answer.body.includes(CUT_PIECE.subarray(0, 64))) throw new ShortBodyKept();
    return false;
  }
  return true;
}

export const probeShortBody: Probe = (bench) => survivesCut(bench, bench.key('short-body'), { refusesShortBody: true });

/** A right trailer is taken and leaves no framing behind, a wrong one is refused, and a body without one is not stored. */
export const probeTrailers: Probe = async (bench) => {
  const key = bench.key('trailers');
  const body = Buffer.alloc(CUT_AFTER, 0x33);
  const client = bench.client({ acceptsTrailers: true });
  const upload = client.upload({ bucket: bench.bucket, key, headers: { 'x-amz-meta-probe': '1' } }, body.byteLength);
  upload.write(Buffer.from(body));
  upload.end();
  const stored = await upload.response;
  stored.discard();
  if (stored.status !== 200) return false;
  const back = telling(await call(bench, { method: 'GET', key }));
  if (!back.body.equals(body) || (back.headers['content-encoding'] ?? '').includes('aws-chunked')) return false;
  const wrong = 'd\r\nanother body.\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n';
  const refused = await call(
    bench,
    {
      method: 'PUT',
      key,
      body: Buffer.from(wrong),
      headers: {
        'x-amz-content-sha256': 'STREAMING-UNSIGNED-PAYLOAD-TRAILER',
        'x-amz-decoded-content-length': '13',
        'x-amz-trailer': 'x-amz-checksum-crc32',
      },
    },
    client,
  );
  if (refused.status < 400 || refused.status > 499 || !(await holds(bench, key, body))) return false;
  return survivesCut(bench, key, { acceptsTrailers: true });
};

export const probePutIfMatch: Probe = (bench) => honoursPutIfMatch(bench, bench.key('if-match'));

async function honoursPutIfMatch(bench: ProbeBench, key: string): Promise<boolean> {
  const { headers } = await putOld(bench, key);
  const etag = headers['etag'];
  if (etag === undefined) return false;
  const put = (ifMatch: string): Promise<Answer> =>
    call(bench, { method: 'PUT', key, body: OLD, headers: { 'if-match': ifMatch } });
  const wrong = telling(await put('"00000000000000000000000000000000"'));
  return wrong.status === 412 && (await put(etag)).status === 200;
}

export const probePutIfNoneMatch: Probe = async (bench) => {
  const key = bench.key('if-none-match');
  const put = (): Promise<Answer> => call(bench, { method: 'PUT', key, body: OLD, headers: { 'if-none-match': '*' } });
  const first = telling(await put());
  return first.status === 200 && (await put()).status === 412 && holds(bench, key, OLD);
};

/** An upload completed over an object that is there: refused, and the object kept. */
export const probeCompleteIfNoneMatch: Probe = async (bench) => {
  const key = bench.key('complete-if-none-match');
  await putOld(bench, key);
  const answer = await uploadInParts(bench, key, { 'if-none-match': '*' });
  return telling(answer).status === 412 && (await holds(bench, key, OLD));
};

/** An upload of two parts, completed with the second alone. */
export const probeSubset: Probe = async (bench) => {
  const key = bench.key('complete-subset');
  const answer = telling(await uploadInParts(bench, key, {}, [1, 2]));
  return answer.status === 200 && holds(bench, key, PART);
};

/** The answer to a Complete that lists the last of the parts. An upload that came to nothing is aborted. */
async function uploadInParts(
  bench: ProbeBench,
  key: string,
  condition: Record<string, string>,
  numbers: readonly number[] = [1],
): Promise<Answer> {
  const created = telling(await call(bench, { method: 'POST', key, query: [['uploads', '']] }));
  const uploadId = /<UploadId>([^<]+)<\/UploadId>/.exec(created.body.toString('utf8'))?.[1];
  if (created.status !== 200 || uploadId === undefined) throw aborted(`status ${created.status}`);
  const upload = ['uploadId', uploadId] as const;
  try {
    let last = '';
    for (const number of numbers) {
      const query = [['partNumber', String(number)] as const, upload];
      const part = await call(bench, { method: 'PUT', key, query, body: PART });
      const etag = part.headers['etag'];
      if (part.status !== 200 || etag === undefined) throw aborted(`status ${part.status}`);
      last = `<Part><PartNumber>${number}</PartNumber><ETag>${etag}</ETag></Part>`;
    }
    const list = `<CompleteMultipartUpload>${last}</CompleteMultipartUpload>`;
    const headers = { ...condition, 'content-type': 'application/xml' };
    return await call(bench, { method: 'POST', key, query: [upload], headers, body: Buffer.from(list) });
  } finally {
    await call(bench, { method: 'DELETE', key, query: [upload] });
  }
}

/**
 * A store without conditions on PUT can have looked before it deleted, in two steps: OpenStack Swift's s3api does, and
 * deleted 55 uploads of 60 that came between.
 */
export const probeDeleteIfMatch: Probe = async (bench) => {
  const key = bench.key('delete-if-match');
  if (!(await honoursPutIfMatch(bench, key))) return false;
  await putOld(bench, key);
  const headers = { 'if-match': '"00000000000000000000000000000000"' };
  const answer = telling(await call(bench, { method: 'DELETE', key, headers }));
  return answer.status === 412 && holds(bench, key, OLD);
};

/** A source that is not the one that was looked at: refused. The one that was is copied, one in parts too. */
export const probeCopySourceIfMatch: Probe = async (bench) => {
  const [key, target, inParts] = [
    bench.key('copy-source'),
    bench.key('copy-target'),
    bench.key('copy-source-in-parts'),
  ];
  const { headers } = await putOld(bench, key);
  const etag = headers['etag'];
  if (etag === undefined) return false;
  const copy = (from: string, ifMatch: string): Promise<Answer> =>
    call(bench, {
      method: 'PUT',
      key: target,
      headers: copyHeaders(bench, from, { [`${COPY_SOURCE}-if-match`]: ifMatch }),
    });
  const wrong = telling(await copy(key, '"00000000000000000000000000000000"'));
  if (wrong.status !== 412 || (await copy(key, etag)).status !== 200 || !(await holds(bench, target, OLD)))
    return false;
  // OpenStack Swift compares another ETag than the one that it tells of such an object.
  if (telling(await uploadInParts(bench, inParts, {})).status !== 200) throw aborted('an upload in parts');
  const told = (await call(bench, { method: 'HEAD', key: inParts })).headers['etag'] ?? '';
  return (await copy(inParts, told)).status === 200 && holds(bench, target, PART);
};

export const probeCopyTags: Probe = async (bench) => {
  const [key, target] = [bench.key('tags-source'), bench.key('tags-target')];
  await putOld(bench, key);
  const headers = copyHeaders(bench, key, { 'x-amz-tagging-directive': 'REPLACE', 'x-amz-tagging': 'probe=kept' });
  if (telling(await call(bench, { method: 'PUT', key: target, headers })).status !== 200) return false;
  const { body } = await call(bench, { method: 'GET', key: target, query: [['tagging', '']] });
  return body.includes('<Key>probe</Key>') && body.includes('<Value>kept</Value>');
};

function copyHeaders(bench: ProbeBench, key: string, more: Record<string, string>): Record<string, string> {
  return { [COPY_SOURCE]: `/${bench.bucket}/${key}`, 'x-amz-metadata-directive': 'REPLACE', ...more };
}

export const probeSlashBody: Probe = async (bench) => {
  const key = bench.key('body/');
  const answer = telling(await call(bench, { method: 'PUT', key, body: OLD }));
  return answer.status === 200 && holds(bench, key, OLD);
};

export const probeSlashMetadata: Probe = async (bench) => {
  const key = bench.key('metadata/');
  const headers = { 'x-amz-meta-probe': 'kept' };
  const answer = telling(await call(bench, { method: 'PUT', key, body: Buffer.alloc(0), headers }));
  if (answer.status !== 200) return false;
  return (await call(bench, { method: 'HEAD', key })).headers['x-amz-meta-probe'] === 'kept';
};

export const probeRedirect: Probe = async (bench) => {
  const key = bench.key('redirect');
  const headers = { 'x-amz-website-redirect-location': '/elsewhere' };
  const answer = telling(await call(bench, { method: 'PUT', key, body: OLD, headers }));
  if (answer.status !== 200) return false;
  return (await call(bench, { method: 'HEAD', key })).headers['x-amz-website-redirect-location'] === '/elsewhere';
};

export const probeOctets: Probe = async (bench) => {
  const key = bench.key('octets');
  // UTF-8, as clients send it; a header string is octets in Node.
  const value = Buffer.from('na\u00efve \u20ac').toString('latin1');
  const headers = { 'x-amz-meta-probe': value };
  const answer = telling(await call(bench, { method: 'PUT', key, body: OLD, headers }));
  if (answer.status !== 200) return false;
  return (await call(bench, { method: 'HEAD', key })).headers['x-amz-meta-probe'] === value;
};

/** Is an object reached, changed or deleted by another spelling of its path? A refusal of the spelling is no. */
export const probePathsApart: Probe = async (bench) => {
  const key = bench.key('paths/one');
  await putOld(bench, key);
  const spellings = [`/${key}`, ...['paths//one', 'paths/./one', 'paths/x/../one'].map((name) => bench.key(name))];
  for (const spelling of spellings) {
    const head = telling(await call(bench, { method: 'HEAD', key: spelling }));
    if (head.status === 200) return false;
    telling(await call(bench, { method: 'PUT', key: spelling, body: Buffer.from('another object') }));
    if (!(await holds(bench, key, OLD))) return false;
    telling(await call(bench, { method: 'DELETE', key: spelling }));
    if (!(await holds(bench, key, OLD))) return false;
  }
  return true;
};
