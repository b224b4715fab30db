import { randomBytes } from 'node:crypto';
import { beforeAll, expect, inject, test } from 'vitest';
import type { StoreClient, StoreRequest, StoreTraits } from '../../src/store/port.ts';
import { probeTraits, type Findings } from '../../src/store/probe.ts';
import { ensureSystemBucket } from '../../src/store/system-bucket.ts';
import { clientFor } from './clients.ts';

const store =
  inject('stores').find(({ name }) => name === 'devstore') ?? inject('stores')[0] ?? expect.fail('no store');
const bucket = `probe-${randomBytes(4).toString('hex')}`;

/** Probes the real store through a client that changes requests on their way, as a worse store would take them. */
function probeThrough(change: (request: StoreRequest) => StoreRequest): Promise<Findings> {
  const client = (traits: StoreTraits): StoreClient => {
    const real = clientFor(store, traits);
    return {
      traits,
      request: (request) => real.request(change(request)),
      upload: (request, length) => real.upload(request, length),
      close: () => real.close(),
    };
  };
  return probeTraits({ client, systemBucket: bucket, run: randomBytes(8).toString('hex') });
}

/** Without the headers that `drop` names. */
function without(request: StoreRequest, drop: (name: string) => boolean): StoreRequest {
  return {
    ...request,
    headers: Object.fromEntries(Object.entries(request.headers ?? {}).filter(([name]) => !drop(name))),
  };
}

let plain: Findings;
beforeAll(async () => {
  const client = clientFor(store);
  await ensureSystemBucket(client, bucket);
  await client.close();
  plain = await probeThrough((request) => request);
});

type Missing = keyof StoreTraits | readonly (keyof StoreTraits)[];

test.each<[string, Missing, (request: StoreRequest) => StoreRequest]>([
  [
    'takes a wrong trailer',
    'acceptsTrailers',
    (request) =>
      without(
        request,
        (name) => name === 'x-amz-content-sha256' || name === 'x-amz-trailer' || name.includes('decoded'),
      ),
  ],
  [
    'overlooks If-None-Match',
    'putIfNoneMatch',
    (request) => (request.method === 'PUT' ? without(request, (name) => name === 'if-none-match') : request),
  ],
  [
    'overlooks If-None-Match on Complete',
    'completeIfNoneMatch',
    (request) => (request.method === 'POST' ? without(request, (name) => name === 'if-none-match') : request),
  ],
  [
    'overlooks If-Match on PUT',
    // Where one condition is not held under writers, the other was looked at beforehand at best.
    ['putIfMatch', 'deleteIfMatch'],
    (request) => without(request, (name) => name === 'if-match' && request.method === 'PUT'),
  ],
  [
    'overlooks If-Match on DELETE',
    'deleteIfMatch',
    (request) => without(request, (name) => name === 'if-match' && request.method === 'DELETE'),
  ],
  [
    'completes with all of its parts only',
    'completesSubset',
    (request) => {
      if (request.method !== 'POST' || request.key?.includes('subset') !== true || request.body === undefined)
        return request;
      return { ...request, body: Buffer.from(request.body.toString().replace('<PartNumber>2<', '<PartNumber>3<')) };
    },
  ],
  [
    'knows no ETag of a source in parts',
    'copySourceIfMatch',
    (request) => {
      const ifMatch = 'x-amz-copy-source-if-match';
      if (request.headers?.['x-amz-copy-source']?.includes('in-parts') !== true) return request;
      return { ...request, headers: { ...request.headers, [ifMatch]: `"${'0'.repeat(32)}"` } };
    },
  ],
  [
    'drops a body under a slash',
    'keepsSlashBody',
    (request) =>
      request.key?.endsWith('/') === true && request.body !== undefined
        ? { ...request, body: Buffer.alloc(0) }
        : request,
  ],
  [
    'drops metadata under a slash',
    'keepsSlashMetadata',
    (request) =>
      request.key?.endsWith('/') === true ? without(request, (name) => name.startsWith('x-amz-meta-')) : request,
  ],
  [
    'drops a redirect',
    'keepsRedirect',
    (request) => without(request, (name) => name === 'x-amz-website-redirect-location'),
  ],
  [
    'gives octets back as text of RFC 2047',
    'keepsOctets',
    (request) => {
      const changed = Object.entries(request.headers ?? {}).map(([name, value]) => [
        name,
        name.startsWith('x-amz-meta-') ? value.replace(/[^\x00-\x7f]/g, '?') : value,
      ]);
      return { ...request, headers: Object.fromEntries(changed) as Record<string, string> };
    },
  ],
  ...(
    [
      [/^\//, 'HEAD'],
      [/\/(?=\/)/, 'PUT'],
      [/\.\/(?!\.)/, 'DELETE'],
      [/x\/\.\.\//, 'PUT'],
    ] as const
  ).map(([fold, method]): [string, keyof StoreTraits, (request: StoreRequest) => StoreRequest] => [
    `folds ${fold.source} on ${method}`,
    'keepsPathsApart',
    (request) =>
      request.method === method && request.key !== undefined
        ? { ...request, key: request.key.replace(fold, '') }
        : request,
  ]),
])('a store that %s is found out, and only that', async (_title, missing, change) => {
  const lacking = Object.fromEntries([missing].flat().map((trait) => [trait, false]));
  expect(await probeThrough(change)).toEqual({ ...plain, ...lacking });
});
