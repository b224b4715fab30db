import { createSecretKey } from 'node:crypto';
import { ServiceError } from '../../src/errors.ts';
import type { RequestHead, Signer, Verified } from '../../src/sigv4/types.ts';
import { createVerifier, type Verifier, type VerifierOptions } from '../../src/sigv4/verify.ts';

/** The credentials of AWS's published examples. */
export const ACCESS_KEY_ID = 'AKIAIOSFODNN7EXAMPLE';
export const SECRET = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY';
export const NOW = new Date('2013-05-24T00:00:00Z');
export const TIMESTAMP = '20130524T000000Z';
export const EMPTY = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

export interface Person extends Signer {
  readonly name: string;
}

export function signerOf(accessKeyId = ACCESS_KEY_ID, secret = SECRET): Signer {
  return { accessKeyId, secret: createSecretKey(Buffer.from(`AWS4${secret}`)) };
}

export const alice: Person = { ...signerOf(), name: 'alice' };

export function verifierOf(options: Partial<VerifierOptions<Person>> = {}): Verifier<Person> {
  return createVerifier<Person>({
    lookup: (id) => (id === ACCESS_KEY_ID ? alice : undefined),
    regions: ['us-east-1'],
    services: ['s3'],
    ...options,
  });
}

/** Node's `rawHeaders` of an object. */
export function raw(headers: Readonly<Record<string, string>>): string[] {
  return Object.entries(headers).flat();
}

export function verify(head: RequestHead, now: Date = NOW): Verified<Person> {
  return verifierOf().verify(head, now);
}

/** The code of the ServiceError that `act` throws; anything else fails the test. */
export function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (err) {
    if (err instanceof ServiceError) return err.code;
    throw err;
  }
  return 'accepted';
}
