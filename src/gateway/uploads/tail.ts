import { integrityError } from '../../errors.ts';
import type { Checksum } from '../../sse/format.ts';
import type { EnvelopeKeys } from '../../sse/mac.ts';
import type { Manifest } from '../../sse/manifest.ts';
import type { KnownPart } from '../../sse/part-record.ts';
import { buildTail, partsLength } from '../../sse/tail.ts';
import type { Upload } from './records.ts';

/** The object's manifest as this Complete seals it. */
export function manifestOf(parts: readonly KnownPart[], checksum: Checksum | undefined): Manifest {
  const entries = parts.map(({ partNumber, length, floeIv, headerTag, checksum: own }) => {
    return { partNumber, length, floeIv, headerTag, checksum: own };
  });
  return { type: 'multipart', length: parts.reduce((sum, part) => sum + part.length, 0), checksum, entries };
}

/** Padding, manifest, recovery copy and footer: the same bytes for the same list, whoever completes (FORMAT.md section 16). */
export function sealTail(keys: EnvelopeKeys, { record, envelope }: Upload, manifest: Manifest): Buffer[] {
  const key = keys.get(record.keyVersion);
  if (key === undefined) throw integrityError('upload-record');
  return buildTail({
    manifestKey: record.manifestKey,
    objectId: envelope.objectId,
    manifest,
    recovery: record.recovery,
    envelopeKey: { version: record.keyVersion, key },
    bodyLength: partsLength(manifest.entries),
  });
}
