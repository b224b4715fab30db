import { createHash, randomBytes } from 'node:crypto';

/** The headers that give a customer key to a write or a read. */
export function customerKey(key: Buffer = randomBytes(32)): Readonly<Record<string, string>> {
  const name = 'x-amz-server-side-encryption-customer';
  return {
    [`${name}-algorithm`]: 'AES256',
    [`${name}-key`]: key.toString('base64'),
    [`${name}-key-md5`]: createHash('md5').update(key).digest('base64'),
  };
}

export interface Mode {
  readonly name: 'SSE-S3' | 'SSE-KMS' | 'SSE-C';
  /** Headers of a write, and of a read. */
  readonly write: Readonly<Record<string, string>>;
  readonly read: Readonly<Record<string, string>>;
}

const own = customerKey();

export const MODES: readonly Mode[] = [
  { name: 'SSE-S3', write: { 'x-amz-server-side-encryption': 'AES256' }, read: {} },
  {
    name: 'SSE-KMS',
    write: {
      'x-amz-server-side-encryption': 'aws:kms',
      'x-amz-server-side-encryption-context': Buffer.from('{"department":"accounts"}').toString('base64'),
    },
    read: {},
  },
  { name: 'SSE-C', write: own, read: own },
];
