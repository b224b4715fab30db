import type { StoreCall } from '../support/store-proxy.ts';

/** What lies where in the system bucket (docs/FORMAT.md sections 16 and 17). */
const RECORDS: readonly (readonly [RegExp, string])[] = [
  [/^\/uploads\/[0-9a-f]{64}\/r$/, 'upload record'],
  [/^\/uploads\/[0-9a-f]{64}\/p\//, 'part record'],
  [/^\/uploads\/[0-9a-f]{64}\/a\//, 'part put aside'],
  [/^\/uploads\/[0-9a-f]{64}\/t$/, 'tombstone'],
  [/^\/copies\/[0-9a-f]{32}$/, 'private copy'],
];

/** One request to the store in words that stay the same from run to run. */
export function stepName({ method, target, headers }: StoreCall, systemBucket: string): string {
  const url = new URL(target, 'http://store');
  const [, bucket = '', ...rest] = url.pathname.split('/');
  const query = url.searchParams;
  if (bucket === systemBucket) {
    const record = RECORDS.find(([pattern]) => pattern.test(`/${rest.join('/')}`));
    if (record !== undefined) return `${method} ${record[1]}`;
    return query.has('delete') ? 'delete records' : 'list records';
  }
  const level = bucket === '' ? 'service' : rest.join('/') === '' ? 'bucket' : 'object';
  const range = headers.range === undefined ? '' : ' range';
  const copy = headers['x-amz-copy-source'] === undefined ? '' : ' copy';
  return `${method} ${level}${copy}${range}${selected(query)}`;
}

function selected(query: URLSearchParams): string {
  if (query.has('uploads')) return ' uploads';
  if (query.has('partNumber')) return query.get('partNumber') === '10000' ? ' last part' : ' part';
  if (query.has('uploadId')) return ' upload';
  if (query.has('delete')) return ' delete';
  if (query.has('tagging')) return ' tags';
  if (query.has('versions')) return ' versions';
  return query.has('list-type') ? ' list' : '';
}
