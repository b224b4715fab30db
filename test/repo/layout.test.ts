import { describe, expect, it } from 'vitest';
import { functionLengths, readSource, readText } from './source.ts';

const source = readSource();

/** docs/ARCHITECTURE.md, "Levels". The first pattern that matches a file decides. */
const LEVELS: readonly (readonly [RegExp, number])[] = [
  [/^src\/(errors|bytes|config)\.ts$/, 0],
  [/^src\/config\//, 0],
  [/^src\/(s3|sigv4|sse|iam)\//, 1],
  [/^src\/(kms|vault|control|store|audit)\//, 2],
  [/^src\/(audit|audit-log|metrics|log)\.ts$/, 2],
  [/^src\/(gateway|admin|devstore)\//, 3],
  [/^src\/commands\//, 4],
  [/^src\/[a-z-]+\.ts$/, 4],
];

/** Drivers may use one another in this order only: a later one may import an earlier one. */
const DRIVERS = ['audit', 'metrics', 'log', 'control', 'store', 'vault', 'kms'];

function level(path: string): number {
  const row = LEVELS.find(([pattern]) => pattern.test(path));
  if (!row) throw new Error(`${path} belongs to no level: give it one in docs/ARCHITECTURE.md and here`);
  return row[1];
}

const room = (path: string) =>
  path
    .split('/')[1]
    ?.replace(/\.ts$/, '')
    .replace(/^audit-log$/, 'audit') ?? '';

/** `import type` of the request's types is no dependency on behaviour; these two are the contract's. */
const TYPES_OF_EVERYBODY = new Set(['src/sigv4/types.ts', 'src/iam/types.ts']);

describe('the levels of the house', () => {
  it('imports go downward only', () => {
    const wrong = source.flatMap((file) =>
      file.ours.filter((to) => level(to) > level(file.path)).map((to) => `${file.path} -> ${to}`),
    );
    expect(wrong).toEqual([]);
  });

  it('rooms of one level do not import each other, but for drivers in their order', () => {
    const wrong = source.flatMap((file) =>
      file.ours
        .filter(
          (to) => level(to) === level(file.path) && room(to) !== room(file.path) && level(to) > 0 && level(to) < 4,
        )
        .filter((to) => !TYPES_OF_EVERYBODY.has(to))
        .filter((to) => level(to) !== 2 || DRIVERS.indexOf(room(to)) >= DRIVERS.indexOf(room(file.path)))
        .map((to) => `${file.path} -> ${to}`),
    );
    expect(wrong).toEqual([]);
  });

  it('no file is part of an import circle, type imports included', () => {
    const imports = new Map(source.map((file) => [file.path, file.ours]));
    const done = new Set<string>();
    const circles: string[] = [];
    const walk = (path: string, trail: readonly string[]): void => {
      if (trail.includes(path)) circles.push([...trail.slice(trail.indexOf(path)), path].join(' -> '));
      if (done.has(path) || trail.includes(path)) return;
      for (const next of imports.get(path) ?? []) walk(next, [...trail, path]);
      done.add(path);
    };
    for (const path of imports.keys()) walk(path, []);
    expect(circles).toEqual([]);
  });
});

describe('one place for each thing', () => {
  const files = (name: string) => source.filter((file) => file.packages.includes(name)).map((file) => file.path);

  it('process.env is read in config only', () => {
    const readers = source.filter((file) => /\bprocess\.env\b/.test(file.text)).map((file) => file.path);
    expect(readers.filter((path) => !/^src\/config(\.ts$|\/)/.test(path))).toEqual([]);
  });

  it('express is in the faces and the server only', () => {
    expect(
      files('express').filter(
        (path) =>
          ![
            'src/admin/index.ts',
            'src/deployment.ts',
            'src/middleware.ts',
            'src/server.ts',
            'src/listener.ts',
          ].includes(path),
      ),
    ).toEqual([]);
  });

  it.each(['@aws-sdk/client-s3', '@smithy/signature-v4', 'node-vault', 'pino', 'prom-client'])(
    '%s is used in at most one room',
    (name) => {
      expect(new Set(files(name).map(room)).size).toBeLessThanOrEqual(1);
    },
  );

  it('every dependency of package.json is used, and every import is a dependency', () => {
    const declared = Object.keys((JSON.parse(readText('package.json')) as { dependencies: object }).dependencies);
    const used = new Set(source.flatMap((file) => file.packages));
    expect([...used].filter((name) => !declared.includes(name))).toEqual([]);
    // Our declarations name Express's types: who imports them needs those too.
    const types = declared.filter((name) => name.startsWith('@types/') && used.has(name.slice(7)));
    expect(declared.filter((name) => !used.has(name) && !types.includes(name))).toEqual([]);
  });

  it('there is no barrel but src/index.ts', () => {
    const barrels = source.filter(
      (file) => /^export \* from/m.test(file.text) || /^export \{[^}]*\} from/m.test(file.text),
    );
    expect(barrels.map((file) => file.path).filter((path) => path !== 'src/index.ts')).toEqual([]);
  });

  it('nobody writes a property onto a request', () => {
    const writers = source.filter((file) => /\breq\.[a-zA-Z]+ = |\(req as /.test(file.text));
    expect(writers.map((file) => file.path)).toEqual([]);
  });
});

describe('what fits on a screen', () => {
  it('files stay under 320 lines, or carry the reason (`Long file:`)', () => {
    const long = source
      .filter((file) => file.text.split('\n').length > 320 && !file.text.includes('Long file:'))
      .map((file) => file.path);
    expect(long).toEqual([]);
  });

  it('functions stay under 60 lines, or carry the reason (`Long:` in the comment before them)', () => {
    const long = source
      .flatMap(functionLengths)
      .filter((f) => f.lines > 60 && !f.text.includes('Long:'))
      .map((f) => `${f.at} (${f.lines})`);
    expect(long).toEqual([]);
  });

  it('no test can be skipped: what does not fit a store is not a test of it', () => {
    const skips = /\b(?:it|test|describe|suite)\.(?:skip|skipIf|runIf|todo|only)\b|\b(?:ctx|context)\.skip\(/;
    expect(
      readSource('test')
        .filter((file) => skips.test(file.text))
        .map((file) => file.path),
    ).toEqual([]);
  });

  it('nothing is silenced or put off', () => {
    const marks = /@ts-(ignore|expect-error|nocheck)|eslint-disable|\bas any\b|\bTODO\b|\bFIXME\b/;
    expect(source.filter((file) => marks.test(file.text)).map((file) => file.path)).toEqual([]);
  });
});
