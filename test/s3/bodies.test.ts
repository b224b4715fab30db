import { describe, expect, it } from 'vitest';
import {
  DEFAULT_BUCKET_ENCRYPTION,
  formatBucketEncryption,
  parseBucketEncryption,
} from '../../src/s3/bucket-encryption.ts';
import {
  assertLocationConstraint,
  formatBucketList,
  formatCreateBucket,
  formatLocation,
  parseBucketList,
  parseCreateBucket,
} from '../../src/s3/buckets.ts';
import {
  formatDeleteRequest,
  formatDeleteResult,
  parseDeleteObjects,
  parseDeleteResult,
} from '../../src/s3/delete-objects.ts';
import { codeOf } from './errors.ts';

const rule = (inner: string) =>
  Buffer.from(`<ServerSideEncryptionConfiguration><Rule>${inner}</Rule></ServerSideEncryptionConfiguration>`);
const byDefault = (inner: string) =>
  `<ApplyServerSideEncryptionByDefault>${inner}</ApplyServerSideEncryptionByDefault>`;
const algorithm = (name: string, key = '') =>
  byDefault(`<SSEAlgorithm>${name}</SSEAlgorithm>${key === '' ? '' : `<KMSMasterKeyID>${key}</KMSMasterKeyID>`}`);
const blocked = (...types: string[]) =>
  `<BlockedEncryptionTypes>${types.map((type) => `<EncryptionType>${type}</EncryptionType>`).join('')}</BlockedEncryptionTypes>`;

describe('bucket encryption', () => {
  it.each<[string, object]>([
    [algorithm('AES256'), { algorithm: 'AES256', bucketKeyEnabled: false, blocked: [] }],
    [algorithm('aws:kms'), { algorithm: 'aws:kms', bucketKeyEnabled: false, blocked: [] }],
    [
      `${algorithm('aws:kms', 'arn:aws:kms:::key/k1')}<BucketKeyEnabled>true</BucketKeyEnabled>`,
      { algorithm: 'aws:kms', keyReference: 'arn:aws:kms:::key/k1', bucketKeyEnabled: true, blocked: [] },
    ],
    [
      algorithm('aws:kms:dsse', 'k'),
      { algorithm: 'aws:kms:dsse', keyReference: 'k', bucketKeyEnabled: false, blocked: [] },
    ],
    [`${algorithm('AES256')}${blocked('SSE-C')}`, { algorithm: 'AES256', bucketKeyEnabled: false, blocked: ['SSE-C'] }],
    [`${algorithm('AES256')}${blocked('NONE')}`, { algorithm: 'AES256', bucketKeyEnabled: false, blocked: [] }],
    [blocked('SSE-C'), { algorithm: 'AES256', bucketKeyEnabled: false, blocked: ['SSE-C'] }],
  ])('%s', (inner, expected) => {
    const parsed = parseBucketEncryption(rule(inner));
    expect(parsed).toEqual(expected);
    expect(parseBucketEncryption(Buffer.from(formatBucketEncryption(parsed)))).toEqual(expected);
  });

  it.each<[string, string, string]>([
    ['an empty rule', '', 'MalformedXML'],
    ['no algorithm', byDefault(''), 'MalformedXML'],
    ['an unknown algorithm', algorithm('aes256'), 'MalformedXML'],
    ['a key id with AES256', algorithm('AES256', 'k'), 'InvalidArgument'],
    ['a key id with spaces', algorithm('aws:kms', 'a b'), 'InvalidArgument'],
    ['a long key id', algorithm('aws:kms', 'k'.repeat(2049)), 'InvalidArgument'],
    ['a bucket key that is neither', `${algorithm('aws:kms')}<BucketKeyEnabled>1</BucketKeyEnabled>`, 'MalformedXML'],
    ['an unknown element', `${algorithm('AES256')}<Extra/>`, 'MalformedXML'],
    ['an unknown blocked type', `${algorithm('AES256')}${blocked('SSE-S3')}`, 'MalformedXML'],
    ['NONE beside a type', `${algorithm('AES256')}${blocked('NONE', 'SSE-C')}`, 'MalformedXML'],
    ['no blocked type', `${algorithm('AES256')}${blocked()}`, 'MalformedXML'],
    ['two defaults', algorithm('AES256') + algorithm('AES256'), 'MalformedXML'],
  ])('%s is refused', (_, inner, code) => expect(codeOf(() => parseBucketEncryption(rule(inner)))).toBe(code));

  it.each([
    ['none', '<ServerSideEncryptionConfiguration/>'],
    [
      'two',
      `<ServerSideEncryptionConfiguration>${`<Rule>${algorithm('AES256')}</Rule>`.repeat(2)}</ServerSideEncryptionConfiguration>`,
    ],
  ])('%s rules are MalformedXML', (_, xml) => {
    expect(codeOf(() => parseBucketEncryption(Buffer.from(xml)))).toBe('MalformedXML');
  });

  it('that was never set', () => {
    expect(formatBucketEncryption(DEFAULT_BUCKET_ENCRYPTION)).toContain(
      '<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm>' +
        '</ApplyServerSideEncryptionByDefault><BucketKeyEnabled>false</BucketKeyEnabled></Rule>',
    );
  });
});

describe('DeleteObjects', () => {
  const body = (inner: string) => Buffer.from(`<Delete xmlns="x">${inner}</Delete>`);
  const object = (key: string) => `<Object><Key>${key}</Key></Object>`;

  it('keeps keys as they are', () => {
    const inner = `<Quiet>true</Quiet>${object('00123')}${object(' a ')}<Object><Key>k</Key><VersionId>v</VersionId><ETag>"e"</ETag></Object>`;
    expect(parseDeleteObjects(body(inner))).toEqual({
      quiet: true,
      objects: [{ key: '00123' }, { key: ' a ' }, { key: 'k', versionId: 'v', etag: '"e"' }],
    });
  });

  it('takes 1,000 keys', () => {
    expect(parseDeleteObjects(body(object('k').repeat(1000))).objects).toHaveLength(1000);
  });

  it.each([
    ['no object', '', 'MalformedXML'],
    ['1,001 objects', object('k').repeat(1001), 'MalformedXML'],
    ['an object without a key', '<Object><VersionId>v</VersionId></Object>', 'MalformedXML'],
    ['an empty key', object(''), 'MalformedXML'],
    ['a long key', object('k'.repeat(1025)), 'KeyTooLongError'],
    ['two keys in one', '<Object><Key>a</Key><Key>b</Key></Object>', 'MalformedXML'],
    ['a strange Quiet', `<Quiet>yes</Quiet>${object('k')}`, 'MalformedXML'],
  ])('%s is refused', (_, inner, code) => expect(codeOf(() => parseDeleteObjects(body(inner)))).toBe(code));

  it('answers', () => {
    const outcomes = [
      { kind: 'deleted', key: 'a&b', versionId: 'v', deleteMarker: true, deleteMarkerVersionId: 'm' },
      { kind: 'error', key: 'c', code: 'AccessDenied', message: 'Access Denied' },
    ] as const;
    const deleted =
      '<Deleted><Key>a&amp;b</Key><VersionId>v</VersionId><DeleteMarker>true</DeleteMarker>' +
      '<DeleteMarkerVersionId>m</DeleteMarkerVersionId></Deleted>';
    const error = '<Error><Key>c</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>';
    expect(formatDeleteResult(outcomes, false)).toContain(`${deleted}${error}</DeleteResult>`);
    expect(formatDeleteResult(outcomes, true)).toContain(`">${error}</DeleteResult>`);
    expect(parseDeleteResult(Buffer.from(formatDeleteResult(outcomes, false)))).toEqual([
      { key: 'a&b', versionId: 'v', deleteMarker: true, deleteMarkerVersionId: 'm' },
      { key: 'c', errorCode: 'AccessDenied' },
    ]);
  });

  it('asks the store for every outcome', () => {
    const objects = [{ key: '<k>', versionId: 'v' }, { key: ' 007' }];
    expect(parseDeleteObjects(Buffer.from(formatDeleteRequest(objects)))).toEqual({ quiet: false, objects });
  });
});

describe('buckets', () => {
  const create = (inner: string) => Buffer.from(`<CreateBucketConfiguration>${inner}</CreateBucketConfiguration>`);

  it.each([
    [Buffer.alloc(0), ''],
    [create(''), ''],
    [create('<LocationConstraint>eu-west-1</LocationConstraint>'), 'eu-west-1'],
  ])('%s', (body, locationConstraint) => expect(parseCreateBucket(body)).toEqual({ locationConstraint }));

  it('of a kind that is not built are 501', () => {
    expect(codeOf(() => parseCreateBucket(create('<Bucket><Type>Directory</Type></Bucket>')))).toBe('NotImplemented');
    expect(codeOf(() => parseCreateBucket(Buffer.from('<Other/>')))).toBe('MalformedXML');
  });

  it.each([
    ['', 'eu-west-1', 'no error'],
    ['eu-west-1', 'eu-west-1', 'no error'],
    ['us-west-2', 'eu-west-1', 'IllegalLocationConstraintException'],
  ])('the constraint %j in %s: %s', (constraint, region, outcome) => {
    expect(codeOf(() => assertLocationConstraint(constraint, region))).toBe(outcome);
  });

  it('name their location, us-east-1 by silence', () => {
    expect(formatLocation('us-east-1')).toMatch(/<LocationConstraint [^>]*><\/LocationConstraint>$/);
    expect(formatLocation('eu-west-1')).toContain('>eu-west-1<');
    expect(formatCreateBucket('us-east-1')).toBe('');
    expect(parseCreateBucket(Buffer.from(formatCreateBucket('eu-west-1')))).toEqual({
      locationConstraint: 'eu-west-1',
    });
  });

  it('are listed', () => {
    const list = {
      owner: { id: 'o', displayName: 'O' },
      buckets: [{ name: '007', creationDate: '2026-01-01T00:00:00.000Z' }, { name: 'b' }],
      continuationToken: 't',
    };
    expect(parseBucketList(Buffer.from(formatBucketList(list)))).toEqual(list);
  });
});
