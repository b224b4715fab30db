import { randomBytes } from 'node:crypto';
import { appendFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { USER } from '../support/gateway.ts';
import { documented } from './documented.ts';
import { AppSite, type Application } from './site.ts';
import { readTree } from './tree.ts';

const APPLICATION: Application = {
  name: 'restic',
  store: 'seaweedfs',
  because: 'restic writes many small immutable files and never overwrites one: what SeaweedFS is made for',
  tls: true,
};
const MiB = 1024 ** 2;

/** What `restic --json snapshots` says of one backup. */
interface Snapshot {
  readonly id: string;
}

describe(`restic over ${APPLICATION.store}`, () => {
  let site: AppSite;
  beforeAll(async () => {
    site = await AppSite.start(APPLICATION);
    await writeFile(
      site.path('settings.sh'),
      documented('restic', {
        'https://gateway.example:9400/app': `${site.endpoint}/${site.bucket.bucket}`,
        'RESTIC-SECRET': 'correct-horse',
        'APP-SECRET': USER.secretAccessKey,
        'KEY_ID=APP': `KEY_ID=${USER.accessKeyId}`,
      }),
    );
    await mkdir(site.path('data', 'sub folder'), { recursive: true });
    // Its packs have 16 MiB.
    await writeFile(site.path('data', 'large.bin'), randomBytes(24 * MiB));
    await writeFile(site.path('data', 'same.bin'), Buffer.alloc(8 * MiB, 7));
    for (let i = 0; i < 50; i += 1)
      await writeFile(site.path('data', 'sub folder', `file ${i}`), randomBytes(1000 * i));
  });
  afterAll(() => site.stop());

  const restic = async (...args: readonly string[]): Promise<string> => {
    const command = `. ./settings.sh && exec restic --no-cache --cacert ${site.caFile} "$@"`;
    return (await site.run('sh', ['-c', command, 'restic', ...args])).stdout;
  };
  const snapshots = async (): Promise<readonly Snapshot[]> =>
    JSON.parse(await restic('snapshots', '--json')) as Snapshot[];
  const restored = async (snapshot: string): Promise<Record<string, string>> => {
    await rm(site.path('restored'), { recursive: true, force: true });
    await restic('restore', snapshot, '--target', site.path('restored'));
    return readTree(site.path('restored', site.path('data')));
  };

  it('two backups, every byte checked; each comes back as it was', async () => {
    await restic('init');
    await restic('backup', site.path('data'));
    const first = await readTree(site.path('data'));
    await appendFile(site.path('data', 'large.bin'), randomBytes(3 * MiB));
    await rm(site.path('data', 'sub folder', 'file 7'));
    await restic('backup', site.path('data'));

    expect(await restic('check', '--read-data')).toContain('no errors were found');
    const [older, newer] = await snapshots();
    expect(await restored(newer?.id ?? '')).toEqual(await readTree(site.path('data')));
    expect(await restored(older?.id ?? '')).toEqual(first);
  });

  it('what it stored is sealed once more', () => site.expectSealed([]));

  it('the older backup is forgotten and its data removed; the newer one is whole', async () => {
    const before = (await site.keys()).length;
    await restic('forget', '--keep-last', '1', '--prune');
    expect(await snapshots()).toHaveLength(1);
    expect((await site.keys()).length).toBeLessThan(before);
    expect(await restic('check', '--read-data')).toContain('no errors were found');
    expect(await restored('latest')).toEqual(await readTree(site.path('data')));
  });
});
