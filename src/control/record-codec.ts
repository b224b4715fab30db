import type { KeyObject } from 'node:crypto';
import { z } from 'zod';
import { ServiceError } from '../errors.ts';
import { SEALED_PREFIXES, type Json } from './port.ts';
import { open, seal } from './seal.ts';

/** Bytes of one record's file. */
export const LARGEST = 1 << 20;
const recordSchema = z.strictObject({ name: z.string(), version: z.int().positive(), value: z.json() });
const sealedSchema = z.strictObject({ sealed: z.base64() });

export function unavailable(message: string, reason = 'control-store', cause?: unknown): ServiceError {
  return new ServiceError('ServiceUnavailable', { message, reason, cause, headers: { 'Retry-After': '2' } });
}

/** A record as the bytes of its file: JSON, whose value is sealed where the name asks for it. */
export class RecordCodec {
  readonly #key: KeyObject;

  constructor(key: KeyObject) {
    this.#key = key;
  }

  /** Throws RangeError above `LARGEST`. */
  encode(name: string, value: Json, version: number): Buffer {
    const kept = value !== null && isSealed(name) ? this.#seal(name, value, version) : value;
    const bytes = Buffer.from(`${JSON.stringify({ name, version, value: kept })}\n`);
    if (bytes.byteLength > LARGEST) throw new RangeError('the record is too large');
    return bytes;
  }

  /** The file says its own name and version: one that was renamed, or moved by a restore, is not believed. */
  decode(name: string, version: number, bytes: Buffer): Json {
    const record = recordSchema.safeParse(parseJson(bytes.toString('utf8')));
    if (!record.success || record.data.name !== name || record.data.version !== version) {
      throw unavailable(`The record ${name} is damaged.`, 'control-damaged');
    }
    const value = record.data.value as Json;
    return value !== null && isSealed(name) ? this.#open(name, value, version) : value;
  }

  #seal(name: string, value: Json, version: number): Json {
    const plaintext = Buffer.from(JSON.stringify(value));
    const sealed = seal(this.#key, plaintext, recordAad(name, version)).toString('base64');
    plaintext.fill(0);
    return { sealed };
  }

  #open(name: string, value: Json, version: number): Json {
    const { success, data } = sealedSchema.safeParse(value);
    const plaintext = success
      ? open(this.#key, Buffer.from(data.sealed, 'base64'), recordAad(name, version))
      : undefined;
    if (plaintext === undefined) {
      throw unavailable(`The record ${name} does not open under this master key.`, 'control-damaged');
    }
    const opened = parseJson(plaintext.toString('utf8')) as Json;
    plaintext.fill(0);
    return opened;
  }
}

function isSealed(name: string): boolean {
  return SEALED_PREFIXES.some((prefix) => name.startsWith(prefix));
}

function recordAad(name: string, version: number): Buffer {
  return Buffer.from(`${name}\0${version}`);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
