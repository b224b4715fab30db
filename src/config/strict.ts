import { z } from 'zod';

/** What is wrong with one field: its path, and what is expected there. Never the value, which may be a secret. */
export interface Problem {
  readonly path: string;
  readonly message: string;
}

/** `error` sees no value either: only the names of unknown fields are repeated, shortened and without control bytes. */
export function strict<S extends z.ZodRawShape>(shape: S) {
  const names = Object.keys(shape);
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys' ? issue.keys.map((key) => unknownField(key, names)).join('; ') : undefined,
  });
}

/** Parses `value`; a failure is a list of problems in the order of the fields. */
export function check<T extends z.ZodType>(
  schema: T,
  value: unknown,
): { readonly value: z.output<T> } | { readonly problems: readonly Problem[] } {
  const result = schema.safeParse(value, { error: expectation });
  if (result.success) return { value: result.data };
  return { problems: result.error.issues.map(({ path, message }) => ({ path: formatPath(path), message })) };
}

/** A field that is missing says so; one of the wrong type says which is expected. */
function expectation(issue: { code?: string; input?: unknown; expected?: unknown }): string | undefined {
  if (issue.code !== 'invalid_type') return undefined;
  const expected = String(issue.expected);
  return issue.input === undefined ? `is required (${expected})` : `expected ${expected}`;
}

function formatPath(path: readonly PropertyKey[]): string {
  return path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${printable(String(part))}`))
    .join('')
    .slice(1);
}

function unknownField(key: string, names: readonly string[]): string {
  const shown = `unknown field "${printable(key)}"`;
  // A secret that was written inline is told where it belongs.
  const reference = names.filter((name) => /(?:secret|masterKey)(?:File|Env)$/.test(name));
  if (reference.length > 0 && /secret|key|password|token/i.test(key) && misspelled(key, names, 2) === undefined) {
    return `${shown}: secrets are given by reference, by ${reference.join(' or ')}`;
  }
  const suggestion = nearest(key, names);
  return suggestion === undefined
    ? `${shown}; known are ${names.join(', ')}`
    : `${shown}; did you mean "${suggestion}"?`;
}

function printable(text: string): string {
  return text.slice(0, 64).replace(/[^\x20-\x7e]/g, '?');
}

const plain = (text: string) => text.slice(0, 64).toLowerCase().replace(/[_-]/g, '');

/** The name that a misspelled one most likely meant: case and separators aside, cut short, or a few edits away. */
export function nearest(name: string, names: readonly string[]): string | undefined {
  const cut = plain(name).length < 4 ? undefined : names.find((candidate) => plain(candidate).startsWith(plain(name)));
  return misspelled(name, names) ?? cut;
}

function misspelled(name: string, names: readonly string[], limit = 3): string | undefined {
  const wanted = plain(name);
  let best: string | undefined;
  let least = Math.min(limit, Math.ceil(wanted.length / 3)) + 1;
  for (const candidate of names) {
    const distance = editDistance(wanted, plain(candidate));
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best;
}

/** Levenshtein's distance; both texts are at most 64 characters. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const substitution = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substitution, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
