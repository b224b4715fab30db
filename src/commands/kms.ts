import { readFileSync } from 'node:fs';
import { ADMIN_OPTIONS, callAdmin } from './admin-call.ts';
import { CommandError, say, text, type Arguments, type Command } from './command.ts';

const ROUTES: Readonly<Record<string, readonly [method: 'GET' | 'POST', path: string]>> = {
  status: ['GET', '/kms/status'],
  config: ['GET', '/kms/config'],
  start: ['POST', '/kms/start'],
  stop: ['POST', '/kms/stop'],
  'clear-cache': ['POST', '/kms/clear-cache'],
  configure: ['POST', '/kms/configure'],
  reconfigure: ['POST', '/kms/reconfigure'],
};

export const kms: Command = {
  usage: [
    ['kms status|config [--config FILE]', 'what the running gateway says of its key service'],
    ['kms stop --reason TEXT [--abort] [--all]', 'freeze: durable, at once; 503 for every managed object'],
    ['kms start', 'prove the KMS, then serve again'],
    ['kms clear-cache', 'drop every cached data key'],
    ['kms configure|reconfigure --file FILE', 'send a configuration (docs/ADMIN.md); a failing one changes nothing'],
  ],
  options: {
    ...ADMIN_OPTIONS,
    reason: { type: 'string' },
    file: { type: 'string' },
    abort: { type: 'boolean' },
    all: { type: 'boolean' },
  },
  run: async (args) => {
    const [verb = ''] = args.positionals;
    const route = Object.hasOwn(ROUTES, verb) ? ROUTES[verb] : undefined;
    if (route === undefined) throw new CommandError(`usage: kms ${Object.keys(ROUTES).join('|')}`);
    const { status, body } = await callAdmin(args, route[0], route[1], bodyOf(verb, args));
    say(body.trimEnd());
    return status < 300 ? 0 : 1;
  },
};

function bodyOf(verb: string, args: Arguments): string {
  if (verb === 'stop') {
    const reason = text(args, 'reason');
    if (reason === undefined) throw new CommandError('kms stop needs --reason: it goes into the audit log');
    const streams = args.values.abort === true ? 'abort' : 'drain';
    return JSON.stringify({ reason, streams, scope: args.values.all === true ? 'all' : 'managed' });
  }
  if (verb !== 'configure' && verb !== 'reconfigure') return '';
  const file = text(args, 'file');
  if (file === undefined) throw new CommandError(`kms ${verb} needs --file`);
  return readFileSync(file, 'utf8');
}
