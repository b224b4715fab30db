import { Sha256 } from '@aws-crypto/sha256-js';
import { SignatureV4 } from '@smithy/signature-v4';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { payloadReader } from '../../src/sigv4/chunked.ts';
import { encodeKey, encodeQuery } from '../../src/sigv4/encode.ts';
import { createSigner } from '../../src/sigv4/sign.ts';
import {
  ACCESS_KEY_ID,
  alice,
  codeOf,
  EMPTY,
  NOW,
  raw,
  SCOPE,
  SECRET,
  TIMESTAMP,
  verifierOf,
  verify,
} from './support.ts';

// The SDK's own signer, as an implementation that shares nothing with ours.
const oracleOf = (service: string) =>
  new SignatureV4({
    service,
    region: 'us-east-1',
    credentials: { accessKeyId: ACCESS_KEY_ID, secretAccessKey: SECRET },
    sha256: Sha256,
    // S3: the path is neither encoded a second time nor normalised.
    uriEscapePath: service !== 's3',
    applyChecksum: true,
  });
const oracle = oracleOf('s3');
const HOST = 'localhost:9000';

const segment = fc.oneof(
  fc.constantFrom('..', '.', '', '%2F', '%', '+', ' ', '~', "!'()*", 'é', '日本', '😀', 'a&b=c', '#?', '\u0000', '\t'),
  fc.string({ unit: 'grapheme', maxLength: 8 }),
);
const key = fc.array(segment, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('/'));
const text = fc.oneof(segment, fc.string({ unit: 'binary', maxLength: 12 }));
/** Not the names that the presigned form gives a meaning to. */
const parameter = text.filter((name) => name !== '' && name !== '__proto__' && !/^x-amz-/i.test(name));
const query = fc.dictionary(parameter, text, { maxKeys: 4, noNullPrototype: true });
/** Visible ASCII and blanks; the SDK's signer takes U+00A0 for a blank, which is why there is a test of its own for bytes. */
const value = fc
  .string({
    unit: fc.constantFrom(' ', '\t', 'a', ',', ';', ':', '=', '"', '/', '%', '+', '~', '!', '('),
    maxLength: 12,
  })
  .map((v) => v.replace(/^[ \t]+|[ \t]+$/g, ''));
const name = fc.constantFrom(
  'x-amz-meta-a',
  'x-amz-meta-b-c',
  'x-amz-acl',
  'content-type',
  'content-md5',
  'range',
  'if-match',
);
const headers = fc.dictionary(name, value, { maxKeys: 4, noNullPrototype: true });
const method = fc.constantFrom('GET', 'PUT', 'HEAD', 'POST', 'DELETE');
const request = fc.record({ key, query, headers, method });

/** Encoded by hand, to be independent of `encodeQuery`: another order, another spelling, the same meaning. */
function onTheWire(pairs: Record<string, string>): string {
  return Object.entries(pairs)
    .reverse()
    .map(([n, v]) => `${encodeURIComponent(n)}=${encodeURIComponent(v).replaceAll('%20', '+')}`)
    .join('&');
}

const targetOf = (path: string, text: string): string => (text === '' ? path : `${path}?${text}`);

describe('against @smithy/signature-v4', () => {
  it('verifies what it signs, and gives back the same key, query and headers', async () => {
    const property = fc.asyncProperty(request, async (given) => {
      const path = `/bucket/${encodeKey(given.key)}`;
      const all = { ...given.headers, host: HOST, 'x-amz-content-sha256': EMPTY };
      const signed = await oracle.sign(
        { ...given, protocol: 'http:', hostname: HOST, path, headers: all },
        { signingDate: NOW },
      );
      const verified = verify({
        method: given.method,
        target: targetOf(path, onTheWire(given.query)),
        rawHeaders: raw(signed.headers),
      });
      expect(decodeURIComponent(verified.request.path)).toBe(`/bucket/${given.key}`);
      expect(Object.fromEntries(verified.request.query)).toEqual(given.query);
      for (const [n, v] of Object.entries(given.headers)) expect(verified.request.headers[n]).toBe(v);
    });
    await fc.assert(property, { numRuns: 100 });
  });

  it('signs like it, and accepts itself', async () => {
    const signer = createSigner({ region: 'us-east-1', service: 's3' });
    const property = fc.asyncProperty(request, async (given) => {
      const path = `/bucket/${encodeKey(given.key)}`;
      const ours = signer.sign({
        method: given.method,
        host: HOST,
        path,
        query: Object.entries(given.query),
        headers: given.headers,
        payloadHash: 'UNSIGNED-PAYLOAD',
        credentials: alice,
        now: NOW,
      });
      const all = { ...given.headers, host: HOST, 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' };
      const theirs = await oracle.sign(
        { ...given, protocol: 'http:', hostname: HOST, path, headers: all },
        { signingDate: NOW },
      );
      expect(ours.headers).toEqual(theirs.headers);
      const head = { method: given.method, target: ours.target, rawHeaders: raw(ours.headers) };
      expect(codeOf(() => verify(head))).toBe('accepted');
    });
    await fc.assert(property, { numRuns: 100 });
  });

  it('verifies what it presigns, moved headers included', async () => {
    // The generic presigner hashes the empty body; S3's names UNSIGNED-PAYLOAD, which it takes from the header.
    const withLiteral = fc.asyncProperty(request, async (given) => {
      const path = `/bucket/${encodeKey(given.key)}`;
      const all = { ...given.headers, host: HOST, 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' };
      const signed = await oracle.presign(
        { ...given, protocol: 'http:', hostname: HOST, path, headers: all },
        { signingDate: NOW, expiresIn: 60 },
      );
      const verified = verify({
        method: given.method,
        target: targetOf(path, onTheWire(signed.query as Record<string, string>)),
        rawHeaders: raw(signed.headers),
      });
      expect(verified.auth).toBe('presigned');
      expect(Object.fromEntries(verified.request.query)).toEqual(given.query);
      const amz = Object.entries(given.headers).filter(([n]) => n.startsWith('x-amz-'));
      for (const [n, v] of amz) expect(verified.request.headers[n]).toBe(v);
    });
    await fc.assert(withLiteral, { numRuns: 100 });
  });

  it('verifies a collected body that it signs for execute-api, with its path encoded twice', async () => {
    const admin = verifierOf({ services: ['execute-api'] });
    const path = '/kms/keys/arn%3Aaws%3Akms/a:b@c';
    const body = '{"a":1}';
    const signed = await oracleOf('execute-api').sign(
      { method: 'POST', protocol: 'http:', hostname: HOST, path, query: {}, headers: { host: HOST }, body },
      { signingDate: NOW, unsignableHeaders: new Set(['x-amz-content-sha256']) },
    );
    const sent = { ...signed.headers };
    delete sent['x-amz-content-sha256'];
    const head = { method: 'POST', target: path, rawHeaders: raw(sent) };
    expect(codeOf(() => admin.verify(head, NOW, Buffer.from(body)))).toBe('accepted');
    expect(codeOf(() => admin.verify(head, NOW, Buffer.from(`${body} `)))).toBe('SignatureDoesNotMatch');
  });

  it('reads chunks whose signatures it made, over any seed', async () => {
    const property = fc.asyncProperty(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 50 }), { maxLength: 3 }),
      async (parts) => {
        const chunks = [...parts.map((part) => Buffer.from(part)), Buffer.alloc(0)];
        const payload = Buffer.concat(chunks);
        const all = {
          host: HOST,
          'x-amz-content-sha256': 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
          'x-amz-decoded-content-length': String(payload.length),
        };
        const signed = await oracle.sign(
          { method: 'PUT', protocol: 'http:', hostname: HOST, path: '/b/k', query: {}, headers: all },
          { signingDate: NOW },
        );
        let previous = /Signature=([0-9a-f]{64})/.exec(signed.headers['authorization'] ?? '')?.[1] ?? '';
        const reader = payloadReader(verify({ method: 'PUT', target: '/b/k', rawHeaders: raw(signed.headers) }));
        const out: Buffer[] = [];
        for (const chunk of chunks) {
          const sha = new Sha256();
          sha.update(chunk);
          const digest = Buffer.from(await sha.digest()).toString('hex');
          const text = `AWS4-HMAC-SHA256-PAYLOAD\n${TIMESTAMP}\n${SCOPE}\n${previous}\n${EMPTY}\n${digest}`;
          previous = await oracle.sign(text, { signingDate: NOW });
          const wire = [
            Buffer.from(`${chunk.length.toString(16)};chunk-signature=${previous}\r\n`),
            chunk,
            Buffer.from('\r\n'),
          ];
          reader.push(Buffer.concat(wire), (part) => out.push(part));
        }
        reader.finish();
        expect(Buffer.concat(out).equals(payload)).toBe(true);
      },
    );
    await fc.assert(property, { numRuns: 40 });
  });
});

describe('anything at all', () => {
  const word = fc.oneof(
    fc.constantFrom('/', '?', '&', '=', '%', '%2', '%41', '+', '..', 'X-Amz-Signature=', 'X-Amz-Credential=', 'a'),
    fc.string({ unit: 'binary', maxLength: 6 }),
  );
  const line = fc.array(word, { maxLength: 8 }).map((words) => words.join(''));
  const field = fc.constantFrom('host', 'authorization', 'x-amz-date', 'date', 'x-amz-content-sha256', 'x-amz-trailer');
  const authorization = fc
    .array(
      fc.constantFrom(
        'AWS4-HMAC-SHA256 ',
        'Credential=',
        `${ACCESS_KEY_ID}/${SCOPE}`,
        ',',
        ';',
        'SignedHeaders=',
        'host',
        'Signature=',
        EMPTY,
      ),
      { maxLength: 12 },
    )
    .map((pieces) => pieces.join(''));

  it('is answered by a ServiceError, and never accepted', () => {
    const head = fc.record({
      method: fc.oneof(method, line),
      target: fc.oneof(
        line,
        line.map((l) => `/${l}`),
      ),
      rawHeaders: fc
        .array(fc.tuple(fc.oneof(field, line), fc.oneof(line, authorization, fc.constant(TIMESTAMP))), { maxLength: 6 })
        .map((pairs) => ['host', HOST, ...pairs.flat()]),
    });
    fc.assert(
      fc.property(head, (given) => codeOf(() => verify(given)) !== 'accepted'),
      { numRuns: 1000 },
    );
  });

  it('is refused after any single change of a signed head', () => {
    const signer = createSigner({ region: 'us-east-1', service: 's3' });
    const signed = signer.sign({
      method: 'PUT',
      host: HOST,
      path: '/bucket/key',
      query: [['uploadId', 'abc']],
      headers: { 'x-amz-meta-a': 'b' },
      payloadHash: EMPTY,
      credentials: alice,
      now: NOW,
    });
    const rawHeaders = raw(signed.headers);
    const whole = ['PUT', signed.target, ...rawHeaders];
    fc.assert(
      fc.property(fc.nat(), fc.nat(), fc.integer({ min: 1, max: 255 }), (field, at, change) => {
        const parts = [...whole];
        const index = field % parts.length;
        const part = parts[index] ?? '';
        const place = at % part.length;
        const code = part.charCodeAt(place) ^ change;
        parts[index] = part.slice(0, place) + String.fromCharCode(code) + part.slice(place + 1);
        const [changedMethod = '', target = '', ...headers] = parts;
        // Header names have no case, and blanks around a field of Authorization no meaning.
        fc.pre(parts.join('\n').toLowerCase() !== whole.join('\n').toLowerCase());
        expect(codeOf(() => verify({ method: changedMethod, target, rawHeaders: headers }))).not.toBe('accepted');
      }),
      { numRuns: 1000 },
    );
  });
});

describe('encoding', () => {
  it.each([
    ["a b!'()*+é/..//", 'a%20b%21%27%28%29%2A%2B%C3%A9/..//'],
    ['/', '/'],
    ['', ''],
    ['~-_.', '~-_.'],
    ['%2F', '%252F'],
  ])('key %j becomes %j', (given, encoded) => {
    expect(encodeKey(given)).toBe(encoded);
    expect(decodeURIComponent(encoded)).toBe(given);
  });

  it('has no form for a lone surrogate', () => {
    expect(codeOf(() => encodeKey('a\ud800'))).toBe('InvalidURI');
  });

  it('sorts a query by encoded name, then value', () => {
    const pairs = [
      ['b', '2'],
      ['a', '2'],
      ['é', ''],
      ['Z', ''],
      ['a', '1'],
      ['a-b', ''],
    ] as const;
    expect(encodeQuery(pairs)).toBe('%C3%A9=&Z=&a=1&a=2&a-b=&b=2');
  });
});
