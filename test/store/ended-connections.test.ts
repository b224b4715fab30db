import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import type { StoreClient, StoreRequest } from '../../src/store/port.ts';
import { clientFor } from './clients.ts';
import { startFakeStore, type FakeConnection } from './fake-store.ts';

const GET: StoreRequest = { method: 'GET', bucket: 'bkt', key: 'k' };
const CLOSE = 'connection: close\r\n';
const PATIENCE_MS = 5_000;
const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  // A connection that stands still for ever must not hold the run: what hangs has failed already.
  for (const close of closers.splice(0).reverse()) await Promise.race([close(), sleep(PATIENCE_MS)]);
});

async function clientOf(answer: (connection: FakeConnection) => void | Promise<void>): Promise<StoreClient> {
  const store = await startFakeStore(async (connection) => {
    await connection.head();
    await answer(connection);
  });
  const client = clientFor({ endpoint: store.endpoint, accessKeyId: 'AK', secretAccessKey: 'secret', region: 'r' });
  closers.push(
    () => store.close(),
    () => client.close(),
  );
  return client;
}

/** Reads with a sink that stands still at every chunk, for long enough that the store's end arrives meanwhile. */
async function readSlowly(client: StoreClient): Promise<string> {
  const response = await client.request(GET);
  await sleep(50);
  const chunks: Buffer[] = [];
  const ended = response.pump({
    write(chunk) {
      chunks.push(chunk);
      setTimeout(() => response.resume(), 50);
      return false;
    },
  });
  const told = ended.then(
    () => Buffer.concat(chunks).toString(),
    (err: unknown) => `${Buffer.concat(chunks).toString()}, then ${(err as { reason?: string }).reason ?? String(err)}`,
  );
  return Promise.race([told, sleep(PATIENCE_MS, 'nothing in time')]);
}

// Each of these ended the whole process before (nodejs/undici#5360): vitest reports what nobody catches.
describe('a store that ends the connection while its answer stands still', () => {
  test('with its answer whole', async () => {
    const client = await clientOf(async (connection) => {
      connection.answer(200, '', CLOSE);
      connection.socket.end();
      await connection.closed();
    });
    expect(await readSlowly(client)).toBe('');
  });

  test('with its body in pieces', async () => {
    const client = await clientOf(async (connection) => {
      connection.send(`HTTP/1.1 200 X\r\ncontent-length: 10\r\n${CLOSE}\r\n`);
      await sleep(20);
      connection.send('01234');
      await sleep(20);
      connection.send('56789');
      connection.socket.end();
    });
    expect(await readSlowly(client)).toBe('0123456789');
  });

  test('after the head', async () => {
    const client = await clientOf(async (connection) => {
      connection.send(`HTTP/1.1 200 X\r\ncontent-length: 10\r\n${CLOSE}\r\n`);
      await sleep(10);
      connection.socket.end();
    });
    expect(await readSlowly(client)).toBe(', then store-body');
  });

  test('after half of the body', async () => {
    const client = await clientOf(async (connection) => {
      connection.send(`HTTP/1.1 200 X\r\ncontent-length: 10\r\n${CLOSE}\r\n01234`);
      await sleep(70);
      connection.socket.end();
    });
    expect(await readSlowly(client)).toBe('01234, then store-body');
  });

  test('after half of the body, on a connection that was to be kept', async () => {
    const client = await clientOf(async (connection) => {
      connection.send('HTTP/1.1 200 X\r\ncontent-length: 10\r\n\r\n01234');
      await sleep(70);
      connection.socket.end();
    });
    expect(await readSlowly(client)).toBe('01234, then store-body');
  });

  test('with all of the body, on a connection that was to be kept', async () => {
    const client = await clientOf(async (connection) => {
      connection.send('HTTP/1.1 200 X\r\ncontent-length: 10\r\n\r\n0123456789');
      await sleep(70);
      connection.socket.end();
    });
    expect(await readSlowly(client)).toBe('0123456789');
  });

  test.each(['content-length: 10\r\n', ''])('by a reset, with %j: never taken for an end', async (length) => {
    const client = await clientOf(async (connection) => {
      connection.send(`HTTP/1.1 200 X\r\n${length}${CLOSE}\r\n01234`);
      await sleep(70);
      connection.socket.resetAndDestroy();
    });
    expect(await readSlowly(client)).toMatch(/^(?:01234)?, then store-body$/);
  });
});
