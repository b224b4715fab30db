import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { startGateway, USER, type TestGateway } from '../support/gateway.ts';
import { s3, xmlTexts, type RawStore } from '../support/s3-raw.ts';

const TENANT = 'TESTTENANTACCESSKEY';

/** The tenant may use everything below `mine/`, and everything else but `yours/`. */
function identities(bucket: string): object[] {
  const statement = (effect: string, resource: string) => ({
    Effect: effect,
    Action: 's3:*',
    Resource: `arn:aws:s3:::${bucket}${resource}`,
  });
  const listings = { Action: 's3:ListBucket', Resource: `arn:aws:s3:::${bucket}` };
  const theirs = { Effect: 'Deny', ...listings, Condition: { StringLike: { 's3:prefix': 'yours/*' } } };
  const policy = {
    Statement: [statement('Allow', '/*'), statement('Deny', '/yours/*'), { Effect: 'Allow', ...listings }, theirs],
  };
  const data = { secretFile: 'user.secret', plane: 'data' };
  return [
    { ...data, name: 'user', accessKeyId: USER.accessKeyId, policies: ['S3FullAccess', 'KMSUser'] },
    { ...data, name: 'tenant', accessKeyId: TENANT, policies: [policy] },
  ];
}

describe.each(inject('stores'))('another spelling of a path over $name', (store) => {
  const bucket = `spellings-${randomBytes(4).toString('hex')}`;
  const key = 'yours/secret';
  let gateway: TestGateway;
  let tenant: RawStore;

  beforeAll(async () => {
    gateway = await startGateway({ store, config: { identities: identities(bucket) } });
    tenant = { ...gateway.raw, accessKeyId: TENANT };
    expect((await s3(gateway.raw, { method: 'PUT', bucket })).status).toBe(200);
    expect((await s3(gateway.raw, { method: 'PUT', bucket, key, body: 'kept' })).status).toBe(200);
    expect((await s3(tenant, { method: 'DELETE', bucket, key })).status).toBe(403);
    expect((await s3(tenant, { method: 'PUT', bucket, key: 'mine/x', body: 'mine' })).status).toBe(200);
  });
  afterAll(() => gateway.stop());

  const untouched = async (): Promise<void> => {
    expect((await s3(gateway.raw, { method: 'GET', bucket, key })).text).toBe('kept');
  };

  it.each(['/yours/secret', 'yours//secret', './yours/secret', 'mine/../yours/secret', 'mine/./../yours/secret'])(
    '%s reaches nothing that a policy denies',
    async (spelling) => {
      expect((await s3(tenant, { method: 'GET', bucket, key: spelling })).text).not.toBe('kept');
      await s3(tenant, { method: 'PUT', bucket, key: spelling, body: 'not yours any more' });
      await untouched();
      await s3(tenant, { method: 'DELETE', bucket, key: spelling });
      await untouched();
      const body = `<Delete><Object><Key>${spelling}</Key></Object></Delete>`;
      const batch = await s3(tenant, { method: 'POST', bucket, query: { delete: '' }, body });
      expect(batch.status).toBe(200);
      await untouched();
    },
  );

  it.each(['yours/', '/yours/', 'yours//', './yours/', 'mine/../yours/', 'mine/../yours/s'])(
    'a listing of %s shows nothing that a policy denies',
    async (prefix) => {
      for (const query of [{ prefix }, { 'list-type': '2', prefix }, { versions: '', prefix }]) {
        const { text } = await s3(tenant, { method: 'GET', bucket, query });
        expect(xmlTexts(text, 'Key').filter((name) => name.includes('secret'))).toEqual([]);
      }
    },
  );

  it('keeps names with dots in them', async () => {
    for (const name of ['mine/.hidden', 'mine/a..b', '...', 'mine/.../x']) {
      expect((await s3(tenant, { method: 'PUT', bucket, key: name, body: name })).status, name).toBe(200);
      expect((await s3(tenant, { method: 'GET', bucket, key: name })).text).toBe(name);
    }
    const { text } = await s3(gateway.raw, { method: 'GET', bucket, query: { 'list-type': '2' } });
    expect(xmlTexts(text, 'Key')).toContain('mine/.hidden');
  });
});
