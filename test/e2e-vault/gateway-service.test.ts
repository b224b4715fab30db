import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { verifyAudit } from '../../src/audit/verify.ts';
import { makeCa } from '../support/certs.ts';
import { ADMIN, USER } from '../support/gateway.ts';
import { PREFIX, startOpenBao, type OpenBao } from '../support/openbao.ts';
import { BODY, credential, KMS, OK, openSite, SSE_S3, UNAVAILABLE, type Site } from './gateway-site.ts';

/** configure, reconfigure, rotation and restored snapshots through a whole gateway over a real OpenBao. */
let bao: OpenBao;

beforeAll(async () => {
  bao = await startOpenBao();
  await bao.createKey('data');
  await bao.createKey('s3');
});
afterAll(() => bao.stop());

function configuration(site: Pick<Site, 'roleId' | 'secretIdFile'>): Record<string, unknown> {
  return {
    backend_type: 'vault',
    address: bao.address,
    ca_file: bao.caFile,
    key_prefix: PREFIX,
    auth_method: { approle: { role_id: site.roleId, secret_id_file: site.secretIdFile } },
    timeout_seconds: 4,
    default_key_id: 'data',
    sse_s3_key_id: 's3',
  };
}

/** Clients that write and read all the time; what they met that was not 200. */
function traffic(site: Site) {
  let over = false;
  let rounds = 0;
  const failures: string[] = [];
  const client = async (name: string, headers: Record<string, string>) => {
    while (!over) {
      const key = `${name}-${rounds++}`;
      const put = await site.put(key, headers);
      const get = await site.get(key);
      for (const { status, text } of [put, get]) if (status !== 200) failures.push(`${key}: ${status} ${text}`);
      if (get.status === 200 && get.text !== BODY) failures.push(`${key}: another body`);
    }
  };
  const clients = [client('kms', KMS), client('s3', SSE_S3)];
  return async () => {
    over = true;
    await Promise.all(clients);
    return { failures, rounds };
  };
}

describe('configure and reconfigure', () => {
  test('a failing one leaves the running service untouched, and nothing of its secrets anywhere', async () => {
    await bao.createKey('loose', {});
    await bao.createKey('open', { derived: true, exportable: true });
    const stranger = join(bao.folder, 'stranger.pem');
    await writeFile(stranger, makeCa('stranger').cert);
    const site = await openSite(bao);
    const before = await site.status();
    const config = await site.server.admin('GET', '/kms/config');
    const wrong = { role_id: 'no-such-role', secret_id_file: site.secretIdFile };
    const inline = { role_id: site.roleId, secret_id: 'THE-INLINE-SECRET-ID' };
    const rows: readonly (readonly [string, object, object])[] = [
      ['wrong address', { address: 'https://127.0.0.1:1' }, { status: 503 }],
      ['wrong CA', { ca_file: stranger }, { status: 503 }],
      ['no CA file', { ca_file: join(bao.folder, 'none.pem') }, { status: 400 }],
      ['wrong role', { auth_method: { approle: wrong } }, { status: 403 }],
      ['wrong SecretID, inline', { auth_method: { approle: inline } }, { status: 403 }],
      ['wrong token, inline', { auth_method: { token: { token: 'THE-INLINE-TOKEN' } } }, { status: 403 }],
      ['wrong mount', { mount_path: 'elsewhere' }, { status: 403 }],
      ['unknown key', { default_key_id: 'none' }, { status: 400 }],
      ['a key that is not derived', { default_key_id: 'loose' }, { status: 400 }],
      ['an exportable key', { sse_s3_key_id: 'open' }, { status: 400 }],
      ['an unknown field', { defualt_key_id: 'data' }, { status: 400 }],
      ['without TLS', { address: bao.address.replace('https', 'http') }, { status: 400 }],
      ['without verifying TLS', { skip_tls_verify: true }, { status: 400 }],
      ['another backend', { backend_type: 'aws' }, { status: 501 }],
    ];
    const end = traffic(site);
    for (const [name, change, answer] of rows) {
      for (const route of ['/kms/reconfigure', '/kms/configure']) {
        // Another address or mount asks for the credential again: the old one is not sent to a stranger.
        const { auth_method } = configuration(site);
        const whole = route.endsWith('/configure') ? configuration(site) : { auth_method };
        const body = { ...whole, ...change };
        const { status } = await site.server.admin('POST', route, body);
        expect({ name, route, status }).toMatchObject({ name, route, ...answer });
        expect(await site.status()).toMatchObject({
          state: 'Running',
          health: 'healthy',
          generation: before['generation'],
          epoch: before['epoch'],
        });
      }
    }
    const { failures, rounds } = await end();
    expect(failures).toEqual([]);
    expect(rounds).toBeGreaterThan(20);
    expect((await site.server.admin('GET', '/kms/config')).body).toEqual(config.body);
    const traces = await site.server.traces();
    expect(traces).toContain('/kms/configure');
    for (const secret of ['THE-INLINE-SECRET-ID', 'THE-INLINE-TOKEN']) expect(traces).not.toContain(secret);
  });

  test('a good one takes its place without a stopped interval, and takes effect', async () => {
    const site = await openSite(bao);
    const other = await credential(bao, 'other');
    const { generation } = await site.status();
    const end = traffic(site);
    for (let i = 1; i <= 3; i++) {
      const changed = await site.server.admin('POST', '/kms/reconfigure', { cache_ttl_seconds: 60 + i });
      expect(changed).toMatchObject({ status: 200, body: { state: 'Running', durable: true } });
      expect((await site.server.admin('GET', '/kms/config')).body).toMatchObject({ cache_ttl_seconds: 60 + i });
      const configured = await site.server.admin('POST', '/kms/configure', configuration(i === 2 ? site : other));
      expect(configured).toMatchObject({ status: 200, body: { generation: Number(generation) + 2 * i } });
    }
    expect(await end()).toMatchObject({ failures: [] });
    expect((await site.server.admin('GET', '/kms/config')).body).toMatchObject({ cache_ttl_seconds: 300 });
    // The old role may go: it is the new one that serves.
    await bao.must('DELETE', `auth/approle/role/${site.role}`);
    expect(await site.put('after')).toMatchObject(OK);
  });

  test('inline secrets are kept, over a restart, and never shown', async () => {
    const site = await openSite(bao);
    const { roleId, secretId } = await bao.appRole('inline');
    const auth_method = { approle: { role_id: roleId, secret_id: secretId } };
    expect(await site.server.admin('POST', '/kms/reconfigure', { auth_method })).toMatchObject(OK);
    await site.put('a');
    await site.server.restart();
    expect(await site.get('a')).toMatchObject({ ...OK, text: BODY });
    const { text } = await site.server.admin('GET', '/kms/config');
    expect(text).toContain('"secret_id":{"set":true}');
    expect(await site.server.traces()).not.toContain(secretId);
  });

  test('cache settings take effect: off, every read asks; on again, the first one does', async () => {
    const site = await openSite(bao);
    await site.put('a');
    await site.get('a');
    for (const [enable_cache, asked] of [[false, 3] as const, [true, 1] as const]) {
      expect(await site.server.admin('POST', '/kms/reconfigure', { enable_cache })).toMatchObject(OK);
      expect(await site.status()).toMatchObject({ cache: { enabled: enable_cache } });
      const mark = await bao.auditMark();
      for (let i = 0; i < 3; i++) expect(await site.get('a')).toMatchObject(OK);
      expect((await bao.calls(mark)).filter((call) => call === 'update transit/decrypt/sse-data')).toHaveLength(asked);
    }
  });
});

describe('rotation, key states, snapshots', () => {
  test('a key that was rotated at the server: new writes under its new version, old objects read', async () => {
    const site = await openSite(bao);
    await site.put('old');
    await site.put('old-s3', SSE_S3);
    const before = lastVersions(site);
    await bao.rotateKey('data');
    await site.put('new');
    await site.server.admin('POST', '/kms/clear-cache');
    for (const key of ['old', 'new', 'old-s3']) expect(await site.get(key)).toMatchObject({ ...OK, text: BODY });
    const after = lastVersions(site);
    expect([before.get('PutObject old'), after.get('PutObject new')]).toEqual([1, 2]);
    expect([after.get('GetObject old'), after.get('GetObject new')]).toEqual([1, 2]);
  });

  test('a restored snapshot: new wraps stop, old objects read, configure and start are 409', async () => {
    await bao.createKey('snap');
    const site = await openSite(bao, { kms: { default_key_id: 'snap' } });
    await site.put('before');
    const snapshot = await bao.snapshot();
    await bao.rotateKey('snap');
    expect(await site.put('since')).toMatchObject(OK);
    await bao.restore(snapshot);
    await expect.poll(async () => (await site.get('before')).text, { timeout: 20_000 }).toBe(BODY);
    // What was wrapped since is not called tampering with by a 404 or an empty object: it is an error.
    expect(await site.get('since')).toMatchObject({ status: 500 });
    expect(await site.put('more')).toMatchObject(UNAVAILABLE);
    expect((await site.get('more')).status).toBe(404);

    const lost = { status: 409, body: { error: { code: 'Conflict' } } };
    expect(await site.server.admin('POST', '/kms/reconfigure', { cache_ttl_seconds: 10 })).toMatchObject(lost);
    expect(await site.status()).toMatchObject({ state: 'Running' });
    // The next version of that name has other key material: the canary tells, where the number does not.
    await bao.rotateKey('snap');
    expect(await site.server.admin('POST', '/kms/reconfigure', { cache_ttl_seconds: 10 })).toMatchObject(lost);
    await site.server.admin('POST', '/kms/stop', { reason: 'restored', drain_seconds: 0 });
    expect(await site.server.admin('POST', '/kms/start')).toMatchObject(lost);
    expect(await site.status()).toMatchObject({ state: 'Stopped', reason: 'kms-canary' });
  });
});

describe('the audit log', () => {
  test('every use of a key has its intent before its outcome, denials too, and the chain is whole', async () => {
    await bao.createKey('forbidden');
    const site = await openSite(bao, { config: { identities: identities() } });
    await site.put('a');
    await site.get('a');
    await site.get('a');
    await site.put('b', SSE_S3);
    await site.put('d', { ...KMS, 'x-amz-server-side-encryption-aws-kms-key-id': 'forbidden' });
    await site.put('c', { ...KMS, 'x-amz-server-side-encryption-aws-kms-key-id': 'no-such-key' });
    await site.server.admin('POST', '/kms/stop', { reason: 'audit drill', drain_seconds: 0 });
    await site.get('a');
    await site.server.admin('POST', '/kms/start');
    const records = site.server.auditRecords();
    const uses = records.filter(({ type, mode }) => type === 'outcome' && (mode === 'SSE-KMS' || mode === 'SSE-S3'));
    const told = uses.map(({ operation, key, keyId, cacheHit, outcome, error }) => {
      return [operation, key, keyId, cacheHit, outcome, error];
    });
    expect(told).toEqual([
      ['PutObject', 'a', 'data', false, 'success', undefined],
      ['GetObject', 'a', 'data', false, 'success', undefined],
      ['GetObject', 'a', 'data', true, 'success', undefined],
      ['PutObject', 'b', 's3', false, 'success', undefined],
      ['PutObject', 'd', 'forbidden', undefined, 'denied', 'policy'],
      // Whether there is such a key is not told to who may not use it.
      ['PutObject', 'c', undefined, undefined, 'denied', 'policy'],
      ['GetObject', 'a', undefined, undefined, 'failed', 'kms-stopped'],
    ]);
    for (const use of uses.filter(({ outcome }) => outcome === 'success')) {
      expect(use).toMatchObject({
        keyVersion: expect.any(Number) as number,
        contextDigest: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
        principal: 'user',
        bucket: site.bucket,
      });
      const intent = records.findIndex(({ type, requestId }) => type === 'intent' && requestId === use['requestId']);
      expect(intent).toBeGreaterThanOrEqual(0);
      expect(intent).toBeLessThan(records.indexOf(use));
      const { keyId, contextDigest, operation } = use;
      expect(records[intent]).toMatchObject({ keyId, contextDigest, operation });
    }
    const admin = records.filter(({ operation }) => String(operation).startsWith('POST /kms/'));
    expect(admin.map(({ type, operation, note }) => [type, operation, note])).toEqual([
      ['intent', 'POST /kms/stop', 'audit drill'],
      ['outcome', 'POST /kms/stop', 'audit drill'],
      ['intent', 'POST /kms/start', undefined],
      ['outcome', 'POST /kms/start', undefined],
    ]);
    expect(await verifyAudit(site.server.auditFiles())).toMatchObject({ intact: true, problems: [] });
  });
});

/** A data user who may use the key `data`, and an administrator. */
function identities(): object[] {
  const actions = ['kms:GenerateDataKey', 'kms:Decrypt'];
  const statement = { Effect: 'Allow', Action: actions, Resource: 'arn:aws:kms:us-east-1:000000000000:key/data' };
  const policies = ['S3FullAccess', { Version: '2012-10-17', Statement: [statement] }];
  const admin = ['KMSAdministrator'];
  return [
    { name: 'user', accessKeyId: USER.accessKeyId, secretFile: 'user.secret', plane: 'data', policies },
    { name: 'chief', accessKeyId: ADMIN.accessKeyId, secretFile: 'admin.secret', plane: 'admin', policies: admin },
  ];
}

/** The key version of the last use of each object, by operation and key. */
function lastVersions(site: Site): Map<string, unknown> {
  const outcomes = site.server.auditRecords().filter(({ type }) => type === 'outcome');
  return new Map(outcomes.map(({ operation, key, keyVersion }) => [`${String(operation)} ${String(key)}`, keyVersion]));
}
