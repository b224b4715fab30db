import { describe, expect, it } from 'vitest';
import { requestHeadersFor, responseHeadersFor } from '../../src/s3/headers.ts';
import { OPERATION_ROWS, type OperationRow } from '../../src/s3/rows.ts';
import { codeOf } from './errors.ts';

const ENVELOPE = 'x-amz-meta-express-s3-sse';

function row(name: string): OperationRow {
  const found = OPERATION_ROWS.find((candidate) => candidate.name === name);
  if (found === undefined) throw new Error(`no row ${name}`);
  return found;
}

const ask = (name: string, headers: Record<string, string>) => requestHeadersFor(row(name), headers, ENVELOPE);
const answer = (name: string, headers: Record<string, string>) => responseHeadersFor(row(name), headers, ENVELOPE);
const SERVED = OPERATION_ROWS.filter(({ mode }) => mode !== 'refused');

/** What must never leave for the store, whatever the operation. */
const NEVER_SENT = [
  'x-amz-server-side-encryption',
  'x-amz-server-side-encryption-aws-kms-key-id',
  'x-amz-server-side-encryption-context',
  'x-amz-server-side-encryption-bucket-key-enabled',
  'x-amz-server-side-encryption-customer-algorithm',
  'x-amz-server-side-encryption-customer-key',
  'x-amz-server-side-encryption-customer-key-md5',
  'x-amz-copy-source-server-side-encryption-customer-key',
  'x-amz-copy-source',
  'x-amz-security-token',
  'x-amz-sdk-checksum-algorithm',
  'x-amz-checksum-algorithm',
  'x-amz-checksum-crc32',
  'x-amz-checksum-sha256',
  'x-amz-checksum-mode',
  'x-amz-content-sha256',
  'x-amz-decoded-content-length',
  'x-amz-trailer',
  'x-amz-date',
  'x-amz-source-version-id',
  'x-minio-source-mtime',
  'x-minio-extract',
  'x-minio-replication-request',
  'authorization',
  'content-md5',
  'content-length',
  'transfer-encoding',
  'accept-encoding',
  'cookie',
  'expect',
  'host',
  'if-match',
  'if-none-match',
  'range',
  'x-forwarded-for',
  'user-agent',
] as const;

/** What must never come back from the store, whatever the operation. */
const NEVER_RELAYED = [
  'x-amz-server-side-encryption',
  'x-amz-server-side-encryption-aws-kms-key-id',
  'x-amz-server-side-encryption-customer-algorithm',
  'x-amz-server-side-encryption-bucket-key-enabled',
  'x-amz-checksum-crc32',
  'x-amz-checksum-type',
  'x-amz-bucket-region',
  'x-amz-request-id',
  'x-amz-id-2',
  'x-minio-deployment-id',
  'server',
  'date',
  'etag',
  'content-length',
  'content-range',
  'set-cookie',
  'connection',
  'transfer-encoding',
  'access-control-allow-origin',
  'location',
  ENVELOPE,
] as const;

describe('headers towards the store', () => {
  it.each(SERVED)('$name sends nothing that is not on its list', ({ name }) => {
    const hostile = Object.fromEntries(NEVER_SENT.map((header) => [header, 'secret']));
    expect(ask(name, hostile)).toEqual({});
  });

  const WITH_METADATA = ['PutObject', 'PostObject', 'CopyObject', 'CreateMultipartUpload'];
  it.each(SERVED.filter(({ name }) => !WITH_METADATA.includes(name)))('$name sends no user metadata', ({ name }) => {
    expect(ask(name, { 'x-amz-meta-a': '1', [ENVELOPE]: 'forged' })).toEqual({});
  });

  it('PutObject sends what the object keeps', () => {
    const kept = {
      'cache-control': 'no-store',
      'content-disposition': 'attachment',
      'content-encoding': 'gzip',
      'content-language': 'de',
      'content-type': 'text/plain',
      expires: 'never',
      'x-amz-meta-a': ' inner  spaces ',
      'x-amz-tagging': 'a=b',
      'x-amz-storage-class': 'STANDARD_IA',
      'x-amz-acl': 'private',
      'x-amz-grant-read': 'id=1',
      'x-amz-object-lock-mode': 'GOVERNANCE',
      'x-amz-object-lock-retain-until-date': '2030-01-01T00:00:00Z',
      'x-amz-object-lock-legal-hold': 'ON',
      'x-amz-website-redirect-location': '/x',
      'x-amz-expected-bucket-owner': '1',
      'x-amz-request-payer': 'requester',
    };
    expect(ask('PutObject', { ...kept, 'x-amz-server-side-encryption': 'AES256' })).toEqual(kept);
  });

  it.each([
    ['PutObjectRetention', 'x-amz-bypass-governance-retention'],
    ['DeleteObject', 'x-amz-bypass-governance-retention'],
    ['DeleteObjects', 'x-amz-mfa'],
    ['PutBucketVersioning', 'x-amz-mfa'],
    ['PutBucketAcl', 'x-amz-acl'],
    ['PutObjectAcl', 'x-amz-grant-write-acp'],
    ['CreateBucket', 'x-amz-bucket-object-lock-enabled'],
    ['PutObjectTagging', 'content-type'],
  ])('%s sends %s', (name, header) => {
    expect(ask(name, { [header]: 'v' })).toEqual({ [header]: 'v' });
  });

  it.each([
    ['PutObjectTagging', 'x-amz-acl'],
    ['PutObjectTagging', 'x-amz-bypass-governance-retention'],
    ['GetObject', 'x-amz-acl'],
    ['PutObject', 'x-amz-bypass-governance-retention'],
  ])('%s does not send %s', (name, header) => {
    expect(ask(name, { [header]: 'v' })).toEqual({});
  });

  it.each(['x-amz-meta-hop', 'x-amz-object-lock-mode', 'content-disposition', 'x-amz-acl'])(
    'refuses a Connection that strikes out %s',
    (name) => {
      const headers = { connection: `keep-alive, ${name.toUpperCase()}`, [name]: '1', 'x-amz-meta-kept': '2' };
      expect(codeOf(() => ask('PutObject', headers))).toBe('InvalidRequest');
    },
  );

  it('takes a Connection that names what goes nowhere', () => {
    expect(ask('PutObject', { connection: 'keep-alive, te', te: 'trailers', 'x-amz-meta-a': '1' })).toEqual({
      'x-amz-meta-a': '1',
    });
  });

  it.each([
    ['aws-chunked', undefined],
    ['AWS-Chunked', undefined],
    ['aws-chunked,gzip', 'gzip'],
    ['gzip, aws-chunked', 'gzip'],
    ['gzip,aws-chunked,br', 'gzip, br'],
    ['gzip,  br', 'gzip,  br'],
    ['aws-chunked-not', 'aws-chunked-not'],
  ])('Content-Encoding %j becomes %j', (sent, kept) => {
    expect(ask('PutObject', { 'content-encoding': sent })['content-encoding']).toBe(kept);
  });

  it('refuses a client that sets the envelope', () => {
    expect(codeOf(() => ask('PutObject', { [ENVELOPE]: '' }))).toBe('InvalidArgument');
  });

  // 2048 - 896 for the envelope's value - 14 for its name.
  it.each([
    [1138, 'no error'],
    [1139, 'MetadataTooLarge'],
  ])('takes %i bytes of user metadata: %s', (size, outcome) => {
    const headers = { 'x-amz-meta-ab': 'x'.repeat(500), 'x-amz-meta-c': 'x'.repeat(size - 503) };
    expect(codeOf(() => ask('PutObject', headers))).toBe(outcome);
  });
});

describe('headers towards the client', () => {
  it.each(SERVED)('$name relays nothing that is not on its list', ({ name }) => {
    const hostile = Object.fromEntries(NEVER_RELAYED.map((header) => [header, 'store']));
    expect(answer(name, hostile)).toEqual({});
  });

  it.each(['GetObject', 'HeadObject'])('%s relays what was kept', (name) => {
    const kept = {
      'content-type': 'text/plain',
      'content-encoding': 'gzip',
      'last-modified': 'x',
      'x-amz-meta-a': '1',
      'x-amz-version-id': 'v',
      'x-amz-tagging-count': '2',
      'x-amz-storage-class': 'GLACIER',
      'x-amz-restore': 'ongoing-request="true"',
      'x-amz-object-lock-mode': 'COMPLIANCE',
    };
    expect(answer(name, { ...kept, [ENVELOPE]: 'sealed' })).toEqual(kept);
  });

  it.each(['GetObject', 'HeadObject'])('%s relays what was kept, whatever the store says of its connection', (name) => {
    const kept = { 'content-disposition': 'attachment', 'content-type': 'text/plain', 'x-amz-meta-a': '1' };
    const connection = 'close, content-disposition, Content-Type, x-amz-meta-a';
    expect(answer(name, { ...kept, connection })).toEqual(kept);
  });

  it.each(['PutObject', 'PutObjectTagging', 'DeleteObject'])('%s relays the version and no metadata', (name) => {
    const headers = { 'x-amz-version-id': 'v', 'x-amz-meta-a': '1' };
    expect(answer(name, headers)).toEqual({ 'x-amz-version-id': 'v' });
  });
});
