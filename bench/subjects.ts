import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../test/support/free-port.ts';
import { canPin, CORES } from './cpu.ts';
import { makeDeployment, USER, type Login, type StoreAddress } from './deployment.ts';
import type { UnsealedOptions } from './unsealed.ts';

export type SubjectName = 'gateway' | 'unsealed' | 'bare' | 'nginx';

/** A proxy under measurement: one process. */
export interface Subject {
  readonly name: SubjectName;
  readonly child: ChildProcess;
  readonly port: number;
  /** Who signs the requests that it takes. */
  readonly login: Login;
  readonly adminPort: number | undefined;
  /** Full collections of its heap so far; 0 where there is no heap. */
  markCompacts(): number;
}

export interface SubjectOptions {
  /** The Node to run it with, and more flags for it. */
  readonly node: string;
  readonly flags: readonly string[];
  readonly folder: string;
  readonly store: StoreAddress;
  readonly sink: boolean;
}

export const NGINX = ['/usr/sbin/nginx', '/usr/local/sbin/nginx', '/usr/bin/nginx', '/opt/homebrew/bin/nginx'].find(
  (path) => existsSync(path),
);

/** How a process of the bench is told what it needs: a message might come before its listener. */
export const SETTINGS = 'BENCH_SETTINGS';

/** A child process on a core of its own. With `node` it is a Node that reports its CPU and its collections. */
export function start(
  command: string,
  args: readonly string[],
  core: string,
  node: boolean,
  settings?: object,
): ChildProcess {
  const pinned = canPin ? ['taskset', '-c', core, command, ...args] : [command, ...args];
  const [file = command, ...rest] = pinned;
  const env = settings === undefined ? process.env : { ...process.env, [SETTINGS]: JSON.stringify(settings) };
  return spawn(file, rest, { env, stdio: ['ignore', 'pipe', 'inherit', ...(node ? (['ipc'] as const) : [])] });
}

export async function told(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`a process of the bench ended with ${code ?? 'a signal'}`)));
    child.on('message', (message) => {
      if (typeof message === 'object' && 'port' in message) resolve(Number(message.port));
    });
  });
}

export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  // An open channel keeps a process that has nothing else to do.
  if (child.connected) child.disconnect();
  const timer = setTimeout(() => child.kill('SIGKILL'), 15_000);
  await ended;
  clearTimeout(timer);
}

function startNode(options: SubjectOptions, script: string, args: readonly string[], settings?: object) {
  const file = (name: string): string => join(import.meta.dirname, name);
  const flags = ['--trace-gc', ...options.flags, '--import', file('cpu-report.js')];
  const child = start(options.node, [...flags, file(script), ...args], CORES.subject, true, settings);
  let markCompacts = 0;
  child.stdout?.setEncoding('latin1').on('data', (text: string) => {
    markCompacts += text.split(/Mark-Compact/).length - 1;
  });
  return { child, markCompacts: () => markCompacts };
}

export async function startGateway(options: SubjectOptions): Promise<Subject> {
  const [port, adminPort] = [await freePort(), await freePort()];
  const config = await makeDeployment(join(options.folder, 'gateway'), options.store, [port, adminPort], options.sink);
  const process = startNode(options, '../src/cli.js', ['serve', '--config', config]);
  await untilReady(process.child, `http://127.0.0.1:${adminPort}/health/ready`);
  return { ...process, name: 'gateway', port, adminPort, login: USER };
}

export async function startUnsealed(options: SubjectOptions): Promise<Subject> {
  const { endpoint, region, ...store } = options.store;
  const settings: UnsealedOptions = { endpoint, region, user: USER, store };
  const process = startNode(options, 'unsealed.js', [], settings);
  return { ...process, name: 'unsealed', port: await told(process.child), adminPort: undefined, login: USER };
}

export async function startBare(options: SubjectOptions): Promise<Subject> {
  const process = startNode(options, 'bare.js', [], { storePort: Number(new URL(options.store.endpoint).port) });
  return { ...process, name: 'bare', port: await told(process.child), adminPort: undefined, login: options.store };
}

export async function startNginx(options: SubjectOptions): Promise<Subject> {
  const port = await freePort();
  const file = join(options.folder, 'nginx.conf');
  writeFileSync(file, nginxConfig(options.folder, port, new URL(options.store.endpoint).host));
  const child = start(NGINX ?? 'nginx', ['-c', file, '-p', options.folder], CORES.subject, false);
  await untilReady(child, `http://127.0.0.1:${port}/`);
  return { child, name: 'nginx', port, adminPort: undefined, login: options.store, markCompacts: () => 0 };
}

/** A plain proxy, tuned for large bodies: nothing is spooled, big buffers, kept-alive connections to the store. */
function nginxConfig(folder: string, port: number, store: string): string {
  return `daemon off;
master_process off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log ${folder}/nginx.log crit;
events { worker_connections 1024; }
http {
  access_log off;
  client_max_body_size 0;
  client_body_buffer_size 256k;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  keepalive_requests 1000000;
  tcp_nodelay on;
  upstream store { server ${store}; keepalive 64; keepalive_requests 1000000; }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://store;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Connection "";
      proxy_request_buffering off;
      proxy_buffering off;
      proxy_buffer_size 64k;
      proxy_buffers 8 256k;
      proxy_busy_buffers_size 512k;
    }
  }
}
`;
}

async function untilReady(child: ChildProcess, url: string): Promise<void> {
  for (let attempt = 0; attempt < 600; attempt += 1) {
    if (child.exitCode !== null) throw new Error(`a process of the bench ended with ${child.exitCode}`);
    const status = await fetch(url).then(
      (answer) => answer.status,
      () => 503,
    );
    if (status !== 503) return;
    await sleep(50);
  }
  throw new Error(`nothing answers at ${url}`);
}
