import { execFile } from 'node:child_process';
import { access, mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** Debian's own: what pip installs for it fits no other. */
export const PYTHON = '/usr/bin/python3';
const CACHE = join(import.meta.dirname, '..', '..', '.cache');

/** Pinned packages of the Python index in a folder of the cache (for PYTHONPATH), made whole before it has its name. */
export async function pythonPackages(...pinned: readonly string[]): Promise<string> {
  const folder = join(CACHE, pinned.join('-').replaceAll('==', '-'));
  const isThere = (): Promise<boolean> =>
    access(folder).then(
      () => true,
      () => false,
    );
  if (await isThere()) return folder;
  await mkdir(CACHE, { recursive: true });
  const fresh = `${folder}.${process.pid}`;
  const options = ['--disable-pip-version-check', '--no-input', '--quiet', '--only-binary=:all:', '--target', fresh];
  await promisify(execFile)(PYTHON, ['-m', 'pip', 'install', ...options, ...pinned], { timeout: 600_000 });
  // Another worker may have been as quick.
  await rename(fresh, folder).catch(async (err: unknown) => {
    await rm(fresh, { recursive: true, force: true });
    if (!(await isThere())) throw err;
  });
  return folder;
}
