import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { ENVELOPE_HEADER } from '../../src/sse/format.ts';
import { Attacker, codeOf, expectRefused, flipped, type Loot } from '../support/attacker.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { customerKey, MODES } from '../support/modes.ts';
import { s3, type RawResponse } from '../support/s3-raw.ts';

type Headers = Readonly<Record<string, string>>;

/** Offsets of the envelope of a single object (docs/FORMAT.md section 9); negative from its end. */
const FIELDS: readonly (readonly [string, number])[] = [
  ['version', 0],
  ['type', 1],
  ['mode', 2],
  ['flags', 3],
  ['envelope key version', 7],
  ['object id', 8 + 5],
  ['length', 8 + 32 + 7],
  ['metadata digest', 8 + 32 + 8 + 4],
  ['FLOE IV', 8 + 32 + 8 + 32 + 4],
  ['header tag', 8 + 32 + 8 + 32 + 32 + 4],
  ['length of the key id', 8 + 32 + 8 + 32 + 64],
  ['what follows it', 8 + 32 + 8 + 32 + 64 + 2],
  ['wrapped object key', -40],
  ['tag', -1],
];

const ASKED: Headers = {
  'content-type': 'text/plain',
  'cache-control': 'no-cache',
  'content-disposition': 'attachment',
  'x-amz-meta-owner': 'ann',
};

/** Edits of what the metadata digest covers. */
const EDITS: readonly (readonly [string, (headers: Headers) => Headers])[] = [
  ['user metadata edited', (h) => ({ ...h, 'x-amz-meta-owner': 'bob' })],
  ['user metadata added', (h) => ({ ...h, 'x-amz-meta-role': 'admin' })],
  ['user metadata removed', (h) => without(h, 'x-amz-meta-owner')],
  ['user metadata renamed', (h) => ({ ...without(h, 'x-amz-meta-owner'), 'x-amz-meta-owned': 'ann' })],
  ['Content-Type edited', (h) => ({ ...h, 'content-type': 'text/html' })],
  ['Content-Encoding added', (h) => ({ ...h, 'content-encoding': 'gzip' })],
  ['Content-Disposition edited', (h) => ({ ...h, 'content-disposition': 'inline' })],
  ['Content-Language added', (h) => ({ ...h, 'content-language': 'nl' })],
  ['Cache-Control edited', (h) => ({ ...h, 'cache-control': 'public, max-age=31536000' })],
  ['Cache-Control removed', (h) => without(h, 'cache-control')],
  ['Expires added', (h) => ({ ...h, expires: 'Thu, 01 Jan 2037 00:00:00 GMT' })],
];

function without(headers: Headers, name: string): Headers {
  return Object.fromEntries(Object.entries(headers).filter(([other]) => other !== name));
}

function envelopeOf(headers: Headers): string {
  const value = headers[ENVELOPE_HEADER];
  if (value === undefined) throw new Error('the object has no envelope');
  return value;
}

describe.each(inject('stores'))('envelope, metadata and place at $name', (store) => {
  const run = randomBytes(4).toString('hex');
  const bucket = `tamper-envelope-${run}`;
  const neighbour = `tamper-neighbour-${run}`;
  const attacker = new Attacker(store);
  let gateway: TestGateway;
  beforeAll(async () => {
    gateway = await startGateway({ store, tls: true });
    for (const name of [bucket, neighbour]) await make(name);
  });
  afterAll(() => gateway.stop());

  async function make(name: string): Promise<void> {
    expect((await s3(gateway.raw, { method: 'PUT', bucket: name })).status).toBe(200);
  }

  async function put(key: string, headers: Headers, body: Buffer, where = bucket): Promise<void> {
    const { status } = await s3(gateway.raw, { method: 'PUT', bucket: where, key, headers, body });
    expect(status).toBe(200);
  }

  describe.each(MODES)('$name', ({ name, write, read }) => {
    const key = `victim-${name}`;
    const plaintext = randomBytes(1000);
    let loot: Loot;
    beforeAll(async () => {
      await put(key, { ...ASKED, ...write }, plaintext);
      loot = await attacker.take(bucket, key);
    });

    async function readAll(where = key, from = bucket): Promise<[string, RawResponse][]> {
      const ask = (method: 'GET' | 'HEAD', headers: Headers = {}): Promise<RawResponse> =>
        s3(gateway.raw, { method, bucket: from, key: where, headers: { ...read, ...headers } });
      const range = { range: 'bytes=0-9' };
      const answers = await Promise.all([
        ask('GET'),
        ask('GET', range),
        ask('GET', { range: 'bytes=-9' }),
        ask('HEAD'),
      ]);
      return answers.map((answer, i) => [['whole', 'range', 'suffix', 'HEAD'][i] ?? '', answer]);
    }

    async function expectAllRefused(where = key, from = bucket): Promise<void> {
      expectRefused(gateway, await readAll(where, from));
    }

    async function expectAllGiven(): Promise<void> {
      const statuses = (await readAll()).map(([title, { status }]) => `${title} ${status}`);
      expect(statuses).toEqual(['whole 200', 'range 206', 'suffix 206', 'HEAD 200']);
    }

    it('nothing is refused when what was taken is put back', async () => {
      await attacker.plant(bucket, key, loot);
      await expectAllGiven();
    });

    it('a bit of every field of the envelope', async () => {
      const bytes = Buffer.from(envelopeOf(loot.headers), 'base64url');
      for (const [field, offset] of FIELDS) {
        const value = flipped(bytes, offset).toString('base64url');
        await attacker.plant(bucket, key, { ...loot, headers: { ...loot.headers, [ENVELOPE_HEADER]: value } });
        expectRefused(
          gateway,
          (await readAll()).map(([title, answer]) => [`${field}: ${title}`, answer]),
        );
      }
    });

    it('an envelope cut, lengthened, or of other letters', async () => {
      const value = envelopeOf(loot.headers);
      for (const bad of [value.slice(0, -4), `${value}AAAA`, value.slice(0, 8), '-', `${value}=`, 'A'.repeat(1200)]) {
        await attacker.plant(bucket, key, { ...loot, headers: { ...loot.headers, [ENVELOPE_HEADER]: bad } });
        await expectAllRefused();
      }
    });

    it('the envelope stripped: refused, never passed through', async () => {
      await attacker.plant(bucket, key, { ...loot, headers: without(loot.headers, ENVELOPE_HEADER) });
      await expectAllRefused();
      await attacker.plant(bucket, key, { headers: ASKED, body: Buffer.from('plaintext of the attacker') });
      await expectAllRefused();
    });

    it.each(EDITS)('%s', async (_title, edit) => {
      await attacker.plant(bucket, key, { ...loot, headers: edit(loot.headers) });
      await expectAllRefused();
    });

    it('body and metadata under another key', async () => {
      await attacker.plant(bucket, `moved-${name}`, loot);
      await expectAllRefused(`moved-${name}`);
      await attacker.plant(bucket, `dir/${key}`, loot);
      await expectAllRefused(`dir/${key}`);
    });

    it('body and metadata in another bucket', async () => {
      await attacker.plant(neighbour, key, loot);
      await expectAllRefused(key, neighbour);
    });

    it('the envelope of an older version around a newer body, and the reverse', async () => {
      await put(key, { ...ASKED, ...write }, randomBytes(plaintext.length));
      const newer = await attacker.take(bucket, key);
      await attacker.plant(bucket, key, { headers: loot.headers, body: newer.body });
      const mixed = (await readAll()).filter(([title]) => title !== 'HEAD');
      expectRefused(gateway, mixed);
      await attacker.plant(bucket, key, { headers: newer.headers, body: loot.body });
      expectRefused(
        gateway,
        (await readAll()).filter(([title]) => title !== 'HEAD'),
      );
      // A residue that SECURITY.md names: the older version as a whole opens again.
      await attacker.plant(bucket, key, loot);
      await expectAllGiven();
    });

    it("an object of another mode, its envelope's mode changed to this one", async () => {
      for (const other of MODES.filter((mode) => mode.name !== name)) {
        await put(key, { ...ASKED, ...other.write }, plaintext);
        const foreign = await attacker.take(bucket, key);
        const bytes = Buffer.from(envelopeOf(foreign.headers), 'base64url');
        bytes[2] = Buffer.from(envelopeOf(loot.headers), 'base64url')[2] ?? 0;
        const headers = { ...foreign.headers, [ENVELOPE_HEADER]: bytes.toString('base64url') };
        await attacker.plant(bucket, key, { headers, body: foreign.body });
        await expectAllRefused();
      }
    });

    it('a bucket that was deleted and made again: nothing of the old one opens', async () => {
      const doomed = `tamper-doomed-${name.toLowerCase()}-${run}`;
      await make(doomed);
      await put('old', write, plaintext, doomed);
      const old = await attacker.take(doomed, 'old');
      expect((await s3(gateway.raw, { method: 'DELETE', bucket: doomed, key: 'old' })).status).toBe(204);
      expect((await s3(gateway.raw, { method: 'DELETE', bucket: doomed })).status).toBe(204);
      await make(doomed);
      await attacker.plant(doomed, 'old', old);
      await expectAllRefused('old', doomed);
      await put('new', write, plaintext, doomed);
      const answer = await s3(gateway.raw, { method: 'GET', bucket: doomed, key: 'new', headers: read });
      expect(answer.body.equals(plaintext)).toBe(true);
    });
  });

  it('a wrong customer key is 403, not a damaged object; a damaged object is 500 with the right one', async () => {
    const right = customerKey();
    const wrong = customerKey();
    await put('customer', right, randomBytes(1000));
    const get = (headers: Headers, method: 'GET' | 'HEAD' = 'GET'): Promise<RawResponse> =>
      s3(gateway.raw, { method, bucket, key: 'customer', headers });
    const denied = await get(wrong);
    expect([denied.status, codeOf(denied)]).toEqual([403, 'AccessDenied']);
    const ranged = await get({ ...wrong, range: 'bytes=0-1' });
    expect([ranged.status, codeOf(ranged)]).toEqual([403, 'AccessDenied']);
    expect(await get(wrong, 'HEAD')).toMatchObject({ status: 403, text: '' });
    const { headers, body } = await attacker.take(bucket, 'customer');
    await attacker.plant(bucket, 'customer', { headers, body: flipped(body, 100) });
    expectRefused(gateway, [['GET', await get(right)]]);
  });
});
