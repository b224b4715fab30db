import { ServiceError } from '../errors.ts';
import { parseAddress, parseCopySource, type Address } from './names.ts';
import { parseArguments, parseVersion } from './operation-arguments.ts';
import type { Forward, Operation, OperationRequest, Understood } from './operation.ts';
import { OPERATION_ROWS, type Level, type OperationRow } from './rows.ts';

export interface OperationOptions {
  /** Host names whose subdomains are buckets (virtual-host style), without ports. */
  readonly baseHosts: readonly string[];
  /** Refused to every client, as a copy's source too. */
  readonly systemBucket: string;
}

/** Request headers that change what an operation means; ignored they would store something else than was asked. */
const UNSUPPORTED_HEADERS = [
  'x-amz-write-offset-bytes',
  'x-amz-rename-source',
  'x-amz-object-append',
  'x-minio-extract',
  'x-amz-meta-snowball-auto-extract',
  'x-amz-meta-minio-snowball',
] as const;

/** Which operation a verified request asks for. Throws for everything that is not exactly one of them. */
export function parseOperation(request: OperationRequest, options: OperationOptions): Operation {
  const place = parseAddress(request.path, request.headers.host, options.baseHosts);
  const source = request.headers['x-amz-copy-source'];
  if (place.bucket === options.systemBucket) throw new ServiceError('AccessDenied', { reason: 'system-bucket' });
  if (source !== undefined && parseCopySource(source).bucket === options.systemBucket) {
    throw new ServiceError('AccessDenied', { reason: 'system-bucket' });
  }
  const row = selectRow(request, levelOf(place));
  // A policy allows one upload, whatever else its request could be read as.
  if (request.form !== undefined && row.name !== 'PostObject') throw new ServiceError('MethodNotAllowed');
  const header = UNSUPPORTED_HEADERS.find((name) => request.headers[name] !== undefined);
  if (header !== undefined) throw new ServiceError('NotImplemented', { message: `${header} is not implemented.` });
  if (row.mode === 'refused') {
    throw new ServiceError('NotImplemented', {
      message: `${row.name} is not implemented: ${row.reason ?? ''}.`,
      reason: `not-implemented:${row.name}`,
    });
  }
  return row.mode === 'forward'
    ? forward(row, place, request.query)
    : parseArguments(row.name as Understood['kind'], {
        row,
        bucket: place.bucket ?? '',
        key: place.key ?? '',
        query: request.query,
        headers: request.headers,
        form: request.form?.fields,
      });
}

function levelOf(place: Address): Level {
  if (place.bucket === undefined) return 'service';
  return place.key === undefined ? 'bucket' : 'object';
}

const ROWS_BY_LEVEL: Readonly<Record<Level, readonly OperationRow[]>> = {
  service: OPERATION_ROWS.filter((row) => row.level === 'service'),
  bucket: OPERATION_ROWS.filter((row) => row.level === 'bucket'),
  object: OPERATION_ROWS.filter((row) => row.level === 'object'),
};

/**
 * The row whose selector is in the request and which takes every other query name; the longest selector wins. A copy
 * source demands its own row, so that a copy is never read as a PutObject of an empty body.
 */
function selectRow(request: OperationRequest, level: Level): OperationRow {
  const names = [...request.query.keys()].filter((name) => name !== 'x-id');
  const takes = (row: OperationRow) =>
    row.selector.every((name) => request.query.has(name)) &&
    names.every((name) => row.selector.includes(name) || row.query.includes(name));
  const copies = request.method === 'PUT' && request.headers['x-amz-copy-source'] !== undefined;
  let best: OperationRow | undefined;
  for (const row of ROWS_BY_LEVEL[level]) {
    if (row.method !== request.method || (row.selectorHeader !== undefined) !== copies || !takes(row)) continue;
    if (best === undefined || row.selector.length > best.selector.length) best = row;
  }
  if (best !== undefined) return best;
  const named = ROWS_BY_LEVEL[level].filter(
    (row) => row.selector.length > 0 && row.selector.every((name) => request.query.has(name)),
  );
  const wrongMethod = named.length > 0 ? !named.some((row) => row.method === request.method) : names.length === 0;
  if (wrongMethod && !copies) throw new ServiceError('MethodNotAllowed');
  throw new ServiceError('NotImplemented', { reason: 'no-such-operation' });
}

function forward(row: OperationRow, place: Address, query: ReadonlyMap<string, string>): Forward {
  const selected = row.selector.map((name) => [name, ''] as const);
  const { versionId } = parseVersion(query);
  return {
    kind: 'Forward',
    row,
    name: row.name,
    bucket: place.bucket ?? '',
    ...(place.key === undefined ? {} : { key: place.key }),
    ...(versionId === undefined ? {} : { versionId }),
    query: versionId === undefined ? selected : [...selected, ['versionId', versionId]],
  };
}
