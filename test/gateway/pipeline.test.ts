import { createHash, createHmac, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { startGateway, USER, type TestGateway } from '../support/gateway.ts';
import { s3 } from '../support/s3-raw.ts';
import { startStoreProxy, type StoreProxy } from '../support/store-proxy.ts';

const store = inject('stores')[0] ?? expect.fail('no store runs');
const bucket = `pipeline-${randomBytes(4).toString('hex')}`;
let proxy: StoreProxy;
let gateway: TestGateway;

beforeAll(async () => {
  proxy = await startStoreProxy(store);
  gateway = await startGateway({ store: proxy.store });
  for (const [key, body] of [
    [undefined, undefined],
    ['large', randomBytes(16 * 1024 * 1024)],
    ['small', 'small'],
  ] as const) {
    const put = await s3(gateway.raw, { method: 'PUT', bucket, ...(key === undefined ? {} : { key, body }) });
    expect(put.status).toBe(200);
  }
});
afterAll(async () => {
  await gateway.stop();
  await proxy.stop();
});

/** A signed GET as it is on the wire. */
function get(key: string): string {
  const { host } = new URL(gateway.raw.endpoint);
  const timestamp = new Date().toISOString().replace(/[-:]|\.\d+/g, '');
  const scope = `${timestamp.slice(0, 8)}/us-east-1/s3/aws4_request`;
  const headers = `host:${host}\nx-amz-content-sha256:UNSIGNED-PAYLOAD\nx-amz-date:${timestamp}\n`;
  const names = 'host;x-amz-content-sha256;x-amz-date';
  const canonical = `GET\n/${bucket}/${key}\n\n${headers}\n${names}\nUNSIGNED-PAYLOAD`;
  const hmac = (secret: Buffer | string, text: string): Buffer => createHmac('sha256', secret).update(text).digest();
  const signingKey = scope.split('/').reduce(hmac, Buffer.from(`AWS4${USER.secretAccessKey}`));
  const digest = createHash('sha256').update(canonical).digest('hex');
  const signature = hmac(signingKey, `AWS4-HMAC-SHA256\n${timestamp}\n${scope}\n${digest}`).toString('hex');
  const authorization = `AWS4-HMAC-SHA256 Credential=${USER.accessKeyId}/${scope}, SignedHeaders=${names}, Signature=${signature}`;
  return `GET /${bucket}/${key} HTTP/1.1\n${headers}authorization: ${authorization}\n\n`.replaceAll('\n', '\r\n');
}

async function open(): Promise<Socket> {
  const { hostname, port } = new URL(gateway.raw.endpoint);
  const socket = connect(Number(port), hostname);
  await once(socket, 'connect');
  return socket;
}

it('a pipeline that nobody reads holds one connection to the store, and none when its client has left', async () => {
  const calls = await proxy.callsOf(async () => {
    const socket = await open();
    socket.pause();
    socket.write(get('large').repeat(20));
    await sleep(1000);
    socket.destroy();
    await sleep(500);
  });
  expect(calls.map(({ target }) => target)).toEqual([`/${bucket}/large`]);
});

it('answers a pipeline in its order', async () => {
  const socket = await open();
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
  socket.write(get('small') + get('missing') + get('small'));
  for (let i = 0; i < 100 && text.split('\r\n\r\n').length < 4; i += 1) await sleep(50);
  socket.destroy();
  expect([...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((match) => match[1])).toEqual(['200', '404', '200']);
});
