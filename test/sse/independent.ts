import { gcm } from '@noble/ciphers/aes.js';
import { createHash, createHmac, hkdfSync } from 'node:crypto';
import { storedBytes, type Golden } from './golden.ts';

/**
 * A second reader, written from docs/FORMAT.md alone: no line of src/sse, another AES-GCM (@noble/ciphers) and Node's
 * HKDF. It opens ranges of golden objects; that both readers agree says that the document is enough.
 */
export const L = (text: string): Buffer => Buffer.from(`express-s3-sse/1/${text}`);
export const be = (value: number, width: number): Buffer => {
  const out = Buffer.alloc(8);
  out.writeBigUInt64BE(BigInt(value));
  return out.subarray(8 - width);
};
export const lp = (field: Buffer): Buffer => Buffer.concat([be(field.length, 4), field]);
export const hmac = (hash: string, key: Buffer, ...data: Buffer[]): Buffer =>
  createHmac(hash, key).update(Buffer.concat(data)).digest();
const expand = (prk: Buffer, info: Buffer, n: number): Buffer =>
  hmac('sha384', prk, info, Buffer.from([1])).subarray(0, n);
export const sha256 = (...data: Buffer[]): Buffer => createHash('sha256').update(Buffer.concat(data)).digest();
export const open = (key: Buffer, iv: Buffer, aad: Buffer, sealed: Buffer): Buffer =>
  Buffer.from(gcm(key, iv, aad).decrypt(sealed));

export function need(condition: boolean, what: string): void {
  if (!condition) throw new Error(`FORMAT.md: ${what}`);
}

interface Message {
  readonly length: number;
  readonly offset: number;
  readonly iv: Buffer;
  readonly tag: Buffer;
  readonly aad: Buffer;
  readonly key: Buffer;
}

const PARAMS = Buffer.from('00000001002000000020', 'hex');

function segment(golden: Golden, message: Message, index: number): Buffer {
  const kdf = (key: Buffer, purpose: Buffer, n: number): Buffer =>
    expand(key, Buffer.concat([PARAMS, message.iv, purpose, message.aad]), n);
  need(kdf(message.key, Buffer.from('HEADER_TAG:'), 32).equals(message.tag), 'header tag');
  const messageKey = kdf(message.key, Buffer.from('MESSAGE_KEY:'), 48);
  const dek = kdf(messageKey, Buffer.concat([Buffer.from('DEK:'), be(index - (index % 2 ** 20), 8)]), 32);
  const last = Math.max(1, Math.ceil(message.length / 65536)) - 1;
  const length = index === last ? message.length - index * 65536 : 65536;
  const at = message.offset + 74 + index * 65568;
  const sealed = storedBytes(golden, at, at + length + 32);
  need(sealed.readUInt32BE(0) === (index === last ? length + 32 : 0xffffffff), 'segment length');
  const aad = Buffer.concat([be(index, 8), Buffer.from([index === last ? 1 : 0])]);
  return open(dek, sealed.subarray(4, 16), aad, sealed.subarray(16));
}

function plain(golden: Golden, message: Message, start: number, end: number): Buffer {
  const first = Math.floor(start / 65536);
  const out: Buffer[] = [];
  for (let index = first; index * 65536 <= end; index += 1) out.push(segment(golden, message, index));
  return Buffer.concat(out).subarray(start - first * 65536, end + 1 - first * 65536);
}

function messageAad(type: number, objectId: Buffer, part: number, length: number): Buffer {
  return Buffer.concat([Buffer.from([1, type]), objectId, be(part, 2), be(length, 8)]);
}

const messageLength = (length: number): number => 74 + length + 32 * Math.max(1, Math.ceil(length / 65536));

/** Opens one range of a golden object. */
export function openByDocument(golden: Golden, start: number, end: number): Buffer {
  const e = Buffer.from(golden.headers['x-amz-meta-express-s3-sse'] ?? '', 'base64url');
  let at = 0;
  const take = (n: number): Buffer => e.subarray(at, (at += n));
  const [version, type = 0, mode = 0, flags = 0] = take(4);
  need(version === 1, 'version');
  const keyVersion = take(4).readUInt32BE(0);
  const objectId = take(32);
  const T = take(8);
  const metadata = take(32);
  const iv = take(type === 0 ? 32 : 0);
  const tag = take(type === 0 ? 32 : 0);
  const keyId = take(take(1).readUInt8(0));
  const pairsAt = at;
  const pairs: [Buffer, Buffer][] = [];
  for (let left = take(1).readUInt8(0); left > 0; left -= 1) {
    pairs.push([take(take(2).readUInt16BE(0)), take(take(2).readUInt16BE(0))]);
  }
  const storedPairs = e.subarray(pairsAt, at);
  const wrappedDataKey = take(take(2).readUInt16BE(0));
  const wrappedObjectKey = take(take(2).readUInt16BE(0));
  const envelopeTag = take(32);

  const { bucketName, key: keyName } = golden.place;
  const bucketId = Buffer.from(golden.place.bucketId, 'hex');
  const arn = `arn:aws:s3:::${bucketName}${(flags & 1) === 1 ? '' : `/${keyName}`}`;
  const context = [
    ...pairs,
    [Buffer.from('aws:s3:arn'), Buffer.from(arn)],
    [Buffer.from('express-s3-sse:bucket-id'), Buffer.from(bucketId.toString('base64url'))],
  ] as [Buffer, Buffer][];
  context.sort((a, b) => Buffer.compare(a[0], b[0]));
  const digest = sha256(lp(L('context')), be(context.length, 4), ...context.flat().map(lp));
  const name = Buffer.from(keyName);
  const t = Buffer.concat([
    Buffer.from([1, type, mode, flags]),
    Buffer.from(golden.place.realmId, 'hex'),
    bucketId,
    be(name.length, 2),
    name,
    objectId,
    T,
    be(keyId.length, 2),
    keyId,
    digest,
    metadata,
    iv,
    tag,
  ]);
  const mac = (v: number, label: string, ...fields: Buffer[]): Buffer =>
    hmac('sha256', Buffer.from(golden.envelopeKeys[v] ?? '', 'hex'), lp(L(label)), ...fields.map(lp));
  const expected = mac(keyVersion, 'envelope', be(keyVersion, 4), t, storedPairs, wrappedDataKey, wrappedObjectKey);
  need(expected.equals(envelopeTag), 'envelope tag');

  const covered =
    /^(cache-control|content-(disposition|encoding|language|type)|expires|x-amz-website-redirect-location)$/;
  const fields = Object.entries(golden.headers)
    .filter(([h]) => covered.test(h) || (h.startsWith('x-amz-meta-') && h !== 'x-amz-meta-express-s3-sse'))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flat()
    .map((text) => Buffer.from(text, 'latin1'));
  need(sha256(lp(L('metadata')), be(fields.length / 2, 4), ...fields.map(lp)).equals(metadata), 'metadata digest');

  const info = Buffer.concat([L('kek'), Buffer.from([mode])]);
  const kek = Buffer.from(hkdfSync('sha384', Buffer.from(golden.key, 'hex'), objectId, info, 32));
  const unwrapped = open(kek, wrappedObjectKey.subarray(0, 12), t, wrappedObjectKey.subarray(12));
  const objectKey = unwrapped.subarray(0, 32);
  if (type === 0) {
    const length = Number(T.readBigUInt64BE(0));
    const aad = messageAad(0, objectId, 0, length);
    return plain(golden, { length, offset: 0, iv, tag, aad, key: objectKey }, start, end);
  }

  const footer = storedBytes(golden, golden.size - 64, golden.size);
  const footerMac = mac(footer.readUInt32BE(24), 'footer', footer.subarray(0, 32), objectId, be(golden.size, 8));
  need(footerMac.equals(footer.subarray(32)), 'footer');
  const parts = footer.readUInt32BE(12);
  const manifestLength = 120 + 152 * parts;
  const offset = golden.size - 576 - messageLength(manifestLength);
  const header = storedBytes(golden, offset, offset + 74);
  const manifest = plain(
    golden,
    {
      length: manifestLength,
      offset,
      iv: header.subarray(10, 42),
      tag: header.subarray(42),
      aad: messageAad(2, objectId, 0, manifestLength),
      key: expand(objectKey, L('manifest'), 32),
    },
    0,
    manifestLength - 1,
  );
  const out: Buffer[] = [];
  let plainAt = 0;
  let sealedAt = 0;
  for (let index = 0; index < parts; index += 1) {
    const entry = manifest.subarray(120 + 152 * index, 120 + 152 * (index + 1));
    const length = Number(entry.readBigUInt64BE(8));
    const from = Math.max(0, start - plainAt);
    const to = Math.min(length - 1, end - plainAt);
    const aad = messageAad(1, objectId, entry.readUInt16BE(0), length);
    const message = { length, offset: sealedAt + 16, iv: entry.subarray(16, 48), tag: entry.subarray(48, 80), aad };
    if (from <= to) out.push(plain(golden, { ...message, key: objectKey }, from, to));
    plainAt += length;
    sealedAt += 16 + messageLength(length);
  }
  return Buffer.concat(out);
}
