import { createHash } from 'node:crypto';
import { postForm } from '../support/post-form.ts';
import { withTrailer, xmlTexts, type RawRequest } from '../support/s3-raw.ts';
import type { Lane } from './lane.ts';
import { bodies, holds, old, OLD, ready, single, type FaultedOperation } from './operation.ts';

function write(
  name: string,
  body: 'small' | 'middle' | 'large',
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

function form(name: string, body: Buffer, only?: RegExp): FaultedOperation {
  return {
    name,
    ...(only === undefined ? {} : { only, heavy: true }),
    async prepare(lane) {
      const key = lane.key('form');
      await single(lane, key, OLD);
      const spec = { fields: [['key', key]] as const, file: body };
      return {
        send: () => postForm(lane.gateway.raw, lane.site.bucket, spec),
        look: () => holds(lane, key, { old: OLD, new: body }),
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
  request: {
    readonly method?: 'GET' | 'HEAD';
    readonly range?: readonly [number, number];
    readonly suffix?: number;
    /** Of an object that nobody has read yet. */ readonly cold?: boolean;
  },
): FaultedOperation {
  const { method = 'GET', range, suffix, cold = false } = request;
  return {
    name,
    async prepare(lane) {
      const made = async (): Promise<{ key: string; whole: Buffer }> => {
        const key = lane.key('get');
        return { key, whole: await store(lane, key) };
      };
      const { key, whole } = await (cold ? made() : lane.shared(name, made));
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

/** One part, put aside: an object in parts at the price of a small one. */
async function inParts(lane: Lane, key: string): Promise<Buffer> {
  const upload = await lane.site.createUpload(key);
  await ready(upload.complete([await upload.part(1, bodies.small)]));
  return bodies.small;
}

function list(name: string, query: (key: string) => Readonly<Record<string, string>>): FaultedOperation {
  return {
    name,
    async prepare(lane) {
      const key = await old(lane);
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
  write('PutObject, with a trailer', 'middle', (body) => withTrailer(body)),
  {
    name: 'PutObject, If-None-Match: *',
    // Said once and never again by the gateway itself: it is the client's business to ask what it was.
    retried: ['PreconditionFailed'],
    prepare(lane) {
      const key = lane.key('only');
      return Promise.resolve({
        send: () => lane.site.put(key, bodies.small, { 'if-none-match': '*' }),
        look: () => holds(lane, key, { new: bodies.small }),
        before: 'absent',
        after: 'new',
      });
    },
  },
  form('POST object', bodies.small),
  form('POST object, in parts', bodies.twoParts, /POST object upload$/),
  read('GetObject', (lane, key) => single(lane, key, bodies.small), {}),
  read('GetObject, several segments', (lane, key) => single(lane, key, bodies.middle), {}),
  read('GetObject, range', (lane, key) => single(lane, key, bodies.middle), { range: [70_000, 170_000] }),
  read('GetObject, suffix', (lane, key) => single(lane, key, bodies.middle), { suffix: 1000 }),
  read('GetObject, in parts', inParts, {}),
  read('GetObject, range in parts, cold', inParts, { range: [1000, 1999], cold: true }),
  read('HeadObject', (lane, key) => single(lane, key, bodies.small), { method: 'HEAD' }),
  read('HeadObject, in parts', inParts, { method: 'HEAD' }),
  ...deletes,
  list('ListObjectsV2', (prefix) => ({ 'list-type': '2', prefix })),
  list('ListObjectVersions', (prefix) => ({ versions: '', prefix })),
];
