import {
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  AbortMultipartUploadCommand,
  HeadObjectCommand,
  UploadPartCopyCommand,
  type HeadObjectCommandOutput,
  type S3Client,
} from '@aws-sdk/client-s3';
import { loadConfig } from '../../config.ts';
import { say, text, type Arguments, type Command } from '../command.ts';
import { dataClient } from '../data-client.ts';
import { ask, atOnce, bucketNamed, keepsVersions, MIGRATE_OPTIONS, recordOf } from './bucket.ts';
import { tagsOf } from './kept.ts';
import { everyObject, isSealed, tell, type Entry, type Outcome } from './walk.ts';

const FORM = 'encrypt-bucket NAME [--dry-run] [--writes-stopped] [--leave-old-versions]';

/** S3's limit for CopyObject; above it an object is copied in parts. */
const MAX_COPY = 5 * 1024 ** 3 - 8 * 1024 ** 2;
const PART = 1024 ** 3;

/** Seals a plaintext bucket where it lies, through the running gateway, and ends `mixed`. */
export const encryptBucket: Command = {
  usage: [
    [FORM, 'seal the plaintext objects of a bucket in place, then refuse plaintext; may be ended and begun again'],
  ],
  options: MIGRATE_OPTIONS,
  run: async (args) => {
    const name = bucketNamed(args, FORM);
    const many = atOnce(args);
    const client = dataClient(loadConfig(text(args, 'config')), text(args, 'data-identity'));
    try {
      return await encrypt(args, client, name, many);
    } finally {
      client.destroy();
    }
  },
};

async function encrypt(args: Arguments, client: S3Client, name: string, many: number): Promise<number> {
  const dry = args.values['dry-run'] === true;
  const record = await recordOf(args, name);
  if (record?.mode === 'encrypted-only') {
    say(`${name} is encrypted-only already`);
    return 0;
  }
  if (record === undefined && dry) {
    say(`${name} has no record: it would be adopted as mixed first. Do that, and ask again for its objects:`);
    say(`  express-s3-sse buckets adopt ${name} --mode mixed`);
    return 0;
  }
  if (record === undefined) {
    await ask(args, 'POST', `/kms/buckets/${name}/adopt`, { mode: 'mixed' });
    say(`${name} is mixed from now on: what was there is read as it is, what is written is sealed`);
  }
  const unconditional = args.values['writes-stopped'] === true;
  const tally = await everyObject(client, name, many, (entry) => sealOne(client, name, entry, { dry, unconditional }));
  tell(dry ? 'would seal' : 'sealed', tally);
  if (tally.failures.length > 0) {
    if (tally.failures.some((failure) => failure.includes(' NotImplemented: '))) {
      say('The store does not honour If-Match: stop all writes to the bucket, and say --writes-stopped.');
    }
    say(`${name} stays as it is; begin again when the reasons are gone`);
    return 1;
  }
  if (dry) return 0;
  if (args.values['leave-old-versions'] !== true && (await keepsVersions(client, name))) {
    say(`${name} keeps versions: those of before are plaintext and could not be read any more.`);
    say('Remove them, or begin again with --leave-old-versions.');
    return 1;
  }
  await ask(args, 'POST', `/kms/buckets/${name}/seal`, {});
  say(`${name} is encrypted-only: plaintext is refused from now on`);
  return 0;
}

/** A copy of the object onto itself, on the condition that it is still the one that was looked at. */
async function sealOne(
  client: S3Client,
  bucket: string,
  { key, size }: Entry,
  { dry, unconditional }: { dry: boolean; unconditional: boolean },
): Promise<Outcome> {
  const head = await lookAt(client, bucket, key);
  if (head === undefined || isSealed(head)) return 'skipped';
  if (dry) return 'done';
  if (head.ETag === undefined) return { problem: 'the store tells no ETag' };
  const place = { Bucket: bucket, Key: key };
  const source = { CopySource: `${bucket}/${encodeURIComponent(key)}`, CopySourceIfMatch: head.ETag };
  const still = unconditional ? {} : { IfMatch: head.ETag };
  if (size > MAX_COPY) return copyInParts(client, place, source, head, still);
  const copied = await client.send(new CopyObjectCommand({ ...place, ...source, ...still, ...askedOf(head) }));
  return isSealed(copied) ? 'done' : { problem: 'the copy is not sealed' };
}

/** Undefined: gone, or sealed under a customer key, which the gateway says by asking for it. */
async function lookAt(client: S3Client, bucket: string, key: string): Promise<HeadObjectCommandOutput | undefined> {
  try {
    return await client.send(new HeadObjectCommand({ Bucket: bucket, Key: key }));
  } catch (err) {
    const status = (err as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
    if (status === 404 || status === 400) return undefined;
    throw err;
  }
}

type Place = { readonly Bucket: string; readonly Key: string };
type Source = { readonly CopySource: string; readonly CopySourceIfMatch: string };

async function copyInParts(
  client: S3Client,
  place: Place,
  source: Source,
  head: HeadObjectCommandOutput,
  still: { readonly IfMatch?: string },
): Promise<Outcome> {
  const { ContentLength: size = 0 } = head;
  const { UploadId } = await client.send(
    new CreateMultipartUploadCommand({ ...place, ...keptOf(head), Tagging: await tagsOf(client, place, head) }),
  );
  try {
    const Parts: { PartNumber: number; ETag: string | undefined }[] = [];
    for (let first = 0; first < size; first += PART) {
      const CopySourceRange = `bytes=${first}-${Math.min(first + PART, size) - 1}`;
      const PartNumber = Parts.length + 1;
      const part = await client.send(
        new UploadPartCopyCommand({ ...place, UploadId, PartNumber, ...source, CopySourceRange }),
      );
      Parts.push({ PartNumber, ETag: part.CopyPartResult?.ETag });
    }
    const done = await client.send(
      new CompleteMultipartUploadCommand({ ...place, UploadId, MultipartUpload: { Parts }, ...still }),
    );
    return isSealed({ ServerSideEncryption: done.ServerSideEncryption, SSECustomerAlgorithm: undefined })
      ? 'done'
      : { problem: 'the copy is not sealed' };
  } catch (err) {
    await client.send(new AbortMultipartUploadCommand({ ...place, UploadId })).catch(() => undefined);
    throw err;
  }
}

/** What every copy is told anew (CopyObject): class, redirect and lock are never the source's. */
function askedOf(head: HeadObjectCommandOutput) {
  const { StorageClass, WebsiteRedirectLocation } = head;
  const { ObjectLockMode, ObjectLockRetainUntilDate, ObjectLockLegalHoldStatus } = head;
  const isHeld = ObjectLockLegalHoldStatus === 'ON' ? { ObjectLockLegalHoldStatus } : {};
  return { StorageClass, WebsiteRedirectLocation, ObjectLockMode, ObjectLockRetainUntilDate, ...isHeld };
}

/** What an upload in parts is told beside; a copy keeps it by itself. */
function keptOf(head: HeadObjectCommandOutput) {
  const { CacheControl, ContentDisposition, ContentEncoding, ContentLanguage, ContentType, Metadata } = head;
  const { ExpiresString } = head;
  const Expires = ExpiresString === undefined ? undefined : new Date(ExpiresString);
  return {
    ...{ CacheControl, ContentDisposition, ContentEncoding, ContentLanguage, ContentType, Metadata },
    ...askedOf(head),
    Expires,
  };
}
