import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { Site } from '../stores/site.ts';
import type { StoreName } from '../stores/store.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { xmlText, type RawResponse } from '../support/s3-raw.ts';
import { FAULTS } from './faults.ts';
import { listed, putPrevious, see, settle, type Seen } from './previous.ts';

/** The two paths of a PUT: collected and sealed whole, and sealed while it passes. */
const SIZES = [
  ['a small body', 100_000],
  ['a streamed body', 3_000_000],
] as const;

interface Outcome {
  readonly before: Seen;
  /** The spoilt upload over an object, and under a key that had none. */
  readonly answers: readonly RawResponse[];
}

describe.each(inject('stores'))('an upload that fails over $name', (store) => {
  const bucket = `interrupted-${randomBytes(4).toString('hex')}`;
  let gateway: TestGateway;
  let site: Site;

  beforeAll(async () => {
    gateway = await startGateway({ store });
    site = new Site(gateway.raw, bucket);
    expect((await site.send('PUT', undefined)).status).toBe(200);
  });
  afterAll(() => gateway.stop());

  describe.each(SIZES)('with %s', (_title, size) => {
    const outcomes = new Map<string, Outcome>();
    const oldKey = (name: string): string => `${size}/old/${name}`;

    beforeAll(async () => {
      const body = randomBytes(size);
      await Promise.all(
        FAULTS.map(async ({ name, request }) => {
          const before = await putPrevious(site, oldKey(name), randomBytes(5000));
          const keys = [oldKey(name), `${size}/new/${name}`];
          const answers = await Promise.all(keys.map((key) => site.send('PUT', key, request(body))));
          outcomes.set(name, { before, answers });
        }),
      );
      await settle(store);
    }, 120_000);

    it.each(FAULTS)('when $name: $status $code, the previous object unchanged', async ({ name, status, code }) => {
      const outcome = outcomes.get(name);
      for (const answer of outcome?.answers ?? []) {
        expect([answer.status, xmlText(answer.text, 'Code')], answer.text).toEqual([status, code]);
      }
      expect(outcome?.answers.length).toBe(2);
      expect(await see(site, oldKey(name))).toEqual(outcome?.before);
    });

    it('lists the previous objects and nothing else, here and at the store', async () => {
      const kept = FAULTS.map(({ name }) => oldKey(name)).sort();
      expect(await listed(site, `${size}/`)).toEqual(kept);
      expect(await listed(new Site(store, bucket), `${size}/`)).toEqual(kept);
    });
  });
});

/**
 * Why the trait exists: what each store does with the body of a cut upload whose end is not part of the message, as
 * it is framed for a store that is said to refuse it.
 */
const CUT_UNFRAMED: Readonly<Record<StoreName, 'kept' | 'lost'>> = {
  devstore: 'kept',
  seaweedfs: 'kept',
  radosgw: 'kept',
  minio: 'kept',
  swift: 'kept',
  // It stores what came of an UNSIGNED-PAYLOAD body, in place of the old object.
  versitygw: 'lost',
};

describe.each(inject('stores'))('with refusesShortBody pinned over $name', (store) => {
  it(`the object under a cut upload is ${CUT_UNFRAMED[store.name]}`, { timeout: 60_000 }, async () => {
    const gateway = await startGateway({ store, config: { store: { traits: { refusesShortBody: true } } } });
    try {
      const site = new Site(gateway.raw, `unframed-${randomBytes(4).toString('hex')}`);
      await site.send('PUT', undefined);
      const before = await putPrevious(site, 'old', randomBytes(5000));
      const expected = CUT_UNFRAMED[store.name];
      const until = Date.now() + (expected === 'lost' ? 30_000 : 0);
      let seen: Seen;
      do {
        const request = { body: randomBytes(3_000_000), payload: 'UNSIGNED-PAYLOAD', cutAfter: 2_000_000 };
        await site.send('PUT', 'old', { ...request, cutDelay: 500 });
        await settle(store);
        seen = await see(site, 'old');
      } while (JSON.stringify(seen) === JSON.stringify(before) && Date.now() < until);
      if (expected === 'kept') expect(seen).toEqual(before);
      else expect(seen.status).not.toBe(200);
    } finally {
      await gateway.stop();
    }
  });
});
