// An Express application that serves encrypted S3 beside its own routes:
//
//   npm run build && node examples/middleware.js quickstart/config.json 9500
//
// (the quick start has made that configuration; stop it first, for a control store belongs to one process).
import express from 'express';
import { kmsAdmin, s3Encryption } from 'express-s3-sse';

const [config = 'quickstart/config.json', port = '9500'] = process.argv.slice(2);

const storage = s3Encryption(config);
const app = express();
app.use('/kms', kmsAdmin(storage)); // the admin API: its identities are not those of the data
app.use('/storage', storage); // S3: clients take http://host:9500/storage as their endpoint
app.use(express.json()); // body parsers come after: a signature covers the bytes as they were sent
app.post('/echo', (req, res) => res.json(req.body));

const server = app.listen(Number(port), '127.0.0.1');
storage.attach(server); // 100-continue and timeouts: what a router cannot do
await storage.ready;
const { port: taken } = server.address();
console.log(`S3 at http://127.0.0.1:${taken}/storage`);

// The application rules its own life; the middleware installs no handlers.
process.once('SIGTERM', () => {
  server.close(() => void storage.close());
  server.closeIdleConnections();
});
