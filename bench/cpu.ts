import { execFileSync, type ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

/** CPU seconds of a process so far, all its threads: from the kernel's scheduler where there is one to ask. */
export async function cpuSeconds(child: ChildProcess): Promise<number> {
  const { pid } = child;
  if (process.platform === 'linux' && pid !== undefined) return schedstat(pid);
  return new Promise((resolve) => {
    const listener = (message: unknown): void => {
      if (typeof message !== 'object' || message === null || !('cpu' in message)) return;
      child.off('message', listener);
      resolve(Number(message.cpu) / 1e6);
    };
    child.on('message', listener);
    child.send('cpu');
  });
}

function schedstat(pid: number): number {
  let nanoseconds = 0;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      nanoseconds += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'latin1').split(' ', 1)[0]);
    } catch {
      // The thread has just ended.
    }
  }
  return nanoseconds / 1e9;
}

/** Resident bytes; undefined where nobody tells. */
export function residentBytes(pid: number): number | undefined {
  if (process.platform !== 'linux') return undefined;
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'));
  return match === null ? undefined : Number(match[1]) * 1024;
}

export const loadAverage = (): number =>
  process.platform === 'linux' ? Number(readFileSync('/proc/loadavg', 'latin1').split(' ', 1)[0]) : Number.NaN;

/** What is measured has core 0 for itself, as far as the machine lets it; clients and the store share the other. */
export const CORES = { subject: '0', rest: '1' } as const;
export const canPin = process.platform === 'linux' && succeeds('taskset', ['-c', CORES.rest, 'true']);

export function pinSelf(): void {
  if (canPin) succeeds('taskset', ['-a', '-cp', CORES.rest, String(process.pid)]);
}

function succeeds(command: string, args: readonly string[]): boolean {
  try {
    execFileSync(command, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = Math.floor(sorted.length / 2);
  const upper = sorted[half] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[half - 1] ?? Number.NaN) + upper) / 2;
}
