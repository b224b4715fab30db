import { mkdir, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { errorCode, readPrivate, replaceFile, syncDirectory } from '../control/files.ts';

/**
 * The local stop marker: written before the control store is asked, so that a stop holds over a restart even when the
 * control store is down as a part of the same incident. One that is newer than the control store's generation wins.
 */
const markerSchema = z.strictObject({
  generation: z.int().positive(),
  reason: z.string().max(1024),
  by: z.string().max(1024),
  scope: z.enum(['managed', 'all']),
  at: z.string().max(64).optional(),
});
export type StopMarker = Readonly<z.infer<typeof markerSchema>>;

const LARGEST = 16_384;

/** The marker, or undefined where there is none. One that cannot be read is a stop: somebody meant to write one. */
export async function readMarker(path: string): Promise<StopMarker | undefined> {
  let text: string;
  try {
    text = (await readPrivate(path, LARGEST)).toString('utf8');
  } catch (err) {
    if (errorCode(err) === 'ENOENT' || errorCode(err) === 'ENOTDIR') return undefined;
    return unreadable();
  }
  try {
    return markerSchema.parse(JSON.parse(text));
  } catch {
    return unreadable();
  }
}

function unreadable(): StopMarker {
  return {
    generation: Number.MAX_SAFE_INTEGER,
    reason: 'the stop marker is not readable',
    by: 'marker',
    scope: 'managed',
  };
}

export async function writeMarker(path: string, marker: StopMarker): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await replaceFile(path, Buffer.from(`${JSON.stringify(marker)}\n`));
}

export async function removeMarker(path: string): Promise<void> {
  try {
    await unlink(path);
    await syncDirectory(dirname(path));
  } catch (err) {
    if (errorCode(err) !== 'ENOENT') throw err;
  }
}
