import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Audit, AuditEntry } from '../audit.ts';
import type { EnvelopeKeys } from '../control/envelope-keys.ts';
import type { BucketRecord, BucketRecords } from '../control/buckets.ts';
import type { Identity } from '../iam/types.ts';
import type { KeyService } from '../kms/ports.ts';
import type { Operation } from '../s3/operation.ts';
import type { Verified } from '../sigv4/types.ts';
import type { StoreClient } from '../store/port.ts';
import type { Compatibility } from './compatibility.ts';
import type { Form } from './form.ts';
import type { FormMemory } from './objects/form-memory.ts';
import type { Manifests } from './objects/manifests.ts';
import type { Uploads } from './uploads/records.ts';

/** Solely-owned random bytes; the caller may wipe or give them away. */
export type Entropy = (bytes: number) => Buffer;

/** What the gateway is made of. Built once at start; nothing in it changes afterwards but through its own methods. */
export interface Rooms {
  readonly store: StoreClient;
  readonly keys: KeyService & { frozen(): boolean };
  readonly buckets: BucketRecords;
  readonly uploads: Uploads;
  readonly manifests: Manifests;
  readonly formMemory: FormMemory;
  readonly envelopeKeys: EnvelopeKeys;
  readonly realmId: Buffer;
  readonly audit: Audit;
  readonly entropy: Entropy;
  readonly clock: () => Date;
  readonly settings: GatewaySettings;
}

export interface GatewaySettings {
  readonly region: string;
  /** The store's own region, for the LocationConstraint of new buckets. */
  readonly storeRegion: string;
  readonly systemBucket: string;
  readonly baseHosts: readonly string[];
  /** SSE-C over plain HTTP: a development setting, never a default. */
  readonly allowInsecureSseC: boolean;
  readonly metadataIntegrity: 'enforce' | 'report';
  readonly compatibility: Compatibility;
  /** What new buckets block (BlockedEncryptionTypes). */
  readonly blockedEncryptionTypes: readonly 'SSE-C'[];
  /** The operator has pinned that the store loses the metadata of `dir/` markers: bare ones may be read. */
  readonly bareMarkersReadable: boolean;
  /** Bytes at the store above which it copies in parts: its limit for a CopyObject, and for a PUT. */
  readonly largestCopy: number;
  /** How long a long operation may still answer with a status of its own. */
  readonly slowReplyMs: number;
}

/** One request on its way: verified, parsed, authorised. Handlers get nothing less. */
export interface Exchange<O extends Operation = Operation> {
  readonly op: O;
  readonly caller: Verified<Identity>;
  readonly rooms: Rooms;
  readonly entry: AuditEntry;
  readonly body: RequestBody;
  readonly requestId: string;
  /** The client's address, for policies and the audit. */
  readonly source: string;
  readonly now: Date;
  /** The connection is encrypted, as far as we or a trusted proxy can say. */
  readonly secure: boolean;
  /** The path below which the buckets are; empty but in somebody's application. */
  readonly mount: string;
  /** Aborts when the client has gone. */
  readonly signal: AbortSignal;
}

/** An exchange about a bucket whose record is known. */
export interface BucketExchange<O extends Operation = Operation> extends Exchange<O> {
  readonly bucket: BucketRecord;
}

/** The body of the request as it comes from the wire. Nobody reads it before the head has verified. */
export interface RequestBody {
  readonly req: IncomingMessage;
  /** Sends `100 Continue` if the client waits for it and nobody did yet (RFC 9110 section 10.1.1). */
  accept(): void;
  /** Of a browser's form, which was read up to its file. */
  readonly form?: Form;
}

/** An answer. `stream` writes a body of its own after the head. */
export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
  readonly stream?: (res: ServerResponse, requestId: string) => Promise<void>;
}

export type Handler<O extends Operation> = (exchange: Exchange<O>) => Promise<Reply>;
