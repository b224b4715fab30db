import { linkSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { issue, makeCa } from '../support/certs.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';

/** Who may configure the key service names a file, and the address that its content is sent to. */
const [store] = inject('stores');
if (store === undefined) throw new Error('the run has no store');
const received: string[] = [];
let gateway: TestGateway;
let listener: Server;

beforeAll(async () => {
  gateway = await startGateway({ store, tls: true });
  const ca = makeCa('another CA');
  listener = createServer(issue(ca, ['127.0.0.1']), (req, res) => {
    received.push(String(req.headers['x-vault-token'] ?? ''));
    req.on('data', (chunk: Buffer) => received.push(chunk.toString()));
    const health = req.url?.includes('sys/health') === true;
    req.on('end', () => res.writeHead(health ? 200 : 403).end(health ? '{}' : '{"errors":["permission denied"]}'));
  });
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  writeFileSync(join(gateway.folder, 'another-ca.pem'), ca.cert);
  writeFileSync(join(gateway.folder, 'a-credential'), 'a-token-of-vault', { mode: 0o600 });
  symlinkSync(join(gateway.folder, 'master.key'), join(gateway.folder, 'a-link'));
  linkSync(join(gateway.folder, 'master.key'), join(gateway.folder, 'a-name'));
});
afterAll(async () => {
  await new Promise((resolve) => listener.close(resolve));
  await gateway.stop();
});

function configure(file: string, method: (path: string) => object) {
  received.length = 0;
  const { port } = listener.address() as AddressInfo;
  return gateway.admin('POST', '/kms/configure', {
    backend_type: 'vault',
    address: `https://127.0.0.1:${port}`,
    ca_file: join(gateway.folder, 'another-ca.pem'),
    retry_attempts: 0,
    auth_method: method(join(gateway.folder, file)),
  });
}

const token = (path: string) => ({ token_file: { path } });
const approle = (path: string) => ({ approle: { role_id: 'r', secret_id_file: path } });
const kubernetes = (path: string) => ({ kubernetes: { role: 'r', jwt_path: path } });

it.each([
  ['the master key', 'master.key', token],
  ['the master key behind a link', 'a-link', token],
  ['the master key by another name', 'a-name', approle],
  ["an identity's secret", 'user.secret', approle],
  ["the store's secret", 'store.secret', kubernetes],
  ['the key of a certificate', 'key.pem', token],
  ['a record of the control store', 'control/realm.1', token],
  ['what lies deeper in it', 'control/../control/envelope-keys.d/1.1', token],
])('%s is sent to nobody', async (_, file, method) => {
  const answer = await configure(file, method);
  expect([answer.status, answer.text]).toEqual([400, expect.stringContaining("a secret of this deployment's own")]);
  expect(received).toEqual([]);
});

it('nor a key of the local backend, and a credential is sent', async () => {
  const [kek = ''] = readdirSync(join(gateway.folder, 'keys'));
  expect((await configure(`keys/${kek}`, token)).status).toBe(400);
  expect(received).toEqual([]);
  expect((await configure('a-credential', token)).status).toBe(403);
  expect(received).toContain('a-token-of-vault');
});
