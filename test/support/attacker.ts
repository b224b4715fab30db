import { expect } from 'vitest';
import type { TestGateway } from './gateway.ts';
import { s3, type RawResponse, type RawStore } from './s3-raw.ts';

/** What the store holds of one object: what whoever owns the store can copy, edit and put back. */
export interface Loot {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

const KEPT = /^(?:x-amz-meta-.*|content-(?:type|encoding|disposition|language)|cache-control|expires)$/;

/** The attacker of the threat model: the store itself, by its own credentials, behind the gateway's back. */
export class Attacker {
  readonly #store: RawStore;

  constructor(store: RawStore) {
    this.#store = store;
  }

  async take(bucket: string, key: string): Promise<Loot> {
    const { status, headers, body } = await s3(this.#store, { method: 'GET', bucket, key });
    expect(status).toBe(200);
    const kept = Object.entries(headers).filter(([name]) => KEPT.test(name)) as [string, string][];
    return { headers: Object.fromEntries(kept), body };
  }

  async plant(bucket: string, key: string, { headers, body }: Loot): Promise<void> {
    const { status, text } = await s3(this.#store, { method: 'PUT', bucket, key, headers, body });
    expect(`${status} ${text}`).toBe('200 ');
  }
}

/** The bytes with the bit at `offset` (from the end where negative) turned over. */
export function flipped(bytes: Buffer, offset: number): Buffer {
  const out = Buffer.from(bytes);
  const at = offset < 0 ? out.length + offset : offset;
  out[at] = (out[at] ?? 0) ^ 1;
  return out;
}

/**
 * Asserts that no read gave a whole answer, and that each left an audit record of a damaged object: a 500 before the
 * first byte, or a destroyed connection behind a head that had gone. Reads the audit files once for all.
 */
export function expectRefused(gateway: TestGateway, reads: readonly (readonly [name: string, RawResponse])[]): void {
  const outcomes = new Map(
    gateway
      .auditRecords()
      .filter(({ type }) => type === 'outcome')
      .map((record) => [record.requestId, record.error]),
  );
  const seen = reads.map(([name, answer]) => {
    const refusal = answer.complete ? `${answer.status} ${codeOf(answer)}`.trim() : 'connection destroyed';
    const error = String(outcomes.get(answer.headers['x-amz-request-id']));
    return `${name}: ${refusal}, ${/^integrity:[a-z-]+$/.test(error) ? 'integrity' : error}`;
  });
  const wanted = reads.map(([name, answer]) => {
    const refusal = answer.complete ? (answer.body.length === 0 ? '500' : '500 InternalError') : 'connection destroyed';
    return `${name}: ${refusal}, integrity`;
  });
  expect(seen).toEqual(wanted);
}

export function codeOf(answer: Pick<RawResponse, 'text'>): string {
  return /<Code>([^<]*)<\/Code>/.exec(answer.text)?.[1] ?? '';
}
