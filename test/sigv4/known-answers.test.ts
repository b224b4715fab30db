import { describe, expect, it } from 'vitest';
import { payloadReader } from '../../src/sigv4/chunked.ts';
import { createSigner, type UnsignedRequest } from '../../src/sigv4/sign.ts';
import { signedFraming } from '../../src/sigv4/framing.ts';
import { alice, codeOf, EMPTY, NOW, raw, TIMESTAMP, verify } from './support.ts';

// AWS, "Authenticating Requests: Using the Authorization Header", "Using Query Parameters" and "Signature Calculations
// for the Authorization Header: Transferring Payload in Multiple Chunks": the examples with their published signatures.
const HOST = 'examplebucket.s3.amazonaws.com';
const SCOPE = 'AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request';

interface Example {
  readonly title: string;
  readonly method: string;
  readonly path: string;
  readonly query?: readonly (readonly [string, string])[];
  readonly headers: Readonly<Record<string, string>>;
  readonly payloadHash: string;
  readonly signature: string;
}

const EXAMPLES: readonly Example[] = [
  {
    title: 'GET object with a range',
    method: 'GET',
    path: '/test.txt',
    headers: { range: 'bytes=0-9' },
    payloadHash: EMPTY,
    signature: 'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
  },
  {
    title: 'PUT object',
    method: 'PUT',
    path: '/test%24file.text',
    headers: { date: 'Fri, 24 May 2013 00:00:00 GMT', 'x-amz-storage-class': 'REDUCED_REDUNDANCY' },
    payloadHash: '44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072',
    signature: '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd',
  },
  {
    title: 'GET bucket lifecycle (a parameter without a value)',
    method: 'GET',
    path: '/',
    query: [['lifecycle', '']],
    headers: {},
    payloadHash: EMPTY,
    signature: 'fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543',
  },
  {
    title: 'list objects (two parameters)',
    method: 'GET',
    path: '/',
    query: [
      ['prefix', 'J'],
      ['max-keys', '2'],
    ],
    headers: {},
    payloadHash: EMPTY,
    signature: '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7',
  },
];

const signer = createSigner({ region: 'us-east-1', service: 's3' });

describe("AWS's published examples", () => {
  it.each(EXAMPLES)('verifies and signs: $title', (example) => {
    const signedNames = [...Object.keys(example.headers), 'host', 'x-amz-content-sha256', 'x-amz-date'].sort();
    const query = (example.query ?? []).map(([name, value]) => (value === '' ? name : `${name}=${value}`)).join('&');
    const verified = verify({
      method: example.method,
      target: query === '' ? example.path : `${example.path}?${query}`,
      rawHeaders: raw({
        Host: HOST,
        ...example.headers,
        'X-Amz-Date': TIMESTAMP,
        'x-amz-content-sha256': example.payloadHash,
        Authorization: `AWS4-HMAC-SHA256 Credential=${SCOPE},SignedHeaders=${signedNames.join(';')},Signature=${example.signature}`,
      }),
    });
    expect(verified.identity.name).toBe('alice');
    expect(verified.payload).toEqual({ kind: 'sha256', digest: example.payloadHash });

    const request: UnsignedRequest = { ...example, host: HOST, credentials: alice, now: NOW };
    expect(signer.sign(request).headers['authorization']).toContain(`Signature=${example.signature}`);
  });

  it('verifies the presigned GET', () => {
    const verified = verify({
      method: 'GET',
      target:
        '/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request' +
        '&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host' +
        '&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404',
      rawHeaders: ['Host', HOST],
    });
    expect(verified).toMatchObject({ auth: 'presigned', payload: { kind: 'unsigned' } });
    expect(verified.request.query.size).toBe(0);
  });
});

const CHUNKS = [
  'ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648',
  '0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497',
  'b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9',
] as const;
const PAYLOAD = Buffer.alloc(66_560, 'a');

const CHUNKED_HEADERS = {
  'content-encoding': 'aws-chunked',
  'content-length': '66824',
  'x-amz-decoded-content-length': '66560',
  'x-amz-storage-class': 'REDUCED_REDUNDANCY',
};

function streamingHead(headers: Record<string, string>, literal: string, signature: string) {
  const all = { ...headers, host: 's3.amazonaws.com', 'x-amz-content-sha256': literal, 'x-amz-date': TIMESTAMP };
  const names = Object.keys(all).sort().join(';');
  const authorization = `AWS4-HMAC-SHA256 Credential=${SCOPE},SignedHeaders=${names},Signature=${signature}`;
  return { method: 'PUT', target: '/examplebucket/chunkObject.txt', rawHeaders: raw({ ...all, authorization }) };
}

function read(head: ReturnType<typeof streamingHead>, wire: Buffer) {
  const reader = payloadReader(verify(head));
  const out: Buffer[] = [];
  reader.push(wire, (part) => out.push(part));
  return { payload: Buffer.concat(out), trailers: reader.finish() };
}

describe("AWS's published chunked uploads", () => {
  const SEED = '4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9';
  const head = streamingHead(CHUNKED_HEADERS, 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD', SEED);
  const wire = Buffer.concat([
    Buffer.from(`10000;chunk-signature=${CHUNKS[0]}\r\n`),
    PAYLOAD.subarray(0, 65_536),
    Buffer.from(`\r\n400;chunk-signature=${CHUNKS[1]}\r\n`),
    PAYLOAD.subarray(65_536),
    Buffer.from(`\r\n0;chunk-signature=${CHUNKS[2]}\r\n\r\n`),
  ]);

  it('decodes the signed chunks', () => {
    expect(wire.length).toBe(66_824);
    expect(read(head, wire).payload.equals(PAYLOAD)).toBe(true);
  });

  it('frames the same bytes towards a store', () => {
    const framing = signedFraming(PAYLOAD.length);
    const signed = signer.sign({
      method: 'PUT',
      host: 's3.amazonaws.com',
      path: '/examplebucket/chunkObject.txt',
      headers: framing.headers({ 'x-amz-storage-class': 'REDUCED_REDUNDANCY' }),
      payloadHash: framing.payloadHash,
      credentials: alice,
      now: NOW,
    });
    expect(signed.seed.signature).toBe(SEED);
    const frames = framing.begin(signed.seed);
    expect(Buffer.concat([...frames.frame(PAYLOAD), ...frames.end()]).equals(wire)).toBe(true);
    expect(framing.wireLength).toBe(wire.length);
  });

  const TRAILER_SEED = '106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e';
  const trailerHead = streamingHead(
    {
      'content-encoding': 'aws-chunked',
      'x-amz-decoded-content-length': '66560',
      'x-amz-storage-class': 'REDUCED_REDUNDANCY',
      'x-amz-trailer': 'x-amz-checksum-crc32c',
    },
    'STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER',
    TRAILER_SEED,
  );
  const trailerWire = (newline: string, signature: string) =>
    Buffer.concat([
      Buffer.from('10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n'),
      PAYLOAD.subarray(0, 65_536),
      Buffer.from('\r\n400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n'),
      PAYLOAD.subarray(65_536),
      Buffer.from('\r\n0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n'),
      Buffer.from(`x-amz-checksum-crc32c:sOO8/Q==${newline}x-amz-trailer-signature:${signature}\r\n\r\n`),
    ]);
  const TRAILER_SIGNATURE = 'd81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435';

  it.each([
    ['CRLF', '\r\n'],
    ['LF CRLF, as in the example itself and from minio-go', '\n\r\n'],
  ])('decodes the signed trailer, ended by %s', (_, newline) => {
    const { payload, trailers } = read(trailerHead, trailerWire(newline, TRAILER_SIGNATURE));
    expect(payload.equals(PAYLOAD)).toBe(true);
    expect(trailers).toEqual({ 'x-amz-checksum-crc32c': 'sOO8/Q==' });
  });

  it('refuses the trailer under another signature', () => {
    const wrong = trailerWire('\r\n', TRAILER_SIGNATURE.replace('d', 'e'));
    expect(codeOf(() => read(trailerHead, wrong))).toBe('SignatureDoesNotMatch');
  });
});
