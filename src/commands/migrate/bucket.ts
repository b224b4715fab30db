import { GetBucketVersioningCommand, type S3Client } from '@aws-sdk/client-s3';
import { callAdmin } from '../admin-call.ts';
import { CommandError, text, type Arguments } from '../command.ts';

/** A bucket's record as `GET /kms/buckets` shows it. */
export interface BucketView {
  readonly name: string;
  readonly mode: 'encrypted-only' | 'mixed' | 'leaving';
  readonly target: { readonly bucket: string; readonly prefix: string };
}

/** What both directions take. */
export const MIGRATE_OPTIONS = {
  config: { type: 'string' },
  identity: { type: 'string' },
  endpoint: { type: 'string' },
  'data-identity': { type: 'string' },
  'dry-run': { type: 'boolean' },
  'writes-stopped': { type: 'boolean' },
  'leave-old-versions': { type: 'boolean' },
  'at-once': { type: 'string' },
} as const;

export function bucketNamed(args: Arguments, form: string): string {
  const [name, more] = args.positionals;
  if (name === undefined || more !== undefined) throw new CommandError(`usage: ${form}`);
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,127}$/.test(name)) throw new CommandError('that is no bucket name');
  return name;
}

/** Objects at a time: 8, or as asked, 1 to 64. */
export function atOnce(args: Arguments): number {
  const given = text(args, 'at-once') ?? '8';
  if (!/^([1-9]|[1-5][0-9]|6[0-4])$/.test(given)) throw new CommandError('--at-once takes 1 to 64');
  return Number(given);
}

export async function recordOf(args: Arguments, name: string): Promise<BucketView | undefined> {
  const { buckets } = (await ask(args, 'GET', '/kms/buckets')) as { buckets: readonly BucketView[] };
  return buckets.find((one) => one.name === name);
}

export async function ask(args: Arguments, method: 'GET' | 'POST', path: string, body?: object): Promise<unknown> {
  const answer = await callAdmin(args, method, path, body === undefined ? '' : JSON.stringify(body));
  const parsed = JSON.parse(answer.body) as { error?: { code: string; message: string } };
  if (answer.status < 300) return parsed;
  throw new Error(`${parsed.error?.code ?? answer.status}: ${parsed.error?.message ?? 'refused'}`);
}

/** Whether older versions of objects may stand behind the current ones. A store without versioning has none. */
export async function keepsVersions(client: S3Client, bucket: string): Promise<boolean> {
  try {
    return (await client.send(new GetBucketVersioningCommand({ Bucket: bucket }))).Status !== undefined;
  } catch (err) {
    if ((err as { name?: string }).name === 'NotImplemented') return false;
    throw err;
  }
}
