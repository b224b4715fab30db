import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { USER } from '../support/gateway.ts';
import { PYTHON, pythonPackages } from '../support/python.ts';
import { documented } from './documented.ts';
import { AppSite, type Application } from './site.ts';

const APPLICATION: Application = {
  name: 'delta',
  store: 'versitygw',
  because: 'a commit is a conditional PUT, and versitygw is strict about conditions, checksums and trailers',
};
const SCRIPT = join(import.meta.dirname, 'delta.py');
/** In every row, and in no program: it is looked for at the store. */
const NOTE = randomBytes(12).toString('hex');
const FIRST = 200_000;
const ROUNDS = 8;
const EACH = 10;
const WRITERS = ['north', 'south'] as const;

describe(`a Delta table over ${APPLICATION.store}`, () => {
  let site: AppSite;
  let env: Readonly<Record<string, string>>;
  beforeAll(async () => {
    const packages = await pythonPackages('deltalake==1.6.6', 'pyarrow==26.0.1');
    site = await AppSite.start(APPLICATION);
    env = { PYTHONPATH: `${packages}:${site.home}` };
    await writeFile(
      site.path('settings.py'),
      documented('Delta table and Parquet', {
        's3://app': `s3://${site.bucket.bucket}`,
        'http://gateway.example:9400': site.endpoint,
        '"APP"': `"${USER.accessKeyId}"`,
        'APP-SECRET': USER.secretAccessKey,
      }),
    );
  });
  afterAll(() => site.stop());

  const delta = async <T>(step: string, ...args: readonly (string | number)[]): Promise<T> => {
    const { stdout } = await site.run(PYTHON, [SCRIPT, step, ...args.map(String)], { env });
    return JSON.parse(stdout) as T;
  };
  interface Read {
    readonly version: number;
    readonly names: readonly string[];
    readonly files: number;
  }
  const appended = WRITERS.flatMap((writer) =>
    Array.from({ length: ROUNDS * EACH }, (_, i) => `${writer}/${Math.floor(i / EACH)}/${i % EACH}`),
  );

  it('two writers at once: each commit is there once, and none took the place of another', async () => {
    await delta('create', FIRST, NOTE);
    const [north, south] = WRITERS;
    await Promise.all([delta('append', north, south, ROUNDS, NOTE), delta('append', south, north, ROUNDS, NOTE)]);

    const { version, names } = await delta<Read>('read');
    expect(version).toBe(WRITERS.length * ROUNDS);
    expect(names.filter((name) => !name.startsWith('first/')).sort()).toEqual(appended.sort());
    expect(names).toHaveLength(FIRST + appended.length);
    // They did meet: somebody wanted a version that the other had just written.
    const refused = site.gateway.auditRecords().filter(({ status }) => status === 412);
    expect(refused.length).toBeGreaterThan(0);
  });

  it('an older version of the table is there', async () => {
    expect(await delta('read_version', 0)).toEqual({ rows: FIRST });
    expect(await delta('read_version', 5)).toEqual({ rows: FIRST + 5 * EACH });
  });

  it("one column is read in ranges, with pyarrow's own client", async () => {
    const sum = (count: number): number => (count * (count - 1)) / 2;
    const seen = site.gateway.auditRecords().length;
    expect(await delta('columns')).toEqual({ sum: sum(FIRST) + WRITERS.length * ROUNDS * sum(EACH) });
    const reads = site.gateway
      .auditRecords()
      .slice(seen)
      .filter(({ type, operation, key }) => {
        return type === 'outcome' && operation === 'GetObject' && String(key).endsWith('.parquet');
      });
    expect(new Set(reads.map(({ status }) => status))).toEqual(new Set([206]));
  });

  it('what it stored is sealed', () =>
    site.expectSealed([
      { name: 'a row', bytes: Buffer.from(NOTE.slice(0, 12)) },
      { name: 'a row, second half', bytes: Buffer.from(NOTE.slice(12)) },
    ]));

  it('compacted and vacuumed, it holds the same rows in one file', async () => {
    const before = await delta<Read>('read');
    const { removed } = await delta<{ removed: number }>('care');
    expect(removed).toBe(before.files);
    const after = await delta<Read>('read');
    expect([...after.names].sort()).toEqual([...before.names].sort());
    expect(after.files).toBe(1);
    const parquet = (await site.keys('tables/events/')).filter((key) => key.endsWith('.parquet'));
    expect(parquet.filter((key) => !key.includes('_delta_log/'))).toHaveLength(1);
  });
});
