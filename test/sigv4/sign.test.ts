import { crc32 } from '@node-rs/crc32';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { payloadReader } from '../../src/sigv4/chunked.ts';
import { plainFraming, signedFraming, trailerFraming, type BodyFraming } from '../../src/sigv4/framing.ts';
import { createSigner, type UnsignedRequest } from '../../src/sigv4/sign.ts';
import { alice, codeOf, EMPTY, NOW, raw, verify } from './support.ts';

const signer = createSigner({ region: 'us-east-1', service: 's3' });
const base: UnsignedRequest = {
  method: 'PUT',
  host: 'store:9000',
  path: '/bucket/key',
  headers: {},
  payloadHash: EMPTY,
  credentials: alice,
  now: NOW,
};
const signedNames = (request: UnsignedRequest): string =>
  /SignedHeaders=([^,]*)/.exec(signer.sign(request).headers['authorization'] ?? '')?.[1] ?? '';

describe('signing towards a store', () => {
  it('signs every header but those that intermediaries rewrite', () => {
    const headers = {
      'accept-encoding': 'identity',
      connection: 'keep-alive',
      'content-type': 'a/b',
      expect: '100-continue',
      'if-match': '"a"',
      te: 'trailers',
      'transfer-encoding': 'chunked',
      'user-agent': 'x',
      'x-amz-meta-a': 'b',
    };
    expect(signedNames({ ...base, headers })).toBe(
      'content-type;host;if-match;x-amz-content-sha256;x-amz-date;x-amz-meta-a',
    );
    expect(signer.sign({ ...base, headers }).headers).toMatchObject(headers);
  });

  it("sends the store credentials' own session token, signed", () => {
    const credentials = { ...alice, sessionToken: 'token' };
    expect(signer.sign({ ...base, credentials }).headers['x-amz-security-token']).toBe('token');
    expect(signedNames({ ...base, credentials })).toContain('x-amz-security-token');
  });

  it.each(['a\r\nx-amz-acl: public-read', 'a\u0000', '\u0100'])('refuses the header value %j', (value) => {
    expect(codeOf(() => signer.sign({ ...base, headers: { 'x-amz-meta-a': value } }))).toBe('InternalError');
  });

  it('sends the query as it was signed', () => {
    const query = [
      ['prefix', "a b/'é"],
      ['list-type', '2'],
    ] as const;
    expect(signer.sign({ ...base, query }).target).toBe('/bucket/key?list-type=2&prefix=a%20b%2F%27%C3%A9');
  });

  it('never shows the secret', () => {
    const text = JSON.stringify(signer.sign(base));
    expect(text).not.toContain('wJalrXUtnFEMI');
  });
});

type Framing = (length: number, chunkSize?: number) => BodyFraming;
const FRAMINGS: readonly [name: string, framing: Framing][] = [
  ['plain', (length) => plainFraming(length)],
  ['trailer', trailerFraming],
  ['signed', signedFraming],
];

function send(framing: BodyFraming, parts: readonly Buffer[]) {
  const headers = framing.headers({ 'content-encoding': 'gzip' });
  const signed = signer.sign({ ...base, headers, payloadHash: framing.payloadHash });
  const frames = framing.begin(signed.seed);
  const wire = [...parts.flatMap((part) => frames.frame(part)), ...frames.end()];
  const head = { method: 'PUT', target: signed.target, rawHeaders: raw(signed.headers) };
  return { wire: Buffer.concat(wire), head, headers };
}

describe.each(FRAMINGS)('%s framing', (name, framing) => {
  it('is what our own reader takes, of exactly the length it foretold, however the body is cut', () => {
    const parts = fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 6 });
    fc.assert(
      fc.property(parts, fc.integer({ min: 1, max: 70 }), (chunks, chunkSize) => {
        const given = chunks.map((chunk) => Buffer.from(chunk));
        const payload = Buffer.concat(given);
        const body = framing(payload.length, chunkSize);
        const { wire, head, headers } = send(body, given);
        expect(wire.length).toBe(body.wireLength);
        expect(headers['content-length']).toBe(String(wire.length));
        const reader = payloadReader(verify(head));
        const out: Buffer[] = [];
        reader.push(wire, (part) => out.push(part));
        const trailers = reader.finish();
        expect(Buffer.concat(out).equals(payload)).toBe(true);
        if (name === 'trailer') {
          const crc = Buffer.alloc(4);
          crc.writeUInt32BE(crc32(payload));
          expect(trailers).toEqual({ 'x-amz-checksum-crc32': crc.toString('base64') });
        }
      }),
    );
  });

  it.each([
    ['short', Buffer.alloc(9)],
    ['long', Buffer.alloc(11)],
  ])('refuses a body that is too %s', (_, body) => {
    expect(codeOf(() => send(framing(10), [body]))).toBe('InternalError');
  });

  it('gives no wire byte for a payload beyond the declared length', () => {
    const frames = framing(10).begin(signer.sign(base).seed);
    frames.frame(Buffer.alloc(10));
    expect(codeOf(() => frames.frame(Buffer.alloc(1)))).toBe('InternalError');
  });

  it('passes the buffers on without a copy', () => {
    const body = Buffer.alloc(1000, 'a');
    const frames = framing(1000).begin(signer.sign(base).seed);
    expect(frames.frame(body)).toContain(body);
  });

  it("puts aws-chunked before the object's own coding, where it frames", () => {
    const expected = name === 'plain' ? 'gzip' : 'aws-chunked,gzip';
    expect(framing(1).headers({ 'content-encoding': 'gzip' })['content-encoding']).toBe(expected);
    expect(framing(1).headers({})['content-encoding']).toBe(name === 'plain' ? undefined : 'aws-chunked');
  });
});

it.each([
  [0, 0],
  [1, 1],
  [65_535, 1],
  [65_536, 1],
  [65_537, 2],
  [131_072, 2],
])('signed framing of %i bytes has %i chunks of data', (length, count) => {
  const text = send(signedFraming(length), [Buffer.alloc(length)]).wire.toString('latin1');
  expect(text.match(/chunk-signature/g)?.length).toBe(count + 1);
});
