import { execFile, spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { CreateBucketCommand, GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { adminCall } from '../support/admin-call.ts';
import { makeSite, type Site } from './site.ts';

const run = promisify(execFile);
const root = resolve(import.meta.dirname, '../..');
const tsc = join(root, 'node_modules/typescript/bin/tsc');

interface Packed {
  readonly files: readonly { readonly path: string; readonly mode: number }[];
}

/** The package as somebody who installed it sees it: built, packed by npm, unpacked beside its dependencies. */
describe('the package', () => {
  let consumer: string;
  let installed: string;
  let site: Site;
  let packed: Packed;

  beforeAll(async () => {
    mkdirSync(join(root, '.cache'), { recursive: true });
    consumer = mkdtempSync(join(root, '.cache/consumer-'));
    const built = join(consumer, 'built');
    const build = [tsc, '-p', 'tsconfig.build.json', '--noCheck', '--outDir', join(built, 'dist')];
    await run(process.execPath, build, { cwd: root });
    const { files } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { files: string[] };
    for (const name of [...files, 'package.json', 'README.md', 'LICENSE'].filter((one) => one !== 'dist')) {
      cpSync(join(root, name), join(built, name), { recursive: true });
    }
    const npm = ['pack', '--ignore-scripts', '--json', '--pack-destination', consumer];
    const { stdout } = await run('npm', npm, { cwd: built });
    [packed] = JSON.parse(stdout) as [Packed];
    await run('tar', ['-xzf', 'express-s3-sse-0.1.0.tgz'], { cwd: consumer });
    installed = join(consumer, 'node_modules/express-s3-sse');
    mkdirSync(join(consumer, 'node_modules'));
    cpSync(join(consumer, 'package'), installed, { recursive: true });
    for (const name of ['express', '@types'])
      symlinkSync(join(root, 'node_modules', name), join(consumer, 'node_modules', name));
    writeFileSync(join(consumer, 'package.json'), '{"type":"module"}');
    site = await makeSite();
  }, 240_000);
  afterAll(() => {
    rmSync(consumer, { recursive: true, force: true });
    site.remove();
  });

  it('holds the program, its declarations and its docs, and neither tests nor secrets', () => {
    const paths = packed.files.map(({ path }) => path);
    for (const path of ['dist/cli.js', 'dist/index.js', 'dist/index.d.ts', 'README.md', 'LICENSE', 'docs/FORMAT.md']) {
      expect(paths).toContain(path);
    }
    expect(paths.filter((path) => /^(test|src|bench|quickstart|node_modules|\.)/.test(path))).toEqual([]);
  });

  it('has types that an application compiles against', async () => {
    const write = (text: string) => writeFileSync(join(consumer, 'app.ts'), text);
    const options = {
      module: 'nodenext',
      target: 'es2023',
      strict: true,
      skipLibCheck: true,
      types: ['node'],
      noEmit: true,
    };
    writeFileSync(join(consumer, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, files: ['app.ts'] }));
    const compile = () => run(process.execPath, [tsc, '-p', '.'], { cwd: consumer });
    const text = `
      import express from 'express';
      import { ConfigError, createLog, kmsAdmin, s3Encryption, type S3Encryption } from 'express-s3-sse';
      const storage: S3Encryption = s3Encryption('config.json', createLog('warn'));
      const app = express().use('/kms', kmsAdmin(storage)).use('/storage', storage);
      storage.attach(app.listen(0));
      storage.ready.then(() => storage.close(), (err: unknown) => err instanceof ConfigError);
    `;
    write(text);
    await compile();
    write(text.replace('storage.attach(', 'storage.attatch('));
    await expect(compile()).rejects.toMatchObject({ stdout: expect.stringContaining('attatch') as string });
  });

  it('has a program that runs from an empty folder', async () => {
    const { stdout } = await run(process.execPath, [join(installed, 'dist/cli.js'), '--help'], { cwd: consumer });
    expect(stdout).toContain('quickstart');
  });

  it('lets a process end by itself once it is closed, and installs no handlers', async () => {
    const script = `
      import express from 'express';
      import { kmsAdmin, s3Encryption } from 'express-s3-sse';
      const handlers = () => process.eventNames().map((name) => [String(name), process.listenerCount(name)]);
      const before = JSON.stringify(handlers());
      const storage = s3Encryption(process.argv[2]);
      const server = express().use('/kms', kmsAdmin(storage)).use(storage).listen(0, '127.0.0.1');
      storage.attach(server);
      await storage.ready;
      const { status } = await fetch('http://127.0.0.1:' + server.address().port + '/bucket');
      console.log(status, JSON.stringify(handlers()) === before);
      server.close();
      server.closeAllConnections();
      await storage.close();
    `;
    writeFileSync(join(consumer, 'mount.js'), script);
    const config = join(site.folder, 'config.json');
    // A timer or a socket that holds the process would let it run into the limit, which is a failure.
    const { stdout } = await run(process.execPath, ['mount.js', config], { cwd: consumer, timeout: 60_000 });
    expect(stdout.trim()).toBe('403 true');
  });

  it('has an example that works', async () => {
    cpSync(join(root, 'examples/middleware.js'), join(consumer, 'example.js'));
    const child = spawn(process.execPath, ['example.js', join(site.folder, 'config.json'), '0'], { cwd: consumer });
    const ended = new Promise((done) => child.on('close', done));
    let said = '';
    child.stderr.on('data', (text: Buffer) => (said += text.toString()));
    const url = await new Promise<string>((found, failed) => {
      child.stdout.on('data', (text: Buffer) => {
        said += text.toString();
        const [, endpoint] = /S3 at (\S+)/.exec(said) ?? [];
        if (endpoint !== undefined) found(endpoint);
      });
      void ended.then(() => failed(new Error(said)));
    });
    const s3 = new S3Client({ endpoint: url, region: 'us-east-1', forcePathStyle: true, credentials: site.user });
    try {
      await s3.send(new CreateBucketCommand({ Bucket: 'bucket' }));
      await s3.send(new PutObjectCommand({ Bucket: 'bucket', Key: 'k', Body: 'hello' }));
      const { Body } = await s3.send(new GetObjectCommand({ Bucket: 'bucket', Key: 'k' }));
      expect(await Body?.transformToString()).toBe('hello');
      const origin = new URL(url).origin;
      expect((await adminCall(origin, site.administrator, 'GET', '/kms/status')).body.state).toBe('Running');
      const echo = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"a":1}' };
      expect(await (await fetch(`${origin}/echo`, echo)).json()).toEqual({ a: 1 });
    } finally {
      s3.destroy();
      child.kill('SIGTERM');
    }
    expect(await ended).toBe(0);
  });
});
