import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { setReleasing } from '../../src/bytes.ts';
import type { StoreClient, StoreTraits, StoreUpload } from '../../src/store/port.ts';
import { CAREFUL_TRAITS } from '../../src/store/traits.ts';
import { ALL_TRAITS, clientFor } from './clients.ts';
import { startFakeStore, type FakeConnection, type FakeHead, type FakeStore } from './fake-store.ts';

const TIMEOUTS = {
  connectMs: 5000,
  idleMs: 250,
  headersMs: 250,
  slowHeadersMs: 500,
  continueMs: 150,
  keepAliveMs: 4000,
};
const MIB = 1024 * 1024;
const UNREACHABLE = { code: 'ServiceUnavailable', reason: 'store-unreachable' };
/** Before the whole body had gone. */
const BROKEN_OFF = { code: 'ServiceUnavailable', reason: 'store-unreachable-midway' };
const AT = { bucket: 'bkt', key: 'k' };

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function fixture(
  script: (connection: FakeConnection) => Promise<void>,
  traits: StoreTraits = ALL_TRAITS,
): Promise<{ store: FakeStore; client: StoreClient }> {
  const store = await startFakeStore(script);
  const target = { endpoint: store.endpoint, accessKeyId: 'AK', secretAccessKey: 'secret', region: 'us-east-1' };
  const client = clientFor(target, traits, { timeouts: TIMEOUTS });
  closers.push(
    () => store.close(),
    () => client.close(),
  );
  return { store, client };
}

interface Taken {
  readonly head: FakeHead;
  readonly body: Buffer;
}

/** Takes uploads as a good store would, and remembers them. */
const takes =
  (taken: Taken[]) =>
  async (connection: FakeConnection): Promise<void> => {
    for (let head = await connection.head(); head !== undefined; head = await connection.head()) {
      if (head.headers['expect'] !== undefined) connection.send('HTTP/1.1 100 Continue\r\n\r\n');
      taken.push({ head, body: await connection.read(Number(head.headers['content-length'])) });
      connection.answer(200, '', 'etag: "e"\r\n');
    }
  };

/** Gives `body` away in buffers of `size`, each solely owned. Returns them. */
async function give(upload: StoreUpload, body: Buffer, size = 65_568): Promise<Buffer[]> {
  const given: Buffer[] = [];
  for (let at = 0; at < body.byteLength; at += size) {
    const slice = body.subarray(at, at + size);
    const own = Buffer.from(new ArrayBuffer(slice.byteLength));
    slice.copy(own);
    given.push(own);
    if (!upload.write(own)) await upload.drained();
  }
  return given;
}

const digest = (body: Buffer): string => createHash('sha256').update(body).digest('hex');

describe.each([true, false])('upload, releasing %s', (releasing) => {
  let inForce = false;
  beforeAll(() => {
    inForce = setReleasing(releasing);
  });
  afterAll(() => {
    setReleasing(true);
  });

  test.each([
    [1, 1],
    [1000, 7],
    [65_536, 65_536],
    [MIB, 65_568],
    [MIB + 1, 65_568],
    [5_000_000, 65_568],
    [5_000_000, 300_001],
  ])('of %i bytes in buffers of %i arrives whole', async (length, size) => {
    const taken: Taken[] = [];
    const { client } = await fixture(takes(taken));
    const body = randomBytes(length);
    const upload = client.upload({ ...AT, headers: { 'content-type': 'text/x' } }, length);
    const given = await give(upload, body, size);
    upload.end();
    const response = await upload.response;
    expect(response.status).toBe(200);
    expect(response.headers['etag']).toBe('"e"');
    expect(taken).toHaveLength(1);
    expect(digest(taken[0]?.body ?? Buffer.alloc(0))).toBe(digest(body));
    expect(taken[0]?.head.headers).toMatchObject({
      'content-type': 'text/x',
      'content-length': String(length),
      'x-amz-content-sha256': 'UNSIGNED-PAYLOAD',
    });
    // What was given away is freed where that is switched on, and only there.
    expect(given.every((buffer) => buffer.byteLength === 0)).toBe(inForce);
  });

  test.each([
    ['trailers', { ...CAREFUL_TRAITS, acceptsTrailers: true }],
    ['signed chunks', CAREFUL_TRAITS],
  ])('framed by %s carries the same bytes, between its frames', async (_title, traits) => {
    const taken: Taken[] = [];
    const { client } = await fixture(takes(taken), traits);
    const body = randomBytes(3 * MIB + 17);
    const upload = client.upload({ ...AT, headers: { 'content-encoding': 'gzip' } }, body.byteLength);
    await give(upload, body);
    upload.end();
    expect((await upload.response).status).toBe(200);
    const { head, body: wire } = taken[0] ?? expect.fail('nothing taken');
    expect(digest(unframe(wire))).toBe(digest(body));
    expect(head.headers['x-amz-decoded-content-length']).toBe(String(body.byteLength));
    // versitygw would keep `aws-chunked` on the object; the object's own coding stays.
    expect(head.headers['content-encoding']).toBe('gzip');
  });

  test.each([
    ['plain', ALL_TRAITS, /^$/],
    ['with a trailer', { ...CAREFUL_TRAITS, acceptsTrailers: true }, /^0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n$/],
    ['with signed chunks', CAREFUL_TRAITS, /^0;chunk-signature=[0-9a-f]{64}\r\n\r\n$/],
  ])('of nothing, %s, sends nothing before its end', async (_title, traits, body) => {
    const taken: Taken[] = [];
    const { store, client } = await fixture(takes(taken), traits);
    const upload = client.upload(AT, 0);
    await sleep(50);
    expect(store.connections).toHaveLength(0);
    upload.end();
    expect((await upload.response).status).toBe(200);
    expect(taken[0]?.body.toString('latin1')).toMatch(body);
  });

  test.each([
    ['in its middle', 300_000, ALL_TRAITS],
    ['after its last byte was given', 600_000, ALL_TRAITS],
    ['after its last byte was given, with trailers', 600_000, { ...CAREFUL_TRAITS, acceptsTrailers: true }],
    ['after its last byte was given, with signed chunks', 600_000, CAREFUL_TRAITS],
  ])('destroyed %s leaves the store with a short body', async (_title, given, traits) => {
    let announced = 0;
    let arrived = Infinity;
    const { client } = await fixture(async (connection) => {
      announced = Number((await connection.head())?.headers['content-length']);
      arrived = (await connection.read(announced)).byteLength;
    }, traits);
    const upload = client.upload(AT, 600_000);
    await give(upload, randomBytes(given), 50_000);
    await sleep(30);
    upload.destroy();
    await expect(upload.response).rejects.toMatchObject({ reason: 'store-aborted' });
    await expect.poll(() => arrived).toBeLessThan(announced);
    expect(announced).toBeGreaterThanOrEqual(600_000);
  });

  test('more or fewer bytes than announced break it', async () => {
    const taken: Taken[] = [];
    const { client } = await fixture(takes(taken));
    const over = client.upload(AT, 10);
    expect(() => over.write(Buffer.alloc(11))).toThrow('more bytes');
    await expect(over.response).rejects.toThrow('more bytes');
    const under = client.upload(AT, 10);
    under.write(Buffer.alloc(9));
    expect(() => under.end()).toThrow('fewer bytes');
    await expect(under.response).rejects.toThrow('fewer bytes');
    await sleep(50);
    expect(taken.every(({ head, body }) => body.byteLength < Number(head.headers['content-length']))).toBe(true);
  });

  test('an abort by signal breaks it', async () => {
    let arrived = Infinity;
    const { client } = await fixture(async (connection) => {
      await connection.head();
      arrived = (await connection.read(600_000)).byteLength;
    });
    const controller = new AbortController();
    const upload = client.upload({ ...AT, signal: controller.signal }, 600_000);
    await give(upload, randomBytes(100_000));
    await sleep(30);
    controller.abort();
    await expect(upload.response).rejects.toMatchObject({ reason: 'store-aborted' });
    await expect(upload.drained()).rejects.toMatchObject({ reason: 'store-aborted' });
    await expect.poll(() => arrived).toBeLessThan(600_000);
  });
});

describe('100-continue', () => {
  test('above 1 MiB nothing of the body is sent before the store says so', async () => {
    const before: number[] = [];
    const { client } = await fixture(async (connection) => {
      const head = await connection.head();
      expect(head?.headers['expect']).toBe('100-continue');
      await sleep(60);
      before.push(connection.pending);
      connection.send('HTTP/1.1 100 Continue\r\n\r\n');
      await connection.read(2 * MIB);
      connection.answer(200);
    });
    const body = randomBytes(2 * MIB);
    const upload = client.upload(AT, body.byteLength);
    await give(upload, body);
    upload.end();
    expect((await upload.response).status).toBe(200);
    expect(before).toEqual([0]);
  });

  test('a store that says nothing gets the body after a while', async () => {
    const { client } = await fixture(async (connection) => {
      await connection.head();
      await connection.read(2 * MIB);
      connection.answer(200);
    });
    const upload = client.upload(AT, 2 * MIB);
    await give(upload, randomBytes(2 * MIB));
    upload.end();
    expect((await upload.response).status).toBe(200);
  });

  test('up to 1 MiB it is not asked for', async () => {
    const taken: Taken[] = [];
    const { client } = await fixture(takes(taken));
    const upload = client.upload(AT, MIB);
    await give(upload, randomBytes(MIB));
    upload.end();
    await upload.response;
    expect(taken[0]?.head.headers['expect']).toBeUndefined();
  });

  test('a refusal instead of it is the answer, and no byte of the body was sent', async () => {
    let pending = -1;
    const { client } = await fixture(async (connection) => {
      await connection.head();
      connection.answer(412, '<Error/>');
      await sleep(50);
      pending = connection.pending;
    });
    const upload = client.upload(AT, 2 * MIB);
    const response = await upload.response;
    expect(response.status).toBe(412);
    expect(upload.answered).toBe(true);
    // The writer notices whenever it likes.
    expect(upload.write(Buffer.alloc(MIB))).toBe(true);
    await upload.drained();
    expect((await response.collect(100)).toString()).toBe('<Error/>');
    upload.end();
    await expect.poll(() => pending).toBe(0);
  });
});

describe('a store that answers early', () => {
  const early =
    (status: number) =>
    async (connection: FakeConnection): Promise<void> => {
      await connection.head();
      await connection.read(50_000);
      connection.answer(status, 'no');
      await connection.closed();
    };

  test.each([400, 403, 500, 503])('with %i: no more is written, and the answer is given on', async (status) => {
    const { store, client } = await fixture(early(status));
    const upload = client.upload(AT, 900_000);
    upload.write(Buffer.alloc(50_000));
    const response = await upload.response;
    await give(upload, Buffer.alloc(850_000));
    upload.end();
    expect(response.status).toBe(status);
    expect((await response.collect(10)).toString()).toBe('no');
    await expect.poll(() => store.connections[0]?.ended).toBe(true);
    expect(store.connections[0]?.pending).toBe(0);
  });

  test('with success is not believed', async () => {
    const { client } = await fixture(early(200));
    const upload = client.upload(AT, 900_000);
    upload.write(Buffer.alloc(50_000));
    await expect(upload.response).rejects.toMatchObject(UNREACHABLE);
    await expect(upload.drained()).rejects.toMatchObject(UNREACHABLE);
  });
});

describe('a kept-alive connection that the store closed', () => {
  /** The first connection takes one upload and breaks at the second head. */
  const stale =
    (taken: Taken[]) =>
    async (connection: FakeConnection): Promise<void> => {
      if (connection.index > 0) {
        await takes(taken)(connection);
        return;
      }
      await connection.head();
      await connection.read(1);
      connection.answer(200);
      await connection.head();
      connection.socket.resetAndDestroy();
    };

  async function warm(client: StoreClient): Promise<void> {
    const upload = client.upload(AT, 1);
    upload.write(Buffer.from('x'));
    upload.end();
    await (await upload.response).collect(10);
    await sleep(20);
  }

  test('before a byte of the body was sent: the same request goes over a new one', async () => {
    const taken: Taken[] = [];
    const { store, client } = await fixture(stale(taken), CAREFUL_TRAITS);
    // Warmed with a plain body: the fake does not look at frames.
    const first = client.upload(AT, 1);
    first.write(Buffer.from('x'));
    first.end();
    await (await first.response).collect(10);
    await sleep(20);
    const body = randomBytes(2 * MIB);
    const upload = client.upload(AT, body.byteLength);
    await give(upload, body);
    upload.end();
    expect((await upload.response).status).toBe(200);
    expect(store.connections).toHaveLength(2);
    expect(digest(unframe(taken[0]?.body ?? Buffer.alloc(0)))).toBe(digest(body));
  });

  test.each([
    ['a conditional request', 2 * MIB, { 'if-none-match': '*' }],
    ['one whose body may have been sent', MIB, {}],
  ])('%s is not sent twice', async (_title, length, headers) => {
    const { store, client } = await fixture(stale([]));
    await warm(client);
    const upload = client.upload({ ...AT, headers }, length);
    give(upload, randomBytes(length)).catch(() => undefined);
    await expect(upload.response).rejects.toMatchObject(BROKEN_OFF);
    expect(store.connections).toHaveLength(1);
  });
});

describe('a slow store', () => {
  test('makes the writer wait within bounds, and fails the upload when it stays silent', async () => {
    const { client } = await fixture(async (connection) => {
      await connection.head();
      connection.socket.pause();
      await connection.closed();
    });
    const upload = client.upload(AT, MIB * 64);
    let taken = 0;
    const filling = (async () => {
      for (; taken < MIB * 63; taken += 65_536) if (!upload.write(Buffer.alloc(65_536))) await upload.drained();
    })();
    await expect(upload.response).rejects.toMatchObject(BROKEN_OFF);
    await expect(filling).rejects.toMatchObject(BROKEN_OFF);
    // The kernel's buffers and ours.
    expect(taken).toBeLessThan(MIB * 16);
  });

  test('is not blamed for a slow writer', async () => {
    const taken: Taken[] = [];
    const { client } = await fixture(takes(taken));
    const upload = client.upload(AT, 20);
    upload.write(Buffer.alloc(10));
    await sleep(600);
    upload.write(Buffer.alloc(10));
    upload.end();
    expect((await upload.response).status).toBe(200);
  });

  test('that never answers is given up', async () => {
    const { client } = await fixture(async (connection) => {
      await connection.head();
      await connection.closed();
    });
    const upload = client.upload(AT, 10);
    upload.write(Buffer.alloc(10));
    upload.end();
    await expect(upload.response).rejects.toMatchObject(UNREACHABLE);
  });

  test('that resets in the middle fails both the answer and the writer', async () => {
    const { client } = await fixture(async (connection) => {
      await connection.head();
      await connection.read(100_000);
      connection.socket.resetAndDestroy();
    });
    const upload = client.upload(AT, MIB);
    await expect(
      (async () => {
        await give(upload, randomBytes(MIB));
        await sleep(100);
        await upload.drained();
      })(),
    ).rejects.toMatchObject(BROKEN_OFF);
    await expect(upload.response).rejects.toMatchObject(BROKEN_OFF);
  });
});

/** The payload of an aws-chunked body. */
function unframe(wire: Buffer): Buffer {
  const out: Buffer[] = [];
  for (let at = 0; ;) {
    const line = wire.indexOf('\r\n', at);
    const size = Number.parseInt(wire.toString('latin1', at, line), 16);
    if (!(size > 0)) return Buffer.concat(out);
    out.push(wire.subarray(line + 2, line + 2 + size));
    at = line + 2 + size + 2;
  }
}
