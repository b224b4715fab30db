import { randomBytes } from 'node:crypto';
import { DeleteObjectCommand, GetObjectCommand, ListObjectsV2Command, PutObjectCommand } from '@aws-sdk/client-s3';
import { loadConfig, type Config } from '../config.ts';
import { openStorePlace } from '../open.ts';
import { probeTraits } from '../store/probe.ts';
import { ensureSystemBucket, readRealmMarker } from '../store/system-bucket.ts';
import { CAREFUL_TRAITS, TRAITS } from '../store/traits.ts';
import { CommandError, say, text, type Arguments, type Command } from './command.ts';
import { dataClient } from './data-client.ts';

export const doctor: Command = {
  usage: [
    ['doctor [--config FILE]', 'probe the store: what it keeps, what it ignores, what the gateway does about it'],
    ['doctor --bucket NAME', 'write, list, read and delete one object through the running gateway'],
  ],
  options: { config: { type: 'string' }, bucket: { type: 'string' }, identity: { type: 'string' } },
  run: (args) => {
    const config = loadConfig(text(args, 'config'));
    const bucket = text(args, 'bucket');
    return bucket === undefined ? examineStore(config) : roundTrip(config, bucket, args);
  },
};

/** Tries the store on objects of our own in the system bucket. Writes nothing to the control store. */
async function examineStore(config: Config): Promise<number> {
  const { systemBucket, traits: pins } = config.store;
  if (config.store.kind === 'embedded') throw new CommandError('the embedded store lives in the gateway: use --bucket');
  const place = await openStorePlace(config);
  const client = place.client(CAREFUL_TRAITS);
  try {
    await ensureSystemBucket(client, systemBucket, place.region === 'us-east-1' ? undefined : place.region);
    const realm = await readRealmMarker(client, systemBucket);
    say(
      `system bucket ${systemBucket}: ${realm === undefined ? 'no realm yet (run init)' : `realm ${realm.toString('hex')}`}`,
    );
    const run = `doctor-${randomBytes(8).toString('hex')}`;
    const found = await probeTraits({ client: (traits) => place.client(traits), systemBucket, run });
    for (const { name, missing } of TRAITS) {
      const pin = pins[name];
      const held = pin ?? found[name];
      say(
        `${name}: ${String(found[name])}${pin === undefined ? '' : ` (pinned ${pin})`}${held === true ? '' : ` — ${missing}`}`,
      );
    }
    return 0;
  } finally {
    await client.close();
    await place.close();
  }
}

/** One object all the way, as a client would send it. */
async function roundTrip(config: Config, bucket: string, args: Arguments): Promise<number> {
  const client = dataClient(config, text(args, 'identity'));
  const Key = `doctor-${randomBytes(8).toString('hex')}`;
  const body = randomBytes(100_000);
  try {
    const put = await client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: body }));
    say(`put: ${put.ServerSideEncryption ?? 'no SSE header'} ${put.SSEKMSKeyId ?? ''} etag ${put.ETag ?? ''}`);
    const listed = await client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: Key }));
    const size = listed.Contents?.[0]?.Size;
    const got = await client.send(new GetObjectCommand({ Bucket: bucket, Key }));
    const same = body.equals((await got.Body?.transformToByteArray()) ?? new Uint8Array());
    await client.send(new DeleteObjectCommand({ Bucket: bucket, Key }));
    say(`listed size: ${size ?? 'none'} of ${body.length}; read back: ${same ? 'identical' : 'DIFFERENT'}; deleted`);
    return same && size === body.length ? 0 : 1;
  } finally {
    client.destroy();
  }
}
