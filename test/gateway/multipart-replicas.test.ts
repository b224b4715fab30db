import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { RawUpload, type Listed } from '../support/multipart.ts';
import { s3, xmlText, xmlTexts, type RawResponse } from '../support/s3-raw.ts';

const MIB = 1024 ** 2;
const bucket = `replicas-${randomBytes(4).toString('hex')}`;
const BODIES = [randomBytes(5 * MIB), randomBytes(5 * MIB + 1), randomBytes(70_000)];

describe.each(inject('stores'))('two gateways over $name', (store) => {
  let a: TestGateway;
  let b: TestGateway;
  beforeAll(async () => {
    a = await startGateway({ store });
    await s3(a.raw, { method: 'PUT', bucket });
    b = await startGateway({ store, replicaOf: a });
  }, 60_000);
  afterAll(async () => {
    await b.stop();
    await a.stop();
  });

  const read = (gateway: TestGateway, key: string): Promise<RawResponse> =>
    s3(gateway.raw, { method: 'GET', bucket, key });

  async function upload(key: string): Promise<{ one: RawUpload; two: RawUpload; parts: Listed[] }> {
    const one = await RawUpload.create(a.raw, bucket, key);
    const two = one.through(b.raw);
    const parts = await Promise.all(BODIES.map((body, i) => (i % 2 === 0 ? one : two).part(i + 1, body)));
    return { one, two, parts };
  }

  it('parts through both; both see all of them; both complete at once: one object, one answer', async () => {
    const { one, two, parts } = await upload('together');
    const lists = await Promise.all([one.list(), two.list()]);
    for (const { text } of lists) {
      expect(xmlTexts(text, 'ETag').map((etag) => etag.replaceAll('"', ''))).toEqual(
        parts.map(({ etag }) => etag.replaceAll('"', '')),
      );
    }
    const answers = await Promise.all([one.complete(parts), two.complete(parts)]);
    expect(answers.map(({ status }) => status)).toEqual([200, 200]);
    expect(new Set(answers.map(({ text }) => xmlText(text, 'ETag'))).size).toBe(1);
    for (const gateway of [a, b])
      expect((await read(gateway, 'together')).body.equals(Buffer.concat(BODIES))).toBe(true);
  });

  it('completes with different lists at once: whoever is told 200 finds an object that opens', async () => {
    const { one, two, parts } = await upload('different');
    const lists = [parts, parts.slice(0, 1)];
    const [first, second] = await Promise.all([one.complete(lists[0] ?? []), two.complete(lists[1] ?? [])]);
    const statuses = [first.status, second.status];
    expect(statuses).toContain(200);
    // 501: a list that leaves a part out, on a store without the trait `completesSubset`.
    const allowed = [200, 400, 404, store.name === 'radosgw' ? 501 : 503, 503];
    for (const status of statuses) expect(allowed).toContain(status);
    const bodies = [Buffer.concat(BODIES), BODIES[0] ?? Buffer.alloc(0)];
    for (const gateway of [a, b]) {
      const { status, body } = await read(gateway, 'different');
      expect(status).toBe(200);
      // One of the lists that were acknowledged, whole.
      expect(bodies.filter((_, i) => statuses[i] === 200).some((whole) => whole.equals(body))).toBe(true);
      const range = await s3(gateway.raw, {
        method: 'GET',
        bucket,
        key: 'different',
        headers: { range: 'bytes=10-19' },
      });
      expect([range.status, range.body.equals(body.subarray(10, 20))]).toEqual([206, true]);
    }
  });

  it('an upload that one has aborted takes no part through the other, which has it in its cache', async () => {
    const one = await RawUpload.create(a.raw, bucket, 'aborted');
    const two = one.through(b.raw);
    const part = await two.part(1, BODIES[0] ?? Buffer.alloc(0));
    expect((await one.abort()).status).toBe(204);
    // versitygw refuses a long body by breaking the connection, often before its answer has arrived: that is a 503.
    expect([404, 503]).toContain((await two.send(2, { body: BODIES[1] ?? '' })).status);
    const late = [await two.send(2, { body: 'small' }), await two.complete([part])];
    expect(late.map(({ status, text }) => [status, xmlText(text, 'Code')])).toEqual(
      late.map(() => [404, 'NoSuchUpload']),
    );
  });
});
