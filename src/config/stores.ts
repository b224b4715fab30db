import { z } from 'zod';
import {
  checkReference,
  issue,
  region,
  secretEnv,
  secretFile,
  secretRef,
  storeAccessKeyId,
  variable,
  type Path,
} from './fields.ts';
import { strict } from './strict.ts';

/** Traits may be pinned where the probe may not write; docs of each are at `StoreTraits`. */
function traits() {
  const trait = (text: string) => z.boolean().exactOptional().describe(text);
  return strict({
    refusesShortBody: trait('Keeps the old object when a body ends before its Content-Length.'),
    acceptsTrailers: trait('Takes a body with a CRC32 trailer, and verifies it.'),
    putIfMatch: trait('Honours If-Match on PUT.'),
    putIfNoneMatch: trait('Honours `If-None-Match: *` on PUT.'),
    completeIfNoneMatch: trait('Honours `If-None-Match: *` on CompleteMultipartUpload.'),
    completesSubset: trait('Completes an upload by a list that leaves out a part which was uploaded.'),
    deleteIfMatch: trait('Honours If-Match on DELETE.'),
    keepsSlashBody: trait('Keeps a body under a key that ends in `/`.'),
    keepsSlashMetadata: trait('Keeps user metadata under a key that ends in `/`.'),
    copySourceIfMatch: trait('Honours x-amz-copy-source-if-match.'),
    copyTags: trait('Keeps the tags that x-amz-tagging gives to a copy.'),
    atomicCopy: trait(
      'A CopyObject is one step, onto the same key too, and honours If-Match and `If-None-Match: *`. Never found by the probe.',
    ),
    keepsRedirect: trait('Keeps `x-amz-website-redirect-location`.'),
    keepsOctets: trait('Keeps octets beyond ASCII in user metadata, which others give back as RFC 2047 text.'),
    keepsPathsApart: trait('Takes `a//b`, `/a`, `./a` and `b/../a` for other keys than `a/b` and `a`.'),
  });
}

const seconds = (value: number, text: string) => z.number().int().min(1).max(86_400).default(value).describe(text);

/** Silence that ends a request to the store. There is no total limit: a 5 GiB body over a slow link is legal. */
function waiting() {
  return {
    connectSeconds: seconds(5, 'How long a connection to the store may take, TLS included.'),
    idleSeconds: seconds(
      50,
      'How long the store may be silent, before its answer or within a body. Below `data.idleSeconds`, so that the client is told.',
    ),
    longSeconds: seconds(
      900,
      'The same before the answer to what takes long: Complete, DeleteObjects, copies, the end of a large body.',
    ),
  };
}

function largestCopy() {
  return z
    .number()
    .int()
    .min(5 * 1024 ** 2)
    .max(5 * 1024 ** 3)
    .default(5 * 1024 ** 3)
    .describe('Bytes of the largest object that the store copies in one request; larger ones are copied in parts.');
}

const REMOTE = ['endpoint', 'region', 'pathStyle', 'accessKeyId', 'secretFile', 'secretEnv', 'caFile'] as const;

export function store(path: Path) {
  return strict({
    embedded: strict({ directory: path().describe('Folder of the objects; made when it is missing.') })
      .exactOptional()
      .describe('The embedded development store, instead of an endpoint. Not for production.'),
    endpoint: z
      .string()
      .refine(isOrigin, 'expected http(s)://host[:port] without user, path or query')
      .exactOptional()
      .describe('URL of the store. Required unless embedded.'),
    region: region().exactOptional().describe('Region to sign with towards the store (`us-east-1`).'),
    pathStyle: z.boolean().exactOptional().describe('Address buckets in the path, not in the host name (true).'),
    accessKeyId: storeAccessKeyId().exactOptional().describe("The service's own access key at the store."),
    secretFile: secretFile(path),
    secretEnv: secretEnv(),
    caFile: path().exactOptional().describe('PEM file with the certificate authorities of the store.'),
    systemBucket: z
      .string()
      .regex(/^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/, 'expected a bucket name of [a-z0-9-], 3 to 63 characters')
      .default('s3sse-system')
      .describe("The gateway's own bucket at the store; clients never see it."),
    largestCopy: largestCopy(),
    traits: traits().prefault({}).describe('Pins what the store is known to do; the others are probed.'),
    ...waiting(),
  })
    .check((ctx) => {
      const given = REMOTE.filter((field) => field in ctx.value);
      if (ctx.value.embedded !== undefined) {
        for (const field of given) issue(ctx.issues, ctx.value, [field], 'has no meaning beside embedded');
        return;
      }
      if (ctx.value.endpoint === undefined) issue(ctx.issues, ctx.value, ['endpoint'], 'is required, or embedded');
      if (ctx.value.accessKeyId === undefined) issue(ctx.issues, ctx.value, ['accessKeyId'], 'is required');
      checkReference(ctx.issues, ctx.value, 'secretFile', 'secretEnv');
    })
    .transform(({ embedded, endpoint, systemBucket, largestCopy: limit, traits: pins, ...rest }) => {
      const idleMs = rest.idleSeconds * 1000;
      const timeouts = {
        connectMs: rest.connectSeconds * 1000,
        idleMs,
        headersMs: idleMs,
        slowHeadersMs: rest.longSeconds * 1000,
      };
      const common = { systemBucket, largestCopy: limit, traits: pins, timeouts };
      if (embedded !== undefined) return { kind: 'embedded' as const, ...embedded, ...common };
      return {
        kind: 's3' as const,
        endpoint: endpoint ?? '',
        region: rest.region ?? 'us-east-1',
        pathStyle: rest.pathStyle ?? true,
        accessKeyId: rest.accessKeyId ?? '',
        secret: secretRef(rest.secretFile, rest.secretEnv),
        ...(rest.caFile === undefined ? {} : { caFile: rest.caFile }),
        ...common,
      };
    });
}

export function control(path: Path) {
  return strict({
    directory: path().describe('Folder of the control store, made by `init` only; 0700.'),
    masterKeyFile: path()
      .exactOptional()
      .describe(
        'File with the master key (32 bytes raw, hex or base64); 0600. Exactly one of masterKeyFile and masterKeyEnv.',
      ),
    masterKeyEnv: variable().exactOptional().describe('Environment variable with the master key.'),
    markerFile: path()
      .exactOptional()
      .describe('The local stop marker (`<directory>.stopped.json`); never inside the directory.'),
  })
    .check((ctx) => {
      const { directory, markerFile } = ctx.value;
      checkReference(ctx.issues, ctx.value, 'masterKeyFile', 'masterKeyEnv');
      if (markerFile?.startsWith(`${directory}/`) === true) {
        issue(ctx.issues, ctx.value, ['markerFile'], 'must lie outside of control.directory');
      }
    })
    .transform(({ directory, masterKeyFile, masterKeyEnv, markerFile }) => ({
      directory,
      masterKey: secretRef(masterKeyFile, masterKeyEnv),
      // Beside, not inside: it must be writable when the control store is not.
      markerFile: markerFile ?? `${directory}.stopped.json`,
    }));
}

function isOrigin(text: string): boolean {
  if (text.length > 512 || !URL.canParse(text)) return false;
  const url = new URL(text);
  if (!/^https?:$/.test(url.protocol)) return false;
  return url.username === '' && url.password === '' && url.pathname === '/' && !/[?#]/.test(text);
}
