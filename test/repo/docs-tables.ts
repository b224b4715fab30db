import { z } from 'zod';
import { ROUTES } from '../../src/admin/routes.ts';
import { OVERRIDES } from '../../src/config.ts';
import { configSchema } from '../../src/config/schema.ts';

/** Tables of the docs as the code says them: rows of cells. `readTable` reads what the docs say. */
export type Table = readonly (readonly string[])[];

interface Node {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly string[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly properties?: Readonly<Record<string, Node>>;
  readonly required?: readonly string[];
  readonly items?: Node;
  readonly anyOf?: readonly Node[];
}

/** Field, type and limits, default, description. */
export function configurationTable(): Table {
  return fields(z.toJSONSchema(configSchema('/'), { io: 'input' }) as Node, '');
}

function fields(node: Node, prefix: string): string[][] {
  return Object.entries(node.properties ?? {}).flatMap(([name, field]) => {
    const path = `${prefix}${name}`;
    const required = node.required?.includes(name) === true;
    const row = [`\`${path}\``, typeOf(field), defaultOf(field, required), field.description ?? ''];
    return [row, ...fields(field, `${path}.`), ...fields(field.items ?? {}, `${path}[].`)];
  });
}

function typeOf(node: Node): string {
  if (node.enum !== undefined) return node.enum.map((value) => `\`${value}\``).join(', ');
  if (node.anyOf !== undefined) return node.anyOf.map(typeOf).join(' or ');
  if (node.type === 'array') return `list of ${typeOf(node.items ?? {})}`;
  if (node.type !== 'integer') return node.type ?? 'JSON';
  return `integer, ${node.minimum ?? ''} to ${node.maximum ?? ''}`;
}

function defaultOf(node: Node, required: boolean): string {
  if (required) return 'required';
  if (node.default === undefined || node.properties !== undefined) return '–';
  return `\`${JSON.stringify(node.default)}\``;
}

/** Variable, field. */
export function overridesTable(): Table {
  return Object.entries(OVERRIDES).map(([name, [path]]) => [`\`${name}\``, `\`${path.join('.')}\``]);
}

/** Route, action, resource, longest body, built or 501. */
export function routesTable(): Table {
  return ROUTES.map(({ method, path, action, resource, maxBody, built, exempt }) => [
    `${method} \`${path}\``,
    `\`${action}\``,
    resource === 'bucket'
      ? '`bucket`'
      : resource === 'service'
        ? '`service`'
        : path.includes(':id')
          ? '`key/<id>`'
          : '`key/*`',
    `${maxBody}`,
    exempt ? 'exempt' : 'required',
    built ? 'yes' : '501',
  ]);
}

/** The rows of the Markdown table under `heading`, without its head. */
export function readTable(text: string, heading: string): Table {
  const lines = text.split('\n');
  const from = lines.findIndex((line) => line.replace(/^#+ /, '') === heading && line.startsWith('#'));
  if (from < 0) throw new Error(`there is no heading "${heading}"`);
  const start = lines.findIndex((line, at) => at > from && line.startsWith('|'));
  const rows: string[][] = [];
  for (const line of lines.slice(start + 2)) {
    if (!line.startsWith('|')) break;
    rows.push(
      line
        .slice(1, -1)
        .split(/(?<!\\)\|/)
        .map((cell) => cell.trim()),
    );
  }
  return rows;
}
