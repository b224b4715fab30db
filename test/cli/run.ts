import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { vi } from 'vitest';
import { main } from '../../src/commands/main.ts';

export interface Run {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

/** The same within this process: starting one takes longer than what most commands do. */
export async function call(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Run> {
  let [out, err] = ['', ''];
  const outSpy = vi.spyOn(process.stdout, 'write').mockImplementation((text) => ((out += String(text)), true));
  const errSpy = vi.spyOn(process.stderr, 'write').mockImplementation((text) => ((err += String(text)), true));
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
  try {
    const status = await main(args);
    return { status, out, err };
  } finally {
    vi.unstubAllEnvs();
    outSpy.mockRestore();
    errSpy.mockRestore();
  }
}

/** Calls the command line, compiled into `code`, as a person would. */
export function cli(code: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Run> {
  return new Promise((resolve) => {
    const child = start(code, args, env);
    let [out, err] = ['', ''];
    child.stdout?.on('data', (text: Buffer) => (out += text.toString()));
    child.stderr?.on('data', (text: Buffer) => (err += text.toString()));
    child.on('close', (status) => resolve({ status, out, err }));
  });
}

function start(code: string, args: readonly string[], env: Readonly<Record<string, string>>): ChildProcess {
  return spawn(process.execPath, [join(code, 'cli.js'), ...args], {
    env: { PATH: process.env.PATH ?? '', NODE_OPTIONS: '--no-warnings', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

export interface Running {
  /** Everything that it has said. */
  readonly said: () => string;
  /** SIGTERM, and how it ended. */
  stop(): Promise<number | null>;
}

/** Starts a server of the command line; resolves when it says `ready`, rejects when it ends before. */
export function serve(code: string, args: readonly string[], ready: RegExp, env = {}): Promise<Running> {
  const child = start(code, args, env);
  let said = '';
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  return new Promise((resolve, reject) => {
    const hear = (text: Buffer): void => {
      said += text.toString();
      if (!ready.test(said)) return;
      resolve({
        said: () => said,
        stop: () => {
          child.kill('SIGTERM');
          return ended;
        },
      });
    };
    child.stdout?.on('data', hear);
    child.stderr?.on('data', hear);
    void ended.then((status) => reject(new Error(`ended with ${status}: ${said}`)));
  });
}
