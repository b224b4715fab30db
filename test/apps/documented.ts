import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const PAGE = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'APPLICATIONS.md'), 'utf8');

/**
 * The settings that docs/APPLICATIONS.md gives under a heading, with the page's examples replaced: what is tested is
 * what an owner copies.
 */
export function documented(heading: string, replaced: Readonly<Record<string, string>>): string {
  const [, section = ''] = PAGE.split(`\n## ${heading}\n`);
  const block = /```\w+\n([\s\S]*?)```/.exec(section)?.[1];
  if (block === undefined) throw new Error(`docs/APPLICATIONS.md has no settings under ${heading}`);
  return Object.entries(replaced).reduce((text, [example, value]) => {
    if (!text.includes(example)) throw new Error(`the settings under ${heading} do not have ${example}`);
    return text.replaceAll(example, value);
  }, block);
}
