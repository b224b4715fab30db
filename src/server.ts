import type { Server } from 'node:http';
import { Server as TlsServer } from 'node:tls';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { followCertificate, readCertificate, TLS, type Certificate } from './certificate.ts';
import type { Config } from './config.ts';
import { createDeployment, type Deployment } from './deployment.ts';
import { createListener } from './listener.ts';
import { createLog, type Log } from './log.ts';

export interface RunningServer {
  /** `http://host:port` or `https://…`, with the ports that were taken. */
  readonly dataUrl: string;
  readonly adminUrl: string;
  /** Resolves when the control store and the object store were opened; the listeners answer 503 until then. */
  readonly ready: Promise<void>;
  /** Takes no new connection, lets requests in flight end for `graceMs`, then closes everything. */
  close(graceMs?: number): Promise<void>;
}

/** How often the files of the listeners' certificates are looked at. */
const CERTIFICATE_MS = 10_000;

/** How often leftovers of uploads are removed. Replicas may do it at once: each removal is one whoever makes it. */
const SWEEP_MS = 60 * 60 * 1000;

/** The stand-alone server: an Express application of the deployment's routers, on a data and an admin listener. */
export async function startServer(
  config: Config,
  log: Log = createLog(config.log.level),
  certificateMs = CERTIFICATE_MS,
  sweepMs = SWEEP_MS,
): Promise<RunningServer> {
  const certificates = { data: certificateOf(config.data), admin: certificateOf(config.admin) };
  const deployment = createDeployment(config, log);
  const data = express().disable('x-powered-by').disable('etag').use(deployment.data);
  const admin = express().disable('x-powered-by').disable('etag').use(deployment.health).use(deployment.admin);
  admin.use((_req, res) => void res.status(404).end());
  const dataServer = createListener(data, tlsOf(certificates.data));
  const adminServer = createListener(admin, tlsOf(certificates.admin));
  deployment.attach(dataServer);
  const follow = (server: Server, listener: 'data' | 'admin') =>
    follower(server, certificates[listener], { config, listener, deployment, log, everyMs: certificateMs });
  const sweeping = setInterval(() => void deployment.sweepUploads(), sweepMs).unref();
  const followers = [follow(dataServer, 'data'), follow(adminServer, 'admin'), () => clearInterval(sweeping)];
  const close = async (graceMs = 10_000): Promise<void> => {
    deployment.drain();
    for (const end of followers) end();
    await Promise.all([closeListener(dataServer, graceMs), closeListener(adminServer, graceMs)]);
    await deployment.close();
  };
  try {
    const dataUrl = await listen(dataServer, config.data);
    const adminUrl = await listen(adminServer, config.admin);
    log.info('listening', { listener: 'data', address: dataUrl });
    log.info('listening', { listener: 'admin', address: adminUrl });
    return { dataUrl, adminUrl, ready: deployment.ready, close };
  } catch (err) {
    await close(0);
    throw err;
  }
}

function certificateOf({ tls }: Config['data'] | Config['admin']): Certificate | undefined {
  return tls === undefined ? undefined : readCertificate(tls);
}

function tlsOf(certificate: Certificate | undefined) {
  return certificate === undefined ? undefined : { cert: certificate.cert, key: certificate.key, ...TLS };
}

interface Follow {
  readonly config: Config;
  readonly listener: 'data' | 'admin';
  readonly deployment: Deployment;
  readonly log: Log;
  readonly everyMs: number;
}

function follower(server: Server, certificate: Certificate | undefined, follow: Follow): () => void {
  const { config, listener, deployment, log, everyMs } = follow;
  const files = config[listener].tls;
  if (certificate === undefined || files === undefined || !(server instanceof TlsServer)) return () => undefined;
  const report = (days: number): void => deployment.certificateDaysLeft(listener, days);
  return followCertificate(server, certificate, { files, log, listener, report, everyMs });
}

async function listen(server: Server, place: Config['data'] | Config['admin']): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(place.port, place.host, () => {
      server.off('error', reject);
      resolve();
    });
  });
  const { port } = server.address() as AddressInfo;
  const host = place.host.includes(':') ? `[${place.host}]` : place.host;
  return `${place.tls === undefined ? 'http' : 'https'}://${host}:${port}`;
}

async function closeListener(server: Server, graceMs: number): Promise<void> {
  if (!server.listening) return;
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearTimeout(timer);
}
