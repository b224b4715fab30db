import { healthReason } from './active.ts';
import type { KmsConfig } from './config-schema.ts';
import type { LocalState } from './local-state.ts';
import type { ServiceRecord } from './service-record.ts';

/** `GET /kms/status`: states and figures, classes of failures, no secret and no message from outside. */
export function statusOf(
  local: LocalState,
  record: ServiceRecord | undefined,
  config: KmsConfig | undefined,
  durable: boolean,
): Readonly<Record<string, unknown>> {
  const { state, fault, stop, active, epoch } = local;
  const health = active?.health;
  return {
    state,
    health: state !== 'Running' ? 'none' : health?.ok === false ? 'degraded' : 'healthy',
    reason: fault ?? (health === undefined ? undefined : healthReason(health)),
    checkedAt: health?.checkedAt,
    keys: health?.keys,
    backend: config?.backend_type,
    generation: record?.generation,
    desired: stop !== undefined ? 'stopped' : record?.desired,
    durable,
    stop,
    epoch,
    cache: active?.cacheFigures(),
  };
}
