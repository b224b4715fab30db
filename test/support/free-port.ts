import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/** Below the ports that Linux (32768) and macOS (49152) give to connections that go out. */
const [LOWEST, HIGHEST] = [15_000, 32_000];

/**
 * A loopback port that was free a moment ago. Whoever starts a server on it must cope with losing the race. It is none
 * that the kernel gives to a connection: a server that stands still for a while finds it free when it comes back.
 */
export async function freePort(): Promise<number> {
  for (let tries = 50; tries > 0; tries -= 1) {
    const port = randomInt(LOWEST, HIGHEST);
    if (await isFree(port)) return port;
  }
  throw new Error('no free TCP port was found');
}

function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
