import { execFile, spawn } from 'node:child_process';

/** Debian's own programs, whatever else a machine has on its PATH. */
const PATH = '/usr/bin:/bin:/usr/sbin:/sbin';
const TIMEOUT_MS = 240_000;
const START_MS = 60_000;
const STOP_MS = 10_000;

export interface Output {
  readonly stdout: string;
  readonly stderr: string;
  /** Standard output as it came. */
  readonly bytes: Buffer;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * The environment of a client: made anew, so that no proxy, no certificate bundle and no credentials of the machine
 * reach it (rclone and every tool on the AWS SDK for Go fail on everything while AWS_CA_BUNDLE is set).
 */
export function clientEnvironment(home: string, more: Readonly<Record<string, string>> = {}): Record<string, string> {
  return { PATH, HOME: home, TMPDIR: home, LANG: 'C.UTF-8', TZ: 'UTC', ...more };
}

/** Runs a program to its end; rejects with all that it said when it fails. */
export function runProgram(
  home: string,
  program: string,
  args: readonly string[],
  { cwd = home, env = {} }: RunOptions = {},
): Promise<Output> {
  const options = {
    cwd,
    env: clientEnvironment(home, env),
    timeout: TIMEOUT_MS,
    maxBuffer: 64 << 20,
    encoding: 'buffer' as const,
  };
  return new Promise((resolve, reject) => {
    execFile(program, args, options, (err, bytes, errors) => {
      const [stdout, stderr] = [bytes.toString('utf8'), errors.toString('utf8')];
      if (err === null) resolve({ stdout, stderr, bytes });
      else if (err.code === 'ENOENT') reject(new Error(`${program} is not on this machine`, { cause: err }));
      else
        reject(
          new Error(`${program} ${args.join(' ')}: ${err.killed === true ? 'no end, ' : ''}${said(stdout, stderr)}`),
        );
    });
  });
}

/** A server that runs beside the test. */
export interface Service {
  output(): string;
  stop(): Promise<void>;
}

/** Starts a server and waits for the line that says that it serves; rejects with all that it said when it ends first. */
export async function startProgram(
  home: string,
  program: string,
  args: readonly string[],
  ready: RegExp,
  { cwd = home, env = {} }: RunOptions = {},
): Promise<Service> {
  const child = spawn(program, args, { cwd, env: clientEnvironment(home, env), stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  const ended = new Promise<void>((resolve) => {
    child.once('close', () => resolve());
    child.once('error', () => resolve());
  });
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    await ended;
    clearTimeout(late);
  };
  const serves = new Promise<boolean>((resolve) => {
    const keep = (chunk: Buffer): void => {
      output += chunk.toString('utf8');
      if (ready.test(output)) resolve(true);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    void ended.then(() => resolve(false));
    setTimeout(() => resolve(false), START_MS).unref();
  });
  if (await serves) return { output: () => output, stop };
  await stop();
  throw new Error(`${program} did not start: ${said(output)}`);
}

function said(...texts: readonly string[]): string {
  return texts.map((text) => text.trim().slice(-3000)).join('\n');
}

/** What a program says while it fails; rejects when it succeeds. */
export async function failureOf(running: Promise<unknown>): Promise<string> {
  const message = await running.then(
    () => undefined,
    (err: unknown) => (err instanceof Error ? `${err.name} ${err.message}` : String(err)),
  );
  if (message === undefined) throw new Error('it succeeded, and should have been refused');
  return message;
}
