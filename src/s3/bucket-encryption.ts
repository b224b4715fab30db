import { ServiceError } from '../errors.ts';
import { childOf, childrenOf, document, element, parseXml, textOf, type XmlElement } from './xml.ts';

/** A bucket's default encryption, as PutBucketEncryption sets it. */
export interface BucketEncryption {
  readonly algorithm: 'AES256' | 'aws:kms' | 'aws:kms:dsse';
  /** Key id, ARN or alias as the client wrote it: GetBucketEncryption gives it back so. */
  readonly keyReference?: string;
  readonly bucketKeyEnabled: boolean;
  /** Encryption types that may not be written (BlockedEncryptionTypes). */
  readonly blocked: readonly 'SSE-C'[];
}

/** What AWS answers for a bucket that was never set (s3-semantics: 200, AES256, BucketKeyEnabled false). */
export const DEFAULT_BUCKET_ENCRYPTION: BucketEncryption = Object.freeze({
  algorithm: 'AES256',
  bucketKeyEnabled: false,
  blocked: Object.freeze([]),
});

const ALGORITHMS = ['AES256', 'aws:kms', 'aws:kms:dsse'] as const;
const MAX_KEY_REFERENCE = 2048;

function malformed(): ServiceError {
  return new ServiceError('MalformedXML');
}

/** Parses the body of PutBucketEncryption. */
export function parseBucketEncryption(body: Uint8Array): BucketEncryption {
  const root = parseXml(body, 'ServerSideEncryptionConfiguration');
  const rules = childrenOf(root, 'Rule');
  const rule = rules[0];
  if (rule === undefined || rules.length > 1 || root.children.length > 1) throw malformed();
  const known = ['ApplyServerSideEncryptionByDefault', 'BucketKeyEnabled', 'BlockedEncryptionTypes'];
  if (!rule.children.every((child) => known.includes(child.name))) throw malformed();
  const byDefault = childOf(rule, 'ApplyServerSideEncryptionByDefault');
  const blocked = parseBlocked(childOf(rule, 'BlockedEncryptionTypes'));
  // A rule may set the blocked types alone; it must set something.
  if (byDefault === undefined && blocked === undefined) throw malformed();
  return {
    ...parseDefault(byDefault),
    bucketKeyEnabled: parseBoolean(textOf(rule, 'BucketKeyEnabled')),
    blocked: blocked ?? [],
  };
}

function parseDefault(byDefault: XmlElement | undefined): Pick<BucketEncryption, 'algorithm' | 'keyReference'> {
  if (byDefault === undefined) return { algorithm: 'AES256' };
  const algorithm = ALGORITHMS.find((name) => name === textOf(byDefault, 'SSEAlgorithm'));
  if (algorithm === undefined) throw malformed();
  if (!byDefault.children.every(({ name }) => name === 'SSEAlgorithm' || name === 'KMSMasterKeyID')) throw malformed();
  const keyReference = textOf(byDefault, 'KMSMasterKeyID');
  if (keyReference === undefined) return { algorithm };
  if (algorithm === 'AES256') {
    throw new ServiceError('InvalidArgument', {
      message: 'a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse',
    });
  }
  if (!/^[\x21-\x7e]+$/.test(keyReference) || keyReference.length > MAX_KEY_REFERENCE) {
    throw new ServiceError('InvalidArgument', { message: 'Invalid KMSMasterKeyID' });
  }
  return { algorithm, keyReference };
}

function parseBoolean(text: string | undefined): boolean {
  if (text === undefined || text === 'false') return false;
  if (text !== 'true') throw malformed();
  return true;
}

/** `SSE-C`, or `NONE`, which blocks nothing and stands alone. */
function parseBlocked(types: XmlElement | undefined): readonly 'SSE-C'[] | undefined {
  if (types === undefined) return undefined;
  if (types.children.length === 0 || !types.children.every(({ name }) => name === 'EncryptionType')) throw malformed();
  const names = types.children.map(({ text }) => text);
  if (names.length === 1 && names[0] === 'NONE') return [];
  if (!names.every((name) => name === 'SSE-C')) throw malformed();
  return ['SSE-C'];
}

/** The body of GetBucketEncryption. */
export function formatBucketEncryption(encryption: BucketEncryption): string {
  return document('ServerSideEncryptionConfiguration', [
    element('Rule', [
      element('ApplyServerSideEncryptionByDefault', [
        element('SSEAlgorithm', encryption.algorithm),
        element('KMSMasterKeyID', encryption.keyReference),
      ]),
      element('BucketKeyEnabled', encryption.bucketKeyEnabled),
      encryption.blocked.length === 0
        ? ''
        : element(
            'BlockedEncryptionTypes',
            encryption.blocked.map((type) => element('EncryptionType', type)),
          ),
    ]),
  ]);
}
