import { ADMIN_OPTIONS, callAdmin } from './admin-call.ts';
import { CommandError, say, text, type Arguments, type Command } from './command.ts';

const FORM = 'usage: buckets list | buckets adopt NAME --mode mixed|encrypted-only | buckets seal NAME';

export const buckets: Command = {
  usage: [
    ['buckets list [--config FILE]', 'the buckets that are served, and whether they may hold plaintext'],
    [
      'buckets adopt NAME --mode mixed|encrypted-only [--cutover TIME]',
      'serve a bucket that holds objects of its own; mixed: older ones stay readable',
    ],
    ['buckets seal NAME', 'end mixed, for good: plaintext is refused from now on'],
  ],
  options: {
    ...ADMIN_OPTIONS,
    mode: { type: 'string' },
    cutover: { type: 'string' },
    'target-bucket': { type: 'string' },
    'target-prefix': { type: 'string' },
  },
  run: async (args) => {
    const [verb = '', name, more] = args.positionals;
    if ((verb === 'list') !== (name === undefined) || more !== undefined) throw new CommandError(FORM);
    const { status, body } = await callAdmin(args, ...requestOf(verb, name ?? '', args));
    say(body.trimEnd());
    return status < 300 ? 0 : 1;
  },
};

function requestOf(verb: string, name: string, args: Arguments): [method: 'GET' | 'POST', path: string, body: string] {
  // The name becomes part of a path: nothing but what the route table takes for a name.
  if (name !== '' && !/^[A-Za-z0-9][A-Za-z0-9._-]{1,127}$/.test(name)) throw new CommandError('that is no bucket name');
  if (verb === 'list') return ['GET', '/kms/buckets', ''];
  if (verb === 'seal') return ['POST', `/kms/buckets/${name}/seal`, '{}'];
  if (verb === 'adopt') return ['POST', `/kms/buckets/${name}/adopt`, adoption(args)];
  throw new CommandError(FORM);
}

function adoption(args: Arguments): string {
  const mode = text(args, 'mode');
  if (mode === undefined) throw new CommandError('buckets adopt needs --mode: are older objects plaintext (mixed)?');
  const bucket = text(args, 'target-bucket');
  const prefix = text(args, 'target-prefix');
  if (bucket === undefined && prefix !== undefined) throw new CommandError('--target-prefix needs --target-bucket');
  const target = bucket === undefined ? undefined : { bucket, prefix };
  return JSON.stringify({ mode, cutover: text(args, 'cutover'), target });
}
