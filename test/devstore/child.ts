import { spawn, type ChildProcess } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import ts from 'typescript';
import type { RawStore } from '../support/s3-raw.ts';

const ROOT = join(import.meta.dirname, '..', '..');

export interface Child extends RawStore {
  /** SIGKILL: nothing of it runs after that. */
  kill(): Promise<void>;
}

/** The store's code as JavaScript in a folder that sees our node_modules: Node 20 runs no TypeScript. */
export async function transpile(): Promise<{ folder: string; remove(): Promise<void> }> {
  const cache = join(ROOT, '.cache');
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(join(cache, 'devstore-'));
  await writeFile(join(folder, 'package.json'), '{"type":"module"}');
  const names = await readdir(join(ROOT, 'src'), { recursive: true });
  for (const name of names.filter((path) => /^(?:errors|bytes)\.ts$|^(?:sigv4|devstore)\/.*\.ts$/.test(path))) {
    const { outputText } = ts.transpileModule(await readFile(join(ROOT, 'src', name), 'utf8'), {
      compilerOptions: {
        target: ts.ScriptTarget.ES2023,
        module: ts.ModuleKind.ESNext,
        verbatimModuleSyntax: true,
        rewriteRelativeImportExtensions: true,
      },
    });
    const path = join(folder, name.replace(/\.ts$/, '.js'));
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, outputText);
  }
  const main = `
    import { startDevStore } from './devstore/server.js';
    const { url } = await startDevStore(JSON.parse(process.argv[2]));
    console.log(url);`;
  await writeFile(join(folder, 'main.js'), main);
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}

export async function startChild(folder: string, directory: string): Promise<Child> {
  const credentials = { accessKeyId: 'CHILD', secretAccessKey: 'child-secret' };
  const region = 'us-east-1';
  const options = { directory, host: '127.0.0.1', port: 0, credentials, region };
  const child = spawn(process.execPath, [join(folder, 'main.js'), JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const endpoint = await firstLine(child);
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  return {
    endpoint,
    ...credentials,
    region,
    kill() {
      child.kill('SIGKILL');
      return ended;
    },
  };
}

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.stdout?.once('data', (data: Buffer) => resolve(data.toString('utf8').trim()));
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the store ended with ${code ?? 'a signal'}`)));
  });
}
