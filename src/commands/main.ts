import { parseArgs } from 'node:util';
import { audit } from './audit.ts';
import { backup, restore } from './backup.ts';
import { buckets } from './buckets.ts';
import { CommandError, type Command } from './command.ts';
import { doctor } from './doctor.ts';
import { init } from './init.ts';
import { kms } from './kms.ts';
import { decryptBucket } from './migrate/decrypt-bucket.ts';
import { encryptBucket } from './migrate/encrypt-bucket.ts';
import { quickstart } from './quickstart.ts';
import { serve } from './serve.ts';

/** One row per verb; `--help` is made of them. */
const COMMANDS: Readonly<Record<string, Command>> = {
  quickstart,
  init,
  serve,
  doctor,
  kms,
  buckets,
  'encrypt-bucket': encryptBucket,
  'decrypt-bucket': decryptBucket,
  audit,
  backup,
  restore,
};

function usage(): string {
  const rows = Object.values(COMMANDS).flatMap((command) => command.usage);
  const width = Math.max(...rows.map(([form]) => form.length));
  return [
    'express-s3-sse: server-side encryption in front of any S3-compatible store',
    '',
    'Usage: express-s3-sse COMMAND [OPTIONS]',
    '',
    ...rows.map(([form, text]) => `  ${form.padEnd(width)}  ${text}`),
    '',
    'The configuration file is docs/CONFIGURATION.md; S3SSE_CONFIG names it where --config does not.',
    '',
  ].join('\n');
}

/** Runs one command; the exit status is 0 done, 1 failed, 2 called wrongly. */
export async function main(argv: readonly string[]): Promise<number> {
  const [name = 'help', ...rest] = argv;
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) {
    const asked = ['help', '--help', '-h'].includes(name);
    (asked ? process.stdout : process.stderr).write(usage());
    return asked ? 0 : 2;
  }
  try {
    const { values, positionals } = parseArgs({
      args: [...rest],
      allowPositionals: true,
      options: { ...command.options, help: { type: 'boolean', short: 'h' } },
    });
    if (values.help === true) {
      process.stdout.write(usage());
      return 0;
    }
    return await command.run({ values, positionals });
  } catch (err) {
    // Our own errors are written for people; of any other one only the message is shown, and no stack.
    process.stderr.write(`express-s3-sse ${name}: ${err instanceof Error ? err.message : 'failed'}\n`);
    return err instanceof CommandError || (err as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') === true
      ? 2
      : 1;
  }
}
