import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { genesis, link, openLine } from './chain.ts';

export interface AuditProblem {
  readonly file: string;
  /** From 1; 0 speaks of the file as a whole. */
  readonly line: number;
  readonly message: string;
}

export interface AuditVerdict {
  /** No problem was found. */
  readonly intact: boolean;
  readonly records: number;
  readonly problems: readonly AuditProblem[];
  /** Files that were never closed: still written, or their process was killed. A line missing at their end cannot show. */
  readonly unclosed: readonly string[];
}

export interface VerifyOptions {
  /** Lines that are no records are passed over: a capture of standard output holds the log's lines too. */
  readonly mixed?: boolean;
}

interface Section {
  readonly file: string;
  readonly chain: string;
  readonly number: number;
  readonly previous: string;
  last: string;
  closed: boolean;
}

/**
 * Checks the chains in `files`, given in any order: an edited, removed, added or reordered line shows, as does a file
 * that is missing between two others. What it cannot show is in docs/AUDIT.md.
 */
export async function verifyAudit(files: readonly string[], options: VerifyOptions = {}): Promise<AuditVerdict> {
  const problems: AuditProblem[] = [];
  const sections: Section[] = [];
  let records = 0;
  for (const file of files) {
    const reader = new FileReader(file, options.mixed ?? false, problems);
    const lines = createInterface({ input: createReadStream(file), crlfDelay: Infinity });
    for await (const line of lines) reader.line(line);
    records += reader.records;
    if (reader.sections.length === 0) problems.push({ file, line: 0, message: 'holds no chain' });
    sections.push(...reader.sections);
  }
  checkSequence(sections, problems);
  const unclosed = sections.filter(({ closed }) => !closed).map(({ file }) => file);
  return { intact: problems.length === 0, records, problems, unclosed };
}

/** Follows the chains of one file; standard output may carry several (a restart into the same capture). */
class FileReader {
  readonly sections: Section[] = [];
  records = 0;
  readonly #file: string;
  readonly #mixed: boolean;
  readonly #problems: AuditProblem[];
  #line = 0;

  constructor(file: string, mixed: boolean, problems: AuditProblem[]) {
    this.#file = file;
    this.#mixed = mixed;
    this.#problems = problems;
  }

  line(text: string): void {
    this.#line += 1;
    const sealed = openLine(text);
    const record = sealed === undefined ? undefined : parse(sealed.record);
    if (sealed === undefined || record === undefined) {
      if (!this.#mixed) this.#problem('is no audit record');
      return;
    }
    this.records += 1;
    if (record.type === 'open') this.#open(record);
    const section = this.sections.at(-1);
    if (section === undefined) {
      this.#problem('comes before the line that opens the file');
      return;
    }
    if (section.closed) this.#problem('comes after the line that closes the file');
    if (link(section.last, sealed.record) !== sealed.hash) {
      this.#problem('was edited, or does not follow the line before it');
    }
    // Goes on from what the line claims, so that one change is one problem.
    section.last = sealed.hash;
    section.closed = record.type === 'close';
  }

  #open(record: Readonly<Record<string, unknown>>): void {
    const { chain, file: number, previous } = record;
    if (typeof chain !== 'string' || typeof number !== 'number' || typeof previous !== 'string') {
      this.#problem('opens a file but names no chain');
      return;
    }
    if (!this.#mixed && this.sections.length > 0) this.#problem('opens a second chain in one file');
    if (number === 1 && previous !== genesis(chain)) this.#problem('does not begin the chain that it names');
    this.sections.push({ file: this.#file, chain, number, previous, last: previous, closed: false });
  }

  #problem(message: string): void {
    this.#problems.push({ file: this.#file, line: this.#line, message });
  }
}

/** The files of each chain, in order: none missing in between, each beginning where the one before ended. */
function checkSequence(sections: readonly Section[], problems: AuditProblem[]): void {
  const ordered = [...sections].sort((a, b) => a.chain.localeCompare(b.chain) || a.number - b.number);
  ordered.forEach((section, index) => {
    const before = ordered[index - 1];
    if (before?.chain !== section.chain) return;
    const problem = (message: string) => problems.push({ file: section.file, line: 0, message });
    if (before.number === section.number) problem(`is file ${section.number} of its chain, as another one is`);
    else if (section.number !== before.number + 1)
      problem(`files ${before.number + 1} to ${section.number - 1} of its chain are missing`);
    else if (section.previous !== before.last) problem('does not begin where the file before it ends');
  });
}

function parse(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}
