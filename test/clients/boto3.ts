import { execFile, spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { access, mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { expect } from 'vitest';
import type { Client, Session, Step } from './client.ts';
import { KMS_KEY, PART_SIZE, type Place } from './place.ts';
import { clientEnvironment } from '../support/program.ts';

const PYTHON = '/usr/bin/python3';
const CURRENT = '1.44.5';
const CACHE = join(import.meta.dirname, '..', '..', '.cache');

const common = {
  settings: [
    {
      set: "`signature_version='s3v4'`",
      why: 'presigned URLs are signed with version 2 otherwise, which the gateway refuses',
    },
    {
      set: "`s3={'addressing_style': 'path'}`",
      why: 'unless the gateway has `data.baseHosts` and a wildcard certificate',
    },
  ],
  lacks: {
    sync: 'boto3 has no such operation',
    check: 'boto3 has no such operation',
    move: 'boto3 has no such operation',
  },
};

export const debianBoto3: Client = {
  ...common,
  name: 'boto3 (Debian)',
  version: '1.26',
  source: 'Debian `python3-boto3`',
  open: (place) => Boto3.start(place, undefined),
};

export const currentBoto3: Client = {
  ...common,
  name: 'boto3 (current)',
  version: CURRENT,
  source: 'Python index `boto3`',
  open: async (place) => Boto3.start(place, await installed()),
};

/** The current boto3 in a folder of the cache, made whole before it has its name. */
async function installed(): Promise<string> {
  const folder = join(CACHE, `boto3-${CURRENT}`);
  const isThere = () =>
    access(join(folder, 'boto3')).then(
      () => true,
      () => false,
    );
  if (await isThere()) return folder;
  await mkdir(CACHE, { recursive: true });
  const fresh = `${folder}.${process.pid}`;
  const pip = ['-m', 'pip', 'install', '--disable-pip-version-check', '--no-input', '--quiet', '--target', fresh];
  await promisify(execFile)(PYTHON, [...pip, `boto3==${CURRENT}`], { timeout: 300_000 });
  // Another worker may have been as quick.
  await rename(fresh, folder).catch(async (err: unknown) => {
    await rm(fresh, { recursive: true, force: true });
    if (!(await isThere())) throw err;
  });
  return folder;
}

interface Answer {
  readonly error?: string;
  readonly version?: string;
}

/** One Python process that does the steps of boto3_steps.py as they are asked for. */
class Boto3 implements Session {
  readonly #place: Place;
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #answers: AsyncIterator<string>;
  #version = '';
  #said = '';

  private constructor(place: Place, packages: string | undefined) {
    this.#place = place;
    const { gateway, bucket, other, small, large, key, wrongKey, folder } = place;
    const told = {
      ...{ endpoint: gateway.endpoint, bucket, other, kmsKey: KMS_KEY, partSize: PART_SIZE },
      ...{ small: small.path, large: large.path, key: key.file, wrongKey: wrongKey.file },
      caFile: gateway.ca === undefined ? '' : place.caFile,
    };
    const env = clientEnvironment(folder, {
      AWS_ACCESS_KEY_ID: gateway.accessKeyId,
      AWS_SECRET_ACCESS_KEY: gateway.secretAccessKey,
      PLACE: JSON.stringify(told),
      PYTHONDONTWRITEBYTECODE: packages === undefined ? '1' : '',
      ...(packages === undefined ? {} : { PYTHONPATH: packages }),
    });
    const script = join(import.meta.dirname, 'boto3_steps.py');
    this.#child = spawn(PYTHON, [script], { cwd: folder, env });
    this.#child.stderr.on('data', (chunk: Buffer) => {
      this.#said += chunk.toString();
    });
    this.#answers = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  static async start(place: Place, packages: string | undefined): Promise<Boto3> {
    const session = new Boto3(place, packages);
    session.#version = (await session.#answer()).version ?? '';
    return session;
  }

  version(): Promise<string> {
    return Promise.resolve(this.#version);
  }

  close(): Promise<void> {
    const ended = new Promise<void>((resolve) => this.#child.once('exit', () => resolve()));
    this.#child.stdin.end();
    return this.#child.exitCode === null ? ended : Promise.resolve();
  }

  async #answer(): Promise<Answer> {
    const line = (await this.#answers.next()) as IteratorResult<string, undefined>;
    if (line.done === true) throw new Error(`python3 ended: ${this.#said}`);
    return JSON.parse(line.value) as Answer;
  }

  #does(step: string, check: Step = () => Promise.resolve()): Step {
    return async () => {
      this.#child.stdin.write(`${JSON.stringify({ step })}\n`);
      const { error } = await this.#answer();
      if (error !== undefined) throw new Error(error);
      await check();
    };
  }

  #sealed(
    bucket: 'bucket' | 'other',
    small: string | undefined,
    large: string | undefined,
    mode: 'aws:kms' | 'AES256',
  ): Step {
    const place = this.#place;
    return async () => {
      if (small !== undefined) await place.expectObject(place[bucket], small, place.small, mode);
      if (large !== undefined) await place.expectObject(place[bucket], large, place.large, mode);
    };
  }

  get steps(): Session['steps'] {
    const place = this.#place;
    return {
      upload: this.#does('upload', this.#sealed('bucket', 'small.bin', undefined, 'aws:kms')),
      multipart: this.#does('multipart', this.#sealed('bucket', undefined, 'large.bin', 'aws:kms')),
      head: this.#does('head'),
      list: this.#does('list'),
      download: this.#does('download'),
      range: this.#does('range'),
      copy: this.#does('copy', this.#sealed('bucket', 'copy/small', undefined, 'aws:kms')),
      'copy in parts': this.#does('copy in parts', this.#sealed('bucket', undefined, 'copy/parts', 'aws:kms')),
      presign: this.#does('presign', this.#sealed('bucket', 'presigned', undefined, 'aws:kms')),
      'SSE-S3': this.#does('SSE-S3', this.#sealed('bucket', 'sse-s3/small', 'sse-s3/large', 'AES256')),
      'SSE-KMS': this.#does('SSE-KMS', this.#sealed('other', 'sse-kms/small', 'sse-kms/large', 'aws:kms')),
      'SSE-C': this.#does('SSE-C', async () => {
        await place.expectCustomerObject(place.other, 'sse-c/small', place.small);
        await place.expectCustomerObject(place.other, 'sse-c/large', place.large);
      }),
      'SSE-C, wrong key': this.#does('SSE-C, wrong key'),
      'SSE-C over HTTP': this.#does('SSE-C over HTTP', async () => {
        expect(await place.status(place.other, 'sse-c/small')).toBe(404);
      }),
      delete: this.#does('delete'),
    };
  }
}
