import { asServiceError, ServiceError } from '../errors.ts';
import type { Active } from './active.ts';
import { purged } from './gate.ts';
import type { KeyRecords } from './key-records.ts';
import type { LocalState } from './local-state.ts';
import type { BucketKeyScope, KeyInUse, KeyService } from './ports.ts';
import { keyArn, notFound, parseReference, type ArnScope } from './references.ts';

const ATTEMPTS = 3;

/** The data plane's half of the service: keys while it is Running, 503 otherwise. */
export class KeyUse implements KeyService {
  protected readonly local: LocalState;
  readonly #records: KeyRecords;
  readonly #scope: ArnScope;

  constructor(local: LocalState, records: KeyRecords, scope: ArnScope) {
    this.local = local;
    this.#records = records;
    this.#scope = scope;
  }

  async resolve(reference: string | undefined): Promise<string> {
    const active = this.local.running();
    const keyId = reference === undefined ? active.config.default_key_id : await this.keyId(reference);
    if (keyId === undefined) throw notFound();
    await active.inventory.forWrap(keyId);
    return keyId;
  }

  sseS3KeyId = (): string => {
    const keyId = this.local.running().config.sse_s3_key_id;
    if (keyId === undefined) {
      throw new ServiceError('InvalidRequest', { message: 'No key is configured for SSE-S3.', reason: 'sse-s3-key' });
    }
    return keyId;
  };

  arn(keyId: string): string {
    return keyArn(this.#scope, keyId);
  }

  generate(keyId: string, context: Buffer, bucketKey?: BucketKeyScope): Promise<KeyInUse> {
    return this.#used((active) => active.generate(keyId, context, bucketKey));
  }

  unwrap(keyId: string, wrapped: Buffer, context: Buffer): Promise<KeyInUse> {
    return this.#used((active) => active.unwrap(keyId, wrapped, context));
  }

  epoch(): number {
    return this.local.epoch;
  }

  assertRunning(epoch: number): void {
    this.local.assertMayCommit(epoch);
  }

  assertServing(): void {
    this.local.running();
  }

  get stopping(): AbortSignal {
    return this.local.stopping;
  }

  get freezing(): AbortSignal {
    return this.local.freezing;
  }

  /** The key id that a reference names, whether or not the key may be used. */
  protected async keyId(reference: string): Promise<string> {
    const parsed = parseReference(reference, this.#scope);
    return parsed.kind === 'key' ? parsed.keyId : this.#records.aliasTarget(parsed.name);
  }

  /**
   * A purge that is no stop (clear-cache, rotate, reconfigure) drops what was under way: once more then, with what is
   * in force now. After a stop it is 503.
   */
  async #used(use: (active: Active) => Promise<KeyInUse>): Promise<KeyInUse> {
    for (let attempt = 1; ; attempt++) {
      const active = this.local.running();
      const { epoch } = this.local;
      try {
        const result = await use(active);
        if (epoch !== this.local.epoch) throw purged();
        return result;
      } catch (err) {
        this.local.running();
        // Whatever failed in an older epoch may have failed because its backend was closed under it.
        const overtaken = epoch !== this.local.epoch || asServiceError(err).reason === 'kms-epoch';
        if (!overtaken || attempt >= ATTEMPTS) throw err;
      }
    }
  }
}
