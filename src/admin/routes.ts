import type { z } from 'zod';
import { adoptBody, noBody, opaqueBody, parseBody, stopBody } from './bodies.ts';
import {
  adoptBucket,
  clearCache,
  config,
  configure,
  listBuckets,
  notImplemented,
  reconfigure,
  releaseBucket,
  sealBucket,
  start,
  status,
  stop,
} from './handlers.ts';
import type { AdminAnswer, AdminCall, Parsed, Row } from './types.ts';

const SMALL = 4 * 1024;
const LARGE = 64 * 1024;
const SECOND = 1000;

/** Binds a handler to the schema of its body. */
function body<S extends z.ZodType>(
  schema: S,
  handler: (call: AdminCall<z.output<S>>) => Promise<AdminAnswer>,
  about: (body: z.output<S>) => Omit<Parsed, 'answer'> = () => ({}),
): Row['parse'] {
  return (bytes) => {
    const parsed = parseBody(schema, bytes);
    return {
      ...about(parsed),
      answer: (call) => handler({ ...call, body: parsed }),
    };
  };
}

function adoption(
  { mode, cutover }: Pick<z.output<typeof adoptBody>, 'mode' | 'cutover'>,
  target: z.output<typeof adoptBody>['target'],
): string {
  const place = target === undefined ? '' : `, at ${target.bucket}/${target.prefix}`;
  return (mode === 'mixed' ? `mixed before ${cutover ?? 'now'}` : mode) + place;
}

type Rest = Omit<Row, 'method' | 'path' | 'action' | 'built' | 'parse'>;

const service: Rest = { maxBody: SMALL, timeoutMs: 60 * SECOND, resource: 'service', exempt: false };
const large: Rest = { ...service, maxBody: LARGE };
const exempt: Rest = { ...service, exempt: true };
const bucket: Rest = { ...service, resource: 'bucket' };
const key: Rest = { ...service, resource: 'key' };
const keyPolicy: Rest = { ...key, maxBody: LARGE };

/** Later versions' routes: their rights are checked already, and nothing is promised of their bodies. */
const later: Row['parse'] = () => ({ answer: notImplemented });

function route(method: Row['method'], path: string, action: string, rest: Rest, parse: Row['parse']): Row {
  return Object.freeze({ method, path, action, ...rest, built: parse !== later, parse });
}

/** docs/ADMIN.md holds the same table, and a test pins it. */
export const ROUTES: readonly Row[] = Object.freeze([
  route('POST', '/kms/configure', 'kms:Configure', large, body(opaqueBody, configure)),
  route('POST', '/kms/reconfigure', 'kms:Configure', large, body(opaqueBody, reconfigure)),
  route('POST', '/kms/start', 'kms:ServiceControl', service, body(noBody, start)),
  // A drain's limit passes after the answer: stop itself is immediate.
  route(
    'POST',
    '/kms/stop',
    'kms:ServiceControl',
    exempt,
    body(stopBody, stop, ({ reason }) => ({ note: reason })),
  ),
  route('GET', '/kms/status', 'admin:ServerInfo', exempt, body(noBody, status)),
  route('GET', '/kms/config', 'kms:Configure', service, body(noBody, config)),
  route('POST', '/kms/clear-cache', 'kms:ClearCache', service, body(noBody, clearCache)),

  route('GET', '/kms/buckets', 'kms:ListBuckets', service, body(noBody, listBuckets)),
  route(
    'POST',
    '/kms/buckets/:name/adopt',
    'kms:AdoptBucket',
    bucket,
    body(adoptBody, adoptBucket, ({ target, ...rest }) => ({ note: adoption(rest, target), names: target?.bucket })),
  ),
  route('POST', '/kms/buckets/:name/seal', 'kms:AdoptBucket', bucket, body(noBody, sealBucket)),
  route('POST', '/kms/buckets/:name/release', 'kms:ReleaseBucket', bucket, body(noBody, releaseBucket)),

  route('GET', '/kms/keys', 'kms:ListKeys', key, later),
  route('POST', '/kms/keys', 'kms:CreateKey', key, later),
  route('GET', '/kms/keys/:id', 'kms:DescribeKey', key, later),
  route('PATCH', '/kms/keys/:id', 'kms:UpdateKeyDescription', key, later),
  route('DELETE', '/kms/keys/:id', 'kms:ScheduleKeyDeletion', key, later),
  route('POST', '/kms/keys/:id/rotate', 'kms:RotateKey', key, later),
  route('POST', '/kms/keys/:id/enable', 'kms:EnableKey', key, later),
  route('POST', '/kms/keys/:id/disable', 'kms:DisableKey', key, later),
  route('POST', '/kms/keys/:id/cancel-deletion', 'kms:CancelKeyDeletion', key, later),
  route('GET', '/kms/keys/:id/policy', 'kms:GetKeyPolicy', key, later),
  route('PUT', '/kms/keys/:id/policy', 'kms:PutKeyPolicy', keyPolicy, later),
  route('POST', '/kms/rewrap', 'kms:Rewrap', service, later),
  route('GET', '/kms/rewrap/:id', 'kms:Rewrap', service, later),
  route('DELETE', '/kms/rewrap/:id', 'kms:Rewrap', service, later),

  route('POST', '/api/v1/kms/encrypt', 'kms:Encrypt', key, later),
  route('POST', '/api/v1/kms/decrypt', 'kms:Decrypt', key, later),
  route('POST', '/api/v1/kms/generate-key', 'kms:GenerateDataKey', key, later),
  route('GET', '/api/v1/kms/status', 'admin:ServerInfo', exempt, later),
  route('GET', '/api/v1/kms/health', 'admin:ServerInfo', exempt, later),
]);

export interface Match {
  readonly row: Row;
  /** The name in the path; undefined where the row has none. */
  readonly id?: string;
}

const NAMES: Readonly<Record<string, RegExp>> = {
  ':id': /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/,
  ':name': /^[A-Za-z0-9][A-Za-z0-9._-]{1,127}$/,
};

/** The rows of a path, whatever their method: none is 404, none of the right method is 405. */
export function matchPath(path: string): readonly Match[] {
  const parts = path.split('/', 8);
  return ROUTES.flatMap((row) => {
    const pattern = row.path.split('/');
    if (pattern.length !== parts.length) return [];
    let id: string | undefined;
    for (const [at, piece] of pattern.entries()) {
      const part = parts[at] ?? '';
      if (NAMES[piece]?.test(part) === true) id = part;
      else if (piece !== part) return [];
    }
    return [id === undefined ? { row } : { row, id }];
  });
}
