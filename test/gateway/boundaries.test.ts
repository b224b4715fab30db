import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { ADMIN, startGateway, USER, type TestGateway } from '../support/gateway.ts';
import { s3, xmlText, xmlTexts, type RawResponse, type RawStore } from '../support/s3-raw.ts';
import { startStoreProxy, type StoreProxy } from '../support/store-proxy.ts';

const store = inject('stores')[0] ?? expect.fail('no store runs');
const run = randomBytes(4).toString('hex');
const NOBODY = 'TESTNOBODYACCESSKEY';
let proxy: StoreProxy;
let gateway: TestGateway;
let nobody: RawStore;

beforeAll(async () => {
  proxy = await startStoreProxy(store);
  const data = { secretFile: 'user.secret', plane: 'data' };
  const policy = { Statement: [{ Effect: 'Allow', Action: 's3:*', Resource: 'arn:aws:s3:::elsewhere/*' }] };
  const identities = [
    { ...data, name: 'user', accessKeyId: USER.accessKeyId, policies: ['S3FullAccess', 'KMSUser'] },
    { ...data, name: 'nobody', accessKeyId: NOBODY, policies: [policy] },
    {
      name: 'administrator',
      accessKeyId: ADMIN.accessKeyId,
      secretFile: 'admin.secret',
      plane: 'admin',
      policies: ['KMSAdministrator'],
    },
  ];
  gateway = await startGateway({ store: proxy.store, config: { identities } });
  nobody = { ...gateway.raw, accessKeyId: NOBODY };
});
afterAll(async () => {
  await gateway.stop();
  await proxy.stop();
});

function deleteObjects(as: RawStore, bucket: string): Promise<RawResponse> {
  const body = '<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object></Delete>';
  return s3(as, { method: 'POST', bucket, query: { delete: '' }, body });
}

it('a batch delete without rights tells nothing of the bucket, asks the store nothing and makes no record', async () => {
  const standing = `standing-${run}`;
  expect((await s3(store, { method: 'PUT', bucket: standing })).status).toBe(200);
  const answers: string[] = [];
  const calls = await proxy.callsOf(async () => {
    for (const bucket of [standing, `missing-${run}`]) {
      const { status, text } = await deleteObjects(nobody, bucket);
      answers.push(`${status} ${xmlTexts(text, 'Code').join()}`);
    }
  });
  expect(answers).toEqual(['200 AccessDenied,AccessDenied', '200 AccessDenied,AccessDenied']);
  expect(calls).toEqual([]);
  expect((await gateway.admin('GET', '/kms/buckets')).text).not.toContain(standing);
});

it('the audit says for how many objects of a batch the right was denied', async () => {
  const { headers } = await deleteObjects(nobody, `audited-${run}`);
  const record = gateway.auditRecords().find(({ requestId }) => requestId === headers['x-amz-request-id']);
  expect(record).toMatchObject({ operation: 'DeleteObjects', note: 'denied for 2 of 2 objects' });
});

it('a store that sends more than a range cannot tell the client of an unsealed object another answer', async () => {
  const bucket = `mixed-${run}`;
  expect((await s3(store, { method: 'PUT', bucket })).status).toBe(200);
  expect((await s3(store, { method: 'PUT', bucket, key: 'old', body: '0123456789' })).status).toBe(200);
  // Last-Modified has whole seconds, and must lie before the cut-over.
  await sleep(1100);
  expect((await gateway.admin('POST', `/kms/buckets/${bucket}/adopt`, { mode: 'mixed' })).status).toBe(200);
  const read = (): Promise<RawResponse> =>
    s3(gateway.raw, { method: 'GET', bucket, key: 'old', headers: { range: 'bytes=2-5' } });
  expect((await read()).text).toBe('2345');
  const forged = Buffer.from('2345HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil');
  const answer = await proxy.lying(
    (_call, told) =>
      told.status === 206 && told.body.toString() === '2345'
        ? { ...told, headers: { ...told.headers, 'content-length': forged.length }, body: forged }
        : told,
    read,
  );
  expect([answer.status, xmlText(answer.text, 'Code')]).toEqual([500, 'InternalError']);
});

it('a bucket that is mapped to a part of another one is not deleted with it', async () => {
  const shared = `shared-${run}`;
  expect((await s3(store, { method: 'PUT', bucket: shared })).status).toBe(200);
  for (const name of ['one', 'two']) {
    const target = { bucket: shared, prefix: `${name}/` };
    const adopted = await gateway.admin('POST', `/kms/buckets/${name}-${run}/adopt`, {
      mode: 'encrypted-only',
      target,
    });
    expect(adopted.status, adopted.text).toBe(200);
  }
  expect((await s3(gateway.raw, { method: 'DELETE', bucket: `one-${run}` })).status).toBe(204);
  expect((await s3(store, { method: 'HEAD', bucket: shared })).status).toBe(200);
  expect((await s3(gateway.raw, { method: 'PUT', bucket: `two-${run}`, key: 'k', body: 'x' })).status).toBe(200);
  expect((await s3(gateway.raw, { method: 'DELETE', bucket: `two-${run}` })).status).toBe(409);
});

it('an empty object of a store that answers a suffix range of it with 206, as MinIO does', async () => {
  const bucket = `empty-${run}`;
  await s3(gateway.raw, { method: 'PUT', bucket });
  expect((await s3(gateway.raw, { method: 'PUT', bucket, key: 'empty', body: '' })).status).toBe(200);
  const stored = await s3(store, { method: 'HEAD', bucket, key: 'empty' });
  const answer = {
    status: 206,
    headers: { ...stored.headers, 'content-range': 'bytes 0--1/0' },
    body: Buffer.alloc(0),
  };
  const { status, headers } = await proxy.lying(
    (_call, told) => (told.status === 416 ? answer : told),
    () => s3(gateway.raw, { method: 'HEAD', bucket, key: 'empty' }),
  );
  expect([status, headers['content-length']]).toEqual([200, '0']);
});
