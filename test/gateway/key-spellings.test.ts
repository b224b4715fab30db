import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { codeOf } from '../support/attacker.ts';
import { startGateway, USER, type TestGateway } from '../support/gateway.ts';
import { s3, xmlText, xmlTexts, type RawStore } from '../support/s3-raw.ts';

const TENANT = 'TESTTENANTACCESSKEY';

/** The tenant may use everything but what is below `yours/`, and no version named `held`. */
function identities(bucket: string): object[] {
  const statement = (effect: string, resource: string) => ({
    Effect: effect,
    Action: 's3:*',
    Resource: `arn:aws:s3:::${bucket}${resource}`,
  });
  const listings = { Action: 's3:ListBucket', Resource: `arn:aws:s3:::${bucket}` };
  const theirs = { Effect: 'Deny', ...listings, Condition: { StringLike: { 's3:prefix': 'yours/*' } } };
  const held = { ...statement('Deny', '/*'), Condition: { StringEquals: { 's3:VersionId': 'held' } } };
  const allowed = [statement('Allow', '/*'), { Effect: 'Allow', ...listings }];
  const policy = { Statement: [...allowed, statement('Deny', '/yours/*'), theirs, held] };
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

  it('an upload id that is a path ends no upload that a policy denies', async () => {
    const query = { uploads: '' };
    const theirs = xmlText((await s3(gateway.raw, { method: 'POST', bucket, key, query })).text, 'UploadId');
    // Where versitygw keeps it: a folder of each upload in a folder of each key.
    const folder = createHash('sha256').update(key).digest('hex');
    for (const uploadId of [
      `../${folder}/${theirs}`,
      `../${theirs}`,
      `./${theirs}`,
      '..',
      '../',
      `x/../../${folder}`,
    ]) {
      const { text } = await s3(tenant, { method: 'DELETE', bucket, key: 'mine/x', query: { uploadId } });
      expect(codeOf({ text }), uploadId).toBe('NoSuchUpload');
    }
    // Where SeaweedFS keeps it: under a key of the same bucket.
    for (const name of ['.uploads', `.uploads/${theirs}`, `.uploads/${theirs}/`]) {
      await s3(tenant, { method: 'DELETE', bucket, key: name });
      const batch = `<Delete><Object><Key>${name}</Key></Object></Delete>`;
      await s3(tenant, { method: 'POST', bucket, query: { delete: '' }, body: batch });
    }
    for (const prefix of ['.uploads', '.uploads/', '.sgwtmp/']) {
      const { text } = await s3(tenant, { method: 'GET', bucket, query: { 'list-type': '2', prefix } });
      expect(xmlTexts(text, 'Key')).toEqual([]);
    }
    const part = { uploadId: theirs, partNumber: '1' };
    const body = Buffer.alloc(5 * 1024 * 1024);
    expect((await s3(gateway.raw, { method: 'PUT', bucket, key, query: part, body })).status).toBe(200);
    const aborted = await s3(gateway.raw, { method: 'DELETE', bucket, key, query: { uploadId: theirs } });
    expect(aborted.status).toBe(204);
  });

  it.each([
    ['held', 'AccessDenied'],
    ['../held', 'NoSuchVersion'],
  ])('a batch deletes the version %s no more than a single request does', async (versionId, code) => {
    const single = await s3(tenant, { method: 'DELETE', bucket, key: 'mine/x', query: { versionId } });
    expect(codeOf(single)).toBe(code === 'AccessDenied' ? code : 'InvalidArgument');
    const body = `<Delete><Object><Key>mine/x</Key><VersionId>${versionId}</VersionId></Object></Delete>`;
    const batch = await s3(tenant, { method: 'POST', bucket, query: { delete: '' }, body });
    expect(xmlTexts(batch.text, 'Code')).toEqual([code]);
  });

  it('keeps names with dots in them', async () => {
    for (const name of ['mine/.hidden', 'mine/a..b', '...', 'mine/.../x']) {
      expect((await s3(tenant, { method: 'PUT', bucket, key: name, body: name })).status, name).toBe(200);
      expect((await s3(tenant, { method: 'GET', bucket, key: name })).text).toBe(name);
    }
    const { text } = await s3(gateway.raw, { method: 'GET', bucket, query: { 'list-type': '2' } });
    expect(xmlTexts(text, 'Key')).toContain('mine/.hidden');
  });
});
