import { constants } from 'node:fs';
import { lstat, open, readFile, rename, unlink, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { randomBytes } from 'node:crypto';
import { ServiceError } from '../errors.ts';

/** Files that hold keys and settings: private to their owner, whole or absent, on the disk before anybody is told. */

export function errorCode(err: unknown): string | undefined {
  return err instanceof Error && 'code' in err && typeof err.code === 'string' ? err.code : undefined;
}

function tooOpen(path: string, why: string): ServiceError {
  return new ServiceError('ServiceUnavailable', { message: `${path} ${why}`, reason: 'file-permissions' });
}

/**
 * Refuses what anybody but its owner can read or write: key files of OpenSSH and age are held to the same rule.
 * Symbolic links are refused too, so that the checked file is the read one.
 */
export async function assertPrivate(path: string, kind: 'directory' | 'file'): Promise<void> {
  const stat = await lstat(path);
  if (kind === 'directory' ? !stat.isDirectory() : !stat.isFile()) throw tooOpen(path, `is not a ${kind}`);
  if ((stat.mode & 0o077) !== 0) throw tooOpen(path, 'is accessible to group or others');
  const self = process.geteuid?.();
  if (self !== undefined && stat.uid !== self) throw tooOpen(path, 'belongs to another user');
}

/** Reads a private file whose size is bounded. The buffer is solely the caller's (readFile allocates unpooled). */
export async function readPrivate(path: string, limit: number): Promise<Buffer> {
  await assertPrivate(path, 'file');
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const { size } = await handle.stat();
    if (size > limit) throw tooOpen(path, 'is larger than it can be');
    return await readFile(handle);
  } finally {
    await handle.close();
  }
}

/** Makes the entries of a directory durable; a rename or link is not before. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export const TEMPORARY = /^\.tmp-[0-9a-f]{16}x?$/;

/** A new 0600 file with its bytes on the disk, under a name that nobody looks at. */
export async function writeTemporary(directory: string, bytes: Uint8Array): Promise<string> {
  const path = `${directory}/.tmp-${randomBytes(8).toString('hex')}`;
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, 'wx', 0o600);
    await handle.writeFile(bytes);
    await handle.sync();
  } catch (err) {
    await unlink(path).catch(() => undefined);
    throw err;
  } finally {
    await handle?.close();
  }
  return path;
}

/** Replaces a file in one step: a reader sees the old or the new one, a crash leaves either. */
export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const directory = dirname(path);
  const temporary = await writeTemporary(directory, bytes);
  try {
    await rename(temporary, path);
  } catch (err) {
    await unlink(temporary).catch(() => undefined);
    throw err;
  }
  await syncDirectory(directory);
}
