import { Router } from 'express';
import { serveHealth, type HealthOptions } from './health.ts';
import { createAdmin } from './serve.ts';
import type { AdminOptions } from './types.ts';

/** Paths that are the admin API's, wherever it is mounted. */
const OURS = /^\/(?:kms|api\/v1\/kms)(?:\/|$)/;

/**
 * The admin API as a router for any Express 5 application. Mounted at the root it serves `/kms/…` and `/api/v1/kms/…`
 * and passes everything else on; mounted at a path that ends in `/kms` it serves that path's own `/…` as `/kms/…`.
 * Signatures are verified over `originalUrl`. It must stand before any body parser.
 */
export function adminRouter(options: AdminOptions): Router {
  const serve = createAdmin(options);
  const router = Router({ caseSensitive: true, strict: true });
  router.use((req, res, next) => {
    const path = /\/kms$/.test(req.baseUrl) ? `/kms${req.path}` : req.path;
    if (OURS.test(path)) serve(req, res, path, req.originalUrl).catch(next);
    else next();
  });
  return router;
}

/** `/health/live`, `/health/ready`, `/metrics`: for a listener of our own, never for the data port. */
export function healthRouter(options: HealthOptions): Router {
  const frozen = Object.freeze({ ...options });
  const router = Router({ caseSensitive: true, strict: true });
  router.use((req, res, next) => {
    serveHealth(frozen, req, res).then((served) => {
      if (!served) next();
    }, next);
  });
  return router;
}

const FUNCTIONS = ['identity', 'allows', 'clock'] as const;
const OBJECTS = ['service', 'buckets', 'audit', 'metrics'] as const;

/** The middleware form: checks and freezes its options, so that a misspelled one fails at start and not at a stop. */
export function kmsAdmin(options: AdminOptions): Router {
  const known: readonly string[] = [...FUNCTIONS, ...OBJECTS, 'regions', 'keyArn'];
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) throw new TypeError(`kmsAdmin: unknown option "${name}"; known are ${known.join(', ')}`);
  }
  for (const name of FUNCTIONS) {
    if (typeof options[name] !== 'function') throw new TypeError(`kmsAdmin: ${name} must be a function`);
  }
  for (const name of OBJECTS) {
    const given: unknown = options[name];
    if (typeof given !== 'object' || given === null) throw new TypeError(`kmsAdmin: ${name} must be an object`);
  }
  const regions: unknown = options.regions;
  if (!Array.isArray(regions) || regions.length === 0) {
    throw new TypeError('kmsAdmin: regions must name at least one region');
  }
  return adminRouter(Object.freeze({ ...options, regions: Object.freeze([...options.regions]) }));
}
