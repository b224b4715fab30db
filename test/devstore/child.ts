import { spawn, type ChildProcess } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RawStore } from '../support/s3-raw.ts';
import { transpile, type Transpiled } from '../support/transpile.ts';

export interface Child extends RawStore {
  /** SIGKILL: nothing of it runs after that. */
  kill(): Promise<void>;
}

/** The store's code as JavaScript. */
export async function transpileStore(): Promise<Transpiled> {
  const code = await transpile((path) =>
    /^(?:errors|bytes|config\/json|s3\/xml)\.ts$|^(?:sigv4|devstore)\//.test(path),
  );
  const main = `
    import { startDevStore } from './devstore/server.js';
    const { url } = await startDevStore(JSON.parse(process.argv[2]));
    console.log(url);`;
  await writeFile(join(code.folder, 'main.js'), main);
  return code;
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
