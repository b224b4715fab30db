import { once } from 'node:events';
import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { expect, it } from 'vitest';
import { collectBody } from '../../src/gateway/objects/body.ts';
import type { PayloadReader } from '../../src/sigv4/types.ts';

const plain: PayloadReader = { push: (chunk, emit) => emit(chunk), finish: () => ({}) };

it('a client that left before its body was asked for is a cut body, and not a request that never ends', async () => {
  const req = new IncomingMessage(new Socket());
  req.destroy();
  await once(req, 'close');
  await expect(collectBody(req, plain, 100)).rejects.toMatchObject({ code: 'IncompleteBody', reason: 'client-gone' });
});
