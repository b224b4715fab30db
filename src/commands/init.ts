import { loadConfig, type Config } from '../config.ts';
import { initControl } from '../control/init.ts';
import { openControl, openStorePlace } from '../open.ts';
import { CAREFUL_TRAITS } from '../store/traits.ts';
import { ensureSystemBucket, readRealmMarker, writeRealmMarker } from '../store/system-bucket.ts';
import { CommandError, say, text, type Command } from './command.ts';

export const init: Command = {
  usage: [['init [--config FILE]', 'make the control store and the realm of a new deployment; once, ever']],
  options: { config: { type: 'string' } },
  run: async (args) => {
    say(`realm ${await initDeployment(loadConfig(text(args, 'config')))} initialised`);
    return 0;
  },
};

/**
 * Makes a deployment: system bucket, control store, realm marker. Refused where the store carries another realm's
 * marker, and where the control store is not empty: a second realm over old objects makes them all unreadable.
 */
export async function initDeployment(config: Config): Promise<string> {
  const { systemBucket } = config.store;
  const place = await openStorePlace(config);
  const client = place.client(CAREFUL_TRAITS);
  try {
    await ensureSystemBucket(client, systemBucket, place.region === 'us-east-1' ? undefined : place.region);
    if ((await readRealmMarker(client, systemBucket)) !== undefined) {
      throw new CommandError(
        `The system bucket ${systemBucket} belongs to a realm already: restore its control store from a backup.`,
      );
    }
    const control = await openControl(config, true);
    try {
      const realm = await initControl(control, Date.now());
      await writeRealmMarker(client, systemBucket, realm.id);
      return realm.id.toString('hex');
    } finally {
      await control.close();
    }
  } finally {
    await client.close();
    await place.close();
  }
}
