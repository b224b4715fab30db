import type { Server } from 'node:http';
import type { Router } from 'express';
import { loadConfig, parseConfig } from './config.ts';
import { createDeployment, type Deployment } from './deployment.ts';
import { createLog, type Log } from './log.ts';

/** An Express router that serves S3 with encryption, and the few things that a router cannot say. */
export interface S3Encryption extends Router {
  /** Resolves when its stores are open; until then every request is 503. Rejects when waiting cannot help. */
  readonly ready: Promise<void>;
  /** Holds `100 Continue` back until the head has verified, and lets slow uploads live. */
  attach(server: Server): void;
  /**
   * Removes from the system bucket what uploads have left behind (docs/RUNBOOK.md). The stand-alone server does it
   * every hour; here it is the host's to call. Never rejects.
   */
  sweepUploads(): Promise<void>;
  /** Closes its stores and keys; to be called after the server has closed. */
  close(): Promise<void>;
}

const deployments = new WeakMap<S3Encryption, Deployment>();

/**
 * The middleware: mount it anywhere, before any body parser. `options` is the configuration of docs/CONFIGURATION.md: the
 * path of its file, or its contents as a value (relative paths are then the process's). It is validated, copied and
 * frozen, and ConfigError names each field that is wrong. Its listener sections (`host`, `port`, `tls`) are the host
 * application's business and are not used.
 */
export function s3Encryption(options: unknown, log: Log = createLog('warn')): S3Encryption {
  const config = typeof options === 'string' ? loadConfig(options) : parseConfig(options);
  const deployment = createDeployment(config, log);
  const { data, ready } = deployment;
  const encryption = Object.assign(data, {
    ready,
    attach: (server: Server) => deployment.attach(server),
    sweepUploads: () => deployment.sweepUploads(),
    close: () => deployment.close(),
  });
  deployments.set(encryption, deployment);
  return encryption;
}

/** The admin API of a middleware, as a router of its own: `app.use('/kms', kmsAdmin(encryption))`. */
export function kmsAdmin(encryption: S3Encryption): Router {
  const deployment = deployments.get(encryption);
  if (deployment === undefined) throw new TypeError('kmsAdmin needs what s3Encryption returned');
  return deployment.admin;
}
