import { randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { link, readFile, rename, stat, unlink, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import { z } from 'zod';
import { ServiceError } from '../errors.ts';
import { errorCode, writeTemporary } from './files.ts';

/**
 * One process per directory. The lock file names its holder by process id, start time, boot and PID namespace: a
 * process id alone is given again (in containers it is 1 each time). A holder that cannot be looked up from here
 * (another container or host) is judged by the file's time, which a live one renews.
 */
const holderSchema = z.strictObject({
  nonce: z.string(),
  pid: z.int().positive(),
  /** Where the kernel tells them: `/proc/<pid>/stat` field 22, boot id, PID namespace. */
  started: z.string(),
  boot: z.string(),
  namespace: z.string(),
  host: z.string(),
});
type Holder = z.infer<typeof holderSchema>;

const RENEW_MS = 2_000;
const ABANDONED_MS = 15_000;

export interface DirectoryLock {
  /** Throws ServiceUnavailable when the lock is no longer ours: the directory was replaced, or somebody took over. */
  assertHeld(): Promise<void>;
  release(): Promise<void>;
}

function fromKernel(read: () => string): string {
  try {
    return read().trim();
  } catch {
    return '';
  }
}

/** The start time of a process: its id alone does not tell it from a later one. Empty where there is no /proc. */
function startTime(pid: number): string {
  const stat = fromKernel(() => readFileSync(`/proc/${pid}/stat`, 'latin1'));
  // The name (field 2) may hold spaces and parentheses: count from the last one. Field 22 is the 20th after it.
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

function self(): Holder {
  return {
    nonce: randomBytes(16).toString('hex'),
    pid: process.pid,
    started: startTime(process.pid),
    boot: fromKernel(() => readFileSync('/proc/sys/kernel/random/boot_id', 'latin1')),
    namespace: fromKernel(() => readlinkSync('/proc/self/ns/pid')),
    host: hostname(),
  };
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (err) {
    return errorCode(err) === 'EPERM';
  }
}

async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    return holderSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (err) {
    if (errorCode(err) === 'ENOENT') return undefined;
    // A lock is linked into place whole, so another content is not ours to take away.
    throw unavailable(`${path} is not a lock file; remove it when no process uses the directory.`);
  }
}

async function isDead(path: string, holder: Holder, me: Holder): Promise<boolean> {
  if (holder.host === me.host && holder.boot === me.boot && holder.namespace === me.namespace) {
    return !exists(holder.pid) || startTime(holder.pid) !== holder.started;
  }
  const { mtimeMs } = await stat(path);
  return Date.now() - mtimeMs > ABANDONED_MS;
}

function unavailable(message: string): ServiceError {
  return new ServiceError('ServiceUnavailable', { message, reason: 'control-lock', headers: { 'Retry-After': '2' } });
}

export async function acquireLock(directory: string): Promise<DirectoryLock> {
  const path = `${directory}/lock`;
  const me = self();
  const mine = await writeTemporary(directory, Buffer.from(`${JSON.stringify(me)}\n`));
  try {
    await claim(path, mine, me);
  } catch (err) {
    // Our file is gone before it was linked: whoever holds the lock by now has cleaned up.
    if (errorCode(err) === 'ENOENT') throw unavailable(`${directory} is in use.`);
    throw err;
  } finally {
    await unlink(mine).catch(() => undefined);
  }
  return hold(path, me);
}

/**
 * Links our file into place. A dead holder's file is replaced by whoever holds the guard named after that very file,
 * and only while it still is that file: of many who find it dead, one takes over. A guard is claimed the same way, so
 * that a crash in the middle of a takeover is taken over too.
 */
async function claim(path: string, mine: string, me: Holder): Promise<void> {
  if (await linked(mine, path)) return;
  const holder = await readHolder(path);
  if (holder === undefined) throw unavailable(`${path} is changing hands.`);
  if (!(await isDead(path, holder, me))) throw unavailable(`${path} is held by process ${holder.pid}.`);
  const guard = `${path}.${holder.nonce.slice(0, 16)}`;
  await claim(guard, mine, me);
  try {
    if ((await readHolder(path))?.nonce !== holder.nonce) throw unavailable(`${path} is changing hands.`);
    const copy = `${mine}x`;
    await link(mine, copy);
    await rename(copy, path);
  } finally {
    await unlink(guard);
  }
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (err) {
    if (errorCode(err) === 'EEXIST') return false;
    throw err;
  }
}

function hold(path: string, me: Holder): DirectoryLock {
  const timer = setInterval(() => {
    const now = new Date();
    // A failure shows at the next assertHeld.
    utimes(path, now, now).catch(() => undefined);
  }, RENEW_MS);
  timer.unref();
  const isHeld = async () => (await readHolder(path).catch(() => undefined))?.nonce === me.nonce;
  return {
    async assertHeld() {
      if (!(await isHeld())) throw unavailable(`${path} is no longer held by this process.`);
    },
    async release() {
      clearInterval(timer);
      if (await isHeld()) await unlink(path);
    },
  };
}
