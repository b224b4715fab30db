import type { BucketRecord } from '../../control/buckets.ts';
import { asServiceError, ServiceError } from '../../errors.ts';
import type { CopySource } from '../../s3/names.ts';
import type { GetObject, Operation } from '../../s3/operation.ts';
import type { RangeSpec } from '../../s3/range.ts';
import type { BucketExchange, Exchange } from '../exchange.ts';

export type SourceRead = BucketExchange<GetObject>;

const CONDITION = 'x-amz-copy-source-if-';

/**
 * The source of a copy as the read that it is: the conditions on the source are those of the read, and it has an audit
 * record of its own, because a key of its own is used.
 */
export function readOfSource(
  x: Exchange<Operation & { readonly key: string }>,
  source: CopySource,
  bucket: BucketRecord,
  range?: RangeSpec,
): SourceRead {
  const { caller, rooms, requestId, op } = x;
  const conditions = Object.entries(caller.request.headers).flatMap(([name, value]) =>
    name.startsWith(CONDITION) ? [[`if-${name.slice(CONDITION.length)}`, value] as const] : [],
  );
  const entry = rooms.audit.begin({
    requestId,
    source: x.source,
    principal: caller.identity.name,
    operation: op.row.name,
    ...source,
  });
  const { row } = op;
  const read = { kind: 'GetObject', row, ...source, overrides: {}, checksumMode: true } as const;
  return {
    ...x,
    op: range === undefined ? read : { ...read, range },
    bucket,
    entry,
    caller: { ...caller, request: { ...caller.request, headers: Object.fromEntries(conditions) } },
  };
}

/** Ends the source's audit record, and says its errors as AWS says them of a copy. */
export async function reading<T>(source: SourceRead, work: () => Promise<T>): Promise<T> {
  try {
    const result = await work();
    source.entry.finish('success', 200);
    return result;
  } catch (err) {
    const error = ofSource(asServiceError(err), source);
    source.entry.finish(error.status === 403 ? 'denied' : 'failed', error.status, error.reason);
    throw error;
  }
}

function ofSource(error: ServiceError, { op }: SourceRead): ServiceError {
  // A copy has nothing that the client could have already.
  if (error.code === 'NotModified') return new ServiceError('PreconditionFailed', { reason: error.reason });
  if (error.code === 'MethodNotAllowed' && op.versionId !== undefined) {
    return new ServiceError('InvalidRequest', {
      message: 'The source of a copy request may not specifically refer to a delete marker by version id.',
      reason: error.reason,
    });
  }
  return error;
}
