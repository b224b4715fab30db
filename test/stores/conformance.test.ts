import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, inject, it } from 'vitest';
import { s3 } from '../support/s3-raw.ts';
import { KEY_ROWS } from './rows-keys.ts';
import { MULTIPART_ROWS } from './rows-multipart.ts';
import { READ_ROWS } from './rows-read.ts';
import { WRITE_ROWS } from './rows-write.ts';
import { Site } from './site.ts';

/** What the gateway relies on, on every store of the run. A gap is a row of data, and is asserted like the rest. */
const ROWS = [...WRITE_ROWS, ...MULTIPART_ROWS, ...READ_ROWS, ...KEY_ROWS];

describe.each(inject('stores'))('$name', (store) => {
  const site = new Site(store, `conformance-${randomBytes(4).toString('hex')}`);

  beforeAll(async () => {
    expect((await s3(store, { method: 'PUT', bucket: site.bucket })).status).toBe(200);
  });

  it.concurrent.each(ROWS)('$title', async ({ observe, expected, gaps }) => {
    const gap = gaps?.[store.name];
    expect(await observe(site), gap?.reason ?? 'as AWS does').toEqual(gap ? gap.outcome : expected);
  });
});
