import type { CompletedPart, Upload } from '../stores/site.ts';
import { xmlText, xmlTexts } from '../support/s3-raw.ts';
import type { Lane } from './lane.ts';
import { bodies, holds, old, OLD, onePart, ready, type FaultedOperation } from './operation.ts';

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
    gaps: {
      'GET part put aside, wrong bytes':
        'a Complete has no key to open the part with: a store that changes what it keeps destroys it, as it can any object',
    },
    ...(only === undefined ? {} : { only, heavy: true }),
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

function part(name: string, body: Buffer, only?: RegExp): FaultedOperation {
  return {
    name,
    ...(only === undefined ? {} : { only, heavy: true }),
    async prepare(lane) {
      const { key, upload } = await openUpload(lane, []);
      return onePart({
        ...{ lane, key, upload, body },
        send: () => upload.send(1, { body, payload: 'UNSIGNED-PAYLOAD' }),
        etagOf: ({ headers }) => headers.etag ?? '',
      });
    },
  };
}

export const UPLOADS: readonly FaultedOperation[] = [
  {
    name: 'CreateMultipartUpload',
    async prepare(lane) {
      const key = await old(lane);
      return {
        send: () => lane.site.send('POST', key, { query: { uploads: '' } }),
        look: () => holds(lane, key, { old: OLD }),
        before: 'old',
        after: 'old',
        wrong: ({ text }) => (xmlText(text, 'UploadId') === '' ? 'no upload id' : undefined),
      };
    },
  },
  part('UploadPart', bodies.part, /part$/),
  part('UploadPart, put aside', bodies.small),
  complete('CompleteMultipartUpload, put aside', [bodies.small]),
  complete('CompleteMultipartUpload', [bodies.part], /GET object upload/),
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
      const { key, upload, list } = await lane.shared(this.name, () => openUpload(lane, [bodies.small]));
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
      const { key, upload } = await lane.shared(this.name, () => openUpload(lane, []));
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
