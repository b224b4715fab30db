import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { USER } from '../support/gateway.ts';
import { documented } from './documented.ts';
import { AppSite, type Application } from './site.ts';

const APPLICATION: Application = {
  name: 'postgresql',
  store: 'radosgw',
  because: 'databases are backed up to the Ceph cluster beside them; radosgw takes neither trailers nor chunks',
  tls: true,
};
/** In every row, and in no program: it is looked for at the store. */
const MARKER = randomBytes(12).toString('hex');
const ROWS = 20_000;

/** PostgreSQL refuses to run as root. */
const AS_USER = process.getuid?.() === 0 ? ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups'] : [];

describe(`PostgreSQL with pgBackRest over ${APPLICATION.store}`, () => {
  let site: AppSite;
  let bin: string;
  let data: string;
  let port: number;

  const asUser = async (program: string, ...args: readonly string[]): Promise<string> => {
    const [first = program, ...rest] = [...AS_USER, program, ...args];
    return (await site.run(first, rest)).stdout;
  };
  const pgbackrest = (...args: readonly string[]): Promise<string> =>
    asUser('pgbackrest', `--config=${site.path('pgbackrest.conf')}`, '--stanza=main', ...args);
  const sql = (text: string): Promise<string> =>
    asUser(join(bin, 'psql'), '-h', site.home, '-p', String(port), '-U', 'postgres', '-XAtq', '-c', text);
  const pgCtl = (...args: readonly string[]): Promise<string> =>
    asUser(join(bin, 'pg_ctl'), '-D', data, '-w', '-l', site.path('work', 'log'), ...args);

  const addRows = (): Promise<string> =>
    sql(
      `insert into accounts (note) select '${MARKER}' || repeat(md5(random()::text), 4) from generate_series(1, ${ROWS})`,
    );
  const allRows = (): Promise<string> =>
    sql("select count(*) || ' ' || md5(string_agg(id || note, ',' order by id)) from accounts");

  beforeAll(async () => {
    site = await AppSite.start(APPLICATION);
    const [version = ''] = (await readdir('/usr/lib/postgresql')).sort().reverse();
    bin = join('/usr/lib/postgresql', version, 'bin');
    port = await freePort();
    data = site.path('work', 'data');
    await mkdir(site.path('work'));
    await writeFile(site.path('pgbackrest.conf'), configuration(site, data, port), { mode: 0o600 });
    if (AS_USER.length > 0) {
      await site.run('chown', ['-R', 'postgres:postgres', site.path('work'), site.path('pgbackrest.conf'), site.home]);
    }
    await asUser(join(bin, 'initdb'), '-D', data, '-U', 'postgres', '--no-sync', '--data-checksums');
    const archive = `pgbackrest --config=${site.path('pgbackrest.conf')} --stanza=main archive-push %p`;
    const settings = [
      "listen_addresses = ''",
      `unix_socket_directories = '${site.home}'`,
      `port = ${port}`,
      'fsync = off',
      'archive_mode = on',
      `archive_command = '${archive}'`,
    ];
    await asUser('sh', '-c', `printf '%s\\n' "$@" >> "$0"`, join(data, 'postgresql.conf'), ...settings);
    await pgCtl('start');
  });
  afterAll(async () => {
    await pgCtl('stop', '-m', 'immediate').catch(() => undefined);
    await site.stop();
  });

  it('a full backup, an incremental one, and the log of what came after', async () => {
    await sql('create table accounts (id serial primary key, note text)');
    await addRows();
    await pgbackrest('stanza-create');
    await pgbackrest('check');
    await pgbackrest('backup', '--type=full');
    await addRows();
    await pgbackrest('backup', '--type=incr');
    await addRows();
    const verified = await pgbackrest('verify', '--output=text', '--verbose');
    expect(verified).toContain('status: ok');
    expect(verified.match(/status: valid/g)).toHaveLength(2);
  });

  it('the database folder is lost; the restored database has every row', async () => {
    const before = await allRows();
    expect(before).toMatch(new RegExp(`^${3 * ROWS} `));
    await sql('select pg_switch_wal()');
    await pgCtl('stop', '-m', 'fast');
    await rm(data, { recursive: true, force: true });
    await asUser('mkdir', '-m', '700', data);
    await pgbackrest('restore');
    await pgCtl('start');
    // It serves while it still replays the log.
    await expect.poll(() => sql('select pg_is_in_recovery()'), { timeout: 60_000 }).toBe('f\n');
    expect(await allRows()).toBe(before);
  });

  it('what it stored is sealed', () =>
    site.expectSealed([
      { name: 'a row', bytes: Buffer.from(MARKER.slice(0, 12)) },
      { name: 'a row, second half', bytes: Buffer.from(MARKER.slice(12)) },
    ]));

  it('a newer full backup lets the older ones expire', async () => {
    const labels = async (): Promise<string[]> =>
      (JSON.parse(await pgbackrest('info', '--output=json')) as Info[]).flatMap(({ backup }) =>
        backup.map((b) => b.label),
      );
    const old = await labels();
    expect(old).toHaveLength(2);
    await pgbackrest('backup', '--type=full');
    expect(await labels()).toHaveLength(1);
    const left = await site.keys('repo/backup/main/2');
    expect(left.filter((key) => old.some((label) => key.includes(`${label}/`)))).toEqual([]);
    expect(left).not.toEqual([]);
  });
});

interface Info {
  readonly backup: readonly { readonly label: string }[];
}

/** As the page has it, but uncompressed, so that the search at the store means something, and with folders of its own. */
function configuration(site: AppSite, data: string, port: number): string {
  const folders = `lock-path=${site.path('work', 'lock')}\nspool-path=${site.path('work', 'spool')}`;
  return documented('PostgreSQL with pgBackRest', {
    '[global]': `[global]\n${folders}\ncompress-type=none\nlog-level-console=warn\nlog-level-file=off`,
    'repo1-s3-bucket=app': `repo1-s3-bucket=${site.bucket.bucket}`,
    'gateway.example': 'localhost',
    '9400': new URL(site.endpoint).port,
    '/etc/ssl/gateway-ca.pem': site.caFile,
    'key=APP': `key=${USER.accessKeyId}`,
    'APP-SECRET': USER.secretAccessKey,
    '/var/lib/postgresql/15/main': `${data}\npg1-port=${port}\npg1-socket-path=${site.home}\npg1-user=postgres`,
  });
}
