import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ERRORS, type ErrorCode } from '../../src/errors.ts';
import { SIGHTS } from './kinds.ts';
import type { Sighting } from './run.ts';

/** One step of one operation, and what a client was told of each sight. */
export interface TableRow {
  readonly operation: string;
  readonly step: string;
  readonly cells: readonly (readonly string[])[];
}

const FILE = join(import.meta.dirname, '../../docs/FAULTS.md');
const HEAD = `| operation | step | ${SIGHTS.join(' | ')} |`;
/** What a machine under load makes of anything: a store that was silent for two seconds. */
const BUSY = '503';

/** What an answer that was kept alive says in its body, with the status that it would have had in time. */
function inTime(told: string): string {
  const code = told.startsWith('200: ') ? told.slice(5) : '';
  return Object.hasOwn(ERRORS, code) ? `${ERRORS[code as ErrorCode].status} ${code}` : told;
}

/** `200`, `SlowDown`, `cut`: the words of the document. */
function word(told: string): string {
  if (told === 'broken') return 'cut';
  return inTime(told)
    .replace(/^503 SlowDown$/, 'SlowDown')
    .replace(/^(50[03]) .*/, '$1');
}

export function rowsOf(operation: string, sightings: readonly Sighting[]): TableRow[] {
  const steps = new Map<string, Set<string>[]>();
  for (const { step, kind, told } of sightings) {
    const cells = steps.get(step) ?? SIGHTS.map(() => new Set<string>());
    steps.set(step, cells);
    if (told !== undefined) cells[SIGHTS.indexOf(kind.sight)]?.add(word(told));
  }
  return [...steps].map(([step, cells]) => ({ operation, step, cells: cells.map((cell) => [...cell].sort()) }));
}

/** Steps of one operation that look the same are one line. */
function render(rows: readonly TableRow[]): string {
  const lines = new Map<string, string[]>();
  for (const { operation, step, cells } of rows) {
    const told = cells.map((cell) => cell.join(', ') || '–').join(' | ');
    const line = `${operation} |#| ${told}`;
    lines.set(line, [...(lines.get(line) ?? []), step]);
  }
  return [...lines].map(([line, steps]) => `| ${line.replace('#', ` ${steps.join('; ')} `)} |`).join('\n');
}

function documented(text: string): Map<string, readonly string[]> {
  const from = text.indexOf(HEAD);
  const lines = text
    .slice(from)
    .split('\n')
    .slice(2)
    .filter((line) => line.startsWith('|'));
  return new Map(
    lines.flatMap((line) => {
      const [operation = '', steps = '', ...cells] = line
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim());
      return steps.split('; ').map((step) => [`${operation}, ${step}`, cells] as const);
    }),
  );
}

/** Where the document and what was seen differ. `UPDATE_DOCS=1` writes the document instead. */
export function compareTable(rows: readonly TableRow[]): string[] {
  const text = readFileSync(FILE, 'utf8');
  if (process.env['UPDATE_DOCS'] === '1') {
    writeFileSync(
      FILE,
      `${text.slice(0, text.indexOf(HEAD))}${HEAD}\n|---|---|${'---|'.repeat(SIGHTS.length)}\n${render(rows)}\n`,
    );
    return [];
  }
  const known = documented(text);
  const problems = rows.flatMap(({ operation, step, cells }) => {
    const row = known.get(`${operation}, ${step}`);
    known.delete(`${operation}, ${step}`);
    if (row === undefined) return [`${operation}, ${step}: not in the document`];
    return cells.flatMap((seen, at) => {
      // A read on a connection that had served before is sent again by the gateway itself.
      const said = [row[at], /^(?:GET|HEAD|list)/.test(step) ? row.at(-1) : ''].join(', ').split(', ');
      const more = seen.filter((one) => one !== BUSY && !said.includes(one));
      return more.length === 0 ? [] : [`${operation}, ${step}, ${SIGHTS[at] ?? ''}: ${more.join(', ')}`];
    });
  });
  return [...problems, ...[...known.keys()].map((row) => `${row}: in the document only`)];
}
