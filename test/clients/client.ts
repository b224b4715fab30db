import type { Place } from './place.ts';

/** What clients do, in the order in which they do it: later steps read what earlier ones wrote. */
export const STEPS = [
  'upload',
  'multipart',
  'head',
  'list',
  'download',
  'range',
  'copy',
  'copy in parts',
  'move',
  'sync',
  'check',
  'presign',
  'SSE-S3',
  'SSE-KMS',
  'SSE-C',
  'SSE-C, wrong key',
  'SSE-C over HTTP',
  'delete',
] as const;
export type StepName = (typeof STEPS)[number];

/** What each step stands for; the matrix and docs/CLIENTS.md say it in these words. */
export const MEANING: Readonly<Record<StepName, string>> = {
  upload: 'a small object, into a bucket whose default is SSE-KMS',
  multipart: 'an object of 11 MiB in parts of 5 MiB, into the same bucket',
  head: "size, metadata and mode, by the client's own means",
  list: 'names and sizes, the sizes being those of the plaintext',
  download: 'both objects, identical',
  range: 'bytes from the middle of the object in parts',
  copy: 'a copy made by the server',
  'copy in parts': 'a copy of the large object made by the server part by part',
  move: 'a rename, which is a copy and a delete',
  sync: 'a folder up, nothing the second time, the folder down again',
  check: "the client's own verification of all that it stored",
  presign: 'a presigned URL, used by another program',
  'SSE-S3': "with the client's option for it, a small object and a large one",
  'SSE-KMS': "with the client's option for a key of the caller's choice, a small object and a large one",
  'SSE-C': 'with a key of the client, up and down',
  'SSE-C, wrong key': 'another key reads nothing',
  'SSE-C over HTTP': 'refused, and nothing stored',
  delete: 'one object, and many at once',
};

export const TRANSPORTS = ['https', 'http'] as const;
export type Transport = (typeof TRANSPORTS)[number];

/** SSE-C needs TLS; every other step is done over both. */
export function isDoneOver(transport: Transport, step: StepName): boolean {
  if (step === 'SSE-C over HTTP') return transport === 'http';
  return transport === 'https' || (step !== 'SSE-C' && step !== 'SSE-C, wrong key');
}

export interface Setting {
  /** What the owner of the client sets. */
  readonly set: string;
  readonly why: string;
}

/** One real client: what it is, what its owner must set, and what it does not offer. */
export interface Client {
  readonly name: string;
  /** How its version begins: the run fails when it finds another, and the document names this one. */
  readonly version: string;
  /** Where it comes from. */
  readonly source: string;
  readonly settings: readonly Setting[];
  /** Steps that the client has no means for, each with the reason. */
  readonly lacks: Readonly<Partial<Record<StepName, string>>>;
  /** Why it cannot run on this machine at all, found out by trying. */
  readonly impossible?: () => Promise<string | undefined>;
  open(place: Place): Promise<Session>;
}

export type Step = () => Promise<void>;

export interface Session {
  version(): Promise<string>;
  readonly steps: Readonly<Partial<Record<StepName, Step>>>;
  close?(): Promise<void>;
}
