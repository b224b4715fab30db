import { randomBytes } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openLocalBackend } from '../../src/kms/backends/local.ts';
import type { LocalConfig } from '../../src/kms/config-schema.ts';
import type { BackendDeps, KmsBackend } from '../../src/kms/ports.ts';
import { kmsConformance } from './conformance.ts';

const master = randomBytes(32);
const deps: BackendDeps = {
  clock: Date.now,
  environment: (name) => (name === 'MASTER' ? Buffer.from(master.toString('hex')) : undefined),
  development: false,
};

function config(dir: string, more: Partial<LocalConfig> = {}): LocalConfig {
  return { key_dir: join(dir, 'keys'), master_key_env: 'MASTER', key_prefix: '', ...more };
}

for (const key_prefix of ['', 'team_']) {
  kmsConformance(`local, key_prefix ${JSON.stringify(key_prefix)}`, async () => {
    const dir = await mkdtemp(join(tmpdir(), 'local-'));
    const backend = await openLocalBackend(config(dir, { key_prefix }), deps);
    await backend.createKey?.('first');
    await backend.createKey?.('second');
    return {
      backend,
      keyId: 'first',
      otherKeyId: 'second',
      missingKeyId: 'third',
      rotate: async (keyId) => {
        await backend.rotateKey?.(keyId);
      },
      end: () => rm(dir, { recursive: true }),
    };
  });
}

describe('local backend', () => {
  let dir: string;
  let backend: KmsBackend;
  const context = randomBytes(32);
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'local-'));
    backend = await openLocalBackend(config(dir), deps);
    await backend.createKey?.('k');
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));
  const reopened = (more: Partial<LocalConfig> = {}, with_: Partial<BackendDeps> = {}) =>
    openLocalBackend(config(dir, more), { ...deps, ...with_ });

  it('opens again what it wrapped before a restart', async () => {
    const made = await backend.generateDataKey('k', context);
    await backend.close();
    const opened = await (await reopened()).unwrap('k', made.wrapped, context);
    expect(opened.equals(made.key)).toBe(true);
  });

  it('keeps no key in clear: neither file holds the other nor a data key', async () => {
    const made = await backend.generateDataKey('k', context);
    const bytes = await readFile(join(dir, 'keys', 'k.1.kek'));
    expect(bytes.byteLength).toBe(40);
    expect(bytes.includes(made.key.export())).toBe(false);
    expect(bytes.includes(master)).toBe(false);
  });

  it('opens nothing under another master key', async () => {
    const { wrapped } = await backend.generateDataKey('k', context);
    const other = await reopened({}, { environment: () => randomBytes(32) });
    await expect(other.unwrap('k', wrapped, context)).rejects.toMatchObject({ reason: 'integrity:kms-unwrap' });
    await expect(other.describeKey('k')).rejects.toMatchObject({ reason: 'integrity:kms-unwrap' });
  });

  it.each(['k.2.kek', 'other.1.kek'])('opens no version under the name of another (%s)', async (name) => {
    await rename(join(dir, 'keys', 'k.1.kek'), join(dir, 'keys', name));
    const fresh = await reopened();
    const keyId = name.split('.')[0] ?? '';
    await expect(fresh.generateDataKey(keyId, context)).rejects.toMatchObject({ reason: 'integrity:kms-unwrap' });
  });

  it('does not make a key or a version twice, and leaves the first', async () => {
    const { wrapped, key } = await backend.generateDataKey('k', context);
    await expect(backend.createKey?.('k')).rejects.toMatchObject({ code: 'Conflict' });
    const opened = await (await reopened()).unwrap('k', wrapped, context);
    expect(opened.equals(key)).toBe(true);
  });

  it('gives one of two rotations the version, and the other a conflict', async () => {
    const second = await reopened();
    const results = await Promise.allSettled([backend.rotateKey?.('k'), second.rotateKey?.('k')]);
    const versions = (await readdir(join(dir, 'keys'))).length;
    expect(versions).toBe(1 + results.filter(({ status }) => status === 'fulfilled').length);
  });

  it('treats a lost version as lost, not as an outage', async () => {
    const { wrapped } = await backend.generateDataKey('k', context);
    await backend.rotateKey?.('k');
    await unlink(join(dir, 'keys', 'k.1.kek'));
    const fresh = await reopened();
    await expect(fresh.unwrap('k', wrapped, context)).rejects.toMatchObject({ reason: 'integrity:kms-unwrap' });
  });

  it.each([0o710, 0o701, 0o770])('refuses a key directory of mode %o', async (mode) => {
    await chmod(join(dir, 'keys'), mode);
    await expect(reopened()).rejects.toMatchObject({ reason: 'file-permissions' });
    await expect(backend.check()).rejects.toMatchObject({ reason: 'file-permissions' });
  });

  it.each([0o640, 0o604, 0o660])('refuses a key file of mode %o', async (mode) => {
    await chmod(join(dir, 'keys', 'k.1.kek'), mode);
    const fresh = await reopened();
    await expect(fresh.generateDataKey('k', context)).rejects.toMatchObject({ reason: 'file-permissions' });
  });

  it('refuses a symbolic link in place of the directory or a file', async () => {
    await rename(join(dir, 'keys', 'k.1.kek'), join(dir, 'elsewhere'));
    await symlink(join(dir, 'elsewhere'), join(dir, 'keys', 'k.1.kek'));
    const fresh = await reopened();
    await expect(fresh.generateDataKey('k', context)).rejects.toMatchObject({ reason: 'file-permissions' });
    await symlink(join(dir, 'keys'), join(dir, 'link'));
    await expect(reopened({ key_dir: join(dir, 'link') })).rejects.toMatchObject({ reason: 'file-permissions' });
  });

  it('removes what a crash left, and no key', async () => {
    await writeFile(join(dir, 'keys', '.tmp-0123456789abcdef'), 'half', { mode: 0o600 });
    await reopened();
    expect(await readdir(join(dir, 'keys'))).toEqual(['k.1.kek']);
  });

  describe('master key', () => {
    const forms: readonly (readonly [string, Buffer])[] = [
      ['raw bytes', master],
      ['hex', Buffer.from(master.toString('hex'))],
      ['HEX and a line break', Buffer.from(`${master.toString('hex').toUpperCase()}\n`)],
      ['base64', Buffer.from(master.toString('base64'))],
      ['base64 and CRLF', Buffer.from(`${master.toString('base64')}\r\n`)],
    ];
    it.each(forms)('is read from a file as %s', async (_form, bytes) => {
      const made = await backend.generateDataKey('k', context);
      const path = join(dir, 'master');
      await writeFile(path, bytes, { mode: 0o600 });
      const fromFile = await openLocalBackend(
        { key_dir: join(dir, 'keys'), master_key_file: path, key_prefix: '' },
        deps,
      );
      expect((await fromFile.unwrap('k', made.wrapped, context)).equals(made.key)).toBe(true);
    });

    const bad: readonly (readonly [string, Buffer])[] = [
      ['31 bytes', randomBytes(31)],
      ['33 bytes', randomBytes(33)],
      ['nothing', Buffer.alloc(0)],
      ['62 hex digits', Buffer.from('a'.repeat(62))],
      ['base64 of 31 bytes', Buffer.from(randomBytes(31).toString('base64'))],
      ['a passphrase', Buffer.from('correct horse battery staple, forty-four chars')],
    ];
    it.each(bad)('is refused as %s, without being quoted', async (_form, bytes) => {
      const text = bytes.toString('latin1');
      const failure: unknown = await reopened({}, { environment: () => Buffer.from(bytes) }).catch((e: unknown) => e);
      expect(failure).toMatchObject({ code: 'ValidationException', reason: 'master-key' });
      if (text.length > 0) expect(String(failure)).not.toContain(text);
    });

    it('is refused in a file that others can read', async () => {
      const path = join(dir, 'master');
      await writeFile(path, master, { mode: 0o644 });
      await chmod(path, 0o644);
      const opening = openLocalBackend({ key_dir: join(dir, 'keys'), master_key_file: path, key_prefix: '' }, deps);
      await expect(opening).rejects.toMatchObject({ reason: 'file-permissions' });
    });

    it('wipes the bytes that it was given', async () => {
      const bytes = Buffer.from(master);
      await reopened({}, { environment: () => bytes });
      expect(bytes.equals(Buffer.alloc(32))).toBe(true);
    });

    it('is named when it is missing', async () => {
      await expect(reopened({ master_key_env: 'NOT_SET' })).rejects.toMatchObject({ code: 'ValidationException' });
    });
  });

  it('lists only its own prefix, and no file that is not a key', async () => {
    await mkdir(join(dir, 'keys', 'folder.1.kek'));
    const prefixed = await reopened({ key_prefix: 'a-' });
    await prefixed.createKey?.('mine');
    expect(await prefixed.listKeys?.()).toEqual(['mine']);
    await expect(prefixed.describeKey('k')).rejects.toMatchObject({ code: 'KMS.NotFoundException' });
  });
});
