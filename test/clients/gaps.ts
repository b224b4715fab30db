import type { StoreName } from '../stores/store.ts';
import type { StepName, Transport } from './client.ts';

/**
 * What is known not to work, with the reason. A gap is run like every other step, and has to fail as `fails` says: one
 * that has closed fails the run until its row is taken out, so that this table stays true.
 */
export interface Gap {
  /** All clients, stores or transports unless named. */
  readonly clients?: readonly string[];
  readonly stores?: readonly StoreName[];
  readonly transports?: readonly Transport[];
  readonly steps: readonly StepName[];
  /** What the failure says. */
  readonly fails: RegExp;
  readonly reason: string;
}

export const GAPS: readonly Gap[] = [];

export function gapOf(client: string, store: StoreName, transport: Transport, step: StepName): Gap | undefined {
  return GAPS.find(
    (gap) =>
      gap.steps.includes(step) &&
      (gap.clients?.includes(client) ?? true) &&
      (gap.stores?.includes(store) ?? true) &&
      (gap.transports?.includes(transport) ?? true),
  );
}
