import type { BucketRecord, BucketRecords } from '../control/buckets.ts';
import { ServiceError } from '../errors.ts';
import type { StoreClient } from '../store/port.ts';

/** What is to become of a bucket that was not made here. */
export interface Adoption {
  readonly mode: 'encrypted-only' | 'mixed';
  /** ISO 8601, UTC; of mixed buckets only. */
  readonly cutover?: string | undefined;
  readonly target?: BucketRecord['target'] | undefined;
}

export interface NamedBucket {
  readonly name: string;
  readonly record: BucketRecord;
}

/** Rule over bucket records: which buckets are served, and which of their objects may be plaintext. */
export interface BucketAdministration {
  list(): Promise<readonly NamedBucket[]>;
  /**
   * Makes a record for a bucket that stands at the store with objects of its own. Conflict where there is one already:
   * no call turns an encrypted-only bucket into a mixed one.
   */
  adopt(name: string, adoption: Adoption): Promise<NamedBucket>;
  /** To encrypted-only: what is still plaintext is refused from now on. */
  seal(name: string): Promise<NamedBucket>;
  /** To leaving: plaintext of any age is read, so that objects can be decrypted where they lie. */
  release(name: string): Promise<NamedBucket>;
}

export interface BucketAdministrationOptions {
  readonly buckets: BucketRecords;
  readonly store: StoreClient;
  readonly systemBucket: string;
  readonly clock: () => Date;
}

export function bucketAdministration(options: BucketAdministrationOptions): BucketAdministration {
  const { buckets, clock } = options;

  const list = async (): Promise<NamedBucket[]> => {
    const names = await buckets.list();
    const all = await Promise.all(names.map(async (name) => ({ name, record: await buckets.get(name) })));
    return all.flatMap(({ name, record }) => (record === undefined ? [] : [{ name, record }]));
  };

  const become = async (name: string, mode: BucketRecord['mode']): Promise<NamedBucket> => {
    const record = await buckets.update(name, (old) => {
      const { cutover, ...rest } = old;
      return { ...(cutover === undefined ? old : rest), mode };
    });
    return { name, record };
  };

  return {
    list,
    async adopt(name, { mode, cutover, target = { bucket: name, prefix: '' } }) {
      const since = mode === 'mixed' ? { cutover: cutoverOf(cutover, clock()) } : {};
      if (mode === 'encrypted-only' && cutover !== undefined) {
        throw refused('cutover: has no meaning for encrypted-only, which takes no plaintext of any age');
      }
      const adopted = await list();
      if (adopted.some((one) => one.name === name)) {
        throw conflict('The bucket has a record already.', 'bucket-adopted');
      }
      const taken = adopted.find(({ record }) => overlap(record.target, target));
      if (taken !== undefined) throw conflict(`The target is part of bucket ${taken.name}.`, 'bucket-target-taken');
      await standsAtStore(options, target.bucket);
      return { name, record: await buckets.create(name, { target, mode, ...since }) };
    },
    seal: (name) => become(name, 'encrypted-only'),
    release: (name) => become(name, 'leaving'),
  };
}

/** A cut-over to come would let plaintext in until then, from whoever can write to the store. */
function cutoverOf(given: string | undefined, now: Date): string {
  if (given === undefined) return now.toISOString();
  if (Date.parse(given) > now.getTime()) throw refused('cutover: lies in the future');
  return given;
}

/** Two records over the same keys would see each other's objects, and delete them. */
function overlap(one: BucketRecord['target'], other: BucketRecord['target']): boolean {
  if (one.bucket !== other.bucket) return false;
  return one.prefix.startsWith(other.prefix) || other.prefix.startsWith(one.prefix);
}

async function standsAtStore({ store, systemBucket }: BucketAdministrationOptions, bucket: string): Promise<void> {
  if (bucket === systemBucket) throw new ServiceError('NoSuchBucket', { reason: 'system-bucket' });
  const response = await store.request({ method: 'HEAD', bucket });
  response.discard();
  if (response.status === 404) throw new ServiceError('NoSuchBucket');
  if (response.status !== 200) throw new ServiceError('ServiceUnavailable', { reason: `store-${response.status}` });
}

function conflict(message: string, reason: string): ServiceError {
  return new ServiceError('Conflict', { message, reason });
}

function refused(problem: string): ServiceError {
  return new ServiceError('ValidationException', {
    message: `The body is not valid: ${problem}`,
    reason: 'admin-body',
  });
}
