import { integrityError } from '../errors.ts';
import type { Checksum } from '../sse/format.ts';
import type { EnvelopeKeys } from '../sse/mac.ts';
import type { KnownPart } from '../sse/part-record.ts';
import { buildTail, partsLength } from '../sse/tail.ts';
import type { Upload } from './uploads.ts';

/** Padding, manifest, recovery copy and footer: the same bytes for the same list, whoever completes (FORMAT.md section 16). */
export function sealTail(
  keys: EnvelopeKeys,
  { record, envelope }: Upload,
  parts: readonly KnownPart[],
  checksum: Checksum | undefined,
): Buffer[] {
  const key = keys.get(record.keyVersion);
  if (key === undefined) throw integrityError('upload-record');
  return buildTail({
    manifestKey: record.manifestKey,
    objectId: envelope.objectId,
    manifest: {
      type: 'multipart',
      length: parts.reduce((sum, part) => sum + part.length, 0),
      checksum,
      entries: parts,
    },
    recovery: record.recovery,
    envelopeKey: { version: record.keyVersion, key },
    bodyLength: partsLength(parts),
  });
}
