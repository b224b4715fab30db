import { resolve } from 'node:path';
import { z } from 'zod';
import {
  accessKeyId,
  checkReference,
  issue,
  name,
  policyDocument,
  secretEnv,
  secretFile,
  secretRef,
  storeAccessKeyId,
  type Issues,
  type Path,
} from './fields.ts';
import { adminListener, dataListener } from './listeners.ts';
import { control, store } from './stores.ts';
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
    blockedEncryptionTypes: z
      .array(z.enum(['SSE-C']))
      .max(1)
      .default([])
      .describe('What new buckets block, until PutBucketEncryption says otherwise. AWS blocks SSE-C since 2026.'),
    metadataIntegrity: z
      .enum(['enforce', 'report'])
      .default('enforce')
      .describe(
        'What happens when metadata at the store is not what was sealed: refuse the object, or serve and audit.',
      ),
  }).check((ctx) => checkIdentities(ctx.value.identities, ctx.issues));
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
      accessKeyId: storeAccessKeyId().describe('Access key at the store.'),
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
    skipTlsVerify: z
      .boolean()
      .default(false)
      .describe('Lets the key service take `skip_tls_verify` and plain HTTP towards the KMS.'),
  });
}

type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T;

/** The whole configuration: validated, frozen, without secrets. */
export type Config = DeepReadonly<z.output<ReturnType<typeof configSchema>>>;
