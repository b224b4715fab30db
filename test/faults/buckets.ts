import { randomBytes } from 'node:crypto';
import { s3, xmlText, xmlTexts, type RawRequest, type RawResponse } from '../support/s3-raw.ts';
import type { Lane } from './lane.ts';
import { ready, type FaultedOperation } from './operation.ts';

const BODY = randomBytes(500);

function newBucket(): string {
  return `faulted-${randomBytes(8).toString('hex')}`;
}

const ask = (lane: Lane, request: RawRequest): Promise<RawResponse> => s3(lane.gateway.raw, request);

async function stands(lane: Lane, bucket: string): Promise<string> {
  const { status } = await ask(lane, { method: 'HEAD', bucket });
  return status === 200 ? 'there' : status === 404 ? 'absent' : String(status);
}

async function holds(lane: Lane, bucket: string): Promise<string> {
  const { status, body } = await ask(lane, { method: 'GET', bucket, key: 'k' });
  return status === 200 ? (body.equals(BODY) ? 'whole' : 'another body') : String(status);
}

/** Operations on buckets, and what comes with a bucket's first use. */
export const BUCKETS: readonly FaultedOperation[] = [
  {
    name: 'CreateBucket',
    retried: ['BucketAlreadyOwnedByYou'],
    prepare(lane) {
      const bucket = newBucket();
      return Promise.resolve({
        send: () => ask(lane, { method: 'PUT', bucket }),
        look: () => stands(lane, bucket),
        before: 'absent',
        after: 'there',
      });
    },
  },
  {
    name: 'CreateBucket, deleted behind our back',
    retried: ['BucketAlreadyOwnedByYou'],
    async prepare(lane) {
      const bucket = newBucket();
      await ready(ask(lane, { method: 'PUT', bucket }));
      await ready(s3(lane.proxy.store, { method: 'DELETE', bucket }));
      return {
        send: () => ask(lane, { method: 'PUT', bucket }),
        look: () => stands(lane, bucket),
        before: 'absent',
        after: 'there',
      };
    },
  },
  {
    name: 'DeleteBucket',
    retried: ['NoSuchBucket'],
    async prepare(lane) {
      const bucket = newBucket();
      await ready(ask(lane, { method: 'PUT', bucket }));
      return {
        send: () => ask(lane, { method: 'DELETE', bucket }),
        look: () => stands(lane, bucket),
        before: 'there',
        after: 'absent',
      };
    },
  },
  {
    name: 'DeleteBucket, not empty',
    finals: ['BucketNotEmpty'],
    retried: ['BucketNotEmpty'],
    async prepare(lane) {
      const bucket = newBucket();
      await ready(ask(lane, { method: 'PUT', bucket }));
      await ready(ask(lane, { method: 'PUT', bucket, key: 'k', body: BODY }));
      return {
        send: () => ask(lane, { method: 'DELETE', bucket }),
        look: () => holds(lane, bucket),
        before: 'whole',
        after: 'whole',
        wrong: () => 'deleted',
      };
    },
  },
  {
    name: 'first use of a bucket: PutObject',
    async prepare(lane) {
      const bucket = newBucket();
      await ready(s3(lane.proxy.store, { method: 'PUT', bucket }));
      return {
        send: () => ask(lane, { method: 'PUT', bucket, key: 'k', body: BODY }),
        look: () => holds(lane, bucket),
        before: '404',
        after: 'whole',
      };
    },
  },
  {
    name: "first use of somebody else's bucket: PutObject",
    finals: ['InvalidBucketState'],
    retried: ['InvalidBucketState'],
    async prepare(lane) {
      const bucket = newBucket();
      await ready(s3(lane.proxy.store, { method: 'PUT', bucket }));
      await ready(s3(lane.proxy.store, { method: 'PUT', bucket, key: 'plain', body: 'of old' }));
      return {
        send: () => ask(lane, { method: 'PUT', bucket, key: 'k', body: BODY }),
        look: () => holds(lane, bucket),
        before: '409',
        after: '409',
        wrong: () => 'taken for an empty one',
      };
    },
  },
  {
    name: 'ListBuckets',
    prepare(lane) {
      return Promise.resolve({
        send: () => ask(lane, { method: 'GET' }),
        look: () => stands(lane, lane.site.bucket),
        before: 'there',
        after: 'there',
        wrong: ({ text }) =>
          xmlTexts(text, 'Name').includes(lane.site.bucket) ? undefined : 'a list without the bucket',
      });
    },
  },
  {
    name: 'HeadBucket',
    prepare(lane) {
      return Promise.resolve({
        send: () => lane.site.send('HEAD', undefined),
        look: () => stands(lane, lane.site.bucket),
        before: 'there',
        after: 'there',
      });
    },
  },
  {
    name: 'PutObjectTagging',
    async prepare(lane) {
      const key = lane.key('tagged');
      await ready(lane.site.put(key, BODY));
      const body = '<Tagging><TagSet><Tag><Key>colour</Key><Value>blue</Value></Tag></TagSet></Tagging>';
      return {
        send: () => lane.site.send('PUT', key, { query: { tagging: '' }, body }),
        async look() {
          const { text } = await lane.site.send('GET', key, { query: { tagging: '' } });
          return xmlText(text, 'Value');
        },
        before: '',
        after: 'blue',
      };
    },
  },
];
