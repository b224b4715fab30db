import { checksumHeader, type PlaintextDigest } from '../s3/checksum.ts';
import type { Checksum } from '../sse/format.ts';

/** A checksum as the envelope keeps it. One request is one whole object: FULL_OBJECT. */
export function asChecksum(digest: PlaintextDigest | undefined): Checksum | undefined {
  return digest === undefined ? undefined : { ...digest, type: 'FULL_OBJECT' };
}

/** The headers with which a checksum is given back (AWS "Checking object integrity"). */
export function checksumHeaders(checksum: Checksum | undefined): Record<string, string> {
  if (checksum === undefined) return {};
  return {
    [checksumHeader(checksum.algorithm)]: checksum.value.toString('base64'),
    'x-amz-checksum-type': checksum.type,
  };
}
