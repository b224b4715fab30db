import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { STEPS } from '../clients/client.ts';
import { CLIENTS } from '../clients/clients.ts';
import { clientsDocument } from '../clients/document.ts';
import { GAPS } from '../clients/gaps.ts';
import { MATRIX_STORES } from '../clients/stores.ts';

const root = join(import.meta.dirname, '../..');

it('docs/CLIENTS.md is what `npm run docs:clients` makes', async () => {
  await expect(clientsDocument()).toMatchFileSnapshot(join(root, 'docs/CLIENTS.md'));
});

it('every store of the client matrix has its file', () => {
  const files = readdirSync(join(root, 'test/clients/stores')).sort();
  expect(files).toEqual(MATRIX_STORES.map(({ name }) => `${name}.matrix.ts`).sort());
});

it('every smoke set is of clients that do its steps', () => {
  for (const { smoke } of MATRIX_STORES) {
    const able = CLIENTS.filter(({ lacks }) => smoke?.steps.every((step) => !(step in lacks)));
    expect(able.map(({ name }) => name)).toEqual(expect.arrayContaining([...(smoke?.clients ?? [])]));
  }
});

it('every gap is of a client that does the step', () => {
  const names = CLIENTS.map(({ name }) => name);
  for (const { clients = names, steps } of GAPS) {
    expect(names).toEqual(expect.arrayContaining([...clients]));
    const able = CLIENTS.filter(({ name, lacks }) => clients.includes(name) && steps.every((step) => !(step in lacks)));
    expect(able.map(({ name }) => name)).toEqual(expect.arrayContaining([...clients]));
  }
  expect(new Set(STEPS).size).toBe(STEPS.length);
});
