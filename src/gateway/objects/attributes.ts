import { formatAttributes, type ObjectAttributes, type ShownChecksum } from '../../s3/object-attributes.ts';
import type { GetObjectAttributes } from '../../s3/operation.ts';
import { toClientEtag } from '../../sse/etag.ts';
import type { Checksum } from '../../sse/format.ts';
import { requireReadMode } from '../../sse/request.ts';
import type { BucketExchange, Reply } from '../exchange.ts';
import { answerHeaders } from '../headers.ts';
import { openEnvelope } from '../keys.ts';
import { refuseCustomerKey } from './opened.ts';
import { knownManifest, lookAtTail } from './read-parts.ts';
import { readSse } from '../sse.ts';
import { describe } from './stored.ts';
import { XML } from '../xml-body.ts';

/**
 * From envelope and manifest alone: what the store would answer speaks of sealed bytes, and some have no such operation.
 * The key is asked for where a checksum or the parts are wanted, and for SSE-C, as by a HEAD.
 */
export async function getObjectAttributes(x: BucketExchange<GetObjectAttributes>): Promise<Reply> {
  const { attributes } = x.op;
  const sse = readSse(x);
  const secret = attributes.has('Checksum') || attributes.has('ObjectParts');
  const { stored, response } = (secret ? await lookAtTail(x, sse) : undefined) ?? (await describe(x));
  if (stored.kind === 'plain') refuseCustomerKey(sse);
  else requireReadMode(sse, stored.envelope.mode);
  const opened =
    stored.kind === 'sealed' && (secret || sse.mode === 'SSE-C')
      ? await openEnvelope(x, stored.envelope, sse)
      : undefined;
  const manifest = stored.kind === 'sealed' ? knownManifest(x, stored) : undefined;
  const { etag = '', 'last-modified': modified, 'x-amz-storage-class': storageClass = 'STANDARD' } = response.headers;
  const found: ObjectAttributes = {
    etag: toClientEtag(etag).replaceAll('"', ''),
    checksum: shown(opened?.checksum ?? manifest?.checksum),
    parts: manifest?.type === 'multipart' ? manifest.entries.map(shownPart) : undefined,
    storageClass,
    size: stored.length,
  };
  const headers = {
    ...answerHeaders(x, response.headers),
    ...(modified === undefined ? {} : { 'last-modified': modified }),
    ...XML,
  };
  return { status: 200, headers, body: formatAttributes(x.op, found) };
}

function shownPart({
  partNumber,
  length,
  checksum,
}: {
  readonly partNumber: number;
  readonly length: number;
  readonly checksum?: Checksum | undefined;
}): { partNumber: number; size: number; checksum: ShownChecksum | undefined } {
  return { partNumber, size: length, checksum: shown(checksum) };
}

function shown(checksum: Checksum | undefined): (ShownChecksum & { readonly type: string }) | undefined {
  if (checksum === undefined) return undefined;
  const { algorithm, value, type } = checksum;
  return { algorithm, value: value.toString('base64'), type };
}
