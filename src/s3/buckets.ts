import { ServiceError } from '../errors.ts';
import {
  document,
  element,
  parseXml,
  readStoreXml,
  S3_NAMESPACE,
  textOf,
  childOf,
  childrenOf,
  type XmlElement,
} from './xml.ts';

export interface CreateBucketRequest {
  /** `''` when none was named, which means us-east-1. */
  readonly locationConstraint: string;
}

/** The body of CreateBucket, which may be empty; tags and directory bucket settings are refused. */
export function parseCreateBucket(body: Uint8Array): CreateBucketRequest {
  if (body.byteLength === 0) return { locationConstraint: '' };
  const root = parseXml(body, 'CreateBucketConfiguration');
  const other = root.children.find(({ name }) => name !== 'LocationConstraint');
  if (other !== undefined) throw new ServiceError('NotImplemented', { reason: 'create-bucket-configuration' });
  return { locationConstraint: textOf(root, 'LocationConstraint') ?? '' };
}

/**
 * The constraint must name the gateway's own region; none (and AWS's old `EU` never) means us-east-1, which every
 * region takes here, because clients that know no region send none.
 */
export function assertLocationConstraint(constraint: string, region: string): void {
  if (constraint !== '' && constraint !== region) throw new ServiceError('IllegalLocationConstraintException');
}

/** The body towards the store, in its own region; us-east-1 is named by no body at all. */
export function formatCreateBucket(region: string): string {
  if (region === '' || region === 'us-east-1') return '';
  return document('CreateBucketConfiguration', [element('LocationConstraint', region)]);
}

/** The body of GetBucketLocation: us-east-1 is the empty element. */
export function formatLocation(region: string): string {
  const inner = region === 'us-east-1' ? '' : region;
  return `<?xml version="1.0" encoding="UTF-8"?>\n<LocationConstraint xmlns="${S3_NAMESPACE}">${inner}</LocationConstraint>`;
}

export interface BucketEntry {
  readonly name: string;
  readonly creationDate?: string;
}

export interface BucketList {
  readonly owner?: { readonly id: string; readonly displayName?: string };
  readonly buckets: readonly BucketEntry[];
  readonly continuationToken?: string;
}

/** The store's ListBuckets. */
export function parseBucketList(body: Uint8Array): BucketList {
  return readStoreXml(body, 'ListAllMyBucketsResult', readBucketList);
}

function readBucketList(root: XmlElement): BucketList {
  const owner = childOf(root, 'Owner');
  const buckets = childOf(root, 'Buckets');
  const displayName = owner && textOf(owner, 'DisplayName');
  const token = textOf(root, 'ContinuationToken');
  return {
    ...(owner === undefined
      ? {}
      : { owner: { id: textOf(owner, 'ID') ?? '', ...(displayName === undefined ? {} : { displayName }) } }),
    buckets: (buckets === undefined ? [] : childrenOf(buckets, 'Bucket')).map((bucket) => {
      const creationDate = textOf(bucket, 'CreationDate');
      return { name: textOf(bucket, 'Name') ?? '', ...(creationDate === undefined ? {} : { creationDate }) };
    }),
    ...(token === undefined || token === '' ? {} : { continuationToken: token }),
  };
}

export function formatBucketList(list: BucketList, prefix?: string): string {
  return document('ListAllMyBucketsResult', [
    list.owner === undefined
      ? ''
      : element('Owner', [element('ID', list.owner.id), element('DisplayName', list.owner.displayName)]),
    element(
      'Buckets',
      list.buckets.map(({ name, creationDate }) =>
        element('Bucket', [element('Name', name), element('CreationDate', creationDate)]),
      ),
    ),
    element('ContinuationToken', list.continuationToken),
    element('Prefix', prefix),
  ]);
}
