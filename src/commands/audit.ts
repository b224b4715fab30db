import { verifyAudit } from '../audit/verify.ts';
import { CommandError, say, type Command } from './command.ts';

export const audit: Command = {
  usage: [['audit verify FILE…', 'check the hash chain of audit files: edited, removed or reordered lines show']],
  options: { mixed: { type: 'boolean' } },
  run: async ({ positionals: [verb, ...files], values }) => {
    if (verb !== 'verify' || files.length === 0) throw new CommandError('usage: audit verify FILE…');
    const verdict = await verifyAudit(files, { mixed: values.mixed === true });
    for (const { file, line, message } of verdict.problems) say(`${file}:${line}: ${message}`);
    for (const file of verdict.unclosed) say(`${file}: not closed (still written, or its process was killed)`);
    say(`${verdict.records} records, ${verdict.intact ? 'intact' : 'NOT intact'}`);
    return verdict.intact ? 0 : 1;
  },
};
