import { loadConfig, type Config } from '../config.ts';
import { startServer, type RunningServer } from '../server.ts';
import { text, type Command } from './command.ts';

export const serve: Command = {
  usage: [['serve [--config FILE]', 'run the gateway in the foreground; SIGTERM drains it']],
  options: { config: { type: 'string' } },
  run: async (args) => {
    const server = await startServer(loadConfig(text(args, 'config')));
    await untilSignalled(server);
    return 0;
  },
};

/** Runs until SIGTERM or SIGINT; then requests in flight have 10 s to end. A second signal ends at once. */
export async function untilSignalled(server: RunningServer): Promise<void> {
  // A failure to open that waiting cannot mend ends the process: there is nothing that it could serve.
  const failed = server.ready.then(() => new Promise<never>(() => undefined));
  const signalled = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.once(signal, () => {
        process.once(signal, () => process.exit(1));
        resolve();
      });
    }
  });
  try {
    await Promise.race([failed, signalled]);
  } finally {
    await server.close();
  }
}

export type { Config };
