import type { StoreName } from '../stores/store.ts';
import type { StepName, Transport } from './client.ts';

/** Less than everything. */
export interface Smoke {
  readonly clients: readonly string[];
  readonly transport: Transport;
  readonly steps: readonly StepName[];
}

export interface MatrixStore {
  readonly name: StoreName;
  readonly title: string;
  /** A store that is met by some clients only; every other meets all of them, over both transports. */
  readonly smoke?: Smoke;
}

/** The stores of the matrix, as docs/CLIENTS.md names them. Each has a file in `stores/`. */
export const MATRIX_STORES: readonly MatrixStore[] = [
  { name: 'devstore', title: 'the embedded one' },
  { name: 'seaweedfs', title: 'SeaweedFS 4.48' },
  { name: 'versitygw', title: 'versitygw 1.8' },
  { name: 'radosgw', title: 'Ceph radosgw 16.2' },
  { name: 'minio', title: 'MinIO of February 2026' },
  {
    name: 'swift',
    title: 'OpenStack Swift 2.30 with its s3api',
    smoke: {
      clients: ['AWS CLI', 'boto3 (current)', 'AWS SDK for JavaScript'],
      transport: 'http',
      steps: ['upload', 'multipart', 'head', 'list', 'download', 'range', 'copy', 'copy in parts', 'SSE-S3', 'delete'],
    },
  },
];

/** What of the matrix a store is put to. */
export function isAsked(store: StoreName, client: string, transport: Transport, step?: StepName): boolean {
  const smoke = MATRIX_STORES.find(({ name }) => name === store)?.smoke;
  if (smoke === undefined) return true;
  const isOf = smoke.transport === transport && smoke.clients.includes(client);
  return isOf && (step === undefined || smoke.steps.includes(step));
}
