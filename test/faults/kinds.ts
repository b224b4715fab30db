import { once } from 'node:events';
import { sendAnswer, withoutHeaders, type Fault, type Victim } from '../support/fault-proxy.ts';
import type { StoreAnswer } from '../support/store-proxy.ts';

/** Columns of the table in the docs: what a store that fails looks like from here. */
export const SIGHTS = [
  'away',
  '500',
  '503',
  'done, unanswered',
  'done, 500',
  '200 with an error',
  'garbled',
  'ETag wrong or none',
  'answered twice',
] as const;

export interface FaultKind {
  readonly name: string;
  readonly sight: (typeof SIGHTS)[number];
  readonly fault: Fault;
}

const ERROR_XML = (code: string): Buffer =>
  Buffer.from(
    `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>It failed.</Message></Error>`,
  );

function says(victim: Victim, status: number, code: string): void {
  const body = victim.call.method === 'HEAD' ? Buffer.alloc(0) : ERROR_XML(code);
  sendAnswer(victim, { status, headers: { 'content-type': 'application/xml' }, body });
}

/** Answers when the whole request has come. */
async function whenRead({ req }: Victim): Promise<void> {
  req.resume();
  // A body that is cut off has no end: there is nobody left to answer then.
  if (!req.readableEnded) await once(req, 'end').catch(() => undefined);
}

/** The store never answers, and reads what comes. */
function silent({ req }: Victim): void {
  req.resume();
}

function hasBody({ call }: Victim): boolean {
  return Number(call.headers['content-length'] ?? 0) > 0;
}

function isLarge({ call }: Victim): boolean {
  return Number(call.headers['content-length'] ?? 0) > 1024 ** 2;
}

/** No such answer to a HEAD, nor one without a body. */
function errorInBody(victim: Victim): unknown {
  if (victim.call.method === 'HEAD') return false;
  return whenRead(victim).then(() => says(victim, 200, 'InternalError'));
}

function isXml({ headers }: StoreAnswer): boolean {
  return (headers['content-type'] ?? '').toString().includes('xml');
}

/** The ETag of the header, and those in the body of a result or a listing. */
function withEtag({ status, headers, body }: StoreAnswer, change: (etag: string) => string): StoreAnswer | undefined {
  const text = body.toString('latin1');
  const inBody = text.replace(/(?<=<ETag>)[^<]*(?=<\/ETag>)/g, change);
  const told = typeof headers.etag === 'string' ? change(headers.etag) : undefined;
  if (told === undefined && inBody === text) return undefined;
  const rest = withoutHeaders(headers, 'etag');
  const kept = told === undefined || told === '' ? rest : { ...rest, etag: told };
  return { status, headers: kept, body: isXml({ status, headers, body }) ? Buffer.from(inBody, 'latin1') : body };
}

function changeEtag(victim: Victim, answer: StoreAnswer, change: (etag: string) => string): boolean {
  const changed = answer.status < 300 ? withEtag(answer, change) : undefined;
  if (changed !== undefined) sendAnswer(victim, changed);
  return changed !== undefined;
}

/** Half of the body under the Content-Length of the whole, and the connection's end. */
function shortened({ call, res, socket }: Victim, { status, headers, body }: StoreAnswer): boolean {
  if (body.length < 2 || call.method === 'HEAD') return false;
  const kept = withoutHeaders(headers, 'transfer-encoding', 'connection');
  res.writeHead(status, { ...kept, 'content-length': body.length });
  res.write(body.subarray(0, body.length / 2), () => socket.destroy());
  return true;
}

function flipped(victim: Victim, answer: StoreAnswer): boolean {
  if (answer.status > 299 || answer.body.length === 0 || isXml(answer)) return false;
  const body = Buffer.from(answer.body);
  // In the middle of what was asked for, whatever that is.
  const at = Math.floor(body.length / 2);
  body.writeUInt8(body.readUInt8(at) ^ 1, at);
  sendAnswer(victim, { ...answer, body });
  return true;
}

function garbage(victim: Victim, answer: StoreAnswer): boolean {
  if (victim.call.method === 'HEAD' || answer.status === 204) return false;
  sendAnswer(victim, { ...answer, body: Buffer.from('<<< \u0000 no XML, and no object either >>>') });
  return true;
}

/** The same answer a second time, right behind it: what belongs to no request. */
function twice(victim: Victim, answer: StoreAnswer): void {
  const { res, socket } = victim;
  const chunks: Buffer[] = [];
  const write = socket.write.bind(socket) as (chunk: string | Buffer, ...rest: unknown[]) => boolean;
  socket.write = (chunk: string | Buffer, ...rest: unknown[]): boolean => {
    const encoding = typeof rest[0] === 'string' ? (rest[0] as BufferEncoding) : 'utf8';
    chunks.push(typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk);
    return write(chunk, ...rest);
  };
  res.once('finish', () => {
    socket.write = write;
    write(Buffer.concat(chunks));
  });
  sendAnswer(victim, answer);
}

const before = (name: string, sight: FaultKind['sight'], spoil: (victim: Victim) => unknown): FaultKind => ({
  name,
  sight,
  fault: { before: spoil },
});
const after = (
  name: string,
  sight: FaultKind['sight'],
  spoil: (victim: Victim, answer: StoreAnswer) => unknown,
): FaultKind => ({ name, sight, fault: { after: spoil } });

/** What can befall one request: a row each. A new one is tried at every step of every operation. */
export const KINDS: readonly FaultKind[] = [
  before('refused', 'away', (victim) => victim.refuse()),
  before('reset', 'away', ({ socket }) => socket.resetAndDestroy()),
  before('silent', 'away', silent),
  before('500', '500', (victim) => whenRead(victim).then(() => says(victim, 500, 'InternalError'))),
  before('503', '503', (victim) => whenRead(victim).then(() => says(victim, 503, 'SlowDown'))),
  before('503 before the body was read', '503', (victim) => hasBody(victim) && says(victim, 503, 'SlowDown')),
  before('200 before the body was read', 'garbled', (victim) => isLarge(victim) && says(victim, 200, 'InternalError')),
  before('200 with an error, not done', '200 with an error', errorInBody),
  after('answer lost', 'done, unanswered', ({ socket }) => socket.destroy()),
  after('answer too late', 'done, unanswered', () => undefined),
  after('done, and 500', 'done, 500', (victim) => says(victim, 500, 'InternalError')),
  after('done, and 200 with an error', '200 with an error', errorInBody),
  after('garbage', 'garbled', garbage),
  after('short body', 'garbled', shortened),
  after('wrong bytes', 'garbled', flipped),
  after('no ETag', 'ETag wrong or none', (victim, answer) => changeEtag(victim, answer, () => '')),
  after('wrong ETag', 'ETag wrong or none', (victim, answer) =>
    // Its first digit, behind a quotation mark in whatever form XML gives it.
    changeEtag(victim, answer, (etag) => etag.replace(/(?<=^|[";])[0-9a-f]/, (digit) => (digit === '0' ? '1' : '0'))),
  ),
  after('answered twice', 'answered twice', twice),
];
