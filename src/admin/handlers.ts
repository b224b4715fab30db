import type { z } from 'zod';
import { ServiceError } from '../errors.ts';
import type { Applied } from '../kms/ports.ts';
import type { adoptBody, opaqueBody, stopBody } from './bodies.ts';
import type { NamedBucket } from './buckets.ts';
import type { AdminAnswer, AdminCall } from './types.ts';

type Stop = z.output<typeof stopBody>;
type Adopt = z.output<typeof adoptBody>;
type Opaque = z.output<typeof opaqueBody>;

export const configure = async ({ service, body, by }: AdminCall<Opaque>) => applied(await service.configure(body, by));

export const reconfigure = async ({ service, body, by }: AdminCall<Opaque>) =>
  applied(await service.reconfigure(body, by));

export const start = async ({ service, by }: AdminCall) => applied(await service.start(by));

export const stop = async ({ service, body, by }: AdminCall<Stop>) =>
  applied(
    await service.stop({
      reason: body.reason,
      by,
      streams: body.streams,
      drainSeconds: body.drain_seconds,
      scope: body.scope,
    }),
  );

export const status = async ({ service }: AdminCall): Promise<AdminAnswer> => ok(await service.status());

export const config = ({ service }: AdminCall): Promise<AdminAnswer> => Promise.resolve(ok(service.config()));

export const clearCache = async ({ service, by }: AdminCall): Promise<AdminAnswer> => ok(await service.clearCache(by));

export const listBuckets = async ({ buckets }: AdminCall): Promise<AdminAnswer> =>
  ok({ buckets: (await buckets.list()).map(bucketView) });

export const adoptBucket = async ({ buckets, name, body }: AdminCall<Adopt>): Promise<AdminAnswer> =>
  ok(bucketView(await buckets.adopt(name, body)));

export const sealBucket = async ({ buckets, name }: AdminCall): Promise<AdminAnswer> =>
  ok(bucketView(await buckets.seal(name)));

export const releaseBucket = async ({ buckets, name }: AdminCall): Promise<AdminAnswer> =>
  ok(bucketView(await buckets.release(name)));

/** A route of a later version: refused clearly, after the caller was verified and allowed. */
export const notImplemented = (): Promise<AdminAnswer> =>
  Promise.reject(
    new ServiceError('NotImplemented', { message: 'This route is not implemented.', reason: 'admin-route' }),
  );

function bucketView({ name, record }: NamedBucket): Readonly<Record<string, unknown>> {
  const { bucketId, mode, cutover, target, encryption, createdAt } = record;
  return {
    name,
    bucket_id: bucketId,
    mode,
    ...(cutover === undefined ? {} : { cutover }),
    target,
    encryption: encryption?.algorithm ?? 'AES256',
    created_at: createdAt,
  };
}

const ok = (body: Readonly<Record<string, unknown>>): AdminAnswer => ({ status: 200, body });

/**
 * A change that the control store has not taken holds on this node only, and may not survive it: that is no success,
 * though the change is in force here. It is tried again in the background.
 */
function applied({ state, applied: where, durable, generation }: Applied): AdminAnswer {
  const body = { state, applied: where, durable, generation };
  if (durable) return ok(body);
  const message = 'In force on this node; the control store has not taken it yet. It is tried again in the background.';
  const error = new ServiceError('ServiceUnavailable', { message, reason: 'not-durable' });
  return { status: error.status, body, error };
}
