import { awsCli } from './aws-cli.ts';
import { awsSdk } from './aws-sdk.ts';
import { currentBoto3, debianBoto3 } from './boto3.ts';
import type { Client } from './client.ts';
import { curl } from './curl.ts';
import { minioJs } from './minio.ts';
import { rclones } from './rclone.ts';
import { restic } from './restic.ts';
import { s3cmd } from './s3cmd.ts';
import { s3fs } from './s3fs.ts';

/** The matrix, in the order of docs/CLIENTS.md. */
export const CLIENTS: readonly Client[] = [
  awsCli,
  debianBoto3,
  currentBoto3,
  awsSdk,
  minioJs,
  ...rclones,
  s3cmd,
  restic,
  s3fs,
  curl,
];
