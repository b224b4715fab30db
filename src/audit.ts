/** One flat record per admin call and per key use, denials included (docs/AUDIT.md). No field can hold key material. */
export interface AuditFields {
  readonly requestId: string;
  readonly principal?: string;
  readonly source?: string;
  readonly operation?: string;
  readonly bucket?: string;
  readonly key?: string;
  readonly versionId?: string;
  readonly mode?: 'SSE-S3' | 'SSE-KMS' | 'SSE-C' | 'none';
  readonly keyId?: string;
  readonly keyVersion?: number;
  /** Hex of the 32-byte encryption context digest. */
  readonly contextDigest?: string;
  readonly cacheHit?: boolean;
  /** Free text of an administrator, bounded; for `stop`. */
  readonly note?: string;
}

export type AuditOutcome = 'success' | 'denied' | 'failed';

export interface AuditEntry {
  /** What is known so far. */
  readonly fields: AuditFields;
  /** Adds what became known since. */
  add(fields: Partial<AuditFields>): void;
  /**
   * Writes the intent record; a key may be used, or the service changed, only after it. Throws ServiceError
   * ServiceUnavailable (reason `audit-sink`) unless every required sink has accepted it. Idempotent.
   */
  intend(): void;
  /** Writes the outcome record, once; `errorClass` is a ServiceError's `reason`, never a message. */
  finish(outcome: AuditOutcome, status: number, errorClass?: string): void;
}

export interface Audit {
  begin(fields: AuditFields): AuditEntry;
  close(): Promise<void>;
}
