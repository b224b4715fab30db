import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { genesis, link, sealLine } from '../../src/audit/chain.ts';
import { openAudit, type AuditOptions } from '../../src/audit/open.ts';
import { verifyAudit } from '../../src/audit/verify.ts';
import type { AuditFields } from '../../src/audit.ts';
import { ServiceError } from '../../src/errors.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 's3sse-audit-'));
});
afterEach(() => {
  vi.useRealTimers();
  rmSync(folder, { recursive: true });
});

const files = () =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.jsonl'))
    .sort()
    .map((name) => join(folder, name));
const linesOf = (path: string) => readFileSync(path, 'utf8').trimEnd().split('\n');
const records = () =>
  files().flatMap((path) => linesOf(path).map((line) => JSON.parse(line) as Record<string, unknown>));

function open(options: Partial<AuditOptions> = {}, file: Partial<{ maxBytes: number; keep: number }> = {}) {
  const path = join(folder, 'audit.jsonl');
  let now = Date.parse('2026-01-02T03:04:05.000Z');
  return openAudit({
    file: { path, maxBytes: 1_000_000, keep: 0, ...file },
    required: ['file'],
    clock: () => (now += 3),
    ...options,
  });
}

const fields: AuditFields = { requestId: 'R1', principal: 'alice', operation: 'PutObject', bucket: 'photos', key: 'a' };

function use(audit: ReturnType<typeof open>, more: Partial<AuditFields> = {}): void {
  const entry = audit.begin({ ...fields, ...more });
  entry.intend();
  entry.finish('success', 200);
}

describe('a record', () => {
  it('is an intent and an outcome, flat, with the time and the latency', async () => {
    const audit = open();
    const entry = audit.begin(fields);
    entry.intend();
    entry.add({ keyId: 'main', keyVersion: 3, cacheHit: false, mode: 'SSE-KMS' });
    entry.finish('denied', 403, 'policy');
    await audit.close();
    const [opened, intent, outcome, closed] = records();
    expect(opened).toMatchObject({ type: 'open', n: 1, file: 1 });
    expect(intent).toMatchObject({ type: 'intent', n: 2, ...fields });
    expect(intent).not.toHaveProperty('outcome');
    expect(outcome).toMatchObject({ type: 'outcome', n: 3, ...fields, keyId: 'main', keyVersion: 3, cacheHit: false });
    expect(outcome).toMatchObject({ outcome: 'denied', status: 403, error: 'policy', mode: 'SSE-KMS' });
    expect(outcome?.milliseconds).toBeGreaterThan(0);
    expect(outcome?.time).toMatch(/^2026-01-02T03:04:05\.\d{3}Z$/);
    expect(closed).toMatchObject({ type: 'close', n: 4 });
  });

  it('is written once, however often it is intended and finished', async () => {
    const audit = open();
    const entry = audit.begin(fields);
    entry.intend();
    entry.intend();
    entry.finish('success', 200);
    entry.finish('failed', 500);
    await audit.close();
    expect(records().map(({ type }) => type)).toEqual(['open', 'intent', 'outcome', 'close']);
  });

  it('is with the kernel when intend returns', () => {
    const audit = open();
    audit.begin(fields).intend();
    expect(records().at(-1)).toMatchObject({ type: 'intent', requestId: 'R1' });
  });

  it('takes no field that it does not know', async () => {
    const audit = open();
    const smuggled = { ...fields, plaintextKey: 'c2VjcmV0', headers: { authorization: 'x' } };
    use(audit, smuggled);
    await audit.close();
    expect(readFileSync(files()[0] ?? '', 'utf8')).not.toMatch(/plaintextKey|c2VjcmV0|authorization/);
  });

  it.each([
    ['a line feed', 'a\nb'],
    ['a terminal escape', '\u001b[2Ja'],
    ['a C1 control', '\u009b2J'],
    ['a line separator', 'a\u2028b'],
    ['a change of direction', 'a\u202egpj.exe'],
    ['a lone surrogate', 'a\ud800b'],
  ])('holds %s escaped, on one line, and loses nothing', async (_, key) => {
    const audit = open();
    use(audit, { key });
    await audit.close();
    const text = readFileSync(files()[0] ?? '', 'utf8');
    expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028-\u202e\ufffd]/);
    expect(text.trimEnd().split('\n')).toHaveLength(4);
    expect(records()[1]?.key).toBe(key);
    expect((await verifyAudit(files())).intact).toBe(true);
  });

  it.each([
    ['key', 1024],
    ['principal', 128],
    ['bucket', 64],
    ['note', 256],
    ['requestId', 64],
  ] as const)('%s is cut at %i characters', async (name, limit) => {
    const audit = open();
    use(audit, { [name]: 'x'.repeat(limit + 1) });
    await audit.close();
    expect(records()[1]?.[name]).toBe(`${'x'.repeat(limit - 1)}…`);
  });
});

describe('a file', () => {
  it('is the owner’s only', () => {
    open();
    expect(statSync(files()[0] ?? '').mode & 0o777).toBe(0o600);
  });

  it('is one per process: two on one path have two chains', async () => {
    const [one, two] = [open(), open()];
    use(one);
    use(two);
    await one.close();
    await two.close();
    expect(files()).toHaveLength(2);
    expect(new Set(records().map(({ chain }) => chain)).size).toBe(3); // two names, and undefined
    expect((await verifyAudit(files())).intact).toBe(true);
  });

  it('is closed at its size, and the chain goes on in the next', async () => {
    const audit = open({}, { maxBytes: 2000 });
    for (let i = 0; i < 20; i += 1) use(audit);
    await audit.close();
    expect(files().length).toBeGreaterThan(3);
    for (const path of files()) expect(statSync(path).size).toBeLessThan(3000);
    const verdict = await verifyAudit([...files()].reverse());
    expect(verdict).toMatchObject({ intact: true, unclosed: [] });
    expect(records().filter(({ type }) => type === 'outcome')).toHaveLength(20);
  });

  it('is kept as many times as was said, and never removed while its process may still write it', async () => {
    const idle = open();
    use(idle);
    const [alive] = files();
    const audit = open({}, { maxBytes: 1000, keep: 2 });
    for (let i = 0; i < 30; i += 1) use(audit);
    await audit.close();
    expect(files()).toContain(alive);
    // Two that were kept, the last one, and the other process's.
    expect(files()).toHaveLength(4);
    await idle.close();
  });

  it('leaves other files alone', async () => {
    writeFileSync(join(folder, 'audit-notes.jsonl'), '"type":"close"\n');
    const audit = open({}, { maxBytes: 1000, keep: 1 });
    for (let i = 0; i < 30; i += 1) use(audit);
    await audit.close();
    expect(files()).toContain(join(folder, 'audit-notes.jsonl'));
  });

  it('that somebody removes is replaced, and the gap shows', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const audit = open();
    use(audit);
    rmSync(files()[0] ?? '');
    vi.advanceTimersByTime(1001);
    use(audit);
    await audit.close();
    expect(files()).toHaveLength(1);
    const [opened] = records();
    expect(opened).toMatchObject({ type: 'open', file: 2 });
    expect(records().filter(({ type }) => type === 'intent')).toHaveLength(1);
  });

  it('that somebody cuts is left for a new one, and verification tells', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const audit = open();
    use(audit);
    use(audit);
    const [first = ''] = files();
    truncateSync(first, readFileSync(first, 'utf8').indexOf('\n') + 1);
    vi.advanceTimersByTime(1001);
    use(audit);
    await audit.close();
    const verdict = await verifyAudit(files());
    expect(verdict.problems.map(({ message }) => message)).toEqual(['does not begin where the file before it ends']);
  });
});

describe('a sink that fails', () => {
  /** A descriptor that refuses every write: it was opened for reading only. */
  function broken(): number {
    const path = join(folder, 'readonly');
    writeFileSync(path, '');
    return openSync(path, 'r');
  }

  it('does not open at all when it cannot', () => {
    expect(() => open({ file: { path: join(folder, 'missing', '\0'), maxBytes: 1, keep: 0 } })).toThrow();
    expect(() => open({ stdout: true, descriptor: broken() })).toThrow();
  });

  it('refuses the intent when it is required', () => {
    const path = join(folder, 'out');
    const descriptor = openSync(path, 'w');
    const failures: string[] = [];
    const audit = open({ stdout: true, descriptor, required: ['stdout'], onFailure: (sink) => failures.push(sink) });
    closeSync(descriptor);
    const entry = audit.begin(fields);
    let refusal: unknown;
    try {
      entry.intend();
    } catch (err) {
      refusal = err;
    }
    expect(refusal).toBeInstanceOf(ServiceError);
    expect(refusal).toMatchObject({ code: 'ServiceUnavailable', reason: 'audit-sink' });
    expect(failures).toEqual(['stdout']);
    expect(() => entry.finish('failed', 503, 'audit-sink')).not.toThrow();
    expect(records().at(-1)).toMatchObject({ type: 'outcome', status: 503, error: 'audit-sink' });
  });

  it('does not refuse it when another one is', () => {
    const descriptor = openSync(join(folder, 'out'), 'w');
    const failures: string[] = [];
    const audit = open({ stdout: true, descriptor, required: ['file'], onFailure: (sink) => failures.push(sink) });
    closeSync(descriptor);
    expect(() => use(audit)).not.toThrow();
    expect(failures).toEqual(['stdout', 'stdout']);
  });

  it.each([
    ['no sink is required', []],
    ['a sink is required that is not there', ['stdout' as const]],
  ])('%s: nothing opens', (_, required) => {
    expect(() => open({ required })).toThrow(/required/);
  });
});

describe('verification', () => {
  async function chain(): Promise<string> {
    const audit = open();
    for (const key of ['one', 'two', 'three']) use(audit, { key });
    await audit.close();
    return files()[0] ?? '';
  }
  const rewrite = (path: string, change: (lines: string[]) => string[]) =>
    writeFileSync(path, `${change(linesOf(path)).join('\n')}\n`);
  const swap = (lines: string[], a: number, b: number) =>
    lines.map((line, i) => (i === a ? (lines[b] ?? '') : i === b ? (lines[a] ?? '') : line));

  it('passes what nobody has touched', async () => {
    await expect(verifyAudit([await chain()])).resolves.toEqual({
      intact: true,
      records: 8,
      problems: [],
      unclosed: [],
    });
  });

  it.each<[string, number, (lines: string[]) => string[]]>([
    ['a character edited', 3, (lines) => lines.map((line, i) => (i === 2 ? line.replace('alice', 'alicf') : line))],
    ['a status edited', 3, (lines) => lines.map((line, i) => (i === 2 ? line.replace('200', '403') : line))],
    ['a hash edited', 3, (lines) => lines.map((line, i) => (i === 2 ? line.replace(/.{2}"\}$/, '00"}') : line))],
    ['a line removed', 3, (lines) => lines.filter((_, i) => i !== 2)],
    ['two lines swapped', 3, (lines) => swap(lines, 2, 3)],
    ['a line twice', 4, (lines) => lines.flatMap((line, i) => (i === 2 ? [line, line] : [line]))],
    ['the first line removed', 1, (lines) => lines.slice(1)],
    ['a line that is no record', 3, (lines) => [...lines.slice(0, 2), 'hello', ...lines.slice(2)]],
    ['white space added', 3, (lines) => lines.map((line, i) => (i === 2 ? line.replace(',', ', ') : line))],
    ['a record after the end', 9, (lines) => [...lines, lines[2] ?? '']],
    ['another chain’s name', 1, (lines) => [(lines[0] ?? '').replace(/"chain":"./, '"chain":"z'), ...lines.slice(1)]],
  ])('finds %s', async (_, line, change) => {
    const path = await chain();
    rewrite(path, change);
    const verdict = await verifyAudit([path]);
    expect(verdict.intact).toBe(false);
    expect(verdict.problems[0]?.line).toBe(line);
  });

  it('finds a last line removed by the closing line that is missing', async () => {
    const path = await chain();
    rewrite(path, (lines) => lines.slice(0, -1));
    const verdict = await verifyAudit([path]);
    expect(verdict).toMatchObject({ intact: true, unclosed: [path] });
  });

  it('finds a file removed from between two others, and its number', async () => {
    const audit = open({}, { maxBytes: 1000 });
    for (let i = 0; i < 8; i += 1) use(audit);
    await audit.close();
    const [first = '', , ...rest] = files();
    const verdict = await verifyAudit([first, ...rest]);
    expect(verdict.problems).toEqual([{ file: rest[0], line: 0, message: 'files 2 to 2 of its chain are missing' }]);
  });

  it('finds a chain whose beginning was cut off and its number set back to 1', async () => {
    const path = join(folder, 'audit-cut.jsonl');
    const previous = genesis('another');
    const record = JSON.stringify({ time: 't', type: 'open', n: 1, chain: 'one', file: 1, previous });
    writeFileSync(path, sealLine(record, link(previous, record)));
    const { problems } = await verifyAudit([path]);
    expect(problems).toEqual([{ file: path, line: 1, message: 'does not begin the chain that it names' }]);
  });

  it('accepts that the oldest files are gone', async () => {
    const audit = open({}, { maxBytes: 1000 });
    for (let i = 0; i < 8; i += 1) use(audit);
    await audit.close();
    expect((await verifyAudit(files().slice(1))).intact).toBe(true);
  });

  it('finds an empty file, and one that is none of ours', async () => {
    const path = join(folder, 'x.jsonl');
    writeFileSync(path, '');
    expect((await verifyAudit([path])).problems).toEqual([{ file: path, line: 0, message: 'holds no chain' }]);
  });

  it('reads a capture of standard output with other lines in it', async () => {
    const path = join(folder, 'capture');
    const descriptor = openSync(path, 'a');
    const audit = open({ stdout: true, descriptor, required: ['stdout'] });
    use(audit);
    writeFileSync(path, '{"level":30,"msg":"listener ready"}\n', { flag: 'a' });
    use(audit);
    await audit.close();
    expect((await verifyAudit([path])).intact).toBe(false);
    expect(await verifyAudit([path], { mixed: true })).toMatchObject({ intact: true, records: 6 });
    rewrite(path, (lines) => lines.filter((_, i) => i !== 1));
    expect((await verifyAudit([path], { mixed: true })).intact).toBe(false);
  });
});
