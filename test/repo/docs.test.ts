import { existsSync, readdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { stopBody } from '../../src/admin/bodies.ts';
import { HEALTH } from '../../src/admin/health.ts';
import { formatFields, formatRecord } from '../../src/audit/record.ts';
import { parseConfig } from '../../src/config.ts';
import { ERRORS } from '../../src/errors.ts';
import { parseConfig as parseKmsConfig } from '../../src/kms/config-schema.ts';
import { configurationTable, overridesTable, readTable, routesTable } from './docs-tables.ts';
import { readText } from './source.ts';

const root = resolve(import.meta.dirname, '../..');
const code = (cell = ''): string => /^`(.*)`$/.exec(cell)?.[1] ?? cell;
const jsonBlocks = (text: string): unknown[] =>
  [...text.matchAll(/```json\n([\s\S]*?)```/g)].map((match) => JSON.parse(match[1] ?? '') as unknown);

describe('docs/ERRORS.md', () => {
  const table = readTable(readText('docs/ERRORS.md'), 'Table');

  it('has every code of the table with its status, and no other', () => {
    const documented = table.map(([name, status]) => [code(name), Number(status)]);
    const known = Object.entries(ERRORS).map(([name, { status }]) => [name, status]);
    const byName = (rows: readonly (readonly unknown[])[]) =>
      [...rows].sort((a, b) => (String(a[0]) < String(b[0]) ? -1 : 1));
    expect(byName(documented)).toEqual(byName(known));
  });

  it('says of each when it is given', () => {
    expect(table.filter(([, , when = '']) => when.length < 20).map(([name]) => name)).toEqual([]);
  });
});

describe('docs/CONFIGURATION.md', () => {
  const text = readText('docs/CONFIGURATION.md');

  it('has every field with its type, default and meaning', () => {
    expect(readTable(text, 'Fields')).toEqual(configurationTable());
  });

  it('describes every field', () => {
    expect(configurationTable().filter(([, , , meaning]) => meaning === '')).toEqual([]);
  });

  it('has every variable of the environment', () => {
    expect(readTable(text, 'Environment')).toEqual(overridesTable());
  });

  it('shows a configuration that is accepted', () => {
    const [smallest] = jsonBlocks(text);
    expect(parseConfig(smallest).identities.map(({ name }) => name)).toEqual(['app', 'operator']);
  });

  const options = { development: false, inlineSecrets: true };
  const vault = {
    backend_type: 'vault',
    address: 'https://vault.test',
    auth_method: { token_file: { path: '/run/token' } },
  };
  const local = { backend_type: 'local', key_dir: '/keys', master_key_file: '/master' };

  it.each([
    ['Vault and OpenBao', vault],
    ['Local keys', local],
  ] as const)('has every field of the key service with its default: %s', (heading, body) => {
    const rows = [...readTable(text, 'All backends'), ...readTable(text, heading)];
    const documented = new Map(rows.map(([field, value]) => [code(field), code(value)]));
    const parsed: Readonly<Record<string, unknown>> = { ...parseKmsConfig(body, options) };
    for (const [field, value] of Object.entries(parsed)) {
      expect(documented.has(field), field).toBe(true);
      if (!(field in body)) expect([field, documented.get(field)]).toEqual([field, JSON.stringify(value)]);
    }
    // A documented field is a known one: of the wrong type it is refused by its name, not as unknown.
    for (const field of documented.keys()) {
      if (field === 'backend_type') continue;
      expect(() => parseKmsConfig({ ...body, [field]: [] }, options)).toThrow(
        new RegExp(`^${field}|^The ${field}|^auth_method`),
      );
    }
  });
});

describe('docs/ADMIN.md', () => {
  const text = readText('docs/ADMIN.md');

  it('has every route', () => {
    expect(readTable(text, 'Routes')).toEqual(routesTable());
  });

  it('has the fields of stop with their defaults', () => {
    const documented = readTable(text, 'Bodies and answers').map(([field, value]) => [code(field), code(value)]);
    const { reason, ...defaults } = stopBody.parse({ reason: 'x' });
    expect(reason).toBe('x');
    expect(documented).toEqual([
      ['reason', 'required'],
      ...Object.entries(defaults).map(([field, value]) => [field, JSON.stringify(value)]),
    ]);
  });

  it('has the paths of health', () => {
    const paths = readTable(text, 'Health').map(([path = '']) => code(path).split('?')[0] ?? '');
    expect([...new Set(paths)].sort()).toEqual(Object.keys(HEALTH).sort());
  });
});

describe('docs/AUDIT.md', () => {
  it('has every field of a record', () => {
    const fields = formatFields({
      requestId: 'R',
      principal: 'p',
      source: 's',
      operation: 'o',
      bucket: 'b',
      key: 'k',
      versionId: 'v',
      mode: 'none',
      keyId: 'i',
      keyVersion: 1,
      contextDigest: 'd',
      cacheHit: true,
      note: 'n',
    } satisfies Required<Parameters<typeof formatFields>[0]>);
    const result = { outcome: 'failed', status: 500, error: 'e', milliseconds: 1 } as const;
    const record = JSON.parse(formatRecord({ type: 'outcome', n: 1, time: 't' }, fields, result)) as object;
    const documented = readTable(readText('docs/AUDIT.md'), 'Records').flatMap(([cell = '']) =>
      [...cell.matchAll(/`(\w+)`/g)].map((match) => match[1] ?? ''),
    );
    const marks = ['hash', 'chain', 'file', 'previous'];
    expect([...documented].sort()).toEqual([...Object.keys(record), ...marks].sort());
  });
});

describe('links', () => {
  const pages = ['README.md', 'SECURITY.md', ...readdirSync(join(root, 'docs')).map((name) => `docs/${name}`)];

  it.each(pages.filter((page) => page.endsWith('.md') && existsSync(join(root, page))))(
    'of %s lead somewhere',
    (page) => {
      const broken = [...readText(page).matchAll(/\]\(([^)\s]+)\)/g)]
        .map((match) => match[1] ?? '')
        .filter((target) => !/^[a-z]+:/.test(target))
        .filter((target) => {
          const [path = '', anchor] = target.split('#');
          const file = path === '' ? page : join(dirname(page), path);
          if (!existsSync(join(root, file))) return true;
          return anchor !== undefined && file.endsWith('.md') && !anchors(readText(file)).includes(anchor);
        });
      expect(broken).toEqual([]);
    },
  );
});

/** Headings as the usual renderers name them. */
function anchors(text: string): string[] {
  return [...text.matchAll(/^#+ (.+)$/gm)].map((match) =>
    (match[1] ?? '')
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}
