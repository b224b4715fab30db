import { createSecretKey } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import type { ObjectPlace } from '../../src/sse/context.ts';
import type { EnvelopeKeys } from '../../src/sse/mac.ts';
import { envelopeKeys } from './fixture.ts';

/** One golden object: everything that a reader needs, and what must come of it. test/vectors/golden/README.md. */
export interface Golden {
  readonly about: string;
  readonly formatVersion: 1;
  /** Hex. The data key (as the KMS unwraps it) or the customer key. */
  readonly key: string;
  readonly envelopeKeys: Readonly<Record<string, string>>;
  readonly place: {
    readonly realmId: string;
    readonly bucketId: string;
    readonly bucketName: string;
    readonly key: string;
  };
  readonly headers: Readonly<Record<string, string>>;
  /** Bytes of the stored object, and those of them that are here (base64); a large object is sparse. */
  readonly size: number;
  readonly pieces: readonly { readonly offset: number; readonly base64: string }[];
  readonly outcome:
    | {
        readonly opens: true;
        readonly length: number;
        readonly ranges: readonly { readonly start: number; readonly end: number; readonly base64: string }[];
        readonly checksum?: { readonly algorithm: string; readonly base64: string };
      }
    | { readonly opens: false; readonly code: string; readonly reason: string };
}

export const GOLDEN = new URL('../vectors/golden/', import.meta.url);

export function goldenNames(): string[] {
  return readdirSync(GOLDEN).filter((name) => name.endsWith('.json'));
}

export function readGolden(name: string): Golden {
  return JSON.parse(readFileSync(new URL(name, GOLDEN), 'utf8')) as Golden;
}

export function placeOf(golden: Golden): ObjectPlace {
  const { realmId, bucketId, bucketName, key } = golden.place;
  return { realmId: Buffer.from(realmId, 'hex'), bucketId: Buffer.from(bucketId, 'hex'), bucketName, key };
}

export function keysOf(golden: Golden): EnvelopeKeys {
  const all = Object.entries(golden.envelopeKeys).map(([version, hex]) => [
    version,
    createSecretKey(Buffer.from(hex, 'hex')),
  ]);
  return envelopeKeys(Object.fromEntries(all) as Record<number, ReturnType<typeof createSecretKey>>, 1);
}

/** Stored bytes `start` to `end` (exclusive); throws when the golden object does not have them. */
export function storedBytes(golden: Golden, start: number, end: number): Buffer {
  if (start === end) return Buffer.alloc(0);
  for (const piece of golden.pieces) {
    const bytes = Buffer.from(piece.base64, 'base64');
    if (piece.offset <= start && end <= piece.offset + bytes.length) {
      return bytes.subarray(start - piece.offset, end - piece.offset);
    }
  }
  throw new Error(`the golden object has no bytes ${start}-${end}`);
}
