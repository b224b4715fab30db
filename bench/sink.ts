import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';

/**
 * A store that is nearly free: the last object of each key, in memory, whole and by range. No signature is looked at.
 * Bodies under a key that begins with `discard` are counted and dropped. It runs as a process of its own.
 */
interface StoredObject {
  readonly headers: Record<string, string>;
  readonly body: Buffer;
}

const objects = new Map<string, StoredObject>();
const emptyListing = (root: string): string =>
  `<?xml version="1.0" encoding="UTF-8"?><${root}><KeyCount>0</KeyCount><MaxKeys>1</MaxKeys>` +
  `<IsTruncated>false</IsTruncated></${root}>`;
const ETAG = '"0123456789abcdef0123456789abcdef"';
let requests = 0;

function put(path: string, req: IncomingMessage, res: ServerResponse): void {
  const length = Number(req.headers['content-length'] ?? 0);
  const kept = /^\/[^/]+\/discard/.test(path) ? undefined : Buffer.allocUnsafeSlow(length);
  let at = 0;
  req.on('data', (chunk: Buffer) => {
    if (kept !== undefined) chunk.copy(kept, at);
    at += chunk.length;
  });
  req.on('end', () => {
    const headers: Record<string, string> = {};
    for (const [name, value] of Object.entries(req.headers)) {
      if (typeof value === 'string' && (name.startsWith('x-amz-meta-') || name === 'content-type'))
        headers[name] = value;
    }
    if (kept !== undefined && at === length) objects.set(path, { headers, body: kept });
    res.writeHead(at === length ? 200 : 400, { etag: ETAG, 'content-length': 0 });
    res.end();
  });
}

function get(path: string, req: IncomingMessage, res: ServerResponse): void {
  const object = objects.get(path);
  if (object === undefined) {
    res.writeHead(404, { 'content-length': 0 }).end();
    return;
  }
  const { headers, body } = object;
  const range = /^bytes=(\d*)-(\d*)$/.exec(req.headers.range ?? '');
  const common = { ...headers, etag: ETAG, 'last-modified': 'Mon, 01 Jan 2024 00:00:00 GMT', 'accept-ranges': 'bytes' };
  if (range === null) {
    res.writeHead(200, { ...common, 'content-length': body.length });
    res.end(req.method === 'HEAD' ? undefined : body);
    return;
  }
  const [, from = '', to = ''] = range;
  const first = from === '' ? Math.max(0, body.length - Number(to)) : Number(from);
  const last = from === '' || to === '' ? body.length - 1 : Math.min(Number(to), body.length - 1);
  res.writeHead(206, {
    ...common,
    'content-range': `bytes ${first}-${last}/${body.length}`,
    'content-length': last - first + 1,
  });
  res.end(body.subarray(first, last + 1));
}

const server = createServer((req, res) => {
  const [path = '', query] = (req.url ?? '').split('?');
  if (path === '/requests') {
    res.end(String(requests));
    return;
  }
  requests += 1;
  const isObject = path.split('/').length > 2 && !path.endsWith('/');
  if (req.method === 'PUT' && isObject) put(path, req, res);
  else if (isObject) get(path, req, res);
  else {
    req.resume();
    const root = query?.includes('versions=') === true ? 'ListVersionsResult' : 'ListBucketResult';
    res.end(req.method === 'GET' && query !== undefined ? emptyListing(root) : undefined);
  }
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  if (address !== null && typeof address === 'object') process.send?.({ port: address.port });
});
