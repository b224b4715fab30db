import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { toClientEtag, toStoreCondition, toStoreEtag } from '../../src/sse/etag.ts';

const MD5 = 'd41d8cd98f00b204e9800998ecf8427e';

describe("the client's ETag", () => {
  it.each([
    [`"${MD5}"`, `"${MD5}-01"`],
    [MD5, `${MD5}-01`],
    [`"${MD5}-2"`, `"${MD5}-2"`],
    [`"${MD5}-10000"`, `"${MD5}-10000"`],
    ['"abc-0"', '"abc-0-01"'],
    ['""', '""'],
  ])('of the store’s %s is %s', (store, client) => {
    expect(toClientEtag(store)).toBe(client);
  });

  it('is never 32 hex digits, and gives the store’s back', () => {
    const etag = fc.oneof(
      fc.stringMatching(/^[0-9a-f]{32}$/),
      fc.stringMatching(/^[0-9a-f]{32}-[1-9][0-9]{0,4}$/),
      fc.stringMatching(/^[0-9A-Za-z_.-]{1,40}$/).filter((s) => !s.endsWith('-01')),
    );
    fc.assert(
      fc.property(etag, (store) => {
        const client = toClientEtag(store);
        expect(client).not.toMatch(/^[0-9a-f]{32}$/);
        expect(toStoreEtag(client)).toBe(store);
      }),
    );
  });
});

describe('a condition towards the store', () => {
  it.each([
    ['*', '*'],
    [' * ', '*'],
    [`"${MD5}-01"`, `"${MD5}"`],
    [`${MD5}-01`, `"${MD5}"`],
    [`W/"${MD5}-01"`, `W/"${MD5}"`],
    [`"${MD5}-3"`, `"${MD5}-3"`],
    [`"${MD5}-01", "${MD5}-7"`, `"${MD5}", "${MD5}-7"`],
    [`"a-01","b-01" , c-01`, '"a", "b", "c"'],
  ])('%s becomes %s', (client, store) => {
    expect(toStoreCondition(client)).toBe(store);
  });

  it.each([
    ["the store's own ETag, which clients never saw", `"${MD5}"`],
    ['a suffix on a multipart ETag', `"${MD5}-2-01"`],
    ['nothing before the suffix', '"-01"'],
    ['an empty tag', '""'],
  ])('%s matches nothing', (_, client) => {
    const sent = toStoreCondition(client) ?? '';
    expect(sent).toMatch(/-00"$/);
    expect(toStoreEtag(sent)).toBeUndefined();
  });

  it.each(['', ',', '"a', 'a"', '"a-01",', '"a-01" "b-01"', '"a-01";'])('%j is no list of tags', (value) => {
    expect(toStoreCondition(value)).toBeUndefined();
  });
});
