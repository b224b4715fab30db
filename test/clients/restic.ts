import { writeFile } from 'node:fs/promises';
import { expect } from 'vitest';
import type { Client, Session } from './client.ts';
import { PART_SIZE, type Place } from './place.ts';

const NO_SSE = 'it sends no encryption headers: the default of the bucket decides';

export const restic: Client = {
  name: 'restic',
  version: '0.14',
  source: 'Debian `restic`',
  settings: [
    { set: '`-o s3.bucket-lookup=path`', why: 'unless the gateway has `data.baseHosts` and a wildcard certificate' },
    { set: '`--cacert`', why: 'for a private authority' },
  ],
  lacks: {
    multipart: 'its files stay below the size from which it would send parts',
    copy: 'it copies nothing on the server',
    'copy in parts': 'it copies nothing on the server',
    move: 'it renames nothing',
    presign: 'it makes no URLs',
    'SSE-S3': NO_SSE,
    'SSE-KMS': NO_SSE,
    'SSE-C': NO_SSE,
    'SSE-C, wrong key': NO_SSE,
    'SSE-C over HTTP': NO_SSE,
  },
  open: (place) => Promise.resolve(new Restic(place)),
};

class Restic implements Session {
  readonly #place: Place;

  constructor(place: Place) {
    this.#place = place;
  }

  async #restic(...args: readonly string[]): Promise<Buffer> {
    const { gateway, caFile, bucket } = this.#place;
    const env = {
      AWS_ACCESS_KEY_ID: gateway.accessKeyId,
      AWS_SECRET_ACCESS_KEY: gateway.secretAccessKey,
      RESTIC_PASSWORD: 'of the repository',
    };
    const ca = gateway.ca === undefined ? [] : ['--cacert', caFile];
    const repository = ['-r', `s3:${gateway.endpoint}/${bucket}/repository`, '-o', 's3.bucket-lookup=path', ...ca];
    return (await this.#place.run('restic', [...args, ...repository, '--no-cache'], { env })).bytes;
  }

  async #json<T>(...args: readonly string[]): Promise<T[]> {
    const lines = (await this.#restic(...args, '--json')).toString().trim().split('\n');
    return lines.flatMap((line) => JSON.parse(line) as T | T[]);
  }

  async version(): Promise<string> {
    return (await this.#place.run('restic', ['version'])).stdout;
  }

  async #backup(): Promise<number> {
    const said = await this.#json<{ message_type: string; data_added: number }>('backup', this.#place.path('tree'));
    return said.find(({ message_type: type }) => type === 'summary')?.data_added ?? -1;
  }

  readonly steps: Session['steps'] = {
    upload: async () => {
      const tree = await this.#place.makeTree('tree', 60);
      await writeFile(`${tree}/large.bin`, this.#place.large.bytes);
      await this.#restic('init');
      expect(await this.#backup()).toBeGreaterThan(this.#place.large.bytes.length);
    },
    head: async () => {
      const [size] = await this.#json<{ total_size: number }>('stats', '--mode', 'raw-data');
      expect(size?.total_size).toBeGreaterThan(this.#place.large.bytes.length);
    },
    list: async () => {
      const snapshots = await this.#json<{ paths: string[] }>('snapshots');
      expect(snapshots.map(({ paths }) => paths)).toEqual([[this.#place.path('tree')]]);
    },
    download: async () => {
      await this.#restic('restore', 'latest', '--target', this.#place.path('restored'));
      await this.#place.expectSameTree(
        this.#place.path('restored', this.#place.path('tree')),
        this.#place.path('tree'),
      );
    },
    range: async () => {
      // Files of a repository are read blob by blob, which are ranges.
      const got = await this.#restic('dump', 'latest', this.#place.path('tree', 'large.bin'));
      expect(got.subarray(PART_SIZE).equals(this.#place.large.bytes.subarray(PART_SIZE))).toBe(true);
    },
    sync: async () => {
      // A second backup adds the snapshot and nothing of the files.
      expect(await this.#backup()).toBeLessThan(100_000);
    },
    check: async () => {
      expect((await this.#restic('check', '--read-data')).toString()).toContain('no errors were found');
    },
    delete: async () => {
      await this.#restic('forget', '--keep-last', '1', '--prune');
      expect(await this.#json('snapshots')).toHaveLength(1);
      expect((await this.#restic('check')).toString()).toContain('no errors were found');
    },
  };
}
