import { z } from 'zod';
import type { SecretRef } from './secrets.ts';

/** Makes the schema of a path; relative ones are taken from the folder of the configuration file. */
export type Path = () => z.ZodType<string, string>;
export type Issues = z.core.$ZodRawIssue[];

export function issue(issues: Issues, input: unknown, path: PropertyKey[], message: string): void {
  issues.push({ code: 'custom', input, path, message });
}

export const name = () =>
  z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/, 'expected a name of [A-Za-z0-9._@-], at most 64');
export const region = () => z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'expected a region name such as us-east-1');
export const accessKeyId = () =>
  z.string().regex(/^[A-Za-z0-9_.-]{3,128}$/, 'expected an access key id of [A-Za-z0-9_.-], 3 to 128 characters');
/** At the store; tempauth of OpenStack Swift has `account:user`. */
export const storeAccessKeyId = () =>
  z.string().regex(/^[A-Za-z0-9_.:-]{3,128}$/, 'expected an access key id of [A-Za-z0-9_.:-], 3 to 128 characters');
export const variable = () =>
  z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'expected the name of an environment variable');
export const policyDocument = () => z.record(z.string(), z.unknown()).describe('An IAM policy document.');

export const secretFile = (path: Path) =>
  path()
    .exactOptional()
    .describe('File with the secret access key; 0600. Give exactly one of secretFile and secretEnv.');
export const secretEnv = () => variable().exactOptional().describe('Environment variable with the secret access key.');

/** Exactly one of the two references. */
export function checkReference(issues: Issues, input: object, file: string, env: string): void {
  const given = [file, env].filter((field) => field in input);
  if (given.length === 1) return;
  issue(issues, input, [file], given.length === 0 ? `is required, or ${env}` : `and ${env} exclude each other`);
}

export function secretRef(file: string | undefined, env: string | undefined): SecretRef {
  return file === undefined ? { kind: 'env', name: env ?? '' } : { kind: 'file', path: file };
}
