import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { z } from 'zod';
import type { SecretRef } from './secrets.ts';
import { strict } from './strict.ts';

// Every field has a description: docs/CONFIGURATION.md is made of them, and a test holds it to them.

/** The schema of the configuration file; relative paths are taken from `base`, the folder of the file. */
export function configSchema(base: string) {
  const path = () =>
    z
      .string()
      .min(1)
      .max(4096)
      .refine((text) => !text.includes('\0'), 'expected a path')
      .transform((text) => resolve(base, text));
  return strict({
    data: dataListener(path).prefault({}).describe('The listener of the S3 API.'),
    admin: adminListener(path).prefault({}).describe('The listener of the admin API, health and metrics.'),
    store: store(path).describe('The S3-compatible store behind, or the embedded development store.'),
    control: control(path).describe('The control store: trusted, small, never at the object store.'),
    kms: kms().prefault({}).describe('Where the configuration of the key service comes from.'),
    identities: z
      .array(identity(path))
      .max(10_000)
      .default([])
      .describe('Who may sign requests. Names and access keys are unique.'),
    policies: z
      .record(name(), policyDocument())
      .default({})
      .describe('Named IAM policies that identities refer to, beside the ready-made roles.'),
    audit: audit(path).prefault({}).describe('Where audit records go.'),
    log: strict({
      level: z
        .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
        .default('info')
        .describe('Lowest level that is written.'),
    })
      .prefault({})
      .describe('The operational log, JSON lines on standard output.'),
    development: development().prefault({}).describe('Each one weakens security: never in production.'),
    compatibility: z
      .enum(['aws', 'ceph'])
      .default('aws')
      .describe('Which answers to give where AWS S3 and the s3-tests of Ceph disagree.'),
    metadataIntegrity: z
      .enum(['enforce', 'report'])
      .default('enforce')
      .describe(
        'What happens when metadata at the store is not what was sealed: refuse the object, or serve and audit.',
      ),
  }).check((ctx) => checkIdentities(ctx.value.identities, ctx.issues));
}

type Path = () => z.ZodType<string, string>;
type Issues = z.core.$ZodRawIssue[];

function issue(issues: Issues, input: unknown, path: PropertyKey[], message: string): void {
  issues.push({ code: 'custom', input, path, message });
}

const name = () =>
  z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/, 'expected a name of [A-Za-z0-9._@-], at most 64');
const port = (value: number) =>
  z.number().int().min(0).max(65_535).default(value).describe('TCP port; 0 takes a free one.');
const host = (text: string) => z.string().min(1).max(253).default('127.0.0.1').describe(text);
const seconds = (value: number, text: string) => z.number().int().min(1).max(86_400).default(value).describe(text);
const region = () => z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'expected a region name such as us-east-1');
const accessKeyId = () =>
  z.string().regex(/^[A-Za-z0-9_.-]{3,128}$/, 'expected an access key id of [A-Za-z0-9_.-], 3 to 128 characters');
const variable = () =>
  z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'expected the name of an environment variable');
const policyDocument = () => z.record(z.string(), z.unknown()).describe('An IAM policy document.');

function tls(path: Path) {
  return strict({
    certFile: path().describe('PEM file with the certificate chain; re-read when it changes.'),
    keyFile: path().describe('PEM file with the private key; 0600.'),
  });
}

function dataListener(path: Path) {
  return strict({
    host: host('Address to listen on.'),
    port: port(9400),
    tls: tls(path).exactOptional().describe('TLS. Without it SSE-C is refused.'),
    region: region().default('us-east-1').describe('The region of every bucket, and of request signatures.'),
    acceptedRegions: z.array(region()).max(64).default([]).describe('Other regions accepted in credential scopes.'),
    baseHosts: z
      .array(z.string().regex(/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/, 'expected a lower-case host name without port'))
      .max(64)
      .default([])
      .describe('Host names under which `bucket.host` is virtual-host style. Any other Host is path style.'),
    trustedProxies: z
      .array(z.string().refine(isAddressRange, 'expected an IP address or a CIDR range narrower than /0'))
      .max(256)
      .default([])
      .describe('Addresses whose `X-Forwarded-For`, `-Proto` and `-Host` are believed.'),
    keepAliveSeconds: seconds(
      75,
      'How long an idle connection stays open; longer than the balancer in front keeps its own.',
    ),
    idleSeconds: seconds(60, 'How long a connection may stand still within a request. There is no total limit.'),
  });
}

function adminListener(path: Path) {
  return strict({
    host: host('Address to listen on. Off loopback, TLS is required.'),
    port: port(9401),
    tls: tls(path).exactOptional().describe('TLS.'),
  }).check((ctx) => {
    if (ctx.value.tls !== undefined || isLoopback(ctx.value.host)) return;
    issue(ctx.issues, ctx.value, ['tls'], 'is required unless host is a loopback address');
  });
}

/** Traits may be pinned where the probe may not write; docs of each are at `StoreTraits`. */
function traits() {
  const trait = (text: string) => z.boolean().exactOptional().describe(text);
  return strict({
    refusesShortBody: trait('Keeps the old object when a body ends before its Content-Length.'),
    acceptsTrailers: trait('Takes a body with a CRC32 trailer, and verifies it.'),
    putIfMatch: trait('Honours If-Match on PUT.'),
    putIfNoneMatch: trait('Honours `If-None-Match: *` on PUT.'),
    deleteIfMatch: trait('Honours If-Match on DELETE.'),
    keepsSlashBody: trait('Keeps a body under a key that ends in `/`.'),
    keepsSlashMetadata: trait('Keeps user metadata under a key that ends in `/`.'),
  });
}

const secretFile = (path: Path) =>
  path()
    .exactOptional()
    .describe('File with the secret access key; 0600. Give exactly one of secretFile and secretEnv.');
const secretEnv = () => variable().exactOptional().describe('Environment variable with the secret access key.');

/** Exactly one of the two references. */
function checkReference(issues: Issues, input: object, file: string, env: string): void {
  const given = [file, env].filter((field) => field in input);
  if (given.length === 1) return;
  issue(issues, input, [file], given.length === 0 ? `is required, or ${env}` : `and ${env} exclude each other`);
}

function secretRef(file: string | undefined, env: string | undefined): SecretRef {
  return file === undefined ? { kind: 'env', name: env ?? '' } : { kind: 'file', path: file };
}

const REMOTE = ['endpoint', 'region', 'pathStyle', 'accessKeyId', 'secretFile', 'secretEnv', 'caFile'] as const;

function store(path: Path) {
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
    accessKeyId: accessKeyId().exactOptional().describe("The service's own access key at the store."),
    secretFile: secretFile(path),
    secretEnv: secretEnv(),
    caFile: path().exactOptional().describe('PEM file with the certificate authorities of the store.'),
    systemBucket: z
      .string()
      .regex(/^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/, 'expected a bucket name of [a-z0-9-], 3 to 63 characters')
      .default('s3sse-system')
      .describe("The gateway's own bucket at the store; clients never see it."),
    traits: traits().prefault({}).describe('Pins what the store is known to do; the others are probed.'),
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
    .transform(({ embedded, endpoint, systemBucket, traits: pins, ...rest }) => {
      if (embedded !== undefined) return { kind: 'embedded' as const, ...embedded, systemBucket, traits: pins };
      return {
        kind: 's3' as const,
        endpoint: endpoint ?? '',
        region: rest.region ?? 'us-east-1',
        pathStyle: rest.pathStyle ?? true,
        accessKeyId: rest.accessKeyId ?? '',
        secret: secretRef(rest.secretFile, rest.secretEnv),
        ...(rest.caFile === undefined ? {} : { caFile: rest.caFile }),
        systemBucket,
        traits: pins,
      };
    });
}

function control(path: Path) {
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
      .describe('The local stop marker (`stopped.json` beside the directory); never inside the directory.'),
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

function kms() {
  return strict({
    source: z
      .enum(['api', 'file'])
      .default('api')
      .describe(
        '`file`: the section below rules, and configure answers 409. `api`: it only seeds an empty configuration.',
      ),
    config: z.record(z.string(), z.unknown()).exactOptional().describe('The body of `POST /kms/configure` (ADMIN.md).'),
  }).check((ctx) => {
    if (ctx.value.source === 'file' && ctx.value.config === undefined) {
      issue(ctx.issues, ctx.value, ['config'], 'is required when source is file');
    }
  });
}

function identity(path: Path) {
  return strict({
    name: name().describe('The principal in audit records and policies.'),
    accessKeyId: accessKeyId().describe('The access key id that it signs with.'),
    secretFile: secretFile(path),
    secretEnv: secretEnv(),
    plane: z.enum(['data', 'admin', 'both']).describe('Where it may be used; `both` needs breakGlass.'),
    breakGlass: z
      .boolean()
      .default(false)
      .describe('Allows plane `both`: one identity that reads data and rules keys.'),
    policies: z
      .array(z.union([name(), policyDocument()], { error: 'expected the name of a policy, or a policy document' }))
      .max(64)
      .default([])
      .describe('Names of policies or ready-made roles, or policy documents. None: everything is denied.'),
    store: strict({
      accessKeyId: accessKeyId().describe('Access key at the store.'),
      secretFile: secretFile(path),
      secretEnv: secretEnv(),
    })
      .check((ctx) => checkReference(ctx.issues, ctx.value, 'secretFile', 'secretEnv'))
      .transform((own) => ({ accessKeyId: own.accessKeyId, secret: secretRef(own.secretFile, own.secretEnv) }))
      .exactOptional()
      .describe("Credentials of its own at the store, instead of the service's."),
  })
    .check((ctx) => {
      checkReference(ctx.issues, ctx.value, 'secretFile', 'secretEnv');
      if ((ctx.value.plane === 'both') !== ctx.value.breakGlass) {
        issue(ctx.issues, ctx.value, ['plane'], 'is `both` exactly when breakGlass is true');
      }
    })
    .transform(({ secretFile: file, secretEnv: env, ...rest }) => ({ ...rest, secret: secretRef(file, env) }));
}

function checkIdentities(list: readonly { name: string; accessKeyId: string }[], issues: Issues): void {
  for (const field of ['name', 'accessKeyId'] as const) {
    const seen = new Set<string>();
    list.forEach((entry, index) => {
      if (seen.has(entry[field])) issue(issues, list, ['identities', index, field], 'is used by another identity');
      seen.add(entry[field]);
    });
  }
}

function audit(path: Path) {
  const sink = z.enum(['file', 'stdout']);
  return strict({
    file: strict({
      path: path().describe('Base name; a chain writes `<base>-<start>-<chain>-<number>.jsonl` beside it.'),
      maxBytes: z
        .number()
        .int()
        .min(65_536)
        .max(4_294_967_296)
        .default(104_857_600)
        .describe('Size at which a file is closed.'),
      keep: z.number().int().min(0).max(100_000).default(0).describe('Closed files to keep; 0 keeps all.'),
    })
      .exactOptional()
      .describe('Audit files, 0600.'),
    stdout: z.boolean().exactOptional().describe('Records on standard output (true when there is no file).'),
    required: z
      .array(sink)
      .max(2)
      .exactOptional()
      .describe(
        'Sinks that must accept the intent before a key is used or the service changed (every one that is set).',
      ),
  })
    .check((ctx) => {
      const { file, stdout = file === undefined, required = [] } = ctx.value;
      const set = { file: file !== undefined, stdout };
      if (!set.file && !set.stdout) issue(ctx.issues, ctx.value, ['stdout'], 'must be true without a file');
      required.forEach((entry, index) => {
        if (!set[entry]) issue(ctx.issues, ctx.value, ['required', index], 'names a sink that is not set');
      });
      if (ctx.value.required?.length === 0) issue(ctx.issues, ctx.value, ['required'], 'must name at least one sink');
    })
    .transform(({ file, stdout = file === undefined, required }) => ({
      ...(file === undefined ? {} : { file }),
      stdout,
      required: required ?? [...(file === undefined ? [] : ['file' as const]), ...(stdout ? ['stdout' as const] : [])],
    }));
}

function development() {
  return strict({
    allowInsecureSseC: z.boolean().default(false).describe('Takes SSE-C keys over plain HTTP.'),
    skipTlsVerify: z.boolean().default(false).describe('Does not verify the certificates of the store and of the KMS.'),
  });
}

function isOrigin(text: string): boolean {
  if (text.length > 512 || !URL.canParse(text)) return false;
  const url = new URL(text);
  if (!/^https?:$/.test(url.protocol)) return false;
  return url.username === '' && url.password === '' && url.pathname === '/' && !/[?#]/.test(text);
}

/** 127.0.0.0/8, ::1 and localhost. */
export function isLoopback(text: string): boolean {
  return text === 'localhost' || text === '::1' || (isIP(text) === 4 && text.startsWith('127.'));
}

function isAddressRange(text: string): boolean {
  const [address = '', bits, more] = text.split('/');
  const family = isIP(address);
  if (family === 0 || more !== undefined || address.includes('%')) return false;
  return bits === undefined || (/^[1-9]\d{0,2}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128));
}

type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T;

/** The whole configuration: validated, frozen, without secrets. */
export type Config = DeepReadonly<z.output<ReturnType<typeof configSchema>>>;
