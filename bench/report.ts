import { median } from './cpu.ts';
import type { RequestCount, Round, StreamMemory } from './measure.ts';
import type { SubjectName } from './subjects.ts';

export interface Figures {
  readonly store: string;
  readonly node: string;
  readonly machine: string;
  readonly rounds: readonly Round[];
  readonly memory: readonly StreamMemory[];
  readonly requests: readonly RequestCount[];
}

const GIGA = 1e9;
const isLarge = ({ bytes, units }: Round): boolean => bytes / units >= 1e6;
/** Seconds per GB, or microseconds per request. */
const cost = (round: Round): number =>
  isLarge(round) ? round.cpuSeconds / (round.bytes / GIGA) : (round.cpuSeconds / round.units) * 1e6;

/** Median and least of each subject's CPU, and the median over the rounds of its ratio to the others in that round. */
export function report({ store, machine, rounds, memory, requests }: Figures): string {
  const lines = [`store: ${store}; ${machine}`, ''];
  const rows = [['workload', 'subject', 'CPU median', 'least', 'unit', 'mark-compacts/GB', 'wall GB/s or req/s']];
  for (const workload of unique(rounds.map((round) => round.workload))) {
    for (const subject of unique(rounds.map((round) => round.subject))) {
      const own = rounds.filter((round) => round.workload === workload && round.subject === subject);
      const [first] = own;
      if (first === undefined) continue;
      const costs = own.map(cost);
      const speed = own.map((r) => (isLarge(r) ? r.bytes / GIGA : r.units) / r.seconds);
      const collections =
        own.reduce((sum, r) => sum + r.markCompacts, 0) / own.reduce((sum, r) => sum + r.bytes / GIGA, 0);
      const digits = isLarge(first) ? 2 : 0;
      rows.push([
        workload,
        subject,
        median(costs).toFixed(digits),
        Math.min(...costs).toFixed(digits),
        isLarge(first) ? 's/GB' : 'µs/request',
        collections.toFixed(0),
        median(speed).toFixed(digits),
      ]);
    }
  }
  lines.push(...table(rows), '');
  lines.push(...table([['ratio of CPU, gateway to', 'median', 'least', 'most'], ...ratios(rounds)]), '');
  for (const { method, streams, bytesPerStream } of memory) {
    lines.push(`memory per stream, ${streams} × 256 MiB ${method}: ${(bytesPerStream / 1024 / 1024).toFixed(2)} MiB`);
  }
  for (const { operation, perThousand } of requests) {
    lines.push(`requests to the store per 1000 × ${operation}: ${perThousand}`);
  }
  return `${lines.join('\n')}\n`;
}

function ratios(rounds: readonly Round[]): string[][] {
  const rows: string[][] = [];
  for (const workload of unique(rounds.map((round) => round.workload))) {
    for (const other of ['nginx', 'bare', 'unsealed'] satisfies SubjectName[]) {
      const values = unique(rounds.map(({ round }) => round)).flatMap((number) => {
        const at = (subject: SubjectName): Round | undefined =>
          rounds.find((r) => r.round === number && r.workload === workload && r.subject === subject);
        const [own, theirs] = [at('gateway'), at(other)];
        return own === undefined || theirs === undefined ? [] : [cost(own) / cost(theirs)];
      });
      if (values.length === 0) continue;
      const figures = [median(values), Math.min(...values), Math.max(...values)];
      rows.push([`${workload}: ${other}`, ...figures.map((value) => value.toFixed(2))]);
    }
  }
  return rows;
}

function unique<T>(values: readonly T[]): T[] {
  return [...new Set(values)];
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  return rows.map((row) =>
    row.map((cell, i) => (i < 1 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  '),
  );
}
