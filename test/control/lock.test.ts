import type * as FsPromises from 'node:fs/promises';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { acquireLock } from '../../src/control/lock.ts';

/** Done before a file is linked into place, once: what another process does meanwhile. */
const meanwhile = vi.hoisted(() => ({ at: '', work: (): Promise<void> => Promise.resolve() }));
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof FsPromises>();
  const link: typeof real.link = async (from, to) => {
    if (meanwhile.at !== '' && String(to).includes(meanwhile.at)) {
      meanwhile.at = '';
      await meanwhile.work();
    }
    return real.link(from, to);
  };
  return { ...real, link };
});

let folder: string;
beforeEach(async () => (folder = await mkdtemp(join(tmpdir(), 'lock-'))));
afterEach(() => rm(folder, { recursive: true, force: true }));

it('a lock that was found dead, and has a live holder by the time its guard is ours, is left to him', async () => {
  const file = join(folder, 'lock');
  const lock = await acquireLock(folder);
  const mine = JSON.parse(await readFile(file, 'utf8')) as { nonce: string; started: string };
  await lock.release();
  // A process of this id that began at another time: dead.
  await writeFile(file, JSON.stringify({ ...mine, nonce: 'd'.repeat(32), started: '1' }));
  const alive = JSON.stringify({ ...mine, nonce: 'a'.repeat(32) });
  // Another one has found the same dead holder, took over, and gave the guard back.
  meanwhile.at = `lock.${'d'.repeat(16)}`;
  meanwhile.work = () => writeFile(file, alive);
  await expect(acquireLock(folder)).rejects.toMatchObject({ code: 'ServiceUnavailable', reason: 'control-lock' });
  expect(meanwhile.at).toBe('');
  expect(await readFile(file, 'utf8')).toBe(alive);
  expect(await readdir(folder)).toEqual(['lock']);
});
