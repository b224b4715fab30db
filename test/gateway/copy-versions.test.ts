import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { xmlText, type RawResponse } from '../support/s3-raw.ts';
import type { StoreName } from '../stores/store.ts';
import { COPY, Fixture, forSource, KMS, own, REPLACE, stores, told, type Headers } from './copies.ts';

type Gaps = Partial<Record<StoreName, readonly [instead: string, reason: string]>>;

const SOURCE_VERSION = `${COPY}-version-id`;
const VERSION = 'x-amz-version-id';
const LOCK_BUCKET = { 'x-amz-bucket-object-lock-enabled': 'true' };
const HOLD = { 'x-amz-object-lock-legal-hold': 'ON' };
const until = new Date(Date.now() + 3_600_000).toISOString().replace(/\.\d+/, '');
const GOVERNANCE = { 'x-amz-object-lock-mode': 'GOVERNANCE', 'x-amz-object-lock-retain-until-date': until };
const MD5 = { 'content-md5': 'ndTkYSaMgDT1yFZOFVxnpg==' };

const versionOf = ({ headers }: RawResponse): string => String(headers[VERSION]);

describe.each(stores.filter(({ name }) => name === 'devstore'))(
  'over $name, which has neither versions nor locks',
  (store) => {
    it('no copy pretends to have any', async () => {
      const f = new Fixture();
      await f.start(store);
      try {
        const bucket = await f.bucket();
        await f.put(bucket, 'from', 'x');
        for (const more of [KMS, own, { ...KMS, 'if-none-match': '*' }]) {
          expect(told(await f.copy(`${bucket}/from`, bucket, 'to', { ...GOVERNANCE, ...more }))).toBe(
            '501 NotImplemented',
          );
          expect(told(await f.copy(`${bucket}/from?versionId=ABCD`, bucket, 'to', more))).toBe('404 NoSuchVersion');
        }
        expect(told(await f.send('HEAD', bucket, 'to'))).toBe('404');
        const made = await f.copy(`${bucket}/from`, bucket, 'to', KMS);
        expect([told(made), made.headers[SOURCE_VERSION], made.headers[VERSION]]).toEqual([
          '200',
          undefined,
          undefined,
        ]);
      } finally {
        await f.stop();
      }
    });
  },
);

describe.each(stores.filter(({ name }) => name !== 'devstore'))('copies and versions over $name', (store) => {
  const f = new Fixture();
  const expected = (right: string, gaps: Gaps = {}): string => gaps[store.name]?.[0] ?? right;
  /** radosgw tells no version id of a copy that it makes by itself. */
  const madeVersion = (made: RawResponse, read: RawResponse | undefined): string =>
    versionOf(store.name === 'radosgw' && made.headers[VERSION] === undefined && read !== undefined ? read : made);
  const LOCKED = expected('403 AccessDenied', { minio: ['400 InvalidRequest', 'a code of its own, ObjectLocked'] });
  beforeAll(() => f.start(store), 60_000);
  afterAll(() => f.stop());

  async function versioned(): Promise<string> {
    const bucket = await f.bucket();
    const body = '<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>';
    expect(told(await f.send('PUT', bucket, undefined, { query: { versioning: '' }, body }))).toBe('200');
    return bucket;
  }

  it('the version that is named is copied, in every way of copying, and both ids are told', async () => {
    const [from, to] = [await versioned(), await versioned()];
    const older = versionOf(await f.put(from, 'k', 'older', { 'x-amz-meta-v': '1', 'x-amz-tagging': 'v=1' }));
    const newer = versionOf(await f.put(from, 'k', 'newer', { 'x-amz-meta-v': '2' }));
    for (const [name, version, headers, read] of [
      ['rewrapped', older, KMS, {}],
      ['sealed anew', older, own, own],
      ['under a condition', older, { 'if-none-match': '*' }, {}],
      ['the current one, by its id', newer, KMS, {}],
      ['the current one', undefined, {}, {}],
    ] as const) {
      const query = version === undefined ? '' : `?versionId=${version}`;
      const made = await f.copy(`${from}/k${query}`, to, name, headers);
      expect([name, told(made), made.headers[SOURCE_VERSION]]).toEqual([name, '200', version ?? newer]);
      const got = await f.send('GET', to, name, { headers: read });
      const is = version === older ? ['older', '1', '1'] : ['newer', '2', undefined];
      const tags = got.headers['x-amz-tagging-count'];
      expect([name, got.text, got.headers['x-amz-meta-v'], tags]).toEqual([name, ...is]);
      expect([name, madeVersion(made, got)]).toEqual([name, versionOf(got)]);
    }
    const part = await f.partOf(`${from}/k?versionId=${older}`, to, 'part', { [`${COPY}-range`]: 'bytes=1-3' });
    expect([told(part), part.headers[SOURCE_VERSION]]).toEqual(['200', older]);
    expect((await f.send('GET', to, 'part')).text).toBe('lde');
    const etag = (await f.send('HEAD', from, 'k', { query: { versionId: newer } })).headers.etag ?? '';
    const match = { [`${COPY}-if-match`]: etag };
    expect(told(await f.copy(`${from}/k?versionId=${newer}`, to, 'm', match))).toBe('200');
    expect(told(await f.copy(`${from}/k?versionId=${older}`, to, 'm', match))).toBe('412 PreconditionFailed');
  });

  it('an older version becomes the current one by a copy onto its own key; the others stay as they were', async () => {
    const bucket = await versioned();
    const older = versionOf(await f.put(bucket, 'k', 'older'));
    const newer = versionOf(await f.put(bucket, 'k', 'newer', KMS));
    const made = await f.copy(`${bucket}/k?versionId=${older}`, bucket, 'k');
    expect([told(made), made.headers[SOURCE_VERSION]]).toEqual(['200', older]);
    const seen = await Promise.all(
      [undefined, older, newer].map((versionId) =>
        f.send('GET', bucket, 'k', versionId === undefined ? {} : { query: { versionId } }),
      ),
    );
    expect(seen.map(({ text }) => text)).toEqual(['older', 'older', 'newer']);
    expect(seen.map(versionOf)).toEqual([madeVersion(made, seen[0]), older, newer]);
  });

  it('a deletion is no source, and neither is a version that never was', async () => {
    const bucket = await versioned();
    const id = versionOf(await f.put(bucket, 'k', 'x'));
    const marker = versionOf(await f.send('DELETE', bucket, 'k'));
    const never = id.replace(/.$/, (last) => (last === '0' ? '1' : '0'));
    for (const [query, right] of [
      ['', '404 NoSuchKey'],
      [`?versionId=${marker}`, '400 InvalidRequest'],
      [`?versionId=${never}`, '404 NoSuchVersion'],
      [`?versionId=${id}`, '200'],
    ] as const) {
      expect([query, told(await f.copy(`${bucket}/k${query}`, bucket, 'to', KMS))]).toEqual([query, right]);
      expect([query, told(await f.partOf(`${bucket}/k${query}`, bucket, 'to'))]).toEqual([query, right]);
    }
  });

  it('UpdateObjectEncryption: the current version alone, and what it was stays readable', async () => {
    const bucket = await versioned();
    const older = versionOf(await f.put(bucket, 'k', 'older'));
    const newer = versionOf(await f.put(bucket, 'k', 'newer', { 'x-amz-meta-v': '2' }));
    const done = expected('200', { radosgw: ['501 NotImplemented', 'honours no If-Match on a PUT'] });
    expect(told(await f.update(bucket, 'k', { versionId: older }))).toBe('501 NotImplemented');
    expect(told(await f.update(bucket, 'k', { versionId: newer }))).toBe(done);
    expect(told(await f.update(bucket, 'k', { versionId: newer }))).toBe('501 NotImplemented');
    expect(told(await f.update(bucket, 'k'))).toBe(done);
    const current = await f.send('GET', bucket, 'k');
    const mode = done === '200' ? 'aws:kms' : 'AES256';
    expect([current.text, current.headers['x-amz-meta-v']]).toEqual(['newer', '2']);
    expect(current.headers['x-amz-server-side-encryption']).toBe(mode);
    expect((await f.send('GET', bucket, 'k', { query: { versionId: newer } })).text).toBe('newer');
    expect((await f.send('GET', bucket, 'k', { query: { versionId: older } })).text).toBe('older');
  });

  it('a lock is never copied: the copy has the one that it asks for, or none', async () => {
    const bucket = await f.bucket(LOCK_BUCKET);
    await f.put(bucket, 'from', 'x', { ...GOVERNANCE, ...HOLD, ...MD5 });
    await f.put(bucket, 'free', 'x');
    // SeaweedFS hands a lock on when it copies by itself.
    const handsOn = store.name === 'seaweedfs';
    for (const [name, from, headers, locked] of [
      ['COPY', 'from', KMS, false],
      ['REPLACE', 'from', REPLACE, false],
      ['sealed anew', 'from', own, false],
      ['COPY with a lock', 'free', { ...KMS, ...GOVERNANCE }, true],
      ['REPLACE with a hold', 'free', { ...REPLACE, ...HOLD }, true],
      ['sealed anew with a lock', 'free', { ...own, ...GOVERNANCE, ...HOLD }, true],
      ['with a lock, under a condition', 'free', { ...GOVERNANCE, 'if-none-match': '*' }, true],
    ] as const) {
      const calls = await f.proxy.callsOf(async () => {
        const made = await f.copy(`${bucket}/${from}`, bucket, name, headers);
        expect([name, told(made)]).toEqual([name, '200']);
      });
      // What a PUT locks has to come with a digest of it (AWS, PutObject); a copy in the store has none.
      const put = calls.filter(({ method, headers: sent }) => method === 'PUT' && sent[COPY] === undefined);
      const digests = put.map(({ headers: sent }) => sent['x-amz-trailer'] ?? sent['content-md5']);
      if (locked && store.name !== 'radosgw') {
        expect([name, ...digests]).toEqual([name, ...put.map(() => 'x-amz-checksum-crc32')]);
      }
      const read = name.startsWith('sealed') ? own : {};
      const versionId = versionOf(await f.send('HEAD', bucket, name, { headers: read }));
      const deleted = told(await f.send('DELETE', bucket, name, { query: { versionId } }));
      const kept = locked || (handsOn && read !== own);
      expect([name, deleted]).toEqual([name, kept ? LOCKED : '204']);
    }
    const half: Headers = { 'x-amz-object-lock-mode': 'GOVERNANCE' };
    for (const more of [KMS, own]) {
      expect(told(await f.copy(`${bucket}/from`, bucket, 'half', { ...half, ...more }))).toBe('400 InvalidArgument');
    }
    const plain = await f.bucket();
    for (const more of [KMS, own]) {
      const answer = await f.copy(`${bucket}/from`, plain, 'k', { ...GOVERNANCE, ...more });
      expect(told(answer)).toBe('400 InvalidRequest');
      expect(xmlText(answer.text, 'Message')).toMatch(/^The store behind refuses the Object Lock headers/);
    }
    expect(told(await f.copy(`${bucket}/from`, plain, 'k', forSource(own)))).toBe('400 InvalidRequest');
  });

  it('UpdateObjectEncryption leaves what is locked alone', async () => {
    const bucket = await f.bucket(LOCK_BUCKET);
    const gaps: Gaps = {
      versitygw: ['200', 'HEAD does not show the lock: the locked version stays, behind one that is not'],
    };
    for (const [name, headers] of Object.entries({ retention: GOVERNANCE, hold: HOLD })) {
      const id = versionOf(await f.put(bucket, name, 'x', { ...headers, ...MD5 }));
      expect([name, told(await f.update(bucket, name))]).toEqual([name, expected('501 NotImplemented', gaps)]);
      const got = await f.send('GET', bucket, name, { query: { versionId: id } });
      expect([got.text, got.headers['x-amz-server-side-encryption']]).toEqual(['x', 'AES256']);
      expect(told(await f.send('DELETE', bucket, name, { query: { versionId: id } }))).toBe(LOCKED);
    }
  });
});
