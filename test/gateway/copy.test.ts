import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { customerKey } from '../support/modes.ts';
import { s3, xmlText, type RawRequest, type RawResponse } from '../support/s3-raw.ts';

type Headers = Readonly<Record<string, string>>;

const MIB = 1024 ** 2;
const SSE = 'x-amz-server-side-encryption';
const KMS = { [SSE]: 'aws:kms', [`${SSE}-context`]: Buffer.from('{"department":"accounts"}').toString('base64') };
const [oldKey, newKey] = [customerKey(), customerKey()];

/** The same key for the source of a copy. */
function forSource(headers: Headers): Headers {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name.replace('x-amz-', 'x-amz-copy-source-'), value]),
  );
}

interface Side {
  readonly write: Headers;
  readonly read: Headers;
}

const SOURCES: Readonly<Record<string, Side>> = {
  plaintext: { write: {}, read: {} },
  'SSE-S3': { write: { [SSE]: 'AES256' }, read: {} },
  'SSE-KMS': { write: KMS, read: {} },
  'SSE-C': { write: oldKey, read: oldKey },
};

const TARGETS: Readonly<Record<string, Side & { readonly told: Headers }>> = {
  'the default': { write: {}, read: {}, told: { [SSE]: 'aws:kms', [`${SSE}-bucket-key-enabled`]: 'true' } },
  'SSE-S3': { write: { [SSE]: 'AES256' }, read: {}, told: { [SSE]: 'AES256' } },
  'SSE-KMS': { write: KMS, read: {}, told: KMS },
  'SSE-C': { write: newKey, read: newKey, told: { [`${SSE}-customer-algorithm`]: 'AES256' } },
};

/** What is kept, and what takes its place. */
const OLD = { 'content-type': 'text/old', 'cache-control': 'no-store', 'x-amz-meta-colour': 'blue  green' };
const NEW = { 'content-type': 'text/new', 'x-amz-meta-colour': 'red' };
const DIRECTIVES = {
  COPY: { asked: {}, kept: { ...OLD, 'x-amz-tagging-count': '1' } },
  REPLACE: {
    asked: { ...NEW, 'x-amz-metadata-directive': 'REPLACE', 'x-amz-tagging-directive': 'REPLACE' },
    kept: NEW,
  },
} as const;

const rows = Object.keys(SOURCES).flatMap((from) =>
  Object.keys(TARGETS).flatMap((to) =>
    (['COPY', 'REPLACE'] as const).flatMap((directive) =>
      (['another bucket', 'itself'] as const).map((where) => ({ from, to, directive, where })),
    ),
  ),
);

describe.each(inject('stores'))('copies over $name', (store) => {
  let gateway: TestGateway;
  /** Sources, plaintext among them; and another bucket. */
  const mixed = `mixed-${randomBytes(4).toString('hex')}`;
  const other = `copy-${randomBytes(4).toString('hex')}`;
  const bodies = { small: randomBytes(1), medium: randomBytes(5000), large: randomBytes(8 * MIB) };

  const send = (
    method: RawRequest['method'],
    bucket: string,
    key: string | undefined,
    more: Partial<RawRequest> = {},
  ): Promise<RawResponse> => s3(gateway.raw, { method, bucket, ...(key === undefined ? {} : { key }), ...more });

  function copy(from: string, to: readonly [bucket: string, key: string], headers: Headers): Promise<RawResponse> {
    const source = `${mixed}/${encodeURIComponent(from)}`;
    return send('PUT', ...to, { headers: { ...headers, 'x-amz-copy-source': source } });
  }

  const selfKey = (row: (typeof rows)[number]): string => `self ${row.from} ${row.to} ${row.directive}`;

  beforeAll(async () => {
    gateway = await startGateway({ store, config: { development: { allowInsecureSseC: true } } });
    const plain = rows.filter(({ from, where }) => from === 'plaintext' && where === 'itself').map(selfKey);
    await s3(store, { method: 'PUT', bucket: mixed });
    const headers = { ...OLD, 'x-amz-tagging': 'a=b' };
    for (const [name, body] of Object.entries(bodies)) {
      await s3(store, { method: 'PUT', bucket: mixed, key: `plaintext ${name}`, headers, body });
    }
    for (const key of plain) await s3(store, { method: 'PUT', bucket: mixed, key, headers, body: bodies.medium });
    // The store tells times to the second: what was there before must be older than the cut-over.
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    expect((await gateway.admin('POST', `/kms/buckets/${mixed}/adopt`, { mode: 'mixed' })).status).toBe(200);
    expect((await send('PUT', other, undefined)).status).toBe(200);
    const rule =
      '<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm></ApplyServerSideEncryptionByDefault><BucketKeyEnabled>true</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>';
    for (const bucket of [mixed, other]) {
      expect((await send('PUT', bucket, undefined, { query: { encryption: '' }, body: rule })).status).toBe(200);
    }
    for (const [from, { write }] of Object.entries(SOURCES).slice(1)) {
      for (const [name, body] of Object.entries(bodies)) {
        const put = await send('PUT', mixed, `${from} ${name}`, { headers: { ...headers, ...write }, body });
        expect(put.status).toBe(200);
      }
    }
  }, 120_000);
  afterAll(() => gateway.stop());

  it.each(rows)('$from to $to, $directive, onto $where', async (row) => {
    const { from, to, directive, where } = row;
    const [source, target] = [SOURCES[from], TARGETS[to]];
    if (source === undefined || target === undefined) throw new Error('no such row');
    const { asked, kept } = DIRECTIVES[directive];
    const sizes = where === 'itself' ? (['medium'] as const) : (['small', 'medium'] as const);
    for (const size of sizes) {
      const key = where === 'itself' ? selfKey(row) : `${from} ${size}`;
      const place = [
        where === 'itself' ? mixed : other,
        where === 'itself' ? key : `${to} ${directive} ${key}`,
      ] as const;
      if (where === 'itself' && from !== 'plaintext') {
        const headers = { ...OLD, ...source.write, 'x-amz-tagging': 'a=b' };
        expect((await send('PUT', ...place, { headers, body: bodies[size] })).status).toBe(200);
      }
      const made = await copy(key, place, { ...asked, ...target.write, ...forSource(source.read) });
      expect(`${made.status} ${made.text}`).toMatch(/^200 .*<CopyObjectResult/s);
      expect(made.headers).toMatchObject(target.told);
      const read = await send('GET', ...place, { headers: target.read });
      expect([read.status, read.body.equals(bodies[size])]).toEqual([200, true]);
      expect(read.headers).toMatchObject({ ...kept, etag: xmlText(made.text, 'ETag') });
      if (directive === 'REPLACE') {
        expect([read.headers['cache-control'], read.headers['x-amz-tagging-count'] ?? '0']).toEqual([undefined, '0']);
      }
    }
  });

  it.each(Object.keys(SOURCES))('8 MiB of %s to every mode', async (from) => {
    for (const [to, { write, read }] of Object.entries(TARGETS)) {
      const key = `large ${from} ${to}`;
      const made = await copy(`${from} large`, [other, key], { ...write, ...forSource(SOURCES[from]?.read ?? {}) });
      expect(`${made.status} ${made.text}`).toMatch(/^200 /);
      const got = await send('GET', other, key, { headers: read });
      expect([got.status, got.body.equals(bodies.large)]).toEqual([200, true]);
    }
  });
});
