import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { customerKey } from '../support/modes.ts';
import { s3, type RawStore } from '../support/s3-raw.ts';
import type { Transport } from './client.ts';
import { runProgram, type Output, type RunOptions } from '../support/program.ts';

/** A file that clients upload. */
export interface Sample {
  readonly path: string;
  readonly bytes: Buffer;
}

export interface CustomerKey {
  /** 32 raw bytes. */
  readonly file: string;
  readonly bytes: Buffer;
  readonly headers: Readonly<Record<string, string>>;
}

export const SMALL_SIZE = 5_011;
/** Three parts of at most 5 MiB. */
export const LARGE_SIZE = 11 * 1024 * 1024 + 3;
export const PART_SIZE = 5 * 1024 * 1024;
/** Under it `bucket.host` is virtual-host style; no resolver knows it. */
export const BASE_HOST = 's3.test';
/** The key of the buckets' default, and of `SSE-KMS`. */
export const KMS_KEY = 'data';

const SSE = 'x-amz-server-side-encryption';
const NAMESPACE = 'http://s3.amazonaws.com/doc/2006-03-01/';

/**
 * Where one client works: a gateway, buckets and a home of its own, two files to upload, and the raw client that looks
 * at what really came of it.
 */
export class Place {
  readonly transport: Transport;
  readonly gateway: RawStore;
  /** Home of the client. */
  readonly folder: string;
  /** PEM of the private authority behind https. */
  readonly caFile: string;
  /** A bucket whose default is SSE-KMS. */
  readonly bucket: string;
  /** A bucket whose default is SSE-S3, for what asks for a mode itself. */
  readonly other: string;
  readonly small: Sample;
  readonly large: Sample;
  readonly key: CustomerKey;
  readonly wrongKey: CustomerKey;
  /** How many files the sync of many has here. */
  readonly manyFiles: number;

  private constructor(gateway: RawStore, folder: string, name: string, manyFiles: number) {
    this.manyFiles = manyFiles;
    this.gateway = gateway;
    this.transport = gateway.endpoint.startsWith('https:') ? 'https' : 'http';
    this.folder = folder;
    this.caFile = join(folder, 'ca.pem');
    [this.bucket, this.other] = [`${name}-kms`, `${name}-s3`];
    this.small = { path: join(folder, 'small.bin'), bytes: randomBytes(SMALL_SIZE) };
    this.large = { path: join(folder, 'large.bin'), bytes: randomBytes(LARGE_SIZE) };
    [this.key, this.wrongKey] = [makeKey(join(folder, 'customer.key')), makeKey(join(folder, 'wrong.key'))];
  }

  static async make(gateway: RawStore, folder: string, name: string, manyFiles: number): Promise<Place> {
    const place = new Place(gateway, folder, name, manyFiles);
    await mkdir(folder, { recursive: true });
    if (gateway.ca !== undefined) await writeFile(place.caFile, gateway.ca);
    for (const { path, bytes } of [place.small, place.large]) await writeFile(path, bytes);
    for (const { file, bytes } of [place.key, place.wrongKey]) await writeFile(file, bytes, { mode: 0o600 });
    await place.#makeBucket(
      place.bucket,
      `<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>${KMS_KEY}</KMSMasterKeyID>`,
    );
    await place.#makeBucket(place.other, '<SSEAlgorithm>AES256</SSEAlgorithm>');
    return place;
  }

  async #makeBucket(bucket: string, byDefault: string): Promise<void> {
    const made = await s3(this.gateway, { method: 'PUT', bucket });
    expect(made.status, made.text).toBe(200);
    const rule = `<Rule><ApplyServerSideEncryptionByDefault>${byDefault}</ApplyServerSideEncryptionByDefault></Rule>`;
    const body = `<ServerSideEncryptionConfiguration xmlns="${NAMESPACE}">${rule}</ServerSideEncryptionConfiguration>`;
    const set = await s3(this.gateway, { method: 'PUT', bucket, query: { encryption: '' }, body });
    expect(set.status, set.text).toBe(200);
  }

  /** The endpoint for virtual-host style, for `runWithHosts`. */
  get virtualHostEndpoint(): string {
    const { protocol, port } = new URL(this.gateway.endpoint);
    return `${protocol}//${BASE_HOST}:${port}`;
  }

  get host(): string {
    return new URL(this.gateway.endpoint).host;
  }

  run(program: string, args: readonly string[], options?: RunOptions): Promise<Output> {
    return runProgram(this.folder, program, args, options);
  }

  /** Runs a program in a mount namespace of its own, in which the buckets have their virtual hosts. */
  async runWithHosts(program: string, args: readonly string[]): Promise<Output> {
    const hosts = this.path('hosts');
    const names = [this.bucket, this.other].map((bucket) => `${bucket}.${BASE_HOST}`);
    await writeFile(hosts, ['localhost', ...names].map((name) => `127.0.0.1 ${name}\n`).join(''));
    const script = 'mount --bind "$0" /etc/hosts && exec "$@"';
    return this.run('unshare', ['--mount', '--map-root-user', 'sh', '-c', script, hosts, program, ...args]);
  }

  path(...names: readonly string[]): string {
    return join(this.folder, ...names);
  }

  /** A file that the client brought back is what was uploaded. */
  async expectFile(path: string, { bytes }: Sample): Promise<void> {
    expect(digest(await readFile(path))).toBe(digest(bytes));
  }

  /** The object as another client sees it: these bytes, in this mode. */
  async expectObject(bucket: string, key: string, { bytes }: Sample, mode: 'aws:kms' | 'AES256'): Promise<void> {
    const { status, headers, body, text } = await s3(this.gateway, { method: 'GET', bucket, key });
    expect(status, status === 200 ? '' : text).toBe(200);
    expect(headers[SSE]).toBe(mode);
    if (mode === 'aws:kms') expect(headers[`${SSE}-aws-kms-key-id`]).toMatch(new RegExp(`key/${KMS_KEY}$`));
    expect(digest(body)).toBe(digest(bytes));
  }

  /** The object under the customer's key: readable with it, and not without. */
  async expectCustomerObject(bucket: string, key: string, { bytes }: Sample): Promise<void> {
    const { status, headers, body, text } = await s3(this.gateway, {
      method: 'GET',
      bucket,
      key,
      headers: this.key.headers,
    });
    expect(status, status === 200 ? '' : text).toBe(200);
    expect(headers[`${SSE}-customer-algorithm`]).toBe('AES256');
    expect(digest(body)).toBe(digest(bytes));
    expect((await s3(this.gateway, { method: 'GET', bucket, key })).status).toBe(400);
  }

  /** HEAD by another client. */
  async status(bucket: string, key: string): Promise<number> {
    return (await s3(this.gateway, { method: 'HEAD', bucket, key })).status;
  }

  /** A folder of small files with awkward names; the same content at every call. */
  async makeTree(name: string, count: number): Promise<string> {
    const tree = this.path(name);
    for (const folder of ['', 'sub folder', 'sub folder/deeper']) await mkdir(join(tree, folder), { recursive: true });
    const folders = ['', 'sub folder/', 'sub folder/deeper/'];
    // Last-Modified has whole seconds: a file of the same second would be newer than its own upload.
    const made = new Date(Date.now() - 60_000);
    for (let i = 0; i < count; i++) {
      const path = `${folders[i % 3] ?? ''}file ${i}+é.txt`;
      await writeFile(join(tree, path), `${path}\n`.repeat(1 + (i % 50)));
      await utimes(join(tree, path), made, made);
    }
    return tree;
  }

  /** Two folders hold the same files with the same bytes. */
  async expectSameTree(actual: string, expected: string): Promise<void> {
    expect(await readTree(actual)).toEqual(await readTree(expected));
  }
}

function makeKey(file: string): CustomerKey {
  const bytes = randomBytes(32);
  return { file, bytes, headers: customerKey(bytes) };
}

export function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

async function readTree(folder: string): Promise<Record<string, string>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const pairs = await Promise.all(
    files.map(async (path) => [path.slice(folder.length), digest(await readFile(path))] as const),
  );
  return Object.fromEntries(pairs.sort(([a], [b]) => (a < b ? -1 : 1)));
}
