import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startOpenBao, type OpenBao } from '../support/openbao.ts';

/** docker/vault/*.hcl row by row: what each role needs works, and everything beside it is 403. */
let bao: OpenBao;
const tokens: Record<string, string> = {};
let ciphertext: string;
const context = Buffer.alloc(32, 'x').toString('base64');

beforeAll(async () => {
  bao = await startOpenBao();
  await bao.createKey('a');
  await bao.must('POST', 'transit/keys/other', { derived: true });
  for (const role of ['data', 'job', 'admin']) tokens[role] = await bao.token([`sse-${role}`]);
  const made = await bao.must('POST', 'transit/datakey/plaintext/sse-a', { context });
  ciphertext = (made['data'] as { ciphertext: string }).ciphertext;
});

afterAll(() => bao.stop());

const record = (role: string) => ({ data: { made: role }, options: { cas: 0 } });

/** Each row: method, path, body, and the roles that may. */
const ROWS: readonly (readonly [string, string, (role: string) => unknown, readonly string[]])[] = [
  ['POST', 'transit/datakey/plaintext/sse-a', () => ({ context }), ['data']],
  ['POST', 'transit/decrypt/sse-a', () => ({ context, ciphertext }), ['data']],
  ['GET', 'transit/keys/sse-a', () => undefined, ['data', 'job', 'admin']],
  ['GET', 'auth/token/lookup-self', () => undefined, ['data', 'job', 'admin']],
  ['POST', 'auth/token/renew-self', () => ({}), ['data', 'job', 'admin']],
  ['POST', 'sys/capabilities-self', () => ({ paths: ['transit/keys'] }), ['data', 'job', 'admin']],
  ['POST', 'kv/data/express-s3-sse/first', record, ['data']],
  ['GET', 'kv/data/express-s3-sse/first', () => undefined, ['data']],
  ['LIST', 'kv/metadata/express-s3-sse/', () => undefined, ['data']],
  ['POST', 'transit/rewrap/sse-a', () => ({ context, ciphertext }), ['job']],
  ['LIST', 'transit/keys', () => undefined, ['admin']],
  ['POST', 'transit/keys/sse-made', () => ({ derived: true }), ['admin']],
  ['POST', 'transit/keys/sse-a/rotate', () => ({}), ['admin']],
  ['POST', 'transit/keys/sse-a/config', () => ({ min_decryption_version: 1 }), ['admin']],
  // Nobody's.
  ['POST', 'transit/encrypt/sse-a', () => ({ context, plaintext: '' }), []],
  ['POST', 'transit/encrypt/sse-new', () => ({ context, plaintext: '' }), []],
  ['POST', 'transit/datakey/wrapped/sse-a', () => ({ context }), []],
  ['POST', 'transit/datakey/plaintext/other', () => ({ context }), []],
  ['POST', 'transit/decrypt/other', () => ({ context, ciphertext }), []],
  ['GET', 'transit/keys/other', () => undefined, []],
  ['GET', 'transit/export/encryption-key/sse-a', () => undefined, []],
  ['GET', 'transit/backup/sse-a', () => undefined, []],
  ['DELETE', 'transit/keys/sse-a', () => undefined, []],
  ['POST', 'transit/hmac/sse-a', () => ({ input: '' }), []],
  ['DELETE', 'kv/metadata/express-s3-sse/first', () => undefined, []],
  ['DELETE', 'kv/data/express-s3-sse/first', () => undefined, []],
  ['POST', 'kv/destroy/express-s3-sse/first', () => ({ versions: [1] }), []],
  ['GET', 'kv/data/elsewhere', () => undefined, []],
  ['LIST', 'kv/metadata/', () => undefined, []],
  ['GET', 'sys/policies/acl', () => undefined, []],
  ['PUT', 'sys/seal', () => undefined, []],
  ['POST', 'auth/token/create', () => ({}), []],
  ['GET', 'auth/approle/role/data/role-id', () => undefined, []],
];

describe.each(['data', 'job', 'admin'])('the %s role', (role) => {
  test.each(ROWS)('%s %s', async (method, path, body, allowed) => {
    const { status } = await bao.api(method, path, body(role), { token: tokens[role] ?? '' });
    if (allowed.includes(role)) expect([200, 204]).toContain(status);
    else expect(status).toBe(403);
  });

  test('may give up its own token', async () => {
    const token = await bao.token([`sse-${role}`]);
    expect((await bao.api('POST', 'auth/token/revoke-self', undefined, { token })).status).toBe(204);
  });
});
