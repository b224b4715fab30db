import type { ParseArgsConfig } from 'node:util';

export interface Arguments {
  readonly values: Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>;
  readonly positionals: readonly string[];
}

export interface Command {
  /** Rows of `--help`: form and sentence. */
  readonly usage: readonly (readonly [form: string, text: string])[];
  readonly options: NonNullable<ParseArgsConfig['options']>;
  /** Returns the exit status: 0 done, 1 failed. */
  run(args: Arguments): Promise<number>;
}

/** The command was called wrongly: exit status 2. */
export class CommandError extends Error {}

export function text(args: Arguments, name: string): string | undefined {
  const value = args.values[name];
  return typeof value === 'string' ? value : undefined;
}

export function say(line = ''): void {
  process.stdout.write(`${line}\n`);
}
