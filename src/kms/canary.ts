import { createHash, createHmac } from 'node:crypto';
import { z } from 'zod';
import { equalBytes } from '../bytes.ts';
import { asServiceError, ServiceError } from '../errors.ts';
import type { KmsBackend } from './ports.ts';

/**
 * A canary is a data key that protects nothing, wrapped under one version of a KMS key and kept in the control store
 * with a check value. Another KMS, or an older snapshot of this one, that has a key of the same name does not open it:
 * what would look like tampering with every object is told apart before a service starts on it.
 */
export const canarySchema = z.strictObject({ wrapped: z.base64().max(600), check: z.base64().length(44) });
export type Canary = z.infer<typeof canarySchema>;

export interface NewCanary {
  readonly version: number;
  readonly canary: Canary;
}

const LABEL = 'express-s3-sse/1/canary';

/** No digest of an encryption context equals it: those begin with a label of their own (docs/FORMAT.md). */
function canaryContext(keyId: string): Buffer {
  return createHash('sha256').update(`${LABEL}/context/${keyId}`).digest();
}

export async function makeCanary(backend: KmsBackend, keyId: string, signal?: AbortSignal): Promise<NewCanary> {
  const { key, wrapped, version } = await backend.generateDataKey(keyId, canaryContext(keyId), signal);
  const check = createHmac('sha256', key).update(LABEL).digest('base64');
  return { version, canary: { wrapped: wrapped.toString('base64'), check } };
}

/** Resolves when the backend still holds the key version that made the canary; Conflict when it is another one. */
export async function openCanary(
  backend: KmsBackend,
  keyId: string,
  canary: Canary,
  signal?: AbortSignal,
): Promise<void> {
  let check: Buffer;
  try {
    const key = await backend.unwrap(keyId, Buffer.from(canary.wrapped, 'base64'), canaryContext(keyId), signal);
    check = createHmac('sha256', key).update(LABEL).digest();
  } catch (err) {
    const { code, reason } = asServiceError(err);
    if (reason.startsWith('integrity:') || code === 'KMS.NotFoundException') throw mismatch(keyId, err);
    throw err;
  }
  if (!equalBytes(check, Buffer.from(canary.check, 'base64'))) throw mismatch(keyId);
}

function mismatch(keyId: string, cause?: unknown): ServiceError {
  return new ServiceError('Conflict', {
    message: `The KMS does not hold the key ${keyId} that this deployment's objects are under.`,
    reason: 'kms-canary',
    cause,
  });
}

/** The KMS is behind what was seen of it: an older snapshot, whose new wraps would be lost with it. */
export function versionBehind(keyId: string): ServiceError {
  return new ServiceError('Conflict', {
    message: `The KMS holds an older version of the key ${keyId} than this deployment has used.`,
    reason: 'kms-version-behind',
  });
}
