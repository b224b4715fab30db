/**
 * Writes the golden object of an upload in parts, made by the operations themselves over the embedded store:
 * `node test/sse/make-golden-upload.ts` (Node ≥ 24). It is append-only, as all of them are, and never written again.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BucketRecords } from '../../src/control/buckets.ts';
import { loadEnvelopeKeys } from '../../src/control/envelope-keys.ts';
import { loadRealm } from '../../src/control/init.ts';
import { startDevStore } from '../../src/devstore/server.ts';
import { startGateway } from '../support/gateway.ts';
import { customerKey } from '../support/modes.ts';
import { RawUpload, type Listed } from '../support/multipart.ts';
import { s3 } from '../support/s3-raw.ts';
import { GOLDEN, type Golden } from './golden.ts';

const MIN_PART = 5 * 1024 * 1024;
const file = new URL('sse-c-upload-of-20-parts.json', GOLDEN);
if (existsSync(file)) throw new Error('it is there: golden objects are append-only');

const directory = mkdtempSync(join(tmpdir(), 'golden-'));
const credentials = { accessKeyId: 'GOLDENSTORE', secretAccessKey: randomBytes(30).toString('base64url') };
const embedded = await startDevStore({ directory, host: '127.0.0.1', port: 0, region: 'us-east-1', credentials });
const store = { endpoint: embedded.url, region: 'us-east-1', ...credentials };
const gateway = await startGateway({ store, config: { development: { allowInsecureSseC: true } } });
try {
  const bucket = 'photos';
  const key = 'summer/zwanzig.tar';
  const secret = randomBytes(32);
  const own = customerKey(secret);
  await s3(gateway.raw, { method: 'PUT', bucket });
  const upload = await RawUpload.create(gateway.raw, bucket, key, {
    ...own,
    'content-type': 'application/x-tar',
    'x-amz-meta-owner': 'ann',
  });
  // Numbers with gaps, a last segment of few bytes in each, and the last part put aside under the highest number.
  const parts = Array.from({ length: 20 }, (_, i) => {
    const body = i === 19 ? Buffer.from('the last of 20 parts') : randomBytes(MIN_PART + 7 + i);
    return { number: i === 19 ? 10_000 : 3 * i + 2, body };
  });
  const listed: Listed[] = [];
  for (const { number, body } of [...parts].sort(() => Math.random() - 0.5)) {
    if (number % 4 === 0) await upload.part(number, randomBytes(MIN_PART), own);
    listed.push(await upload.part(number, body, own));
  }
  const done = await upload.complete(listed.sort((a, b) => a.partNumber - b.partNumber));
  if (done.status !== 200) throw new Error(done.text);
  const { headers, body: stored } = await s3(store, { method: 'GET', bucket, key });
  const [keys, realm, record] = await gateway.offline(async (control) => [
    await loadEnvelopeKeys(control),
    await loadRealm(control),
    await new BucketRecords({ store: control, clock: Date.now }).get(bucket),
  ]);

  const whole = Buffer.concat(parts.map(({ body }) => body));
  const segments = (length: number): number => Math.max(1, Math.ceil(length / 65_536));
  const ranges: { start: number; end: number; base64: string }[] = [];
  const pieces: { offset: number; base64: string }[] = [];
  const piece = (offset: number, end: number): void =>
    void pieces.push({ offset, base64: stored.subarray(offset, end).toString('base64') });
  const range = (start: number, end: number): void =>
    void ranges.push({ start, end, base64: whole.subarray(start, end + 1).toString('base64') });
  let plain = 0;
  let sealed = 0;
  for (const [i, { body }] of parts.entries()) {
    const last = segments(body.length) - 1;
    const end = sealed + 16 + 74 + body.length + 32 * segments(body.length);
    range(plain + 65_536 * last, plain + body.length - 1);
    // Once on into the next part: its prefix, header and first segment.
    piece(sealed + 16 + 74 + 65_568 * last, i === 6 ? end + 16 + 74 + 65_568 : end);
    if (i === 6) range(plain + body.length - 2, plain + body.length + 2);
    plain += body.length;
    sealed = end;
  }
  piece(sealed, stored.length);
  const kept = /^(?:x-amz-meta-.*|content-type)$/;
  const golden: Golden = {
    about: '20 parts, uploaded through the gateway in random order, some of them twice; sparse: ends of parts and tail',
    formatVersion: 1,
    key: secret.toString('hex'),
    envelopeKeys: { 1: keys.current().key.export().toString('hex') },
    place: {
      realmId: realm.id.toString('hex'),
      bucketId: Buffer.from(record?.bucketId ?? '', 'base64url').toString('hex'),
      bucketName: bucket,
      key,
    },
    headers: Object.fromEntries(Object.entries(headers).filter(([name]) => kept.test(name))) as Record<string, string>,
    size: stored.length,
    pieces,
    outcome: { opens: true, length: whole.length, ranges },
  };
  writeFileSync(file, `${JSON.stringify(golden, null, 1)}\n`);
} finally {
  await gateway.stop();
  await embedded.close();
  rmSync(directory, { recursive: true, force: true });
}
