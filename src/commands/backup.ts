import { loadConfig, readMasterKey, type Config } from '../config.ts';
import { backupControl, restoreControl } from '../control/backup.ts';
import { openControl } from '../open.ts';
import { CommandError, say, text, type Arguments, type Command } from './command.ts';

const options = { config: { type: 'string' }, file: { type: 'string' } } as const;

export const backup: Command = {
  usage: [['backup --file FILE [--config FILE]', 'write the control store to one sealed file (gateway stopped)']],
  options,
  run: async (args) => {
    const { config, file } = named(args);
    const control = await openControl(config);
    try {
      await backupControl(control, file, readMasterKey(config.control.masterKey), Date.now());
    } finally {
      await control.close();
    }
    say(`wrote ${file}; it opens with the same master key, which is not in it`);
    return 0;
  },
};

export const restore: Command = {
  usage: [['restore --file FILE [--config FILE]', 'fill an empty control directory from a backup']],
  options,
  run: async (args) => {
    const { config, file } = named(args);
    const control = await openControl(config, true);
    try {
      const count = await restoreControl(control, file, readMasterKey(config.control.masterKey));
      say(`restored ${count} records`);
    } finally {
      await control.close();
    }
    return 0;
  },
};

function named(args: Arguments): { config: Config; file: string } {
  const file = text(args, 'file');
  if (file === undefined) throw new CommandError('--file is required');
  return { config: loadConfig(text(args, 'config')), file };
}
