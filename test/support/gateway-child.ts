import { spawn, type ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunningServer } from '../../src/server.ts';

/** `express-s3-sse serve` in a process of its own: one that can be killed, and measured. */
export interface ChildServer extends RunningServer {
  readonly pid: number;
  /** SIGKILL: nothing of it runs after that. */
  kill(): Promise<void>;
  /** What is in use after a full garbage collection, and the resident set before it. */
  memory(): Promise<ChildMemory>;
}

export interface ChildMemory {
  readonly used: number;
  readonly resident: number;
}

/** Answers the parent's questions, and does not outlive it. */
const PRELOAD = `
process.on('message', () => {
  const { rss: resident } = process.memoryUsage();
  globalThis.gc();
  setImmediate(() => {
    globalThis.gc();
    const { heapUsed, external } = process.memoryUsage();
    process.send({ used: heapUsed + external, resident });
  });
});
process.on('disconnect', () => process.exit(1));
`;

/** Starts the transpiled `cli.js` of `code` with this configuration; its lines go to `onOutput`. */
export async function startChildServer(
  code: string,
  configFile: string,
  onOutput: (text: string) => void,
): Promise<ChildServer> {
  const preload = join(code, 'preload.js');
  writeFileSync(preload, PRELOAD);
  const options = ['--expose-gc', '--import', preload, join(code, 'cli.js'), 'serve', '--config', configFile];
  const child = spawn(process.execPath, options, { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  let output = '';
  const keep = (chunk: Buffer): void => {
    output += chunk.toString('utf8');
    onOutput(chunk.toString('utf8'));
  };
  child.stdout?.on('data', keep);
  child.stderr?.on('data', keep);
  const kill = (signal: NodeJS.Signals = 'SIGKILL'): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    return ended;
  };
  try {
    const { dataUrl, adminUrl } = await untilReady(child, () => output);
    return {
      dataUrl,
      adminUrl,
      pid: child.pid ?? 0,
      ready: Promise.resolve(),
      kill,
      close: () => kill(),
      memory: () => ask(child),
    };
  } catch (cause) {
    await kill();
    throw new Error(`the gateway did not start:\n${output.slice(-4000)}`, { cause });
  }
}

async function untilReady(child: ChildProcess, output: () => string): Promise<{ dataUrl: string; adminUrl: string }> {
  const until = Date.now() + 60_000;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
    if (Date.now() > until) throw new Error('it was not ready within a minute');
    const [dataUrl, adminUrl] = ['data', 'admin'].map((listener) => address(output(), listener));
    if (dataUrl !== undefined && adminUrl !== undefined) {
      const ready = await fetch(`${adminUrl}/health/ready`).catch(() => undefined);
      await ready?.text();
      if (ready?.status === 200) return { dataUrl, adminUrl };
    }
    await sleep(50);
  }
}

/** As the log tells it: ports are taken freely. */
function address(output: string, listener: string): string | undefined {
  return new RegExp(`"listener":"${listener}","address":"([^"]+)"`).exec(output)?.[1];
}

function ask(child: ChildProcess): Promise<ChildMemory> {
  return new Promise((resolve, reject) => {
    child.once('message', (answer) => resolve(answer as ChildMemory));
    child.send('memory', (err) => {
      if (err !== null) reject(err);
    });
  });
}
