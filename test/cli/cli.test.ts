import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { s3, type RawStore } from '../support/s3-raw.ts';
import { transpile, type Transpiled } from '../support/transpile.ts';
import { call, cli, serve, type Running } from './run.ts';

let code: Transpiled;
beforeAll(async () => {
  code = await transpile();
});
afterAll(() => code.remove());

const VERBS = [
  ...['quickstart', 'init', 'serve', 'doctor', 'kms', 'buckets'],
  ...['encrypt-bucket', 'decrypt-bucket', 'audit', 'backup', 'restore'],
];

describe('the command line', () => {
  const run = call;

  it('is a program with these exit codes', async () => {
    const calls = [['--help'], ['kms', 'status'], ['frobnicate']].map((args) => cli(code.folder, args));
    expect((await Promise.all(calls)).map(({ status }) => status)).toEqual([0, 1, 2]);
  });

  it('says what there is, and exits with 0 when it was asked, 2 when it was not', async () => {
    const asked = await run(['--help']);
    expect([asked.status, asked.err]).toEqual([0, '']);
    for (const verb of VERBS) expect(asked.out).toMatch(new RegExp(`^  ${verb} `, 'm'));
    const listed = [...asked.out.matchAll(/^ {2}([a-z-]+) /gm)].map((match) => match[1]);
    expect([...new Set(listed)]).toEqual(VERBS);
    expect((await run([])).status).toBe(0);
    const unknown = await run(['frobnicate']);
    expect([unknown.status, unknown.out]).toEqual([2, '']);
  });

  it.each(VERBS)('%s --help does nothing but say', async (verb) => {
    const { status, out } = await run([verb, '--help']);
    expect([status, out]).toEqual([0, expect.stringContaining(verb)]);
  });

  it.each([
    [['kms'], /usage: kms/],
    [['kms', 'explode'], /usage: kms/],
    [['kms', 'stop'], /--reason/],
    [['kms', 'configure'], /--file/],
    [['buckets'], /usage: buckets/],
    [['buckets', 'list', 'x'], /usage: buckets/],
    [['buckets', 'adopt', 'photos'], /--mode/],
    [['buckets', 'seal', '../keys'], /no bucket name/],
    [['encrypt-bucket'], /usage: encrypt-bucket/],
    [['encrypt-bucket', 'photos', '--at-once', '65'], /--at-once/],
    [['decrypt-bucket', '../keys'], /no bucket name/],
    [['audit', 'verify'], /usage: audit/],
    [['backup'], /--file/],
    [['restore'], /--file/],
    [['serve', '--frob'], /--frob/],
    [['quickstart', '--port', 'x'], /--port/],
  ])('%j is a wrong call: 2, one line', async (args, message) => {
    const { status, err } = await run(args);
    expect([status, err]).toEqual([2, expect.stringMatching(message)]);
    expect(err.trim().split('\n').length).toBeLessThan(4);
  });

  it.each([['serve'], ['init'], ['doctor'], ['kms', 'status'], ['backup', '--file', 'x']])(
    '%s without a configuration is a failure: 1, and says which variable names it',
    async (...args) => {
      const { status, err } = await run(args);
      expect([status, err]).toEqual([1, expect.stringContaining('S3SSE_CONFIG')]);
    },
  );
});

describe('the quick start', () => {
  const folder = mkdtempSync(join(tmpdir(), 'quickstart-'));
  const site = join(folder, 'site');
  const env: Record<string, string> = {};
  let running: Running | undefined;
  let raw: RawStore;

  const run = (...args: string[]) => call(args, env);
  const begin = async (): Promise<string> => {
    const ports = ['--port', new URL(raw.endpoint).port, '--admin-port', env.ADMIN_PORT ?? ''];
    running = await serve(code.folder, ['quickstart', '--dir', site, ...ports], /kms start\n/);
    for (const [, name = '', value = ''] of readFileSync(join(site, 'env.sh'), 'utf8').matchAll(
      /^export (\w+)='(.*)'$/gm,
    )) {
      env[name] = value;
    }
    raw = { ...raw, accessKeyId: env.AWS_ACCESS_KEY_ID ?? '', secretAccessKey: env.AWS_SECRET_ACCESS_KEY ?? '' };
    return running.said();
  };
  const end = async (): Promise<void> => {
    expect(await running?.stop()).toBe(0);
    running = undefined;
  };
  const get = () => s3(raw, { method: 'GET', bucket: 'photos', key: 'k' });

  beforeAll(async () => {
    env.ADMIN_PORT = String(await freePort());
    raw = {
      endpoint: `http://127.0.0.1:${await freePort()}`,
      region: 'us-east-1',
      accessKeyId: '',
      secretAccessKey: '',
    };
  });
  afterAll(async () => {
    await running?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it('starts from nothing, and says how to go on', async () => {
    const said = await begin();
    expect(said).toContain(raw.endpoint);
    expect(said).toContain('not for production');
    expect(said).toContain(env.AWS_SECRET_ACCESS_KEY);
    expect(statSync(site).mode & 0o777).toBe(0o700);
    const files = ['env.sh', 'config.json', 'master.key', 'user.secret', 'admin.secret'];
    expect(files.map((name) => statSync(join(site, name)).mode & 0o777)).toEqual(files.map(() => 0o600));
    // The administrator's secret is in its file only.
    expect(said).not.toContain(readFileSync(join(site, 'admin.secret'), 'utf8'));
    expect((await s3(raw, { method: 'PUT', bucket: 'photos' })).status).toBe(200);
    expect((await s3(raw, { method: 'PUT', bucket: 'photos', key: 'k', body: 'kept' })).status).toBe(200);
  });

  it('is examined by doctor', async () => {
    const found = await run('doctor', '--bucket', 'photos');
    expect([found.status, found.out]).toEqual([0, expect.stringContaining('read back: identical')]);
    expect((await run('doctor', '--bucket', 'no-such-bucket')).status).toBe(1);
  });

  it('is stopped and stays stopped over a restart; start serves again', async () => {
    const stop = await run('kms', 'stop', '--reason', 'a drill');
    expect([stop.status, JSON.parse(stop.out)]).toMatchObject([0, { durable: true }]);
    expect((await get()).status).toBe(503);
    expect((await s3(raw, { method: 'PUT', bucket: 'photos', key: 'n', body: 'x' })).status).toBe(503);
    await end();
    await begin();
    expect((await get()).status).toBe(503);
    const status = await run('kms', 'status');
    expect([status.status, JSON.parse(status.out)]).toMatchObject([0, { state: 'Stopped' }]);
    expect(status.out).toContain('a drill');
    expect((await run('kms', 'start')).status).toBe(0);
    expect((await get()).text).toBe('kept');
  });

  it('shows its buckets; a refused call is a failure', async () => {
    const listed = await run('buckets', 'list');
    expect([listed.status, listed.out]).toEqual([0, expect.stringContaining('"photos"')]);
    const adopted = await run('buckets', 'adopt', 'photos', '--mode', 'mixed');
    expect([adopted.status, adopted.out]).toEqual([1, expect.stringContaining('Conflict')]);
    expect((await run('buckets', 'seal', 'photos')).status).toBe(0);
  });

  it('is initialised once: again is refused', async () => {
    await end();
    const again = await run('init');
    expect([again.status, again.err]).toEqual([2, expect.stringContaining('belongs to a realm already')]);
    expect((await run('kms', 'status')).err).toMatch(/is the gateway running\?/);
  });

  it('is backed up and restored into an empty directory: stopped, and every object opens', async () => {
    const file = join(folder, 'backup');
    expect((await run('backup', '--file', file)).status).toBe(0);
    expect(readFileSync(file).includes('photos')).toBe(false);
    const refused = await run('restore', '--file', file);
    expect([refused.status, refused.err]).toEqual([1, expect.stringContaining('not empty')]);
    rmSync(join(site, 'control'), { recursive: true });
    const restored = await run('restore', '--file', file);
    expect([restored.status, restored.out]).toEqual([0, expect.stringMatching(/restored \d+ records/)]);
    await begin();
    expect((await get()).status).toBe(503);
    expect((await run('kms', 'start')).status).toBe(0);
    expect((await get()).text).toBe('kept');
    await end();
  });

  it('keeps an audit chain: intact, and not when a line was edited', async () => {
    const files = readdirSync(join(site, 'audit')).map((name) => join(site, 'audit', name));
    const intact = await run('audit', 'verify', ...files);
    expect([intact.status, intact.out]).toEqual([0, expect.stringMatching(/\d+ records, intact/)]);
    const edited = files.find((name) => readFileSync(name, 'utf8').includes('a drill')) ?? '';
    writeFileSync(edited, readFileSync(edited, 'utf8').replace('a drill', 'nothing'));
    const broken = await run('audit', 'verify', ...files);
    expect([broken.status, broken.out]).toEqual([1, expect.stringContaining('NOT intact')]);
  });
});
