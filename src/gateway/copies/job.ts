import type { CopyObject } from '../../s3/operation.ts';
import type { Checksum } from '../../sse/format.ts';
import type { EffectiveSse, SseReadRequest } from '../../sse/request.ts';
import type { StoreHeaders } from '../../store/port.ts';
import type { SourceRead } from './source.ts';
import type { BucketExchange } from '../exchange.ts';
import type { SealingKeys } from '../keys.ts';
import type { Copied, Moved } from './store-copy.ts';

/** One copy: what it is of, and what it is to be. */
export interface CopyJob {
  readonly x: BucketExchange<CopyObject>;
  readonly source: SourceRead;
  readonly sse: EffectiveSse;
  readonly sourceSse: SseReadRequest;
  /** On what lies under the target's key. */
  readonly conditions: StoreHeaders;
}

export interface Made {
  readonly keys: SealingKeys;
  readonly checksum: Checksum | undefined;
  /** Of a checksum of checksums. */
  readonly parts?: number | undefined;
  /** The store's headers of the source. */
  readonly found: StoreHeaders;
  readonly copied: Copied | Moved;
}
