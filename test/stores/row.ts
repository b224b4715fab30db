import type { Site } from './site.ts';
import type { StoreName } from './store.ts';

/** What the store really does instead, and why we may live with it. Asserted too: a store that changes is noticed. */
export interface Gap {
  readonly outcome: unknown;
  readonly reason: string;
}

export interface Row {
  readonly title: string;
  /** Does it, with keys of its own, and says what was seen in a few words. */
  readonly observe: (site: Site) => Promise<unknown>;
  /** What AWS does. */
  readonly expected: unknown;
  readonly gaps?: Partial<Readonly<Record<StoreName, Gap>>>;
}
