import { randomBytes } from 'node:crypto';
import type { Readable } from 'node:stream';
import { GetObjectCommand, HeadObjectCommand, type GetObjectCommandOutput, type S3Client } from '@aws-sdk/client-s3';
import { loadConfig, type Config } from '../../config.ts';
import { openStorePlace } from '../../open.ts';
import { encodeKey } from '../../sigv4/encode.ts';
import { toStoreEtag } from '../../sse/etag.ts';
import type { StoreClient } from '../../store/port.ts';
import { probeTraits } from '../../store/probe.ts';
import { traitsOf } from '../../store/traits.ts';
import { CommandError, say, text, type Arguments, type Command } from '../command.ts';
import { dataClient } from '../data-client.ts';
import { ask, atOnce, bucketNamed, keepsVersions, MIGRATE_OPTIONS, recordOf, type BucketView } from './bucket.ts';
import { keptHeaders, tagsOf } from './kept.ts';
import { everyObject, isSealed, tell, type Entry, type Outcome } from './walk.ts';

const FORM = 'decrypt-bucket NAME [--dry-run] [--writes-stopped] [--leave-old-versions]';

/** S3's limit for one PUT. */
const MAX_PUT = 5 * 1024 ** 3;

/** The way out: every object is read through the gateway and written to the store in clear, under its own key. */
export const decryptBucket: Command = {
  usage: [[FORM, 'the way out: write every object of a bucket in clear, where it lies; may be ended and begun again']],
  options: MIGRATE_OPTIONS,
  run: async (args) => {
    const name = bucketNamed(args, FORM);
    const many = atOnce(args);
    const config = loadConfig(text(args, 'config'));
    if (config.store.kind === 'embedded') throw new CommandError('the embedded store takes nothing past the gateway');
    const record = await recordOf(args, name);
    if (record === undefined) throw new CommandError(`${name} has no record: the gateway has sealed nothing in it`);
    const gateway = dataClient(config, text(args, 'data-identity'));
    try {
      return await decrypt(args, config, gateway, record, many);
    } finally {
      gateway.destroy();
    }
  },
};

async function decrypt(
  args: Arguments,
  config: Config,
  gateway: S3Client,
  record: BucketView,
  many: number,
): Promise<number> {
  const dry = args.values['dry-run'] === true;
  const { name } = record;
  if (args.values['leave-old-versions'] !== true && (await keepsVersions(gateway, name))) {
    say(`${name} keeps versions, and only the current ones are decrypted: remove the others, or --leave-old-versions.`);
    return 1;
  }
  const place = await openStorePlace(config);
  const store = place.client(await traitsFound(config, (traits) => place.client(traits)));
  const unconditional = args.values['writes-stopped'] === true;
  try {
    if (!unconditional && !dry && !store.traits.putIfMatch) {
      throw new Error('the store does not honour If-Match: stop all writes to the bucket, and say --writes-stopped');
    }
    if (!dry) await ask(args, 'POST', `/kms/buckets/${name}/release`, {});
    const job = { gateway, store, record, dry, unconditional };
    const tally = await everyObject(gateway, name, many, (entry) => decryptOne(job, entry));
    tell(dry ? 'would decrypt' : 'decrypted', tally);
    if (tally.failures.length > 0) return 1;
    if (!dry)
      say(`${name} holds plaintext: send its clients to the store. What is still written here is sealed again.`);
    return 0;
  } finally {
    await store.close();
    await place.close();
  }
}

/** Asked anew, as the control store belongs to the running gateway. */
async function traitsFound({ store }: Config, client: (traits: StoreClient['traits']) => StoreClient) {
  const run = `decrypt-${randomBytes(8).toString('hex')}`;
  const found = await probeTraits({ client, systemBucket: store.systemBucket, run });
  return traitsOf(({ name }) => (store.traits[name] ?? found[name]) === true);
}

interface Job {
  readonly gateway: S3Client;
  readonly store: StoreClient;
  readonly record: BucketView;
  readonly dry: boolean;
  readonly unconditional: boolean;
}

/** Written on the condition that the sealed object is still the one that was read. */
async function decryptOne(job: Job, { key, size }: Entry): Promise<Outcome> {
  const { gateway, record, dry } = job;
  const place = { Bucket: record.name, Key: key };
  const head = await gateway.send(new HeadObjectCommand(place)).catch((err: unknown) => {
    const status = (err as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
    if (status === 400) return 'customer-key' as const;
    throw err;
  });
  if (head === 'customer-key') return { problem: 'sealed under a customer key: only who has it can read it' };
  if (!isSealed(head)) return 'skipped';
  if (size > MAX_PUT) return { problem: 'larger than one PUT may be (5 GiB): copy it with an S3 client' };
  if (dry) return 'done';
  const got = await gateway.send(new GetObjectCommand({ ...place, IfMatch: head.ETag, ChecksumMode: 'ENABLED' }));
  return writePlain(job, key, got, await tagsOf(gateway, place, got));
}

async function writePlain(
  { store, record, unconditional }: Job,
  key: string,
  got: GetObjectCommandOutput,
  tags: string | undefined,
): Promise<Outcome> {
  const { ContentLength: length, ETag: etag = '', Body: body } = got;
  const was = toStoreEtag(etag);
  if (length === undefined || body === undefined || was === undefined) return { problem: 'the gateway tells no size' };
  const headers = {
    ...keptHeaders(got),
    ...(tags === undefined ? {} : { 'x-amz-tagging': tags }),
    ...(unconditional ? {} : { 'if-match': `"${was}"` }),
  };
  const { bucket, prefix } = record.target;
  const upload = store.upload({ bucket, key: prefix + key, headers }, length);
  try {
    for await (const chunk of body as Readable) if (!upload.write(chunk as Buffer)) await upload.drained();
    upload.end();
  } catch (err) {
    upload.destroy();
    throw err;
  }
  const response = await upload.response;
  response.discard();
  if (response.status === 412) return { problem: 'changed meanwhile' };
  return response.status === 200 ? 'done' : { problem: `the store answered ${response.status} at ${encodeKey(key)}` };
}
