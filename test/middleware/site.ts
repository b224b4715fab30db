import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { initDeployment } from '../../src/commands/init.ts';
import { prepareQuickStart, type QuickStart } from '../../src/commands/quickstart.ts';
import { parseConfig } from '../../src/config.ts';

/** A deployment's folder as the quick start lays it out, initialised: embedded store, local keys, two identities. */
export interface Site {
  readonly folder: string;
  readonly user: QuickStart['user'];
  readonly administrator: QuickStart['administrator'];
  /** A fresh copy of the configuration, with absolute paths. */
  options(): Record<string, object>;
  remove(): void;
}

export async function makeSite(): Promise<Site> {
  const folder = mkdtempSync(join(tmpdir(), 'site-'));
  const { user, administrator, configFile } = prepareQuickStart(folder, { data: 0, admin: 0 });
  const read = () => JSON.parse(readFileSync(configFile, 'utf8')) as Record<string, object>;
  await initDeployment(parseConfig(read(), { base: folder }));
  const absolute = (name: string): string => join(folder, name);
  const identities = read().identities as { secretFile: string }[];
  return {
    folder,
    user,
    administrator,
    options: () => ({
      ...read(),
      store: { embedded: { directory: absolute('store') } },
      control: { directory: absolute('control'), masterKeyFile: absolute('master.key') },
      identities: identities.map((one) => ({ ...one, secretFile: absolute(one.secretFile) })),
      audit: { file: { path: absolute('audit/audit') } },
    }),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
