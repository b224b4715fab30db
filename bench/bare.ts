import { Agent, createServer, request } from 'node:http';

/** The least that a proxy on Node does: `http.request` and two pipes. What it is told: the port of the store. */
const { storePort } = JSON.parse(process.env['BENCH_SETTINGS'] ?? '') as { storePort: number };
const agent = new Agent({ keepAlive: true, scheduling: 'lifo' });
const server = createServer((req, res) => {
  const { method, url, headers } = req;
  const upstream = request({ agent, host: '127.0.0.1', port: storePort, method, path: url, headers }, (answer) => {
    res.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(res);
  });
  upstream.on('error', () => res.destroy());
  req.pipe(upstream);
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  if (address !== null && typeof address === 'object') process.send?.({ port: address.port });
});
