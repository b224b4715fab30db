import { readFileSync } from 'node:fs';

/**
 * The records of one upload with what they say (FORMAT.md section 16). Uploads outlive an upgrade, so what is in the
 * file is opened by every later release; a second file joins it when the format changes.
 */
export interface GoldenRecords {
  readonly about: string;
  /** Hex, by version. */
  readonly envelopeKeys: Readonly<Record<string, string>>;
  /** The upload's name: bucket id in hex, key name and upload id as text. */
  readonly bucketId: string;
  readonly key: string;
  readonly uploadId: string;
  /** Hex; the object id is in the envelope, too. */
  readonly uploadHash: string;
  readonly objectId: string;
  readonly envelope: string;
  /** Base64 of the object `r`, and what it holds. */
  readonly uploadRecord: string;
  readonly created: number;
  readonly checksum: readonly [algorithm: string, type: string];
  /** Hex. */
  readonly manifestKey: string;
  /** SHA-256 in hex. */
  readonly recovery: string;
  readonly parts: readonly GoldenPart[];
  /** Base64 of the object `t`, and what it holds. */
  readonly tombstone: string;
  readonly completed: number;
  readonly listDigest: string;
  readonly etag: string;
  readonly versionId: string;
  readonly objectChecksum: string;
}

export interface GoldenPart {
  /** NNNNN/RECORD. */
  readonly name: string;
  /** As the client is told it, without quotes. */
  readonly etag: string;
  readonly partNumber: number;
  readonly length: number;
  readonly time: number;
  /** Hex. */
  readonly floeIv: string;
  readonly headerTag: string;
  /** Hex; empty for a part at the store. */
  readonly asideId: string;
  /** Hex; empty for none. */
  readonly checksum: string;
  readonly storeEtag: string;
}

export const RECORDS = new URL('../vectors/records/upload.json', import.meta.url);

export function readGoldenRecords(): GoldenRecords {
  return JSON.parse(readFileSync(RECORDS, 'utf8')) as GoldenRecords;
}
