import { createSecretKey, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { loadEnvelopeKeys } from '../../src/control/envelope-keys.ts';
import { loadRealm } from '../../src/control/init.ts';
import { BucketRecords } from '../../src/control/buckets.ts';
import type { ObjectPlace } from '../../src/sse/context.ts';
import { openObjectKey, sealEnvelope, verifyEnvelope } from '../../src/sse/envelope.ts';
import { parseEnvelope } from '../../src/sse/envelope-form.ts';
import { ENVELOPE_HEADER, type MessageType } from '../../src/sse/format.ts';
import { deriveKek, newObjectKey } from '../../src/sse/key.ts';
import type { EnvelopeKeys } from '../../src/sse/mac.ts';
import { metadataDigest } from '../../src/sse/metadata.ts';
import { ObjectSealer } from '../../src/sse/object.ts';
import { MessageSealer } from '../../src/sse/seal.ts';
import { messageLength, sealedSize } from '../../src/sse/size.ts';
import { Attacker, expectRefused } from '../support/attacker.ts';
import { startGateway, type TestGateway } from '../support/gateway.ts';
import { customerKey } from '../support/modes.ts';
import { s3, type RawResponse } from '../support/s3-raw.ts';
import { startStoreProxy, type Lie, type StoreAnswer, type StoreProxy } from '../support/store-proxy.ts';

/** What a tenant forges does not depend on the store that keeps it: the first of the run is enough. */
const [store] = inject('stores');
if (store === undefined) throw new Error('the run has no store');

const bucket = `tamper-forged-${randomBytes(4).toString('hex')}`;
const attacker = new Attacker(store);
const CUSTOMER = randomBytes(32);
const OWN = customerKey(CUSTOMER);
const TYPE = { 'content-type': 'text/plain' };
let proxy: StoreProxy;
let gateway: TestGateway;
let realmId: Buffer;
let bucketId: Buffer;

beforeAll(async () => {
  proxy = await startStoreProxy(store);
  gateway = await startGateway({ store: proxy.store, tls: true });
  expect((await s3(gateway.raw, { method: 'PUT', bucket })).status).toBe(200);
  [realmId, bucketId] = await gateway.offline(async (control) => {
    const record = await new BucketRecords({ store: control, clock: Date.now }).get(bucket);
    return [(await loadRealm(control)).id, Buffer.from(record?.bucketId ?? '', 'base64url')];
  });
});
afterAll(async () => {
  await gateway.stop();
  await proxy.stop();
});

function place(key: string): ObjectPlace {
  return { realmId, bucketId, bucketName: bucket, key };
}

function get(key: string, headers: Readonly<Record<string, string>> = {}): Promise<RawResponse> {
  return s3(gateway.raw, { method: 'GET', bucket, key, headers });
}

/** An envelope key that the attacker made up, under the version that the gateway uses. */
const MADE_UP: EnvelopeKeys = (() => {
  const key = createSecretKey(randomBytes(32));
  return { current: () => ({ version: 1, key }), get: () => key };
})();

/** The envelope of an SSE-C object by an owner who knows his key, the object key, and all ids. */
function forge(key: string, plaintext: Buffer): { headers: Record<string, string>; body: Buffer } {
  const objectId = randomBytes(32);
  const objectKey = newObjectKey(randomBytes);
  const length = plaintext.length;
  const options = { objectKey, objectId, length, entropy: randomBytes, recovery: undefined };
  const sealer = new ObjectSealer({ ...options, envelopeKey: MADE_UP.current() });
  const body = Buffer.concat([...sealer.update(plaintext), ...sealer.finish()]);
  const value = sealEnvelope({
    ...{ type: 'single', mode: 'SSE-C', bucketKey: false, objectId, length, keyId: '', context: [] },
    metadataDigest: metadataDigest(TYPE),
    pin: { floeIv: sealer.floeIv, headerTag: sealer.headerTag },
    wrappedDataKey: Buffer.alloc(0),
    place: place(key),
    keys: MADE_UP,
    kek: deriveKek(createSecretKey(CUSTOMER), objectId, 'SSE-C'),
    objectKey,
    entropy: randomBytes,
  });
  return { headers: { ...TYPE, [ENVELOPE_HEADER]: value }, body };
}

describe('forged envelopes', () => {
  it('by an SSE-C owner who knows everything but the envelope key', async () => {
    await attacker.plant(bucket, 'forged', forge('forged', Buffer.from('never written through the gateway')));
    expectRefused(gateway, [
      ['GET', await get('forged', OWN)],
      ['range', await get('forged', { ...OWN, range: 'bytes=0-3' })],
      ['HEAD', await s3(gateway.raw, { method: 'HEAD', bucket, key: 'forged', headers: OWN })],
    ]);
  });

  it('of a key id that is a path: the KMS is asked nothing', async () => {
    const key = 'managed';
    const headers = { 'x-amz-server-side-encryption': 'aws:kms' };
    await s3(gateway.raw, { method: 'PUT', bucket, key, headers, body: randomBytes(100) });
    const loot = await attacker.take(bucket, key);
    const bytes = Buffer.from(loot.headers[ENVELOPE_HEADER] ?? '', 'base64url');
    const { fields } = parseEnvelope(bytes.toString('base64url'));
    const at = bytes.indexOf(Buffer.from([fields.keyId.length, ...Buffer.from(fields.keyId)]));
    const rest = bytes.subarray(at + 1 + fields.keyId.length);
    const before = gateway.auditRecords().filter(({ type }) => type === 'intent').length;
    for (const keyId of ['../../sys/seal', 's3', 'date', 'data/../s3', 'data\0', '', 'd'.repeat(64)]) {
      const value = Buffer.concat([bytes.subarray(0, at), Buffer.from([keyId.length]), Buffer.from(keyId), rest]);
      const forged = { ...loot.headers, [ENVELOPE_HEADER]: value.toString('base64url') };
      await attacker.plant(bucket, key, { headers: forged, body: loot.body });
      expectRefused(gateway, [[keyId, await get(key)]]);
    }
    // Every use of a key leaves an intent before it: there was none.
    expect(gateway.auditRecords().filter(({ type }) => type === 'intent')).toHaveLength(before);
  });

  it.each<MessageType>(['part', 'manifest'])(
    'of the right length and under the right object key, the message is one of type %s',
    async (type) => {
      // Who knows the object key can make any message but one that the envelope's header tag commits to.
      const key = `message-${type}`;
      const plaintext = randomBytes(500);
      await s3(gateway.raw, { method: 'PUT', bucket, key, headers: { ...TYPE, ...OWN }, body: plaintext });
      const { headers, body } = await attacker.take(bucket, key);
      const { fields } = parseEnvelope(headers[ENVELOPE_HEADER] ?? '');
      const keys = await gateway.offline(async (control) => {
        return loadEnvelopeKeys(control);
      });
      const envelope = verifyEnvelope(headers[ENVELOPE_HEADER] ?? '', place(key), keys);
      const { objectKey } = openObjectKey(envelope, deriveKek(createSecretKey(CUSTOMER), fields.objectId, 'SSE-C'));
      const about = { objectId: fields.objectId, length: 500 };
      const made = (kind: MessageType): Buffer => {
        const message = new MessageSealer(
          objectKey,
          { ...about, type: kind, partNumber: kind === 'part' ? 1 : 0 },
          (n) =>
            // The attacker takes the very IV of the real message.
            n === 32 ? Buffer.from(fields.pin?.floeIv ?? '') : randomBytes(n),
        );
        return Buffer.concat([...message.update(plaintext), ...message.finish(), body.subarray(messageLength(500))]);
      };
      await attacker.plant(bucket, key, { headers, body: made(type) });
      expectRefused(gateway, [['GET', await get(key, OWN)]]);
      expect(await get(key, { ...OWN, range: 'bytes=0-3' })).not.toMatchObject({ status: 206, complete: true });
      // The control: with the type that was sealed the owner's segments open, the residue that SECURITY.md names.
      await attacker.plant(bucket, key, { headers, body: made('single') });
      expect((await get(key, OWN)).body.equals(plaintext)).toBe(true);
    },
  );
});

describe('a store that lies about sizes and ranges', () => {
  const T = 150_000;
  const plaintext = randomBytes(T);
  beforeAll(async () => {
    for (const key of ['lied-about', 'other']) {
      const body = key === 'other' ? randomBytes(T) : plaintext;
      expect((await s3(gateway.raw, { method: 'PUT', bucket, key, body })).status).toBe(200);
    }
  });

  const total = (size: number): Lie =>
    said((answer) => {
      const range = String(answer.headers['content-range']).replace(/\/\d+$/, `/${size}`);
      return answer.status === 206
        ? { ...answer, headers: { ...answer.headers, 'content-range': range } }
        : {
            ...answer,
            headers: { ...answer.headers, 'content-length': String(size) },
            body: answer.body.subarray(0, size),
          };
    });

  function said(change: (answer: StoreAnswer) => StoreAnswer): Lie {
    return ({ target }, answer) => (target.includes('/lied-about') && answer.status < 300 ? change(answer) : answer);
  }

  const reads = (): Promise<[string, RawResponse][]> =>
    Promise.all(
      (
        [
          ['whole', 'GET', {}],
          ['range', 'GET', { range: 'bytes=70000-70009' }],
          ['suffix', 'GET', { range: 'bytes=-10' }],
          ['HEAD', 'HEAD', {}],
        ] as const
      ).map(async ([title, method, headers]): Promise<[string, RawResponse]> => {
        return [title, await s3(gateway.raw, { method, bucket, key: 'lied-about', headers })];
      }),
    );

  it.each([
    ['of one segment', sealedSize(65_536)],
    ['of one byte less', sealedSize(T - 1)],
    ['of one byte more', sealedSize(T + 1)],
    ['of nothing', 0],
    ['that no object has', sealedSize(T) - 7],
  ])('a size %s', async (_title, size) => {
    const answers = await proxy.lying(total(size), reads);
    expectRefused(gateway, answers);
  });

  it.each<[string, readonly string[], (answer: StoreAnswer) => StoreAnswer]>([
    ['sizes left out', ALL, (a) => ({ ...a, headers: omit(a.headers, ['content-length', 'content-range']) })],
    ['a Content-Range that is none', ['range', 'suffix', 'HEAD'], (a) => claimed(a, 'content-range', 'bytes */x')],
    ['other bytes than were asked for', ['whole', 'range', 'suffix'], (a) => ({ ...a, body: turned(a.body) })],
    ['fewer bytes than it declares', ['whole', 'range', 'suffix'], (a) => ({ ...a, body: a.body.subarray(0, -1) })],
  ])('%s', async (_title, refused, change) => {
    const answers = await proxy.lying(said(change), reads);
    for (const [title, { complete, status, body }] of answers) {
      const told = status < 300 && complete;
      expect(`${title} ${told}`).toBe(`${title} ${!refused.includes(title)}`);
      if (told && title === 'whole') expect(body.equals(plaintext)).toBe(true);
    }
  });

  it('the whole object in place of a range, and a range in place of the whole', async () => {
    const whole = await proxy.lying(
      said((answer) => ({ ...answer, status: 200, headers: omit(answer.headers, ['content-range']) })),
      reads,
    );
    for (const [title, { status }] of whole.filter(([name]) => name === 'range' || name === 'suffix')) {
      expect(`${title} ${status}`).toBe(`${title} 500`);
    }
    const partly = await proxy.lying(
      said((answer) => ({ ...answer, status: 206 })),
      () => get('lied-about'),
    );
    expect(partly.status).toBe(500);
  });

  it("another object's answer", async () => {
    const other = await s3(store, { method: 'GET', bucket, key: 'other' });
    const answers = await proxy.lying(
      said((answer) => ({ ...answer, headers: other.headers, status: 200, body: other.body })),
      () => get('lied-about'),
    );
    expectRefused(gateway, [['GET', answers]]);
  });

  it('it says the truth again: everything is there', async () => {
    expect((await get('lied-about')).body.equals(plaintext)).toBe(true);
    expect((await get('other')).body).toHaveLength(T);
  });
});

const ALL = ['whole', 'range', 'suffix', 'HEAD'];

function claimed(answer: StoreAnswer, name: string, value: string): StoreAnswer {
  return { ...answer, headers: { ...answer.headers, [name]: value } };
}

function turned(body: Buffer): Buffer {
  return Buffer.from(body).reverse();
}

function omit(headers: StoreAnswer['headers'], names: readonly string[]): StoreAnswer['headers'] {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !names.includes(name)));
}
