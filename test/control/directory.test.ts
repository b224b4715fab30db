import { spawn } from 'node:child_process';
import { createSecretKey, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openControlDirectory } from '../../src/control/directory.ts';
import { addEnvelopeKey, loadEnvelopeKeys } from '../../src/control/envelope-keys.ts';
import { initControl, loadRealm } from '../../src/control/init.ts';
import { acquireLock } from '../../src/control/lock.ts';
import { records, type ControlStore } from '../../src/control/port.ts';

const now = Date.parse('2026-01-01T00:00:00Z');
const masterKey = createSecretKey(randomBytes(32));
let dir: string;
let path: string;
let opened: ControlStore[];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'control-'));
  path = join(dir, 'store');
  opened = [];
});
afterEach(async () => {
  for (const store of opened) await store.close();
  await rm(dir, { recursive: true, force: true });
});

async function open(more: { create?: boolean; masterKey?: typeof masterKey } = {}): Promise<ControlStore> {
  const store = await openControlDirectory({ path, masterKey, ...more });
  opened.push(store);
  return store;
}
async function made(): Promise<ControlStore> {
  const store = await open({ create: true });
  await initControl(store, now);
  return store;
}
async function reopened(store: ControlStore): Promise<ControlStore> {
  await store.close();
  return open();
}

describe('records', () => {
  it('begin at version 0, null', async () => {
    expect(await (await made()).get('keys/none')).toEqual({ value: null, version: 0 });
  });

  it('keep their value, version and order over a restart', async () => {
    let store = await made();
    expect(await store.compareAndSet('keys/a', { x: [1, 'é', null] }, 0)).toBe(1);
    expect(await store.compareAndSet('keys/a', { x: 2 }, 1)).toBe(2);
    await store.compareAndSet('keys/B', true, 0);
    await store.compareAndSet('bucket-keys/id/key', 1, 0);
    store = await reopened(store);
    expect(await store.get('keys/a')).toEqual({ value: { x: 2 }, version: 2 });
    expect(await store.list('keys/')).toEqual(['keys/B', 'keys/a']);
    expect(await store.list('bucket-keys/')).toEqual(['bucket-keys/id/key']);
    expect(await store.list('bucket-keys/id/')).toEqual(['bucket-keys/id/key']);
    expect(await store.list('aliases/')).toEqual([]);
  });

  it('names that are dotted, or look like versions or folders, do not meet', async () => {
    const store = await made();
    const names = ['keys/a', 'keys/a.1', 'keys/a.1.1', 'keys/a.d', 'keys/a.d/b', 'keys/a.1/b', 'keys/a/b'];
    for (const name of names) await store.compareAndSet(name, name, 0);
    for (const name of names) expect(await store.get(name)).toEqual({ value: name, version: 1 });
    expect(await store.list('keys/')).toEqual([...names].sort());
  });

  it('a deleted one keeps its version, is not listed, and can be written again', async () => {
    let store = await made();
    await store.compareAndSet('keys/a', 1, 0);
    await store.compareAndSet('keys/a', null, 1);
    store = await reopened(store);
    expect(await store.get('keys/a')).toEqual({ value: null, version: 2 });
    expect(await store.list('keys/')).toEqual([]);
    await expect(store.compareAndSet('keys/a', 1, 0)).rejects.toMatchObject({ code: 'Conflict' });
    expect(await store.compareAndSet('keys/a', 1, 2)).toBe(3);
  });

  it.each([0, 1, 3, 99])(
    'a write at version %i of a record at 2 is a conflict, and changes nothing',
    async (version) => {
      const store = await made();
      await store.compareAndSet('keys/a', 1, 0);
      await store.compareAndSet('keys/a', 2, 1);
      const late = store.compareAndSet('keys/a', 'late', version);
      await expect(late).rejects.toMatchObject({ code: 'Conflict', reason: 'control-cas' });
      expect(await store.get('keys/a')).toEqual({ value: 2, version: 2 });
    },
  );

  it('of eight writers at one version one wins, over and over', async () => {
    const store = await made();
    for (let version = 0; version < 20; version++) {
      const writes = Array.from({ length: 8 }, (_, i) => store.compareAndSet('keys/a', i, version));
      const results = await Promise.allSettled(writes);
      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    }
    expect((await store.get('keys/a')).version).toBe(20);
  });

  it('eight writers that retry lose no update', async () => {
    const store = await made();
    const add = async () => {
      for (;;) {
        const { value, version } = await store.get('keys/sum');
        try {
          await store.compareAndSet('keys/sum', Number(value ?? 0) + 1, version);
          return;
        } catch {
          // Another writer was first.
        }
      }
    };
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        for (let i = 0; i < 10; i++) await add();
      }),
    );
    expect(await store.get('keys/sum')).toEqual({ value: 80, version: 80 });
  });

  it('readers beside a writer never see a gap or an older version', async () => {
    const store = await made();
    await store.compareAndSet('keys/a', 0, 0);
    let version = 1;
    const done = { yes: false };
    const reading = (async () => {
      let last = 0;
      while (!done.yes) {
        const seen = await store.get('keys/a');
        expect(seen.version).toBeGreaterThanOrEqual(last);
        expect(seen.value).toBe(seen.version - 1);
        last = seen.version;
      }
    })();
    for (; version < 60; version++) await store.compareAndSet('keys/a', version, version);
    done.yes = true;
    await reading;
  });

  it('leave one file each', async () => {
    const store = await made();
    for (let version = 0; version < 5; version++) await store.compareAndSet('keys/a', version, version);
    expect(await readdir(join(path, 'keys.d'))).toEqual(['a.5']);
  });

  it.each(['', '.', '..', '../x', 'a/../b', '/a', 'a/', 'a//b', 'a\0', 'a b', '.a', 'a/b/c/d/e'])(
    'the name %j is refused',
    async (name) => {
      const store = await made();
      await expect(store.get(name)).rejects.toBeInstanceOf(RangeError);
      await expect(store.compareAndSet(name, 1, 0)).rejects.toBeInstanceOf(RangeError);
    },
  );
});

describe('crashes', () => {
  it('before the link: the old version stands, and the leftover is removed', async () => {
    let store = await made();
    await store.compareAndSet('keys/a', 1, 0);
    await store.close();
    const leftover = join(path, 'keys.d', '.tmp-0123456789abcdef');
    await writeFile(leftover, '{"name":"keys/a","ver', { mode: 0o600 });
    store = await open();
    expect(await store.get('keys/a')).toEqual({ value: 1, version: 1 });
    expect(await readdir(join(path, 'keys.d'))).toEqual(['a.1']);
  });

  it('after the link, before the old one is pruned: the new version stands, and the old goes later', async () => {
    let store = await made();
    await store.compareAndSet('keys/a', 1, 0);
    await copyFile(join(path, 'keys.d', 'a.1'), join(dir, 'old'));
    await store.compareAndSet('keys/a', 2, 1);
    await store.close();
    await copyFile(join(dir, 'old'), join(path, 'keys.d', 'a.1'));
    store = await open();
    expect(await store.get('keys/a')).toEqual({ value: 2, version: 2 });
    expect(await store.list('keys/')).toEqual(['keys/a']);
    await store.compareAndSet('keys/a', 3, 2);
    expect(await readdir(join(path, 'keys.d'))).toEqual(['a.3']);
  });

  it('in the middle of init: what is there is not a store, and init does not go on over it', async () => {
    const store = await open({ create: true });
    await addEnvelopeKey(store, now);
    await store.close();
    await expect(open()).rejects.toMatchObject({ reason: 'control-missing' });
    await expect(open({ create: true })).rejects.toMatchObject({ code: 'Conflict', reason: 'control-exists' });
  });
});

describe('init', () => {
  it('makes realm, envelope key and service record', async () => {
    const store = await made();
    const realm = await loadRealm(store);
    expect(realm.id.byteLength).toBe(16);
    expect((await loadEnvelopeKeys(store)).current().version).toBe(1);
    expect((await store.get(records.service)).value).toEqual({ generation: 1, desired: 'stopped' });
  });

  it('is refused where something is', async () => {
    const store = await made();
    const realm = await loadRealm(store);
    await expect(initControl(store, now)).rejects.toMatchObject({ code: 'Conflict', reason: 'control-exists' });
    await store.close();
    await expect(open({ create: true })).rejects.toMatchObject({ code: 'Conflict', reason: 'control-exists' });
    expect((await loadRealm(await open())).id.equals(realm.id)).toBe(true);
  });

  it.each(['realm', 'service', 'envelope-keys/1', 'buckets/b', 'keys/k', 'traits'])(
    'is refused over %s',
    async (name) => {
      const store = await open({ create: true });
      await store.compareAndSet(name, { some: 'thing' }, 0);
      await expect(initControl(store, now)).rejects.toMatchObject({ code: 'Conflict' });
    },
  );

  it.each(['missing', 'empty'])('is never done by opening: a %s directory is an error', async (how) => {
    if (how === 'empty') await mkdir(path, { mode: 0o700 });
    await expect(open()).rejects.toMatchObject({ code: 'ServiceUnavailable', reason: 'control-missing' });
    expect(how === 'empty' ? await readdir(path) : await readdir(dir)).toEqual([]);
  });

  it('two deployments get two realms', async () => {
    const first = await loadRealm(await made());
    path = join(dir, 'second');
    expect((await loadRealm(await made())).id.equals(first.id)).toBe(false);
  });
});

describe('envelope keys', () => {
  it('come back the same, each version', async () => {
    let store = await made();
    const first = (await loadEnvelopeKeys(store)).current().key;
    expect(await addEnvelopeKey(store, now)).toBe(2);
    store = await reopened(store);
    const keys = await loadEnvelopeKeys(store);
    expect(keys.current().version).toBe(2);
    expect(keys.get(1)?.equals(first)).toBe(true);
    expect(keys.get(2)?.equals(first)).toBe(false);
    expect(keys.get(3)).toBeUndefined();
  });

  it('of rotations that race one makes the version', async () => {
    const store = await made();
    const results = await Promise.allSettled(Array.from({ length: 8 }, () => addEnvelopeKey(store, now)));
    const versions = results.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
    expect(new Set(versions).size).toBe(versions.length);
    expect((await loadEnvelopeKeys(store)).current().version).toBe(1 + versions.length);
  });

  it('a missing version is an error, not a gap', async () => {
    const store = await made();
    await addEnvelopeKey(store, now);
    await rm(join(path, 'envelope-keys.d', '1.1'));
    await expect(loadEnvelopeKeys(store)).rejects.toMatchObject({ reason: 'control-damaged' });
  });

  it('a store without any is an error', async () => {
    const store = await made();
    await rm(join(path, 'envelope-keys.d'), { recursive: true });
    await expect(loadEnvelopeKeys(store)).rejects.toMatchObject({ reason: 'control-damaged' });
  });

  it('lie sealed: the file holds the key in no encoding, and does not open under another master key', async () => {
    const store = await made();
    const raw = (await loadEnvelopeKeys(store)).current().key.export();
    const file = await readFile(join(path, 'envelope-keys.d', '1.1'));
    for (const form of [raw, raw.toString('base64'), raw.toString('hex')]) expect(file.includes(form)).toBe(false);
    await store.close();
    const other = await open({ masterKey: createSecretKey(randomBytes(32)) });
    await expect(loadEnvelopeKeys(other)).rejects.toMatchObject({ reason: 'control-damaged' });
  });

  it('secrets lie sealed too', async () => {
    const store = await made();
    await store.compareAndSet(records.secret('kms.1'), { token: 'plaintext-token' }, 0);
    expect((await readFile(join(path, 'secrets.d', 'kms.1.1'))).includes('plaintext-token')).toBe(false);
    expect((await store.get(records.secret('kms.1'))).value).toEqual({ token: 'plaintext-token' });
  });
});

describe('tampering', () => {
  const file = () => join(path, 'envelope-keys.d', '1.1');

  it.each(['flip', 'truncate', 'empty', 'extend', 'not JSON'])('%s: refused', async (how) => {
    const store = await made();
    const bytes = await readFile(file());
    const at = bytes.indexOf('"sealed":"') + 30;
    const changed = {
      flip: Buffer.concat([bytes.subarray(0, at), Buffer.of(bytes[at] === 65 ? 66 : 65), bytes.subarray(at + 1)]),
      truncate: bytes.subarray(0, -10),
      empty: Buffer.alloc(0),
      extend: Buffer.concat([bytes, Buffer.from('{}')]),
      'not JSON': randomBytes(64),
    }[how];
    await writeFile(file(), changed ?? bytes);
    await expect(store.get('envelope-keys/1')).rejects.toMatchObject({ reason: 'control-damaged' });
  });

  it('a sealed record under the name of another, with its own name edited, is refused', async () => {
    const store = await made();
    await addEnvelopeKey(store, now);
    const moved = (await readFile(file(), 'utf8')).replace('envelope-keys/1', 'envelope-keys/2');
    await writeFile(join(path, 'envelope-keys.d', '2.1'), moved);
    await expect(store.get('envelope-keys/2')).rejects.toMatchObject({ reason: 'control-damaged' });
  });

  it('a plain record under the name or version of another is refused', async () => {
    const store = await made();
    await store.compareAndSet('keys/a', 1, 0);
    await copyFile(join(path, 'keys.d', 'a.1'), join(path, 'keys.d', 'b.1'));
    await expect(store.get('keys/b')).rejects.toMatchObject({ reason: 'control-damaged' });
    await rename(join(path, 'keys.d', 'a.1'), join(path, 'keys.d', 'a.7'));
    await expect(store.get('keys/a')).rejects.toMatchObject({ reason: 'control-damaged' });
  });

  it('a symbolic link in place of a record is refused', async () => {
    const store = await made();
    await store.compareAndSet('keys/a', 1, 0);
    await rename(join(path, 'keys.d', 'a.1'), join(dir, 'a'));
    await symlink(join(dir, 'a'), join(path, 'keys.d', 'a.1'));
    await expect(store.get('keys/a')).rejects.toMatchObject({ reason: 'file-permissions' });
  });
});

describe('permissions', () => {
  it('are 0700 and 0600, whatever the umask', async () => {
    const store = await made();
    await store.compareAndSet('keys/a', 1, 0);
    expect((await stat(path)).mode & 0o777).toBe(0o700);
    expect((await stat(join(path, 'keys.d'))).mode & 0o777).toBe(0o700);
    expect((await stat(join(path, 'keys.d', 'a.1'))).mode & 0o777).toBe(0o600);
    expect((await stat(join(path, 'lock'))).mode & 0o777).toBe(0o600);
  });
  it.each([0o710, 0o701, 0o750, 0o707])('a directory of mode %o is refused', async (mode) => {
    await (await made()).close();
    await chmod(path, mode);
    await expect(open()).rejects.toMatchObject({ reason: 'file-permissions' });
  });
  it.each([0o640, 0o604])('a record of mode %o is refused', async (mode) => {
    const store = await made();
    await chmod(join(path, 'envelope-keys.d', '1.1'), mode);
    await expect(store.get('envelope-keys/1')).rejects.toMatchObject({ reason: 'file-permissions' });
  });
});

describe('the lock', () => {
  async function holder(pid: number, changes: Record<string, unknown> = {}): Promise<void> {
    const lock = await acquireLock(path);
    const mine = JSON.parse(await readFile(join(path, 'lock'), 'utf8')) as Record<string, unknown>;
    await lock.release();
    await writeFile(join(path, 'lock'), JSON.stringify({ ...mine, pid, ...changes }), { mode: 0o600 });
  }
  async function deadPid(): Promise<number> {
    const child = spawn(process.execPath, ['-e', '']);
    await once(child, 'exit');
    return child.pid ?? 0;
  }

  it('lets one process in, and the next when it has left', async () => {
    const first = await made();
    await expect(open()).rejects.toMatchObject({ code: 'ServiceUnavailable', reason: 'control-lock' });
    await first.close();
    expect(await readdir(path)).not.toContain('lock');
    await open();
  });

  it('of eight that come together lets one in', async () => {
    await (await made()).close();
    const results = await Promise.allSettled(Array.from({ length: 8 }, () => open()));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  it('of a dead process is taken over, by one of eight', async () => {
    await (await made()).close();
    await holder(await deadPid());
    const results = await Promise.allSettled(Array.from({ length: 8 }, () => open()));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect((await readdir(path)).filter((entry) => entry.startsWith('lock'))).toEqual(['lock']);
  });

  it('of a process that died while it took over from a dead one is taken over too', async () => {
    await (await made()).close();
    await holder(await deadPid());
    const dead = JSON.parse(await readFile(join(path, 'lock'), 'utf8')) as { nonce: string };
    const guard = join(path, `lock.${dead.nonce.slice(0, 16)}`);
    await writeFile(guard, JSON.stringify({ ...dead, nonce: 'f'.repeat(32) }), { mode: 0o600 });
    await open();
    expect((await readdir(path)).filter((entry) => entry.startsWith('lock'))).toEqual(['lock']);
  });

  it('of a process whose id was given again is taken over', async () => {
    await (await made()).close();
    await holder(process.pid, { started: '1' });
    await open();
  });

  it.each(['boot', 'namespace', 'host'])(
    'from another %s is believed while it is renewed, and not after',
    async (field) => {
      await (await made()).close();
      await holder(await deadPid(), { [field]: 'other' });
      await expect(open()).rejects.toMatchObject({ reason: 'control-lock' });
      const old = new Date(Date.now() - 20_000);
      await utimes(join(path, 'lock'), old, old);
      await open();
    },
  );

  it('that is no lock file is not taken away', async () => {
    await (await made()).close();
    await writeFile(join(path, 'lock'), 'something', { mode: 0o600 });
    await expect(open()).rejects.toMatchObject({ reason: 'control-lock' });
    expect(await readFile(join(path, 'lock'), 'utf8')).toBe('something');
  });

  it('that was lost ends writing, and "none"', async () => {
    const store = await made();
    await store.compareAndSet('keys/a', 1, 0);
    await holder(process.pid, { nonce: 'another' }).catch(() => undefined);
    await writeFile(join(path, 'lock'), '{}');
    await expect(store.compareAndSet('keys/a', 2, 1)).rejects.toMatchObject({ reason: 'control-lock' });
    await expect(store.get('keys/none')).rejects.toMatchObject({ reason: 'control-lock' });
  });

  it('an unmounted volume is an outage, not an empty store', async () => {
    const store = await made();
    await rename(path, join(dir, 'elsewhere'));
    await mkdir(path, { mode: 0o700 });
    await expect(store.get('realm')).rejects.toMatchObject({ code: 'ServiceUnavailable' });
    await expect(store.list('buckets/')).rejects.toMatchObject({ code: 'ServiceUnavailable' });
    await expect(store.compareAndSet('realm', 1, 0)).rejects.toMatchObject({ code: 'ServiceUnavailable' });
    expect(await readdir(path)).toEqual([]);
  });
});
