import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import ts from 'typescript';

const ROOT = join(import.meta.dirname, '..', '..');

export interface Transpiled {
  readonly folder: string;
  remove(): Promise<void>;
}

/** Our sources as JavaScript in a folder that sees our node_modules: Node 20 runs no TypeScript, and `dist` may be old. */
export async function transpile(wanted: (path: string) => boolean = () => true): Promise<Transpiled> {
  const cache = join(ROOT, '.cache');
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(join(cache, 'code-'));
  await writeFile(join(folder, 'package.json'), '{"type":"module"}');
  const names = await readdir(join(ROOT, 'src'), { recursive: true });
  for (const name of names.filter((path) => path.endsWith('.ts') && wanted(path))) {
    const { outputText } = ts.transpileModule(await readFile(join(ROOT, 'src', name), 'utf8'), {
      compilerOptions: {
        target: ts.ScriptTarget.ES2023,
        module: ts.ModuleKind.ESNext,
        verbatimModuleSyntax: true,
        rewriteRelativeImportExtensions: true,
      },
    });
    const path = join(folder, name.replace(/\.ts$/, '.js'));
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, outputText);
  }
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}
