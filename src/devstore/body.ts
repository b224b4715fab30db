import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { crc32, crc32c } from '@node-rs/crc32';
import { ServiceError } from '../errors.ts';
import { payloadReader } from '../sigv4/chunked.ts';
import type { Verified } from '../sigv4/types.ts';
import type { Body } from './call.ts';
import type { Headers } from './conditions.ts';

interface Digest {
  update(chunk: Buffer): void;
  /** Base64. */
  digest(): string;
}

function hashed(name: string): () => Digest {
  return () => {
    const hash = createHash(name);
    return { update: (chunk) => void hash.update(chunk), digest: () => hash.digest('base64') };
  };
}

function summed(sum: (chunk: Buffer, state: number) => number): () => Digest {
  return () => {
    let state = 0;
    const out = Buffer.alloc(4);
    return {
      update: (chunk) => void (state = sum(chunk, state)),
      digest: () => (out.writeUInt32BE(state), out.toString('base64')),
    };
  };
}

/** What a request may say of its payload, by the header or trailer that says it. */
const DIGESTS: ReadonlyMap<string, () => Digest> = new Map([
  ['content-md5', hashed('md5')],
  ['x-amz-checksum-crc32', summed(crc32)],
  ['x-amz-checksum-crc32c', summed(crc32c)],
  ['x-amz-checksum-sha1', hashed('sha1')],
  ['x-amz-checksum-sha256', hashed('sha256')],
]);

/** The body of a verified request. `accept` lets a client go on that waits for `100 Continue`. */
export function openBody(req: IncomingMessage, verified: Verified, accept: () => void): Body {
  const { headers } = verified.request;
  return {
    async stream(sink) {
      const reader = payloadReader(verified);
      const digests = openDigests(headers);
      const payload: Buffer[] = [];
      accept();
      // A connection that ends before the declared length makes this loop throw: Node reports ECONNRESET.
      // A refused chunk must not destroy the connection: the answer still goes over it.
      for await (const chunk of req.iterator({ destroyOnReturn: false })) {
        reader.push(chunk as Buffer, (piece) => payload.push(piece));
        for (const piece of payload.splice(0)) {
          for (const digest of digests.values()) digest.update(piece);
          await sink(piece);
        }
      }
      const claims: Headers = { ...headers, ...reader.finish() };
      for (const [name, digest] of digests) if (digest.digest() !== claims[name]) throw new ServiceError('BadDigest');
    },
  };
}

function openDigests(headers: Headers): Map<string, Digest> {
  const trailer = headers['x-amz-trailer']?.toLowerCase();
  if (trailer !== undefined && !DIGESTS.has(trailer)) throw new ServiceError('NotImplemented');
  const opened = new Map<string, Digest>();
  for (const [name, open] of DIGESTS) if (name === trailer || headers[name] !== undefined) opened.set(name, open());
  return opened;
}
