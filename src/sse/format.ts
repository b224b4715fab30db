/**
 * Every constant of the on-store format, version 1. `docs/FORMAT.md` is the normative text; nothing else in this
 * project has a number or a label of the format.
 */
export const FORMAT_VERSION = 1;

/** The one metadata header that makes an object ours (FORMAT.md section 9). */
export const ENVELOPE_HEADER = 'x-amz-meta-express-s3-sse';
/** Reserved of the 2 KB that stores allow for all user metadata. */
export const ENVELOPE_MAX_CHARACTERS = 896;
export const ENVELOPE_TAG_LENGTH = 32;

export const OBJECT_TYPE = { single: 0, multipart: 1 } as const;
export const MESSAGE_TYPE = { single: 0, part: 1, manifest: 2 } as const;
export const MODE_CODE = { 'SSE-S3': 1, 'SSE-KMS': 2, 'SSE-C': 3 } as const;
export const FLAG_BUCKET_KEY = 1;

export type ObjectType = keyof typeof OBJECT_TYPE;
export type MessageType = keyof typeof MESSAGE_TYPE;
export type SseMode = keyof typeof MODE_CODE;

/** FLOE (c2sp.org/FLOE): what `PARAM_ENCODE` and the table of derived parameters fix. */
export const FLOE = {
  aeadId: 0,
  kdfId: 0,
  ivLength: 32,
  headerTagLength: 32,
  parametersLength: 10,
  headerLength: 74,
  messageKeyLength: 48,
  segmentKeyLength: 32,
  segmentIvLength: 12,
  segmentTagLength: 16,
  /** Length field, IV. */
  segmentPrefixLength: 16,
  segmentOverhead: 32,
  nonFinalLength: 0xffffffff,
} as const;

/** Plaintext bytes of a full segment. */
export const SEGMENT_LENGTH = 65536;
/** FLOE's ENC_SEG_LEN. */
export const SEALED_SEGMENT_LENGTH = SEGMENT_LENGTH + FLOE.segmentOverhead;
/** 2^20 segments under one AEAD key. */
export const ROTATION_MASK = 20;

export const KEY_LENGTH = 32;
export const OBJECT_ID_LENGTH = 32;
export const REALM_ID_LENGTH = 16;
export const BUCKET_ID_LENGTH = 16;
export const DIGEST_LENGTH = 32;
export const MAC_LENGTH = 32;
export const GCM_NONCE_LENGTH = 12;
export const GCM_TAG_LENGTH = 16;
export const MESSAGE_AAD_LENGTH = 44;

/** The canonical size (FORMAT.md section 4). F can never change. */
export const SIZE = {
  fixed: 768,
  perPart: 320,
  partUnit: 5 * 1024 * 1024,
  maxParts: 10_000,
  /** 10,000 parts of 5 GiB: what a multipart upload can hold at most. */
  maxPlaintext: 10_000 * 5 * 1024 ** 3,
  /** G(0): a multipart upload of nothing. */
  emptyMultipart: 1120,
} as const;

export const PART_PREFIX_LENGTH = 16;
export const MIN_PADDING = 16;
export const RECOVERY_LENGTH = 512;
export const FOOTER_LENGTH = 64;
export const FOOTER_MAGIC = 'XS3SSE-1';
export const MANIFEST_HEAD_LENGTH = 120;
export const MANIFEST_ENTRY_LENGTH = 152;
export const CHECKSUM_FIELD_LENGTH = 64;

export const MAX_KEY_NAME_LENGTH = 1024;
export const MAX_WRAPPED_KEY_LENGTH = 400;
export const KMS_KEY_ID = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;

export const CHECKSUM = {
  CRC32: { code: 1, length: 4 },
  CRC32C: { code: 2, length: 4 },
  CRC64NVME: { code: 3, length: 8 },
  SHA1: { code: 4, length: 20 },
  SHA256: { code: 5, length: 32 },
} as const;
export const CHECKSUM_TYPE = { FULL_OBJECT: 1, COMPOSITE: 2 } as const;
/** Tag of the one private field that version 1 knows. */
export const PRIVATE_CHECKSUM = 1;

export type ChecksumAlgorithm = keyof typeof CHECKSUM;
export type ChecksumType = keyof typeof CHECKSUM_TYPE;

/** A checksum of plaintext. It is stored sealed only: in clear it would tell the store which objects are equal. */
export interface Checksum {
  readonly algorithm: ChecksumAlgorithm;
  readonly type: ChecksumType;
  readonly value: Buffer;
}

const label = (name: string): Buffer => Buffer.from(`express-s3-sse/${FORMAT_VERSION}/${name}`, 'ascii');

/** Labels of every derivation, MAC, digest and AAD: a new use takes a new label. */
export const LABEL = {
  kek: label('kek'),
  manifest: label('manifest'),
  manifestIv: label('manifest-iv'),
  context: label('context'),
  metadata: label('metadata'),
  recover: label('recover'),
  recoverName: label('recover-name'),
  envelope: label('envelope'),
  footer: label('footer'),
  upload: label('upload'),
  uploadList: label('upload-list'),
  uploadRecord: label('upload-record'),
  uploadManifestKey: label('upload-manifest-key'),
  partRecord: label('part-record'),
  partEtag: label('part-etag'),
  tombstone: label('tombstone'),
} as const;

/** Context names that only the gateway may set. */
export const CONTEXT_ARN = 'aws:s3:arn';
export const CONTEXT_BUCKET_ID = 'express-s3-sse:bucket-id';
export const RESERVED_CONTEXT_PREFIXES = ['aws:s3:', 'express-s3-sse:'] as const;

/** Random bytes from a source that the caller chose; each buffer is solely the receiver's. */
export type Entropy = (bytes: number) => Buffer;
