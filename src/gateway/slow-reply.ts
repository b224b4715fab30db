import type { ServerResponse } from 'node:http';
import { asServiceError } from '../errors.ts';
import { formatError } from '../s3/xml.ts';
import type { Exchange, Reply } from './exchange.ts';
import { writeHead } from './respond.ts';
import { XML } from './xml-body.ts';

/** boto3 gives up after 60 s without a byte. */
const SPACE_MS = 5_000;
const DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n';

/**
 * The answer of a long operation: as it is when it comes in time, for botocore retries every error inside a 200 as a
 * 500; else 200, white space while it lasts, and the result or an Error in the body (AWS, CompleteMultipartUpload).
 */
export async function keepAlive(work: Promise<Reply>, x: Exchange): Promise<Reply> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>(
    (resolve) => (timer = setTimeout(() => resolve(undefined), x.rooms.settings.slowReplyMs)),
  );
  try {
    const reply = await Promise.race([work, late]);
    if (reply !== undefined) return reply;
  } finally {
    clearTimeout(timer);
  }
  work.catch(() => undefined);
  const stream = (res: ServerResponse, requestId: string): Promise<void> => drip(res, requestId, work, x.op.row.name);
  return { status: 200, headers: XML, stream };
}

async function drip(res: ServerResponse, requestId: string, work: Promise<Reply>, name: string): Promise<void> {
  writeHead(res, { status: 200, headers: XML }, requestId, undefined);
  res.write(DECLARATION);
  const timer = setInterval(() => res.write(' '), SPACE_MS);
  try {
    const { body = '' } = await work;
    res.end(withoutDeclaration(body.toString()));
  } catch (err) {
    res.end(withoutDeclaration(formatError(asServiceError(err), { resource: name, requestId })));
    throw err;
  } finally {
    clearInterval(timer);
  }
}

function withoutDeclaration(text: string): string {
  return text.startsWith(DECLARATION) ? text.slice(DECLARATION.length) : text;
}
