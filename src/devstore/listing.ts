import type { KeyIndex } from './keys.ts';

export interface ListRequest {
  readonly prefix: string;
  readonly delimiter: string;
  /** Exclusive; a common prefix given here is passed over whole. Empty: from the start. */
  readonly after: string;
  readonly limit: number;
}

export type ListItem<T> =
  | { readonly kind: 'key'; readonly key: string; readonly value: T }
  | { readonly kind: 'prefix'; readonly prefix: string };

export interface ListPage<T> {
  readonly items: readonly ListItem<T>[];
  readonly truncated: boolean;
  /** The last key or common prefix of the page: `after` of the next one. */
  readonly last: string;
}

/** One page of a listing: keys and common prefixes together count against the limit (AWS, ListObjects). */
export function listPage<T>(index: KeyIndex<T>, request: ListRequest): ListPage<T> {
  const { prefix, delimiter, after, limit } = request;
  const items: ListItem<T>[] = [];
  let last = '';
  if (limit === 0) return { items, truncated: false, last };
  let position = startOf(index, request);
  for (;;) {
    const entry = index.at(position);
    if (!entry?.key.startsWith(prefix)) return { items, truncated: false, last };
    const group = commonPrefix(entry.key, prefix, delimiter);
    if (group !== undefined && group === after) {
      position = index.seek(group, true);
      continue;
    }
    if (items.length === limit) return { items, truncated: true, last };
    if (group === undefined) {
      items.push({ kind: 'key', key: entry.key, value: entry.value });
      last = entry.key;
      position += 1;
    } else {
      items.push({ kind: 'prefix', prefix: group });
      last = group;
      position = index.seek(group, true);
    }
  }
}

function startOf<T>(index: KeyIndex<T>, { prefix, after }: ListRequest): number {
  const first = index.seek(prefix, false);
  return after === '' ? first : Math.max(first, index.seekAfter(after));
}

function commonPrefix(key: string, prefix: string, delimiter: string): string | undefined {
  if (delimiter === '') return undefined;
  const at = key.indexOf(delimiter, prefix.length);
  return at < 0 ? undefined : key.slice(0, at + delimiter.length);
}
