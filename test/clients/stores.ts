import type { StoreName } from '../stores/store.ts';

/** The stores of the matrix, as docs/CLIENTS.md names them. Each has a file in `stores/`. */
export const MATRIX_STORES: readonly { readonly name: StoreName; readonly title: string }[] = [
  { name: 'devstore', title: 'the embedded one' },
  { name: 'seaweedfs', title: 'SeaweedFS 4.48' },
  { name: 'versitygw', title: 'versitygw 1.8' },
  { name: 'radosgw', title: 'Ceph radosgw 16.2' },
  { name: 'minio', title: 'MinIO of February 2026' },
];
