/** Idle timeouts, in milliseconds. There is no total one: a 5 GiB body over a slow link is legal. */
export interface StoreTimeouts {
  /** TCP and TLS together. */
  readonly connectMs: number;
  /** Silence of the store inside a body, in either direction, while we wait for it. */
  readonly idleMs: number;
  /** From the end of a request to the head of its answer. */
  readonly headersMs: number;
  /** The same for POST and for copies in the store: a Complete of thousands of parts takes minutes. */
  readonly slowHeadersMs: number;
  /** How long `Expect: 100-continue` waits for the interim answer (RFC 9110 section 10.1.1: not for ever). */
  readonly continueMs: number;
  /** Idle connections end before the store ends them (Node's servers after 5 s); a store's Keep-Alive hint may change it. */
  readonly keepAliveMs: number;
}

export const DEFAULT_TIMEOUTS: StoreTimeouts = {
  connectMs: 5_000,
  idleMs: 60_000,
  headersMs: 60_000,
  slowHeadersMs: 900_000,
  continueMs: 1_000,
  keepAliveMs: 4_000,
};
