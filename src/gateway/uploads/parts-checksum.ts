import { ServiceError } from '../../errors.ts';
import { combineCrcs } from '../../s3/crc-combine.ts';
import { digestOf, statedChecksum } from '../../s3/checksum.ts';
import type { ListedPart } from '../../s3/multipart.ts';
import type { Checksum } from '../../sse/format.ts';
import type { KnownPart } from '../../sse/part-record.ts';
import type { UploadChecksum } from '../../sse/upload-record.ts';
import { checksumText } from '../objects/checksum.ts';

/** The object's checksum from those of its parts (AWS "Checking object integrity"): a digest of digests, or combined. */
export function partsChecksum(asked: UploadChecksum | undefined, parts: readonly KnownPart[]): Checksum | undefined {
  if (asked === undefined) return undefined;
  const { algorithm, type } = asked;
  const known = parts.map(({ checksum, length }) => {
    if (checksum?.algorithm !== algorithm) throw new ServiceError('InvalidPart');
    return { value: checksum.value, length };
  });
  const value =
    type === 'FULL_OBJECT'
      ? combineCrcs(algorithm, known)
      : digestOf(algorithm, Buffer.concat(known.map((part) => part.value)));
  return { algorithm, type, value };
}

/** A composite checksum is of what the client lists: each part with its own (AWS's words). What is listed must hold. */
export function requireListedChecksums(
  asked: UploadChecksum | undefined,
  listed: readonly ListedPart[],
  parts: readonly KnownPart[],
): void {
  listed.forEach(({ partNumber, checksums }, index) => {
    if (asked?.type === 'COMPOSITE' && checksums[asked.algorithm] === undefined) {
      throw new ServiceError('InvalidRequest', {
        message: `The upload was created using a ${asked.algorithm.toLowerCase()} checksum. The complete request must include the checksum for each part. It was missing for part ${partNumber} in the request.`,
        reason: 'part-checksum-missing',
      });
    }
    const own = parts[index]?.checksum;
    for (const [algorithm, text] of Object.entries(checksums)) {
      const right = own?.algorithm === algorithm && own.value.toString('base64') === text;
      if (!right) throw new ServiceError('InvalidPart', { reason: 'part-checksum' });
    }
  });
}

/** What the client says of the whole object must be what was computed. */
export function requireStatedChecksum(
  headers: Readonly<Record<string, string>>,
  asked: UploadChecksum | undefined,
  computed: Checksum | undefined,
  parts: number,
): void {
  const type = headers['x-amz-checksum-type']?.toUpperCase();
  if (type !== undefined && type !== asked?.type) {
    throw new ServiceError('InvalidRequest', {
      message: 'The checksum type is not the one that the upload was created with.',
      reason: 'checksum-type',
    });
  }
  const stated = statedChecksum(headers);
  if (stated === undefined) return;
  if (computed?.algorithm !== stated.algorithm) {
    throw new ServiceError('InvalidRequest', {
      message: 'The checksum is not of the algorithm that the upload was created with.',
      reason: 'checksum-type',
    });
  }
  const text = checksumText(computed, parts);
  if (stated.text !== text && stated.text !== computed.value.toString('base64')) throw new ServiceError('BadDigest');
}
