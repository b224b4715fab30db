import fc from 'fast-check';
import { expect, it } from 'vitest';
import { KeyIndex } from '../../src/devstore/keys.ts';
import { listPage } from '../../src/devstore/listing.ts';

/** What a listing is, said the slow way: filter, sort by bytes, roll up. */
function model(keys: readonly string[], prefix: string, delimiter: string): string[] {
  const sorted = keys
    .filter((key) => key.startsWith(prefix))
    .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const rolled = sorted.map((key) => {
    const at = delimiter === '' ? -1 : key.indexOf(delimiter, prefix.length);
    return at < 0 ? `key ${key}` : `prefix ${key.slice(0, at + delimiter.length)}`;
  });
  return rolled.filter((item, i) => item !== rolled[i - 1]);
}

const KEY = fc.string({
  unit: fc.constantFrom('a', 'b', '/', '-', '0', 'é', '\uff5e', '😀'),
  minLength: 1,
  maxLength: 6,
});

it('pages of any size give the same list as one page, in the order of UTF-8 bytes', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(KEY, { maxLength: 40 }),
      fc.constantFrom('', 'a', 'a/', '/'),
      fc.constantFrom('', '/', 'b-'),
      fc.integer({ min: 1, max: 7 }),
      (keys, prefix, delimiter, limit) => {
        const index = new KeyIndex<string>();
        for (const key of keys) index.set(key, `value of ${key}`);
        const seen: string[] = [];
        let after = '';
        for (;;) {
          const page = listPage(index, { prefix, delimiter, after, limit });
          expect(page.items.length).toBeLessThanOrEqual(limit);
          for (const item of page.items) seen.push(item.kind === 'key' ? `key ${item.key}` : `prefix ${item.prefix}`);
          if (!page.truncated) break;
          after = page.last;
        }
        expect(seen).toEqual(model(keys, prefix, delimiter));
      },
    ),
  );
});

it('an index that was built at once equals one that grew and shrank', () => {
  fc.assert(
    fc.property(fc.array(KEY, { maxLength: 30 }), fc.array(KEY, { maxLength: 30 }), (keys, gone) => {
      const grown = new KeyIndex<string>();
      for (const key of [...keys, ...gone]) grown.set(key, key);
      for (const key of gone) grown.delete(key);
      const left = [...new Set(keys)].filter((key) => !gone.includes(key));
      const built = KeyIndex.from(left.map((key) => [key, key] as const));
      const all = (index: KeyIndex<string>) => Array.from({ length: index.size + 1 }, (_, i) => index.at(i));
      expect(all(grown)).toEqual(all(built));
    }),
  );
});
