import type { IncomingMessage } from 'node:http';
import { Busboy, type BusboyFileStream, type BusboyInstance } from '@fastify/busboy';
import { ServiceError } from '../errors.ts';
import { MAX_KEY_BYTES } from '../s3/names.ts';
import { formHeaders } from '../s3/post-object.ts';
import type { RequestHead } from '../sigv4/types.ts';
import type { SignedForm } from '../sigv4/verify.ts';

/** AWS: what comes before the file. */
const MAX_FIELD_BYTES = 20 * 1024;
/** The same with its boundaries and part headers, and what may follow the file. */
const MAX_OVERHEAD = 128 * 1024;
const MAX_FIELDS = 200;
/** Nobody has verified yet, and a request of `data.concurrentRequests` is taken: as long as a head may take. */
const FIELDS_MS = 30_000;

/** A browser's upload as it comes: fields first, then the file, which is still to be read. */
export interface Form {
  /** Lower-cased names, those before the file. Nothing of them has verified. */
  readonly fields: ReadonlyMap<string, string>;
  /** Without its path; empty where the part has none. */
  readonly filename: string;
  /** The file's bytes, once. Whoever has read them all has to await `end` before they count. */
  readonly file: AsyncIterable<Buffer>;
  /** The closing boundary has come, and there was one file. */
  readonly end: Promise<void>;
  /** Ends the reading; the rest of the body is left where it is. */
  cancel(reason: Error): void;
}

/** A POST of a form that is not signed in its head: POST object, and nothing else. */
export function isForm({ method, target }: RequestHead, { headers }: IncomingMessage): boolean {
  const type = headers['content-type'] ?? '';
  const signed = headers.authorization !== undefined || target.includes('?');
  return method === 'POST' && !signed && /^multipart\/form-data(?:;|$)/i.test(type);
}

/** Reads a form up to its file. Bounded: no more than AWS takes before the file is ever held. */
export function readForm(req: IncomingMessage, fieldsMs = FIELDS_MS): Promise<Form> {
  return new Promise((resolve, reject) => {
    const reader = new FormReader(req, resolve, reject);
    reader.start(fieldsMs);
  });
}

/** The fields as the policy sees them: "all variables within the form are expanded prior to validating". */
export function signedForm({ fields: given, filename }: Form, bucket: string): SignedForm {
  const fields = new Map(given);
  const key = fields.get('key');
  if (key !== undefined) fields.set('key', expanded(key, filename));
  if (fields.has('bucket') && fields.get('bucket') !== bucket) throw invalid('The form is for another bucket.');
  fields.set('bucket', bucket);
  return { fields, headers: () => formHeaders(fields) };
}

const FILENAME = '${filename}';

/** Not before it is known to be short: nobody has verified, and 20 KB of it could ask for as many megabytes. */
function expanded(key: string, filename: string): string {
  const pieces = key.split(FILENAME);
  const length = key.length + (pieces.length - 1) * (filename.length - FILENAME.length);
  if (length > MAX_KEY_BYTES) throw new ServiceError('KeyTooLongError');
  return pieces.join(filename);
}

class FormReader {
  readonly #req: IncomingMessage;
  readonly #parser: BusboyInstance;
  readonly #found: (form: Form) => void;
  readonly #refused: (reason: Error) => void;
  readonly #fields = new Map<string, string>();
  readonly #end: Promise<void>;
  #settle: { readonly end: () => void; readonly fail: (reason: Error) => void };
  #file: BusboyFileStream | undefined;
  #fieldBytes = 0;
  #overhead = 0;
  #deadline: NodeJS.Timeout | undefined;

  constructor(req: IncomingMessage, found: (form: Form) => void, refused: (reason: Error) => void) {
    this.#req = req;
    this.#found = found;
    this.#refused = refused;
    this.#parser = createParser(req);
    this.#settle = { end: () => undefined, fail: () => undefined };
    this.#end = new Promise((end, fail) => {
      this.#settle = { end, fail };
    });
    this.#end.catch(() => undefined);
  }

  start(fieldsMs: number): void {
    const cancel = (reason: ServiceError) => (): void => this.#cancel(reason);
    this.#parser
      .on('field', (name: string | undefined, value, _nameCut, cut) => this.#onField(name, value, cut))
      .on('file', (_name, file, filename: string | undefined) => this.#onFile(file, filename ?? ''))
      .on('fieldsLimit', cancel(tooMuch()))
      .on('filesLimit', cancel(notOneFile()))
      .on('error', (cause) => this.#cancel(malformed(cause)))
      .on('finish', () => {
        if (this.#file === undefined) this.#cancel(notOneFile());
        else this.#settle.end();
      });
    this.#req.on('data', this.#count).once('close', this.#gone).pipe(this.#parser);
    this.#deadline = setTimeout(cancel(new ServiceError('RequestTimeout', { reason: 'form-fields' })), fieldsMs);
    // Gone before anybody listened.
    if (this.#req.destroyed) this.#gone();
  }

  #onField(name: string | undefined, value: string, cut: boolean): void {
    // Fields after the file are ignored.
    if (this.#file !== undefined) return;
    const field = name?.toLowerCase() ?? '';
    this.#fieldBytes += Buffer.byteLength(field) + Buffer.byteLength(value);
    if (cut || this.#fieldBytes > MAX_FIELD_BYTES) this.#cancel(tooMuch());
    else if (field === '') this.#cancel(malformed());
    else if (this.#fields.has(field)) this.#cancel(invalid('A form field must be given only once.'));
    else this.#fields.set(field, value);
  }

  #onFile(file: BusboyFileStream, filename: string): void {
    this.#file = file;
    clearTimeout(this.#deadline);
    file.once('end', () => {
      this.#overhead = 0;
    });
    const cancel = (reason: Error): void => this.#cancel(reason);
    this.#found({ fields: this.#fields, filename, file: bytesOf(file), end: this.#end, cancel });
  }

  /** What stands between the fields, and behind the file, is held by nobody, but costs time all the same. */
  readonly #count = (chunk: Buffer): void => {
    this.#overhead += chunk.length;
    const inFile = this.#file !== undefined && !this.#file.readableEnded;
    if (!inFile && this.#overhead > MAX_OVERHEAD) this.#cancel(tooMuch());
  };

  readonly #gone = (): void => {
    if (!this.#req.complete) this.#cancel(new ServiceError('IncompleteBody', { reason: 'client-gone' }));
  };

  #cancel(reason: Error): void {
    clearTimeout(this.#deadline);
    this.#req.unpipe(this.#parser).off('data', this.#count).off('close', this.#gone);
    this.#req.pause();
    this.#refused(reason);
    this.#settle.fail(reason);
    this.#file?.on('error', () => undefined).destroy(reason);
  }
}

async function* bytesOf(file: BusboyFileStream): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of file) yield chunk as Buffer;
  } catch (err) {
    throw err instanceof ServiceError ? err : malformed(err);
  }
}

function createParser({ headers }: IncomingMessage): BusboyInstance {
  const type = headers['content-type'] ?? '';
  try {
    return new Busboy({
      headers: { 'content-type': type },
      isPartAFile: (name) => name?.toLowerCase() === 'file',
      limits: { fields: MAX_FIELDS, fieldSize: MAX_FIELD_BYTES, files: 1, headerPairs: 16, headerSize: 8192 },
    });
  } catch (cause) {
    throw malformed(cause);
  }
}

function malformed(cause?: unknown): ServiceError {
  return new ServiceError('MalformedPOSTRequest', { cause });
}

function tooMuch(): ServiceError {
  return new ServiceError('MaxPostPreDataLengthExceededError');
}

function notOneFile(): ServiceError {
  return invalid('POST requires exactly one file upload per request.');
}

function invalid(message: string): ServiceError {
  return new ServiceError('InvalidArgument', { message, reason: 'form' });
}
