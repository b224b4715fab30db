import { trimBlanks } from '../bytes.ts';
import { ServiceError } from '../errors.ts';
import { ENVELOPE_HEADER, LABEL } from './format.ts';
import { pairsDigest } from './mac.ts';

/** Content headers under the metadata digest (FORMAT.md section 8); beside them all user metadata but ours. */
export const COVERED_HEADERS = [
  'cache-control',
  'content-disposition',
  'content-encoding',
  'content-language',
  'content-type',
  'expires',
  'x-amz-website-redirect-location',
] as const;

export const USER_METADATA_PREFIX = 'x-amz-meta-';

const covered: ReadonlySet<string> = new Set(COVERED_HEADERS);

/** True for a header that the metadata digest covers; the name in lower case. */
export function isCoveredHeader(name: string): boolean {
  return covered.has(name) || (name.startsWith(USER_METADATA_PREFIX) && name !== ENVELOPE_HEADER);
}

/** Header strings are octets in Node (latin1); anything else could not have been on the wire. */
function octets(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1');
  if (bytes.toString('latin1') !== value) {
    throw new ServiceError('InvalidArgument', {
      message: 'A metadata header is not octets.',
      reason: 'metadata-octets',
    });
  }
  return bytes;
}

/**
 * Digest of the covered ones among `headers` (names in lower case, as the store keeps and returns them). An empty
 * value counts as absent, because SeaweedFS drops it.
 */
export function metadataDigest(headers: Readonly<Record<string, string | undefined>>): Buffer {
  const fields: Buffer[] = [];
  for (const name of Object.keys(headers).filter(isCoveredHeader).sort()) {
    const value = trimBlanks(headers[name] ?? '');
    if (value !== '') fields.push(octets(name), octets(value));
  }
  return pairsDigest(LABEL.metadata, fields);
}
