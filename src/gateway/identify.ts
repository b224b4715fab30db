import type { IncomingMessage } from 'node:http';
import { asServiceError } from '../errors.ts';
import type { Identity } from '../iam/types.ts';
import { parseAddress } from '../s3/names.ts';
import type { Verified } from '../sigv4/types.ts';
import type { Verifier } from '../sigv4/verify.ts';
import { isForm, readForm, signedForm, type Form } from './form.ts';
import type { Arrival } from './http.ts';

/** Who asks; a form has been read up to its file to know it. */
export interface Caller {
  readonly caller: Verified<Identity>;
  readonly form?: Form;
}

/** What the request line and Host say of a place, before anybody is believed. */
export interface Asked {
  readonly arrival: Arrival;
  readonly mount: string;
  readonly baseHosts: readonly string[];
}

/** Verifies the head, or a form's policy. `accept` asks for the body, of which only a form needs a piece for that. */
export async function identify(
  verifier: Verifier<Identity>,
  req: IncomingMessage,
  asked: Asked,
  now: Date,
  accept: () => void,
): Promise<Caller> {
  const { head } = asked.arrival;
  if (!isForm(head, req)) return { caller: verifier.verify(head, now) };
  accept();
  const form = await readForm(req);
  try {
    return { caller: verifier.verifyPost(head, signedForm(form, bucketAsked(asked)), now), form };
  } catch (err) {
    form.cancel(asServiceError(err));
    throw err;
  }
}

/** The bucket that an unverified request is about; empty where it names none. */
export function bucketAsked({ arrival, mount, baseHosts }: Asked): string {
  const path = pathBelow(mount, arrival.head.target.split('?', 1)[0] ?? '');
  return parseAddress(path, arrival.host, baseHosts).bucket ?? '';
}

/** The path below the mount path, which is no part of any bucket's name. */
export function pathBelow(mount: string, path: string): string {
  const rest = path.startsWith(mount) ? path.slice(mount.length) : path;
  return rest === '' ? '/' : rest;
}
