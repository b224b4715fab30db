import type { ToldChecksum } from '../../s3/multipart.ts';
import { checksumHeader, type PlaintextDigest } from '../../s3/checksum.ts';
import type { Checksum } from '../../sse/format.ts';

/** A checksum as the envelope keeps it. One request is one whole object: FULL_OBJECT. */
export function asChecksum(digest: PlaintextDigest | undefined): Checksum | undefined {
  return digest === undefined ? undefined : { ...digest, type: 'FULL_OBJECT' };
}

/** As AWS writes it: a digest of digests has the number of parts behind it. */
export function checksumText({ type, value }: Checksum, parts: number): string {
  return type === 'COMPOSITE' ? `${value.toString('base64')}-${parts}` : value.toString('base64');
}

/** The headers with which a checksum is given back (AWS "Checking object integrity"). */
export function checksumHeaders(checksum: Checksum | undefined, parts = 0): Record<string, string> {
  if (checksum === undefined) return {};
  return {
    [checksumHeader(checksum.algorithm)]: checksumText(checksum, parts),
    'x-amz-checksum-type': checksum.type,
  };
}

/** What the body of an answer says of it. */
export function toldChecksum(checksum: Checksum | undefined, parts: number): ToldChecksum | undefined {
  if (checksum === undefined) return undefined;
  return { algorithm: checksum.algorithm, text: checksumText(checksum, parts), type: checksum.type };
}
