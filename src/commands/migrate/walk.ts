import { ListObjectsV2Command, type HeadObjectCommandOutput, type S3Client } from '@aws-sdk/client-s3';
import { SingleBar } from 'cli-progress';
import { say } from '../command.ts';

/** One object as a listing of the gateway shows it: plaintext bytes, the client's ETag. */
export interface Entry {
  readonly key: string;
  readonly size: number;
}

/** What became of one object. */
export type Outcome = 'done' | 'skipped' | Failure;
export interface Failure {
  readonly problem: string;
}

export interface Tally {
  readonly done: number;
  readonly skipped: number;
  /** Plaintext bytes of what was done. */
  readonly bytes: number;
  readonly failures: readonly string[];
}

/** More failures than this are counted and not named. */
const NAMED_FAILURES = 20;

export async function* listObjects(client: S3Client, bucket: string): AsyncGenerator<Entry> {
  let token: string | undefined;
  do {
    const page = await client.send(new ListObjectsV2Command({ Bucket: bucket, ContinuationToken: token }));
    for (const { Key: key, Size: size } of page.Contents ?? []) {
      if (key !== undefined) yield { key, size: size ?? 0 };
    }
    token = page.NextContinuationToken;
  } while (token !== undefined);
}

export async function count(client: S3Client, bucket: string): Promise<{ objects: number; bytes: number }> {
  const found = { objects: 0, bytes: 0 };
  for await (const { size } of listObjects(client, bucket)) {
    found.objects += 1;
    found.bytes += size;
  }
  return found;
}

/**
 * Does `act` to every object of a bucket, several at once. It may be ended and begun again at any moment: `act` tells
 * by the object itself whether it is done. A failure of one object is told and does not end the others.
 */
export async function everyObject(
  client: S3Client,
  bucket: string,
  atOnce: number,
  act: (entry: Entry) => Promise<Outcome>,
): Promise<Tally> {
  const { objects } = await count(client, bucket);
  const bar = new SingleBar({
    format: '{bar} {value}/{total} objects, {megabytes} MB, {eta_formatted} left',
    etaBuffer: 200,
    noTTYOutput: true,
    notTTYSchedule: 10_000,
  });
  const tally = { done: 0, skipped: 0, bytes: 0, failures: [] as string[] };
  const entries = listObjects(client, bucket);
  const worker = async (): Promise<void> => {
    for await (const entry of { [Symbol.asyncIterator]: () => ({ next: () => entries.next() }) }) {
      const outcome = await act(entry).catch((err: unknown) => ({ problem: problemOf(err) }));
      if (outcome === 'skipped') tally.skipped += 1;
      else if (outcome === 'done') {
        tally.done += 1;
        tally.bytes += entry.size;
      } else tally.failures.push(`${JSON.stringify(entry.key)}: ${outcome.problem}`);
      bar.increment(1, { megabytes: Math.round(tally.bytes / 1e6) });
    }
  };
  bar.start(objects, 0, { megabytes: 0 });
  try {
    await Promise.all(Array.from({ length: atOnce }, worker));
  } finally {
    bar.stop();
  }
  return tally;
}

export function tell(verb: string, { done, skipped, bytes, failures }: Tally): void {
  say(`${verb} ${done} objects (${bytes} bytes); ${skipped} needed nothing; ${failures.length} failed`);
  for (const failure of failures.slice(0, NAMED_FAILURES)) say(`  ${failure}`);
  if (failures.length > NAMED_FAILURES) say(`  and ${failures.length - NAMED_FAILURES} more`);
}

/** An S3 error's code and message, or the message of whatever failed: never a stack. */
export function problemOf(err: unknown): string {
  if (!(err instanceof Error)) return 'failed';
  return err.name === 'Error' ? err.message : `${err.name}: ${err.message}`;
}

/** The gateway says of every sealed object how it is sealed, and of no other one. */
export function isSealed(
  head: Pick<HeadObjectCommandOutput, 'ServerSideEncryption' | 'SSECustomerAlgorithm'>,
): boolean {
  return head.ServerSideEncryption !== undefined || head.SSECustomerAlgorithm !== undefined;
}
