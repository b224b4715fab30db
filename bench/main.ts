import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startStore } from '../test/stores/start.ts';
import { askedStores } from '../test/stores/store.ts';
import { CORES, loadAverage, pinSelf } from './cpu.ts';
import type { StoreAddress } from './deployment.ts';
import { measure, memoryPerStream, prepare, storeRequests, warmUp, type Round } from './measure.ts';
import { report } from './report.ts';
import type { Workload } from './load.ts';
import * as subjects from './subjects.ts';

const USAGE = `npm run bench -- [OPTIONS]
  --rounds N       interleaved rounds (3)
  --scale N        units per round, as a factor (1)
  --only TEXT      workloads whose name has the text
  --subjects LIST  gateway,unsealed,bare,nginx
  --store NAME     sink, or a store of the tests: devstore, seaweedfs, versitygw, radosgw
  --node FILE      the Node that runs what is measured
  --flag FLAG      one more flag for it (repeatable): --cpu-prof
  --no-memory      leaves the memory per stream out
  --json FILE      writes the figures
`;

const MIB = 1024 * 1024;

function workloads(scale: number): Workload[] {
  const large = { size: 64 * MIB, connections: 4, keys: 1, warmUp: 8, units: Math.round(8 * scale) };
  const small = { size: 4096, connections: 16, keys: 16, warmUp: 6000, units: Math.round(3000 * scale) };
  return [
    { name: 'PUT 64 MiB', method: 'PUT', ...large },
    { name: 'GET 64 MiB', method: 'GET', ...large },
    { name: 'PUT 4 KiB', method: 'PUT', ...small },
    { name: 'GET 4 KiB', method: 'GET', ...small },
  ];
}

interface Closing {
  readonly steps: (() => Promise<void> | void)[];
}

async function storeAddress(name: string, closing: Closing): Promise<StoreAddress> {
  if (name !== 'sink') {
    const [store] = askedStores(name);
    if (store === undefined) throw new Error(name);
    const running = await startStore(store);
    closing.steps.push(() => running.stop());
    return running;
  }
  const child = subjects.start(process.execPath, [join(import.meta.dirname, 'sink.js')], CORES.rest, true);
  closing.steps.push(() => subjects.stop(child));
  const port = await subjects.told(child);
  return {
    endpoint: `http://127.0.0.1:${port}`,
    region: 'us-east-1',
    accessKeyId: 'SINK',
    secretAccessKey: 'sinksecret',
  };
}

async function startSubjects(
  asked: readonly string[],
  options: subjects.SubjectOptions,
  closing: Closing,
): Promise<subjects.Subject[]> {
  const starters = {
    gateway: subjects.startGateway,
    unsealed: subjects.startUnsealed,
    bare: subjects.startBare,
    nginx: subjects.startNginx,
  };
  const out: subjects.Subject[] = [];
  for (const [name, starter] of Object.entries(starters)) {
    if (!asked.includes(name)) continue;
    if (name === 'nginx' && subjects.NGINX === undefined) {
      process.stdout.write('nginx is not installed: its column and ratios are left out\n');
      continue;
    }
    const subject = await starter(options);
    closing.steps.push(() => subjects.stop(subject.child));
    out.push(subject);
  }
  return out;
}

async function bench(closing: Closing): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '3' },
      scale: { type: 'string', default: '1' },
      only: { type: 'string', default: '' },
      subjects: { type: 'string', default: 'gateway,unsealed,bare,nginx' },
      store: { type: 'string', default: 'sink' },
      node: { type: 'string', default: process.execPath },
      flag: { type: 'string', multiple: true, default: [] },
      'no-memory': { type: 'boolean', default: false },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  pinSelf();
  const folder = mkdtempSync(join(tmpdir(), 'bench-'));
  closing.steps.push(() => rmSync(folder, { recursive: true, force: true }));
  const store = await storeAddress(values.store, closing);
  const sink = values.store === 'sink';
  const options = { node: values.node, flags: values.flag, folder, store, sink };
  const running = await startSubjects(values.subjects.split(','), options, closing);
  const chosen = workloads(Number(values.scale)).filter(({ name }) => name.includes(values.only));

  const before = loadAverage();
  const gateway = running.find(({ name }) => name === 'gateway');
  for (const subject of running) await prepare(subject, gateway ?? subject);
  const memory = [];
  if (gateway !== undefined && sink && !values['no-memory']) memory.push(...(await memoryPerStream(gateway)));
  for (const subject of running) await warmUp(subject, chosen);
  const rounds: Round[] = [];
  for (let number = 1; number <= Number(values.rounds); number += 1) {
    rounds.push(...(await measure(running, chosen, number)));
  }
  const requests = gateway !== undefined && sink ? await storeRequests(gateway, store.endpoint) : [];
  const machine = `${process.platform} ${process.arch}, ${cpus().length} cores, load ${before} before, ${loadAverage()} after`;
  const figures = { store: values.store, node: values.node, machine, rounds, memory, requests };
  process.stdout.write(report(figures));
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(figures, undefined, 2)}\n`);
}

const closing: Closing = { steps: [] };
try {
  await bench(closing);
} finally {
  for (const step of closing.steps.reverse()) await step();
}
