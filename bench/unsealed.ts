import { createSecretKey } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { pooledEntropy } from '../src/entropy.ts';
import { acceptBody, arrive, attachTo } from '../src/gateway/http.ts';
import { pumpBody } from '../src/gateway/objects/body.ts';
import { sendOpened, unsealed } from '../src/gateway/objects/stream.ts';
import { createListener } from '../src/listener.ts';
import { payloadReader } from '../src/sigv4/chunked.ts';
import { createVerifier } from '../src/sigv4/verify.ts';
import { createStoreClient } from '../src/store/client.ts';
import type { StoreResponse } from '../src/store/port.ts';
import { ALL_TRAITS, type Login } from './deployment.ts';

/** The gateway's own path with encryption off: verified, pumped, signed again for the store. Nothing is sealed. */
export interface UnsealedOptions {
  readonly endpoint: string;
  readonly region: string;
  readonly user: Login;
  readonly store: Login;
}

function listen({ endpoint, region, user, store: login }: UnsealedOptions): void {
  const signer = ({ accessKeyId, secretAccessKey }: Login) => ({
    accessKeyId,
    secret: createSecretKey(Buffer.from(`AWS4${secretAccessKey}`)),
  });
  const entropy = pooledEntropy();
  const known = signer(user);
  const verifier = createVerifier({
    lookup: (id) => (id === known.accessKeyId ? known : undefined),
    regions: [region],
    services: ['s3'],
  });
  const store = createStoreClient({
    endpoint: new URL(endpoint),
    region,
    credentials: signer(login),
    traits: ALL_TRAITS,
    pathStyle: true,
    clock: () => new Date(),
  });

  const serve = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const { head } = arrive(req, req.url ?? '', () => false, entropy);
    const caller = verifier.verify(head, new Date());
    const [, bucket = '', key = ''] = caller.request.path.split('/');
    let response: StoreResponse;
    if (req.method === 'PUT') {
      const upload = store.upload({ bucket, key, headers: {} }, caller.contentLength);
      acceptBody(req, res);
      await pumpBody(req, payloadReader(caller), {
        write: (payload) => upload.write(payload),
        drained: () => upload.drained(),
      });
      upload.end();
      response = await upload.response;
      response.discard();
      res.writeHead(response.status, { etag: response.headers.etag ?? '', 'content-length': 0 }).end();
      return;
    }
    response = await store.request({ method: 'GET', bucket, key });
    const length = Number(response.headers['content-length']);
    const answerHead = (): void => {
      res.statusCode = response.status;
      res.setHeader('content-length', length);
    };
    await sendOpened(res, answerHead, response, unsealed, length);
  };

  const app = express()
    .disable('x-powered-by')
    .disable('etag')
    .use((req, res) => {
      serve(req, res).catch(() => res.destroy());
    });
  const server = createListener(app);
  attachTo(server, 60_000, 75_000);
  server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }));
}

listen(JSON.parse(process.env['BENCH_SETTINGS'] ?? '') as UnsealedOptions);
