import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { main } from '../../src/commands/main.ts';
import { parseConfig as parseKmsConfig } from '../../src/kms/config-schema.ts';
import { readText } from './source.ts';

const root = resolve(import.meta.dirname, '../..');
const readme = readText('README.md');
const blocks = (language: string): string[] =>
  [...readme.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, 'g'))].map((match) => match[1] ?? '');
const commands = blocks('sh')
  .join('\n')
  .split('\n')
  .flatMap((line) => (line.split(/ {2,}#/)[0] ?? '').split(/&&|\|\|/))
  .map((command) => command.trim())
  .filter((command) => command !== '');
const { scripts, files, bin } = JSON.parse(readText('package.json')) as {
  scripts: Record<string, string>;
  files: string[];
  bin: Record<string, string>;
};

describe('README.md', () => {
  it('sets everything up with one line, and tests with one', () => {
    expect(blocks('sh')).toContain('npm ci && npm run build && npm start\n');
    expect(blocks('sh')).toContain('npm ci && npm test\n');
  });

  it('names npm scripts that there are', () => {
    const asked = commands.flatMap((command) => {
      const [, run, name = ''] = /^npm (run )?(\S+)/.exec(command) ?? [];
      if (name === '' || name === 'ci') return [];
      return run === undefined && !['start', 'test'].includes(name) ? ['?'] : [name];
    });
    expect(asked.length).toBeGreaterThan(2);
    expect(asked.filter((name) => !(name in scripts))).toEqual([]);
  });

  it('names commands of ours that there are, with options that they take', async () => {
    const ours = commands.flatMap((command) => /^(?:npx )?express-s3-sse (.*)$/.exec(command)?.[1] ?? []);
    expect(ours.length).toBeGreaterThan(4);
    const out = vi.spyOn(process.stdout, 'write').mockImplementation(() => true);
    try {
      for (const line of ours) {
        const args = [...line.matchAll(/'([^']*)'|(\S+)/g)].map((match) => match[1] ?? match[2] ?? '');
        expect([line, await main([...args, '--help'])]).toEqual([line, 0]);
      }
    } finally {
      out.mockRestore();
    }
  });

  it('names only tools that it says one needs', () => {
    const tools = new Set(commands.map((command) => command.split(' ')[0] ?? ''));
    const known = ['npm', 'npx', 'aws', 'echo', 'grep', '.', 'express-s3-sse'];
    expect([...tools].filter((tool) => !known.includes(tool))).toEqual([]);
  });

  it('shows a key service that is accepted', () => {
    const [shown] = blocks('json').map((text) => JSON.parse(text) as { kms: { config: object } });
    const { auth_method: method } = parseKmsConfig(shown?.kms.config, { development: false, inlineSecrets: false }) as {
      auth_method: object;
    };
    expect(Object.keys(method)).toEqual(['approle']);
  });

  it('shows the policy of docker/vault', () => {
    const flat = (text: string) => text.replace(/#.*$/gm, '').replace(/\s+/g, ' ');
    const whole = flat(readText('docker/vault/data-role.hcl'));
    const shown = blocks('hcl').join('\n').trim().split('\n');
    expect(shown.length).toBe(3);
    for (const line of shown) expect(whole).toContain(flat(line));
  });
});

describe('package.json', () => {
  it('packs what the README links', () => {
    const linked = [...readme.matchAll(/\]\(([^)#\s]+)/g)].map((match) => match[1] ?? '');
    const packed = [...files, 'README.md', 'LICENSE', 'package.json'];
    const missing = linked.filter((path) => !packed.some((one) => path === one || path.startsWith(`${one}/`)));
    expect(missing).toEqual([]);
    expect(files.filter((path) => path !== 'dist' && !existsSync(join(root, path)))).toEqual([]);
  });

  it('has a program that stands where it is built from', () => {
    for (const path of Object.values(bin)) {
      const source = path.replace(/^dist\//, 'src/').replace(/\.js$/, '.ts');
      expect(readText(source).startsWith('#!/usr/bin/env node\n')).toBe(true);
      // npx links to it in a clone and never sets its mode again after a second build.
      expect(scripts.build).toContain(`chmodSync('${path}',0o755)`);
    }
  });
});
