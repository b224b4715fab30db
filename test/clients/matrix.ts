import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startStore } from '../stores/start.ts';
import type { RunningStore, StoreName } from '../stores/store.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { transpile, type Transpiled } from '../support/transpile.ts';
import { isDoneOver, STEPS, TRANSPORTS, type Client, type Session, type StepName, type Transport } from './client.ts';
import { CLIENTS } from './clients.ts';
import { gapOf } from './gaps.ts';
import { BASE_HOST, Place } from './place.ts';
import { promises } from './promises.ts';
import { isAsked, MATRIX_STORES } from './stores.ts';
import { failureOf } from '../support/program.ts';

/** Two thousand files take their time, and two pages of a listing: once is enough. */
const MANY_FILES_ON: StoreName = 'devstore';

/** The clients over one store, through an HTTP and an HTTPS gateway, each in a process of its own. */
export async function matrix(storeName: StoreName): Promise<void> {
  const wanted = (process.env['CLIENTS'] ?? '').split(',').filter((name) => name !== '');
  const clients = CLIENTS.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
  const only = MATRIX_STORES.find(({ name }) => name === storeName)?.smoke?.transport;
  const impossible = new Map<Client, string>();
  for (const client of clients) {
    const reason = await client.impossible?.();
    if (reason !== undefined) impossible.set(client, reason);
  }
  let store: RunningStore;
  let code: Transpiled;
  let folder: string;

  beforeAll(async () => {
    [store, code, folder] = await Promise.all([
      startStore(storeName),
      transpile(),
      mkdtemp(join(tmpdir(), `clients-${storeName}-`)),
    ]);
  });
  afterAll(async () => {
    await Promise.all([store.stop(), code.remove(), rm(folder, { recursive: true, force: true })]);
  });

  describe.each(TRANSPORTS.filter((transport) => transport === (only ?? transport)))(
    `${storeName}, %s`,
    (transport) => {
      let gateway: TestGateway;
      beforeAll(async () => {
        gateway = await startGateway({
          store,
          ...{ tls: transport === 'https', tlsNames: [`*.${BASE_HOST}`], config: { data: { baseHosts: [BASE_HOST] } } },
          child: { folder: code.folder },
        });
      });
      afterAll(() => gateway.stop());

      if (transport === 'http') promises(() => gateway.raw);

      describe.each(clients.filter(({ name }) => isAsked(storeName, name, transport)))('$name', (client) => {
        const reason = impossible.get(client);
        if (reason !== undefined) {
          it(`cannot run on this machine: ${reason}`, async () => expect(await client.impossible?.()).toBe(reason));
          return;
        }
        clientSuite(client, storeName, transport, (name) =>
          Place.make(
            gateway.raw,
            join(folder, `${name}-${transport}`),
            `${name}-${transport}`,
            storeName === MANY_FILES_ON && transport === 'https' ? 2000 : 12,
          ),
        );
      });
    },
  );
}

function clientSuite(
  client: Client,
  store: StoreName,
  transport: Transport,
  makePlace: (name: string) => Promise<Place>,
): void {
  let session: Session;
  beforeAll(async () => {
    session = await client.open(await makePlace(client.name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')));
  });
  afterAll(() => session.close?.());

  it('is the version that the document names', async () => {
    expect(await session.version()).toContain(client.version);
  });

  const isDone = (step: StepName): boolean =>
    isDoneOver(transport, step) && client.lacks[step] === undefined && isAsked(store, client.name, transport, step);
  it.each(STEPS.filter(isDone))('%s', (step) => take(session, step, gapOf(client.name, store, transport, step)?.fails));
}

async function take({ steps }: Session, name: StepName, fails: RegExp | undefined): Promise<void> {
  const step = steps[name];
  if (step === undefined) throw new Error(`the client neither does "${name}" nor lacks it`);
  if (fails === undefined) await step();
  else expect(await failureOf(step()), 'a declared gap').toMatch(fails);
}
