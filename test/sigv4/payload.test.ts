import { describe, expect, it } from 'vitest';
import { stripAwsChunked } from '../../src/sigv4/chunked.ts';
import { codeOf, draft, NOW, verifierOf, verify, type Draft } from './support.ts';

const HEX = '0123456789abcdef'.repeat(4);

describe('the payload mode', () => {
  const put = (payloadHash: string, headers: Draft['headers'] = {}) =>
    verify(draft({ method: 'PUT', payloadHash, headers }));
  const LENGTH = { 'x-amz-decoded-content-length': '5' };
  const TRAILER = { 'x-amz-trailer': 'x-amz-checksum-crc32' };

  it.each<[string, Draft['headers'], unknown]>([
    [HEX, {}, { kind: 'sha256', digest: HEX }],
    ['UNSIGNED-PAYLOAD', {}, { kind: 'unsigned' }],
    ['STREAMING-AWS4-HMAC-SHA256-PAYLOAD', LENGTH, { kind: 'signed-chunks', trailer: false }],
    ['STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER', { ...LENGTH, ...TRAILER }, { kind: 'signed-chunks', trailer: true }],
    ['STREAMING-UNSIGNED-PAYLOAD-TRAILER', { ...LENGTH, ...TRAILER }, { kind: 'unsigned-trailer' }],
  ])('%s', (literal, headers, mode) => {
    expect(put(literal, headers).payload).toEqual(mode);
  });

  it.each([
    ['STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD', 'NotImplemented'],
    ['STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER', 'NotImplemented'],
    ['STREAMING-AWS4-HMAC-SHA256-EVENTS', 'InvalidArgument'],
    ['unsigned-payload', 'InvalidArgument'],
    [HEX.toUpperCase(), 'InvalidArgument'],
    [HEX.slice(1), 'InvalidArgument'],
    ['', 'InvalidArgument'],
  ])('refuses %j', (literal, code) => {
    expect(codeOf(() => put(literal, LENGTH))).toBe(code);
  });

  const CHUNKED = 'STREAMING-UNSIGNED-PAYLOAD-TRAILER';
  it.each<[string, string, Draft['headers'], string]>([
    ['no decoded length', CHUNKED, TRAILER, 'MissingContentLength'],
    ['only Content-Length', CHUNKED, { ...TRAILER, 'content-length': '5' }, 'MissingContentLength'],
    [
      'a decoded length that is no number',
      CHUNKED,
      { ...TRAILER, 'x-amz-decoded-content-length': '0x5' },
      'InvalidArgument',
    ],
    ['a negative one', CHUNKED, { ...TRAILER, 'x-amz-decoded-content-length': '-5' }, 'InvalidArgument'],
    ['one of 16 digits', CHUNKED, { ...TRAILER, 'x-amz-decoded-content-length': '1'.repeat(16) }, 'InvalidArgument'],
    ['no x-amz-trailer', CHUNKED, LENGTH, 'InvalidRequest'],
    ['a trailer that is no checksum', CHUNKED, { ...LENGTH, 'x-amz-trailer': 'x-amz-meta-a' }, 'InvalidRequest'],
    [
      'two trailers',
      CHUNKED,
      { ...LENGTH, 'x-amz-trailer': 'x-amz-checksum-crc32,x-amz-checksum-sha1' },
      'InvalidRequest',
    ],
    ['a checksum in the headers too', CHUNKED, { ...LENGTH, ...TRAILER, 'x-amz-checksum-sha1': 'a' }, 'InvalidRequest'],
    [
      'a checksum algorithm in the headers',
      CHUNKED,
      { ...LENGTH, ...TRAILER, 'x-amz-sdk-checksum-algorithm': 'CRC32' },
      'accepted',
    ],
    [
      'a trailer named in another mode',
      'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
      { ...LENGTH, ...TRAILER },
      'InvalidRequest',
    ],
    ['a trailer named with a plain body', 'UNSIGNED-PAYLOAD', TRAILER, 'InvalidRequest'],
    ['a plain body without a length', 'UNSIGNED-PAYLOAD', { 'transfer-encoding': 'chunked' }, 'MissingContentLength'],
    ['a plain body with a bad length', 'UNSIGNED-PAYLOAD', { 'content-length': '5x' }, 'InvalidArgument'],
    ['no body', 'UNSIGNED-PAYLOAD', {}, 'accepted'],
  ])('%s', (_, literal, headers, code) => {
    expect(codeOf(() => put(literal, headers))).toBe(code);
  });

  it('counts the decoded bytes of a chunked body', () => {
    expect(put(CHUNKED, { ...LENGTH, ...TRAILER, 'content-length': '99' }).contentLength).toBe(5);
  });
});

describe('a collected body (admin plane)', () => {
  const admin = verifierOf({ services: ['s3', 'execute-api'] });
  const SCOPE = '20130524/us-east-1/execute-api/aws4_request';
  const body = Buffer.from('{}');
  const DIGEST = '44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a';
  const none = { 'x-amz-content-sha256': undefined };
  type Row = [string, Draft, 'header' | 'presigned', Buffer | undefined, string];

  it.each<Row>([
    ['the digest as header, s3', { payloadHash: DIGEST }, 'header', body, 'accepted'],
    [
      'the digest as header, another body',
      { payloadHash: DIGEST },
      'header',
      Buffer.from('[]'),
      'XAmzContentSHA256Mismatch',
    ],
    ['no header, s3', { payloadHash: DIGEST, headers: none }, 'header', body, 'InvalidRequest'],
    ['UNSIGNED-PAYLOAD', { payloadHash: 'UNSIGNED-PAYLOAD' }, 'header', body, 'InvalidRequest'],
    ['UNSIGNED-PAYLOAD, no body', { payloadHash: 'UNSIGNED-PAYLOAD' }, 'header', Buffer.alloc(0), 'InvalidRequest'],
    ['chunks', { payloadHash: 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD' }, 'header', body, 'InvalidRequest'],
    ['no header, execute-api', { scope: SCOPE, payloadHash: DIGEST, headers: none }, 'header', body, 'accepted'],
    [
      'no header, execute-api, another body',
      { scope: SCOPE, payloadHash: DIGEST, headers: none },
      'header',
      Buffer.from('[]'),
      'SignatureDoesNotMatch',
    ],
    [
      'no header, execute-api, no body given',
      { scope: SCOPE, payloadHash: DIGEST, headers: none },
      'header',
      undefined,
      'InvalidRequest',
    ],
    ['presigned, s3', {}, 'presigned', body, 'InvalidRequest'],
    [
      'presigned, s3, with the digest',
      { query: `X-Amz-Content-Sha256=${DIGEST}`, payloadHash: DIGEST },
      'presigned',
      body,
      'accepted',
    ],
    ['presigned, execute-api', { scope: SCOPE, payloadHash: DIGEST }, 'presigned', body, 'accepted'],
    [
      'presigned, execute-api, another body',
      { scope: SCOPE, payloadHash: DIGEST },
      'presigned',
      Buffer.from('[]'),
      'SignatureDoesNotMatch',
    ],
  ])('%s', (_, given, form, collected, code) => {
    const head = draft({ method: 'POST', ...given }, form);
    expect(codeOf(() => admin.verify(head, NOW, collected))).toBe(code);
  });

  it('is not a service of the data plane', () => {
    expect(codeOf(() => verify(draft({ scope: SCOPE })))).toBe('AuthorizationHeaderMalformed');
  });
});

it.each([
  [undefined, undefined],
  ['', undefined],
  ['aws-chunked', undefined],
  ['AWS-Chunked', undefined],
  ['aws-chunked,gzip', 'gzip'],
  ['gzip, aws-chunked', 'gzip'],
  ['gzip, br', 'gzip, br'],
  ['aws-chunked-not', 'aws-chunked-not'],
])('Content-Encoding %j is stored as %j', (given, stored) => {
  expect(stripAwsChunked(given)).toBe(stored);
});
