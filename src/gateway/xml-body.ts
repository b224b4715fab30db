import { createHash } from 'node:crypto';

export const XML = { 'content-type': 'application/xml' } as const;

/** What stores demand of bodies that SDKs no longer send. */
export function contentMd5(body: Buffer): Record<string, string> {
  return { 'content-md5': createHash('md5').update(body).digest('base64') };
}
