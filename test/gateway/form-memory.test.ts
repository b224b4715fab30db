import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { encodeForm, formParts, postForm, sendForm, type FormSpec, type SendOptions } from '../support/post-form.ts';
import { s3, xmlText, type RawResponse } from '../support/s3-raw.ts';

const MIB = 1024 ** 2;
const store =
  inject('stores').find(({ name }) => name === 'devstore') ??
  expect.fail('what a store has no part in is asked of one');

const KMS: readonly [string, string][] = [['x-amz-server-side-encryption', 'aws:kms']];

describe('what the files of forms may hold together', () => {
  let gateway: TestGateway;
  const bucket = `form-memory-${randomBytes(4).toString('hex')}`;
  beforeAll(async () => {
    gateway = await startGateway({ store, config: { data: { formMemoryMiB: 16 } } });
    expect((await s3(gateway.raw, { method: 'PUT', bucket })).status).toBe(200);
  });
  afterAll(() => gateway.stop());

  const post = (file: Buffer, spec: FormSpec = {}, options: SendOptions = {}): Promise<RawResponse> =>
    postForm(gateway.raw, bucket, { ...spec, file }, options);
  const formBytes = async (): Promise<number> => {
    const { text } = await gateway.admin('GET', '/metrics');
    return Number(/^s3sse_form_bytes (\d+)$/m.exec(text)?.[1]);
  };
  const told = ({ status, text }: RawResponse): [number, string] => [status, status < 400 ? '' : xmlText(text, 'Code')];

  it('one that does not fit is 503 SlowDown, and fits when others have ended', async () => {
    let release = (): void => undefined;
    const until = new Promise<void>((resolve) => (release = resolve));
    const files = [1, 2].map(() => randomBytes(7 * MIB + 100));
    const held = files.map((file, i) => {
      const form = encodeForm(formParts(gateway.raw, bucket, { fields: [['key', `held-${i}`]], file }));
      return sendForm(gateway.raw, bucket, form, { holdAfter: 7 * MIB, until });
    });
    const other = randomBytes(3 * MIB);
    try {
      await expect.poll(formBytes, { timeout: 10_000 }).toBeGreaterThan(13 * MIB);
      expect(told(await post(other))).toEqual([503, 'SlowDown']);
    } finally {
      release();
    }
    expect((await Promise.all(held)).map(told)).toEqual(files.map(() => [204, '']));
    for (const [i, file] of files.entries()) {
      const read = await s3(gateway.raw, { method: 'GET', bucket, key: `held-${i}` });
      expect(read.body.equals(file)).toBe(true);
    }
    expect(told(await post(other))).toEqual([204, '']);
  });

  // Six times each: what a form of it kept would be more than all there is.
  it.each<[string, FormSpec, SendOptions, number, number]>([
    ['was stored', {}, {}, 4, 204],
    ['was stored in parts', {}, {}, 12, 204],
    ['is too long', { more: [['content-length-range', 0, 3 * MIB]] }, {}, 5, 400],
    ['is too short', { more: [['content-length-range', 5 * MIB, 6 * MIB]] }, {}, 4, 400],
    ['is too long in its second piece', { more: [['content-length-range', 0, 11 * MIB]] }, {}, 12, 400],
    [
      'has an unknown key id',
      { fields: [...KMS, ['x-amz-server-side-encryption-aws-kms-key-id', 'none']] },
      {},
      4,
      400,
    ],
    ['was cut off', {}, { cutAfter: 4 * MIB }, 12, 0],
    ['was cut off in its second piece', {}, { cutAfter: 11 * MIB }, 12, 0],
  ])('a form that %s holds nothing afterwards', async (_title, spec, options, mebibytes, status) => {
    for (let turn = 0; turn < 6; turn += 1) {
      // Who was cut off may be noticed a moment later.
      const answer = async (): Promise<number> => (await post(randomBytes(mebibytes * MIB), spec, options)).status;
      await expect.poll(answer, { timeout: 10_000 }).toBe(status);
    }
    await expect.poll(formBytes, { timeout: 10_000 }).toBe(0);
    expect(told(await post(randomBytes(8 * MIB)))).toEqual([204, '']);
  });
});
