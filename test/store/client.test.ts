import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { locator } from '../../src/store/address.ts';
import type { StoreClient, StoreRequest } from '../../src/store/port.ts';
import { encodeKey } from '../../src/sigv4/encode.ts';
import { ALL_TRAITS, clientFor } from './clients.ts';
import { startFakeStore, type FakeConnection, type FakeStore } from './fake-store.ts';

const TIMEOUTS = {
  connectMs: 5000,
  idleMs: 250,
  headersMs: 250,
  slowHeadersMs: 9000,
  continueMs: 100,
  keepAliveMs: 4000,
};
const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function fixture(
  script: (connection: FakeConnection) => Promise<void>,
): Promise<{ store: FakeStore; client: StoreClient }> {
  const store = await startFakeStore(script);
  const target = { endpoint: store.endpoint, accessKeyId: 'AK', secretAccessKey: 'secret', region: 'us-east-1' };
  const client = clientFor(target, ALL_TRAITS, { timeouts: TIMEOUTS });
  closers.push(
    () => store.close(),
    () => client.close(),
  );
  return { store, client };
}

/** Answers every request of a connection alike. */
const always =
  (status: number, body = '') =>
  async (connection: FakeConnection): Promise<void> => {
    while ((await connection.head()) !== undefined) connection.answer(status, body);
  };

const GET: StoreRequest = { method: 'GET', bucket: 'bkt', key: 'k' };
const UNREACHABLE = { code: 'ServiceUnavailable', reason: 'store-unreachable' };
const BROKEN = { code: 'ServiceUnavailable', reason: 'store-body' };

describe('the head of a request', () => {
  test.each([
    ['a//b', '/bkt/a//b'],
    ['/x', '/bkt//x'],
    ['a/../b', '/bkt/a/../b'],
    ['./a/.', '/bkt/./a/.'],
    ['100%', '/bkt/100%25'],
    ['%2e%2e/x', '/bkt/%252e%252e/x'],
    ['a+b c', '/bkt/a%2Bb%20c'],
    ['grüße/日本', '/bkt/gr%C3%BC%C3%9Fe/%E6%97%A5%E6%9C%AC'],
    ["!'()*~", '/bkt/%21%27%28%29%2A~'],
    ['q?x#y', '/bkt/q%3Fx%23y'],
    ['photos/', '/bkt/photos/'],
  ])('key %j stands on the wire as %s, in requests and in uploads', async (key, path) => {
    const lines: string[] = [];
    const { client } = await fixture(async (connection) => {
      for (let head = await connection.head(); head !== undefined; head = await connection.head()) {
        lines.push(head.line);
        await connection.read(Number(head.headers['content-length'] ?? 0));
        connection.answer(200);
      }
    });
    (await client.request({ ...GET, key })).discard();
    const upload = client.upload({ bucket: 'bkt', key }, 1);
    upload.write(Buffer.from('x'));
    upload.end();
    await upload.response;
    expect(lines).toEqual([`GET ${path} HTTP/1.1`, `PUT ${path} HTTP/1.1`]);
  });

  test('asks for the bytes as they are stored, and keeps header bytes and the query as given', async () => {
    const heads: unknown[] = [];
    const { client } = await fixture(async (connection) => {
      heads.push(await connection.head());
      connection.answer(200);
    });
    await client.request({
      method: 'PUT',
      bucket: 'bkt',
      key: 'k',
      query: [
        ['uploads', ''],
        ['prefix', 'a b+&='],
      ],
      headers: { 'x-amz-meta-a': 'two  spaces', 'x-amz-meta-b': Buffer.from('é', 'utf8').toString('latin1') },
      body: Buffer.from('hello'),
    });
    expect(heads).toMatchObject([
      {
        line: 'PUT /bkt/k?prefix=a%20b%2B%26%3D&uploads= HTTP/1.1',
        headers: {
          'accept-encoding': 'identity',
          'content-length': '5',
          'x-amz-content-sha256': '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824',
          'x-amz-meta-a': 'two  spaces',
          'x-amz-meta-b': 'Ã©',
        },
      },
    ]);
  });

  test.each([
    [true, 'https://s3.test:9000/base/', { host: 's3.test:9000', path: '/base/bkt/a//b' }],
    [false, 'https://s3.test:9000/base/', { host: 'bkt.s3.test:9000', path: '/base/a//b' }],
    [false, 'https://s3.test:443', { host: 'bkt.s3.test', path: '/a//b' }],
    [true, 'http://[::1]:9000', { host: '[::1]:9000', path: '/bkt/a//b' }],
  ])('path style %s at %s', (pathStyle, endpoint, expected) => {
    const locate = locator(new URL(endpoint), pathStyle);
    expect(locate({ bucket: 'bkt', key: 'a//b' }, encodeKey)).toMatchObject(expected);
  });

  test.each(['a/b', '..', 'x@evil', 'x:1', 'x?y', ''])(
    '%j is no bucket name: it never reaches a path or a host',
    (bucket) => {
      const locate = locator(new URL('http://s3.test'), false);
      expect(() => locate({ bucket, key: 'k' }, encodeKey)).toThrow('bucket name');
    },
  );

  test('a header value that would begin another header is refused before a connection is made', async () => {
    const { store, client } = await fixture(always(200));
    const request = { ...GET, headers: { 'x-amz-meta-a': 'x\r\nx-evil: 1' } };
    await expect(async () => client.request(request)).rejects.toThrow();
    expect(store.connections).toHaveLength(0);
  });
});

describe('an answer', () => {
  test('any status is an answer; headers are lower-cased and without a prototype', async () => {
    const { client } = await fixture(async (connection) => {
      await connection.head();
      connection.answer(503, 'busy', 'ETag: "x"\r\nX-Twice: 1\r\nX-Twice: 2\r\n__proto__: p\r\n');
    });
    const response = await client.request(GET);
    expect(response.status).toBe(503);
    expect(response.headers).toMatchObject({ etag: '"x"', 'x-twice': '1, 2' });
    expect(Object.getPrototypeOf(response.headers)).toBe(null);
    expect((await response.collect(10)).toString()).toBe('busy');
  });

  test('stands still before it is pumped and when its sink asks for a pause', async () => {
    const size = 64 * 1024 * 1024;
    let sent = 0;
    const { client } = await fixture(async (connection) => {
      await connection.head();
      connection.send(`HTTP/1.1 200 OK\r\ncontent-length: ${size}\r\n\r\n`);
      const chunk = Buffer.alloc(64 * 1024);
      while (sent < size && !connection.socket.destroyed) {
        sent += chunk.byteLength;
        if (!connection.socket.write(chunk)) await new Promise((resolve) => connection.socket.once('drain', resolve));
      }
    });
    const response = await client.request(GET);
    // Longer than the idle timeout: it is the client that is slow here, not the store.
    await sleep(400);
    const beforePump = sent;
    let received = 0;
    let paused = 0;
    const atPause = { received: 0, external: 0 };
    const later = { received: 0, external: 0, sent: 0 };
    await response.pump({
      write(chunk) {
        received += chunk.byteLength;
        if (received < size / 2 || paused > 0) return true;
        paused = received;
        Object.assign(atPause, { received, external: process.memoryUsage().external });
        setTimeout(() => {
          Object.assign(later, { received, external: process.memoryUsage().external, sent });
          response.resume();
        }, 400);
        return false;
      },
    });
    expect(later.received).toBe(atPause.received);
    expect(later.external - atPause.external).toBeLessThan(8 * 1024 * 1024);
    expect(later.sent - later.received).toBeLessThan(16 * 1024 * 1024);
    // What the kernel's buffers take.
    expect(beforePump).toBeLessThan(16 * 1024 * 1024);
    expect(received).toBe(size);
    expect(paused).toBeGreaterThan(0);
  });

  test('arrives whole through a sink that pauses at every chunk, resuming at once or later', async () => {
    const body = randomBytes(700_000);
    const { client } = await fixture(async (connection) => {
      await connection.head();
      connection.answer(200, body);
    });
    const response = await client.request(GET);
    const chunks: Buffer[] = [];
    await response.pump({
      write(chunk) {
        chunks.push(chunk);
        if (chunks.length % 2 === 0) response.resume();
        else setTimeout(() => response.resume(), 1);
        return false;
      },
    });
    expect(Buffer.concat(chunks).equals(body)).toBe(true);
  });

  test("a sink's error is the pump's, and the connection is destroyed", async () => {
    let over = false;
    const { client } = await fixture(async (connection) => {
      await connection.head();
      connection.send('HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n', Buffer.alloc(1000));
      await connection.closed();
      over = true;
    });
    const wrongTag = new Error('wrong tag');
    const response = await client.request(GET);
    const pumped = response.pump({
      write() {
        throw wrongTag;
      },
    });
    await expect(pumped).rejects.toBe(wrongTag);
    await expect.poll(() => over).toBe(true);
  });

  test.each([
    ['a body shorter than its Content-Length', 'content-length: 100\r\n\r\nhalf', 'end'],
    ['a body cut by a reset', 'content-length: 100\r\n\r\nhalf', 'reset'],
    ['a chunked body without its end', 'transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n', 'end'],
    ['a body that stalls', 'content-length: 100\r\n\r\nhalf', 'stall'],
  ])('%s is an error, not an end', async (_title, rest, end) => {
    const { client } = await fixture(async (connection) => {
      await connection.head();
      connection.send(`HTTP/1.1 200 OK\r\n${rest}`);
      await sleep(30);
      if (end === 'end') connection.socket.end();
      if (end === 'reset') connection.socket.resetAndDestroy();
      await connection.closed();
    });
    const response = await client.request(GET);
    await expect(response.collect(1000)).rejects.toMatchObject(BROKEN);
  });

  test('that broke before it was read is an error when it is read', async () => {
    const { client } = await fixture(async (connection) => {
      await connection.head();
      connection.send('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n');
      await sleep(30);
      connection.socket.resetAndDestroy();
    });
    const response = await client.request(GET);
    await sleep(100);
    await expect(response.collect(1000)).rejects.toMatchObject(BROKEN);
  });

  test.each([
    ['with a Content-Length', 'content-length: 11\r\n\r\nhello world'],
    ['in chunks', 'transfer-encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n'],
  ])('above the limit of collect is refused, %s', async (_title, rest) => {
    const { client } = await fixture(async (connection) => {
      await connection.head();
      connection.send(`HTTP/1.1 200 OK\r\n${rest}`);
    });
    const over = await client.request(GET);
    await expect(over.collect(10)).rejects.toMatchObject({ code: 'InternalError', reason: 'store-answer-too-long' });
    const at = await client.request(GET);
    expect((await at.collect(11)).toString()).toBe('hello world');
  });

  test('given up: a short one leaves its connection usable, a long one destroys it', async () => {
    const { store, client } = await fixture(async (connection) => {
      await connection.head();
      connection.answer(200, Buffer.alloc(1000));
      if ((await connection.head()) !== undefined) connection.answer(200, Buffer.alloc(1_000_000), 'x-second: 1\r\n');
      await connection.closed();
    });
    (await client.request(GET)).discard();
    await sleep(30);
    const long = await client.request(GET);
    expect(long.headers['x-second']).toBe('1');
    expect(store.connections).toHaveLength(1);
    long.discard();
    await expect.poll(() => store.connections[0]?.socket.closed).toBe(true);
  });

  test.each(['HEAD', 'DELETE'] as const)(
    'to %s without a body needs no reader, and its connection is used again',
    async (method) => {
      const { store, client } = await fixture(async (connection) => {
        while ((await connection.head()) !== undefined) connection.send('HTTP/1.1 204 No Content\r\n\r\n');
      });
      for (let i = 0; i < 3; i++) {
        expect((await client.request({ ...GET, method })).status).toBe(204);
        await sleep(10);
      }
      expect(store.connections).toHaveLength(1);
    },
  );

  test('is read once', async () => {
    const { client } = await fixture(always(200, 'x'));
    const response = await client.request(GET);
    await response.collect(10);
    await expect(response.collect(10)).rejects.toThrow('once');
  });
});

describe('no answer', () => {
  test('a refused connection is 503, and says nothing of the store', async () => {
    const { store, client } = await fixture(always(200));
    await store.close();
    closers.shift();
    const failed = client.request(GET);
    await expect(failed).rejects.toMatchObject(UNREACHABLE);
    await expect(failed).rejects.not.toThrow(store.endpoint.port);
  });

  test('silence ends at the headers timeout; POST and copies may take longer', async () => {
    const { client } = await fixture(async (connection) => {
      await connection.head();
      // undici looks at its timers every half second.
      await sleep(2000);
      connection.answer(200);
    });
    const copy = { ...GET, method: 'PUT' as const, headers: { 'x-amz-copy-source': 'bkt/k' } };
    const [get, put, post, copied] = await Promise.allSettled([
      client.request(GET),
      client.request({ ...GET, method: 'PUT' }),
      client.request({ ...GET, method: 'POST' }),
      client.request(copy),
    ]);
    expect([get, put]).toMatchObject([{ reason: UNREACHABLE }, { reason: UNREACHABLE }]);
    expect([post, copied]).toMatchObject([{ value: { status: 200 } }, { value: { status: 200 } }]);
  });

  test('an answer that is not HTTP', async () => {
    const { client } = await fixture(async (connection) => {
      await connection.head();
      connection.send('SSH-2.0-OpenSSH_9\r\n\r\n');
    });
    await expect(client.request(GET)).rejects.toMatchObject(UNREACHABLE);
  });

  test('an abort, before and during', async () => {
    let over = 0;
    const { store, client } = await fixture(async (connection) => {
      await connection.head();
      connection.send('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf');
      await connection.closed();
      over++;
    });
    await expect(client.request({ ...GET, signal: AbortSignal.abort() })).rejects.toMatchObject({
      reason: 'store-aborted',
    });
    expect(store.connections).toHaveLength(0);
    const controller = new AbortController();
    const response = await client.request({ ...GET, signal: controller.signal });
    const pumped = response.collect(100);
    controller.abort();
    await expect(pumped).rejects.toMatchObject({ reason: 'store-aborted' });
    await expect.poll(() => over).toBeGreaterThan(0);
  });
});

describe('a kept-alive connection that the store closed', () => {
  /** The first connection serves once and closes at the second request; `later` says what the next ones do. */
  const stale =
    (ending: 'end' | 'reset', later: (connection: FakeConnection) => Promise<void>, seen: string[]) =>
    async (connection: FakeConnection): Promise<void> => {
      if (connection.index > 0) {
        await later(connection);
        return;
      }
      await connection.head();
      connection.answer(200, 'warm');
      seen.push((await connection.head())?.line ?? 'closed');
      if (ending === 'end') connection.socket.destroy();
      else connection.socket.resetAndDestroy();
    };

  async function warm(client: StoreClient): Promise<void> {
    await (await client.request(GET)).collect(10);
    await sleep(10);
  }

  test.each([
    ['GET', 'end'],
    ['GET', 'reset'],
    ['HEAD', 'end'],
    ['HEAD', 'reset'],
  ] as const)('%s is sent once more, on a new connection (%s)', async (method, ending) => {
    const seen: string[] = [];
    const { store, client } = await fixture(stale(ending, always(200), seen));
    await warm(client);
    expect((await client.request({ ...GET, method })).status).toBe(200);
    expect(seen).toEqual([`${method} /bkt/k HTTP/1.1`]);
    expect(store.connections).toHaveLength(2);
  });

  test.each([
    ['PUT', {}],
    ['POST', {}],
    ['DELETE', {}],
    ['GET', { 'if-match': '"x"' }],
    ['HEAD', { 'if-none-match': '*' }],
  ] as const)('%s %j is not', async (method, headers) => {
    const { store, client } = await fixture(stale('reset', always(200), []));
    await warm(client);
    await expect(client.request({ ...GET, method, headers })).rejects.toMatchObject(UNREACHABLE);
    expect(store.connections).toHaveLength(1);
  });

  test('nor is it sent a third time, nor after a new connection broke', async () => {
    const broken = async (connection: FakeConnection): Promise<void> => {
      await connection.head();
      connection.socket.resetAndDestroy();
    };
    const { store, client } = await fixture(stale('end', broken, []));
    await warm(client);
    await expect(client.request(GET)).rejects.toMatchObject(UNREACHABLE);
    expect(store.connections).toHaveLength(2);
    await expect(client.request(GET)).rejects.toMatchObject(UNREACHABLE);
    expect(store.connections).toHaveLength(3);
  });
});
