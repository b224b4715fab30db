import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import type { Site } from '../stores/site.ts';
import type { StoreName } from '../stores/store.ts';
import { xmlTexts } from '../support/s3-raw.ts';

/** Waits after a fault: versitygw shows the short body of a cut upload late, the others at once. */
export function settle(store: { readonly name: StoreName }): Promise<void> {
  return sleep(store.name === 'versitygw' ? 1_500 : 400);
}

/** Everything of an object that its next reader could see. */
export interface Seen {
  readonly status: number;
  readonly body: string;
  readonly headers: Readonly<Record<string, unknown>>;
}

const KEPT = ['etag', 'content-length', 'content-type', 'last-modified', 'x-amz-meta-note', 'cache-control'];

export async function see(site: Site, key: string): Promise<Seen> {
  const [got, head] = await Promise.all([site.get(key), site.send('HEAD', key)]);
  const kept = (headers: Readonly<Record<string, unknown>>) =>
    Object.fromEntries(KEPT.map((name) => [name, headers[name]]));
  // An error has a body for the GET only.
  if (got.status === 200) expect(kept(head.headers)).toEqual(kept(got.headers));
  return { status: got.status, body: got.body.toString('base64'), headers: kept(got.headers) };
}

/** Writes the object that is to outlive the fault, with metadata of its own. */
export async function putPrevious(site: Site, key: string, body: Buffer): Promise<Seen> {
  const note = `of ${key}`;
  const put = await site.put(key, body, {
    'x-amz-meta-note': note,
    'content-type': 'text/x-previous',
    'cache-control': 'max-age=7',
  });
  expect(put.status, put.text).toBe(200);
  const seen = await see(site, key);
  expect(seen).toMatchObject({ status: 200, headers: { etag: put.headers.etag, 'x-amz-meta-note': note } });
  expect(seen.body === body.toString('base64')).toBe(true);
  return seen;
}

export async function listed(site: Site, prefix: string): Promise<string[]> {
  const { status, text } = await site.send('GET', undefined, { query: { 'list-type': '2', prefix } });
  expect(status, text).toBe(200);
  return xmlTexts(text, 'Key').sort();
}
