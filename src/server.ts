import { readFileSync } from 'node:fs';
import type { Server } from 'node:http';
import type { ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
import express from 'express';
import type { Config } from './config.ts';
import { createDeployment } from './deployment.ts';
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

/** The stand-alone server: an Express application of the deployment's routers, on a data and an admin listener. */
export async function startServer(config: Config, log: Log = createLog(config.log.level)): Promise<RunningServer> {
  const deployment = createDeployment(config, log);
  const data = express().disable('x-powered-by').disable('etag').use(deployment.data);
  const admin = express().disable('x-powered-by').disable('etag').use(deployment.health).use(deployment.admin);
  admin.use((_req, res) => void res.status(404).end());
  const dataServer = createListener(data, tlsOf(config.data.tls));
  const adminServer = createListener(admin, tlsOf(config.admin.tls));
  deployment.attach(dataServer);
  const close = async (graceMs = 10_000): Promise<void> => {
    deployment.drain();
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

function tlsOf(tls: Config['data']['tls']): ServerOptions | undefined {
  if (tls === undefined) return undefined;
  return { cert: readFileSync(tls.certFile), key: readFileSync(tls.keyFile), minVersion: 'TLSv1.2' };
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
