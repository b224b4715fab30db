import { createHash } from 'node:crypto';
import { mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync, unlinkSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ServiceError } from '../errors.ts';
import { Draft, readRecord, syncDirectory, type BodyRecord, type Durability } from './disk.ts';
import { KeyIndex } from './keys.ts';

/** What is kept with an object, as the index holds it and as the record behind its body says. */
export interface ObjectRecord extends BodyRecord {
  readonly key: string;
  /** Lower-cased response headers: content headers, `x-amz-meta-*`, storage class. */
  readonly headers: Readonly<Record<string, string>>;
  readonly tags: readonly (readonly [name: string, value: string])[];
  /** The upload that made it: a Complete that is sent again is answered from here. */
  readonly uploadId?: string;
}

export interface Part extends BodyRecord {
  readonly number: number;
}

export interface UploadRecord {
  readonly id: string;
  readonly key: string;
  readonly headers: ObjectRecord['headers'];
  readonly tags: ObjectRecord['tags'];
  readonly initiated: number;
}

export interface Upload extends UploadRecord {
  readonly directory: string;
  readonly parts: Map<number, Part>;
}

export interface Bucket {
  readonly name: string;
  readonly created: number;
  readonly directory: string;
  readonly objects: KeyIndex<ObjectRecord>;
  readonly uploads: Map<string, Upload>;
}

/**
 * The folder of the development store. One running store per folder: the index lives in memory and is rebuilt from
 * the files at start.
 *
 *   tmp/                                drafts and what is being removed; emptied at start
 *   buckets/<bucket>/bucket.json        { created }
 *   buckets/<bucket>/objects/<sha256>   record file of the object whose key has this SHA-256
 *   buckets/<bucket>/uploads/<id>/      upload.json, and a record file per part, named by its number
 *
 * No key is ever part of a path. Whatever becomes visible does so by one rename, in the same turn of the event loop
 * in which its condition was checked and the index changed: that is what makes a conditional write atomic.
 */
export class DevDisk {
  readonly buckets = new Map<string, Bucket>();
  readonly durability: Durability;
  readonly #root: string;
  readonly #tmp: string;

  constructor(directory: string, durability: Durability) {
    this.durability = durability;
    this.#root = join(directory, 'buckets');
    this.#tmp = join(directory, 'tmp');
    // Drafts of a process that was killed; nothing in here was ever answered.
    rmSync(this.#tmp, { recursive: true, force: true });
    mkdirSync(this.#root, { recursive: true, mode: 0o700 });
    mkdirSync(this.#tmp, { mode: 0o700 });
    for (const name of readdirSync(this.#root)) this.buckets.set(name, loadBucket(name, join(this.#root, name)));
  }

  bucket(name: string): Bucket {
    const bucket = this.buckets.get(name);
    if (!bucket) throw new ServiceError('NoSuchBucket');
    return bucket;
  }

  async createBucket(name: string, created: number): Promise<void> {
    const draft = await this.#folder({ 'bucket.json': { created } }, ['objects', 'uploads']);
    if (this.buckets.has(name)) {
      await rm(draft, { recursive: true });
      throw new ServiceError('BucketAlreadyOwnedByYou');
    }
    const directory = join(this.#root, name);
    renameSync(draft, directory);
    this.buckets.set(name, { name, created, directory, objects: new KeyIndex(), uploads: new Map() });
    await syncDirectory(this.#root, this.durability);
  }

  /** Removes an empty bucket with its unfinished uploads. */
  async deleteBucket(name: string): Promise<void> {
    const bucket = this.bucket(name);
    if (bucket.objects.size > 0) throw new ServiceError('BucketNotEmpty');
    this.buckets.delete(name);
    await this.#remove(bucket.directory, `${name}.${bucket.created}`);
    await syncDirectory(this.#root, this.durability);
  }

  draft(): Promise<Draft> {
    return Draft.create(this.#tmp);
  }

  /**
   * Finishes a draft and puts it in the place of the object. `check` sees the object that is there at that moment,
   * and throws to keep it. The draft is consumed in every case.
   */
  async commit(
    bucket: Bucket,
    draft: Draft,
    record: ObjectRecord,
    check: (current: ObjectRecord | undefined) => void,
  ): Promise<void> {
    try {
      await draft.finish(record, this.durability);
      this.#stillThere(bucket);
      check(bucket.objects.get(record.key));
      renameSync(draft.path, objectPath(bucket, record.key));
      bucket.objects.set(record.key, record);
    } catch (err) {
      await draft.discard();
      throw err;
    }
    await syncDirectory(join(bucket.directory, 'objects'), this.durability);
  }

  /** Opens the object's file in the same turn as the index was read, so that record and body belong together. */
  openObject(bucket: Bucket, record: ObjectRecord): number {
    return openSync(objectPath(bucket, record.key), 'r');
  }

  async deleteObject(
    bucket: Bucket,
    key: string,
    check: (current: ObjectRecord | undefined) => void = () => undefined,
  ): Promise<void> {
    const current = bucket.objects.get(key);
    check(current);
    if (!current) return;
    unlinkSync(objectPath(bucket, key));
    bucket.objects.delete(key);
    await syncDirectory(join(bucket.directory, 'objects'), this.durability);
  }

  async createUpload(bucket: Bucket, record: UploadRecord): Promise<void> {
    const draft = await this.#folder({ 'upload.json': record }, []);
    this.#stillThere(bucket);
    const directory = join(bucket.directory, 'uploads', record.id);
    renameSync(draft, directory);
    bucket.uploads.set(record.id, { ...record, directory, parts: new Map() });
    await syncDirectory(join(bucket.directory, 'uploads'), this.durability);
  }

  async commitPart(bucket: Bucket, upload: Upload, draft: Draft, part: Part): Promise<void> {
    try {
      await draft.finish(part, this.durability);
      if (bucket.uploads.get(upload.id) !== upload) throw new ServiceError('NoSuchUpload');
      renameSync(draft.path, partPath(upload, part.number));
      upload.parts.set(part.number, part);
    } catch (err) {
      await draft.discard();
      throw err;
    }
    await syncDirectory(upload.directory, this.durability);
  }

  openPart(upload: Upload, part: Part): number {
    return openSync(partPath(upload, part.number), 'r');
  }

  async deleteUpload(bucket: Bucket, upload: Upload): Promise<void> {
    if (!bucket.uploads.delete(upload.id)) return;
    await this.#remove(upload.directory, upload.id);
    await syncDirectory(join(bucket.directory, 'uploads'), this.durability);
  }

  /** A bucket that was deleted while a body arrived takes it no more, not even when one of its name was made since. */
  #stillThere(bucket: Bucket): void {
    if (this.buckets.get(bucket.name) !== bucket) throw new ServiceError('NoSuchBucket');
  }

  async #folder(files: Readonly<Record<string, unknown>>, folders: readonly string[]): Promise<string> {
    const draft = await Draft.create(this.#tmp);
    await draft.discard();
    await mkdir(draft.path, { mode: 0o700 });
    for (const name of folders) await mkdir(join(draft.path, name), { mode: 0o700 });
    for (const [name, value] of Object.entries(files))
      await writeFile(join(draft.path, name), JSON.stringify(value), { flush: this.durability.fsync });
    await syncDirectory(draft.path, this.durability);
    return draft.path;
  }

  /** Out of sight by a rename, then away. */
  async #remove(directory: string, name: string): Promise<void> {
    const grave = join(this.#tmp, `removed.${name}`);
    renameSync(directory, grave);
    await rm(grave, { recursive: true, force: true });
  }
}

function objectPath(bucket: Bucket, key: string): string {
  return join(bucket.directory, 'objects', createHash('sha256').update(key, 'utf8').digest('hex'));
}

function partPath(upload: Upload, number: number): string {
  return join(upload.directory, String(number));
}

function loadBucket(name: string, directory: string): Bucket {
  const { created } = readJson(join(directory, 'bucket.json')) as { created: number };
  const records = readdirSync(join(directory, 'objects')).map((file) => {
    const record = readRecord(join(directory, 'objects', file)) as ObjectRecord;
    return [record.key, record] as const;
  });
  const uploads = readdirSync(join(directory, 'uploads')).map((id) => loadUpload(join(directory, 'uploads', id)));
  return {
    name,
    created,
    directory,
    objects: KeyIndex.from(records),
    uploads: new Map(uploads.map((upload) => [upload.id, upload])),
  };
}

function loadUpload(directory: string): Upload {
  const record = readJson(join(directory, 'upload.json')) as UploadRecord;
  const parts = readdirSync(directory)
    .filter((file) => file !== 'upload.json')
    .map((file) => readRecord(join(directory, file)) as Part);
  return { ...record, directory, parts: new Map(parts.map((part) => [part.number, part])) };
}

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(path, 'utf8'));
}
