import { randomBytes } from 'node:crypto';
import type { Upload } from '../stores/site.ts';
import { xmlText, xmlTexts, type RawResponse } from '../support/s3-raw.ts';
import type { Lane } from './lane.ts';

/** One operation in a place of its own, ready to be asked for as often as one likes. */
export interface Prepared {
  /** The client's request; a retry is the same again. */
  send(): Promise<RawResponse>;
  /** What the next reader sees, in a word. */
  look(): Promise<string>;
  readonly before: string;
  readonly after: string;
  /** Looks once more, when all is done: what is wrong with what came of it. */
  ends?(): Promise<string | undefined>;
  /** A 2xx that is not right: half an object, a list that lacks something. */
  wrong?(answer: RawResponse): string | undefined;
}

export interface FaultedOperation {
  readonly name: string;
  /** Errors that end it where a fault may make them true, beside those that a client retries. */
  readonly finals?: readonly string[];
  /** What a plain retry may be told, beside success: that the first attempt has done it. */
  readonly retried?: readonly string[];
  /** What is known to go wrong, and why we live with it: `step, fault`. */
  readonly gaps?: Readonly<Record<string, string>>;
  /** Megabytes: some kinds, and not everything at once. */
  readonly heavy?: true;
  /** Only the steps of this name: what differs from another row. */
  readonly only?: RegExp;
  prepare(lane: Lane): Promise<Prepared>;
}

export const OLD = randomBytes(700);
export const bodies = {
  small: randomBytes(3_000),
  /** Streamed. */
  middle: randomBytes(200_000),
  /** Streamed, and sent to the store with `Expect: 100-continue`. */
  large: randomBytes(1_300_000),
  /** No part of less would be the store's. */
  part: randomBytes(5 * 1024 ** 2),
  /** Of a form. */
  twoParts: randomBytes(8 * 1024 ** 2 + 1),
};

/** Puts, with a plain retry of what this lane itself does to prepare. */
export async function ready(answer: Promise<RawResponse>): Promise<RawResponse> {
  const told = await answer;
  if (told.status > 299) throw new Error(`not prepared: ${told.status} ${told.text}`);
  return told;
}

/** Which of the known bodies lies there whole, `absent`, or what else is seen. */
export async function holds(lane: Lane, key: string, known: Readonly<Record<string, Buffer>>): Promise<string> {
  const { status, body, text, complete } = await lane.site.get(key);
  if (status !== 200) return status === 404 ? 'absent' : `${status} ${xmlText(text, 'Code')}`;
  const name = Object.entries(known).find(([, bytes]) => bytes.equals(body))?.[0];
  return complete && name !== undefined ? name : `${body.length} bytes that nobody wrote`;
}

export async function single(lane: Lane, key: string, body: Buffer): Promise<Buffer> {
  await ready(lane.site.put(key, body));
  return body;
}

/** The key of an object that nothing changes. */
export function old(lane: Lane): Promise<string> {
  return lane.shared('old', async () => {
    const key = lane.key('old');
    await single(lane, key, OLD);
    return key;
  });
}

interface OnePart {
  readonly lane: Lane;
  readonly key: string;
  readonly upload: Upload;
  /** The part's bytes, and so the object's. */
  readonly body: Buffer;
  readonly send: () => Promise<RawResponse>;
  readonly etagOf: (answer: RawResponse) => string;
}

/** One part of an upload over an object of before: whether it is listed, and that Complete makes the object of it. */
export function onePart({ lane, key, upload, body, send, etagOf }: OnePart): Prepared {
  let etag = '';
  return {
    async send() {
      const answer = await send();
      etag = etagOf(answer);
      return answer;
    },
    async look() {
      const listed = etag !== '' && xmlTexts((await upload.parts()).text, 'ETag').includes(etag);
      return `${await holds(lane, key, { old: OLD })}, ${listed ? 'a part' : 'none'}`;
    },
    before: 'old, none',
    after: 'old, a part',
    async ends() {
      const { status, text } = await upload.complete([{ number: 1, etag }]);
      const seen = await holds(lane, key, { old: OLD, new: body });
      return seen === 'new' ? undefined : `Complete is told ${status} ${text}, and it is ${seen}`;
    },
  };
}
