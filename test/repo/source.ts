import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import ts from 'typescript';

const root = resolve(import.meta.dirname, '../..');

export interface SourceFile {
  /** Path from the repository's root, such as `src/s3/xml.ts`. */
  readonly path: string;
  readonly text: string;
  readonly ast: ts.SourceFile;
  /** Paths from the root of what it imports of ours, type imports included. */
  readonly ours: readonly string[];
  /** Package names that it imports. */
  readonly packages: readonly string[];
}

/** Every TypeScript file of a folder, parsed. */
export function readSource(folder = 'src'): SourceFile[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => parse(join(folder, name)))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

export function readText(path: string): string {
  return readFileSync(join(root, path), 'utf8');
}

function parse(path: string): SourceFile {
  const text = readText(path);
  const ast = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
  const specifiers: string[] = [];
  const visit = (node: ts.Node): void => {
    const from =
      ts.isImportDeclaration(node) || ts.isExportDeclaration(node)
        ? node.moduleSpecifier
        : ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword
          ? node.arguments[0]
          : undefined;
    if (from && ts.isStringLiteral(from)) specifiers.push(from.text);
    ts.forEachChild(node, visit);
  };
  visit(ast);
  return {
    path,
    text,
    ast,
    ours: specifiers.filter((s) => s.startsWith('.')).map((s) => relative(root, resolve(root, dirname(path), s))),
    packages: specifiers.filter((s) => !s.startsWith('.') && !s.startsWith('node:')).map(packageName),
  };
}

function packageName(specifier: string): string {
  const parts = specifier.split('/');
  return specifier.startsWith('@') ? parts.slice(0, 2).join('/') : (parts[0] ?? specifier);
}

/** Functions with a body, as `path:line`, with their length in lines. */
export function functionLengths(file: SourceFile): { at: string; lines: number; text: string }[] {
  const found: { at: string; lines: number; text: string }[] = [];
  const line = (position: number) => file.ast.getLineAndCharacterOfPosition(position).line;
  const visit = (node: ts.Node): void => {
    if (ts.isFunctionLike(node) && 'body' in node && node.body) {
      const start = line(node.getStart());
      found.push({ at: `${file.path}:${start + 1}`, lines: line(node.end) - start + 1, text: node.getFullText() });
    }
    ts.forEachChild(node, visit);
  };
  visit(file.ast);
  return found;
}
