import { createHash, randomBytes } from 'node:crypto';
import type { CompletedPart, Upload } from '../stores/site.ts';
import { withTrailer, xmlText, xmlTexts, type RawRequest, type RawResponse } from '../support/s3-raw.ts';
import type { Lane } from './lane.ts';

/** One operation in a place of its own, ready to be asked for as often as one likes. */
export interface Prepared {
  /** The client's request; a retry is the same again. */
  send(): Promise<RawResponse>;
  /** What the next reader sees, in a word. */
  look(): Promise<string>;
  readonly before: string;
  readonly after: string;
  /** A 2xx that is not right: half an object, a list that lacks something. */
  wrong?(answer: RawResponse): string | undefined;
}

export interface FaultedOperation {
  readonly name: string;
  /** Errors that end it where a fault may make them true, beside those that a client retries. */
  readonly finals?: readonly string[];
  /** What a plain retry may be told, beside success: that the first attempt has done it. */
  readonly retried?: readonly string[];
  /** Only the steps of this name: what differs from another row. */
  readonly only?: RegExp;
  prepare(lane: Lane): Promise<Prepared>;
}

const SMALL = 3_000;
const LARGE = 1_300_000;
const PART = 5 * 1024 ** 2;
const OLD = randomBytes(700);
const bodies = { small: randomBytes(SMALL), large: randomBytes(LARGE), part: randomBytes(PART), old: OLD };

/** Puts, with a plain retry of what this lane itself does to prepare. */
async function ready(answer: Promise<RawResponse>): Promise<RawResponse> {
  const told = await answer;
  if (told.status > 299) throw new Error(`not prepared: ${told.status} ${told.text}`);
  return told;
}

/** Which of the known bodies lies there whole, `absent`, or what else is seen. */
async function holds(lane: Lane, key: string, known: Readonly<Record<string, Buffer>>): Promise<string> {
  const { status, body, text, complete } = await lane.site.get(key);
  if (status !== 200) return status === 404 ? 'absent' : `${status} ${xmlText(text, 'Code')}`;
  const name = Object.entries(known).find(([, bytes]) => bytes.equals(body))?.[0];
  return complete && name !== undefined ? name : `${body.length} bytes that nobody wrote`;
}

function write(
  name: string,
  body: 'small' | 'large',
  request: (bytes: Buffer) => Partial<RawRequest>,
): FaultedOperation {
  return {
    name,
    async prepare(lane) {
      const key = lane.key('put');
      await ready(lane.site.put(key, OLD));
      return {
        send: () => lane.site.send('PUT', key, request(bodies[body])),
        look: () => holds(lane, key, { old: OLD, new: bodies[body] }),
        before: 'old',
        after: 'new',
      };
    },
  };
}

/** A read of an object that `store` has made; it changes nothing. */
function read(
  name: string,
  store: (lane: Lane, key: string) => Promise<Buffer>,
  request: { readonly method?: 'GET' | 'HEAD'; readonly range?: readonly [number, number]; readonly suffix?: number },
): FaultedOperation {
  const { method = 'GET', range, suffix } = request;
  return {
    name,
    async prepare(lane) {
      const key = lane.key('get');
      const whole = await store(lane, key);
      const wanted = suffix !== undefined ? whole.subarray(-suffix) : whole.subarray(range?.[0], range && range[1] + 1);
      const asked = suffix !== undefined ? `bytes=-${suffix}` : `bytes=${range?.join('-')}`;
      const headers = range === undefined && suffix === undefined ? {} : { range: asked };
      return {
        send: () => lane.site.send(method, key, { headers }),
        look: () => holds(lane, key, { old: whole }),
        before: 'old',
        after: 'old',
        wrong({ body, headers: told, complete }) {
          if (told['content-length'] !== String(wanted.length)) return 'another length';
          return method === 'HEAD' || (complete && body.equals(wanted)) ? undefined : 'other bytes, as if whole';
        },
      };
    },
  };
}

async function single(lane: Lane, key: string, body: Buffer): Promise<Buffer> {
  await ready(lane.site.put(key, body));
  return body;
}

/** One part, put aside: an object in parts at the price of a small one. */
async function inParts(lane: Lane, key: string): Promise<Buffer> {
  const upload = await lane.site.createUpload(key);
  await ready(upload.complete([await upload.part(1, bodies.small)]));
  return bodies.small;
}

/** An upload with parts, over an object. */
async function openUpload(
  lane: Lane,
  parts: readonly Buffer[],
): Promise<{ key: string; upload: Upload; list: CompletedPart[] }> {
  const key = lane.key('upload');
  await ready(lane.site.put(key, OLD));
  const upload = await lane.site.createUpload(key);
  const list: CompletedPart[] = [];
  for (const [at, part] of parts.entries()) list.push(await upload.part(at + 1, part));
  return { key, upload, list };
}

function complete(name: string, parts: readonly Buffer[], only?: RegExp): FaultedOperation {
  const whole = Buffer.concat(parts);
  return {
    name,
    // With a wrong ETag the store itself says that a part has changed.
    finals: ['InvalidPart'],
    ...(only === undefined ? {} : { only }),
    async prepare(lane) {
      const { key, upload, list } = await openUpload(lane, parts);
      return {
        send: () => upload.complete(list),
        look: () => holds(lane, key, { old: OLD, new: whole }),
        before: 'old',
        after: 'new',
      };
    },
  };
}

function part(name: string, body: Buffer): FaultedOperation {
  return {
    name,
    async prepare(lane) {
      const { key, upload } = await openUpload(lane, []);
      let last: RawResponse | undefined;
      return {
        send: async () => (last = await upload.send(1, { body })),
        // What counts of a part is what a Complete makes of it; nothing is seen of it before.
        async look() {
          if (last?.status !== 200) return holds(lane, key, { old: OLD });
          const done = await upload.complete([{ number: 1, etag: last.headers.etag ?? '' }]);
          return done.status === 200 ? holds(lane, key, { new: body }) : xmlText(done.text, 'Code');
        },
        before: 'old',
        after: 'new',
      };
    },
  };
}

const uploads: readonly FaultedOperation[] = [
  {
    name: 'CreateMultipartUpload',
    async prepare(lane) {
      const key = lane.key('create');
      await ready(lane.site.put(key, OLD));
      return {
        send: () => lane.site.send('POST', key, { query: { uploads: '' } }),
        look: () => holds(lane, key, { old: OLD }),
        before: 'old',
        after: 'old',
        wrong: ({ text }) => (xmlText(text, 'UploadId') === '' ? 'no upload id' : undefined),
      };
    },
  },
  part('UploadPart', bodies.part),
  part('UploadPart, put aside', bodies.small),
  complete('CompleteMultipartUpload, put aside', [bodies.small]),
  complete('CompleteMultipartUpload', [bodies.part], /upload$/),
  {
    name: 'AbortMultipartUpload',
    // The store knows it no more: it has been aborted.
    retried: ['NoSuchUpload'],
    async prepare(lane) {
      const { key, upload } = await openUpload(lane, [bodies.small]);
      return {
        send: () => upload.abort(),
        async look() {
          const seen = await upload.parts();
          const parts = seen.status === 200 ? 'open' : xmlText(seen.text, 'Code');
          return `${await holds(lane, key, { old: OLD })}, ${parts}`;
        },
        before: 'old, open',
        after: 'old, NoSuchUpload',
      };
    },
  },
  {
    name: 'ListParts',
    async prepare(lane) {
      const { key, upload, list } = await openUpload(lane, [bodies.small]);
      return {
        send: () => upload.parts(),
        look: () => holds(lane, key, { old: OLD }),
        before: 'old',
        after: 'old',
        wrong: ({ text }) =>
          xmlTexts(text, 'ETag').join() === list[0]?.etag ? undefined : `parts ${xmlTexts(text, 'ETag').join()}`,
      };
    },
  },
  {
    name: 'ListMultipartUploads',
    async prepare(lane) {
      const { key, upload } = await openUpload(lane, []);
      return {
        send: () => lane.site.send('GET', undefined, { query: { uploads: '', prefix: key } }),
        look: () => holds(lane, key, { old: OLD }),
        before: 'old',
        after: 'old',
        wrong: ({ text }) => (xmlText(text, 'UploadId') === upload.id ? undefined : 'another list'),
      };
    },
  },
];

function list(name: string, query: (key: string) => Readonly<Record<string, string>>): FaultedOperation {
  return {
    name,
    async prepare(lane) {
      const key = lane.key('list');
      await ready(lane.site.put(key, OLD));
      return {
        send: () => lane.site.send('GET', undefined, { query: query(key) }),
        look: () => holds(lane, key, { old: OLD }),
        before: 'old',
        after: 'old',
        wrong: ({ text }) => (xmlTexts(text, 'Key').includes(key) ? undefined : 'a list without the object'),
      };
    },
  };
}

const deletes: readonly FaultedOperation[] = [
  {
    name: 'DeleteObject',
    async prepare(lane) {
      const key = lane.key('delete');
      await ready(lane.site.put(key, OLD));
      return {
        send: () => lane.site.send('DELETE', key),
        look: () => holds(lane, key, { old: OLD }),
        before: 'old',
        after: 'absent',
      };
    },
  },
  {
    name: 'DeleteObjects',
    async prepare(lane) {
      const keys = [lane.key('batch'), lane.key('batch')];
      for (const key of keys) await ready(lane.site.put(key, OLD));
      const body = `<Delete>${keys.map((key) => `<Object><Key>${key}</Key></Object>`).join('')}</Delete>`;
      const headers = { 'content-md5': createHash('md5').update(body).digest('base64') };
      return {
        send: () => lane.site.send('POST', undefined, { query: { delete: '' }, body, headers }),
        look: async () => (await Promise.all(keys.map((key) => holds(lane, key, { old: OLD })))).join(),
        before: 'old,old',
        after: 'absent,absent',
        wrong: ({ text }) =>
          xmlTexts(text, 'Deleted').length + xmlTexts(text, 'Key').length < 2 ? 'silence' : undefined,
      };
    },
  },
];

export const OBJECTS: readonly FaultedOperation[] = [
  write('PutObject, small', 'small', (body) => ({ body })),
  write('PutObject, streamed', 'large', (body) => ({ body, payload: 'UNSIGNED-PAYLOAD' })),
  write('PutObject, with a trailer', 'large', (body) => withTrailer(body)),
  {
    name: 'PutObject, If-None-Match: *',
    // Said once and never again by the gateway itself: it is the client's business to ask what it was.
    retried: ['PreconditionFailed'],
    async prepare(lane) {
      const key = lane.key('only');
      return {
        send: () => lane.site.put(key, bodies.small, { 'if-none-match': '*' }),
        look: () => holds(lane, key, { new: bodies.small }),
        before: 'absent',
        after: 'new',
      };
    },
  },
  read('GetObject', (lane, key) => single(lane, key, bodies.small), {}),
  read('GetObject, several segments', (lane, key) => single(lane, key, bodies.large), {}),
  read('GetObject, range', (lane, key) => single(lane, key, bodies.large), { range: [70_000, 200_000] }),
  read('GetObject, suffix', (lane, key) => single(lane, key, bodies.large), { suffix: 1000 }),
  read('GetObject, in parts', inParts, {}),
  read('GetObject, range in parts, cold', inParts, { range: [1000, 1999] }),
  read('HeadObject', (lane, key) => single(lane, key, bodies.small), { method: 'HEAD' }),
  read('HeadObject, in parts', inParts, { method: 'HEAD' }),
  ...deletes,
  list('ListObjectsV2', (prefix) => ({ 'list-type': '2', prefix })),
  list('ListObjectVersions', (prefix) => ({ versions: '', prefix })),
  ...uploads,
];
