import { isIP } from 'node:net';
import { z } from 'zod';
import { issue, region, type Path } from './fields.ts';
import { strict } from './strict.ts';

const port = (value: number) =>
  z.number().int().min(0).max(65_535).default(value).describe('TCP port; 0 takes a free one.');
const host = (text: string) => z.string().min(1).max(253).default('127.0.0.1').describe(text);
const seconds = (value: number, text: string) => z.number().int().min(1).max(86_400).default(value).describe(text);

function tls(path: Path) {
  return strict({
    certFile: path().describe('PEM file with the certificate chain.'),
    keyFile: path().describe('PEM file with the private key; 0600.'),
  });
}

export function dataListener(path: Path) {
  return strict({
    host: host('Address to listen on.'),
    port: port(9400),
    tls: tls(path)
      .exactOptional()
      .describe('TLS. Without it SSE-C is refused, unless a trusted proxy says that the client used TLS.'),
    region: region().default('us-east-1').describe('The region of every bucket, and of request signatures.'),
    acceptedRegions: z.array(region()).max(64).default([]).describe('Other regions accepted in credential scopes.'),
    baseHosts: z
      .array(z.string().regex(/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/, 'expected a lower-case host name without port'))
      .max(64)
      .default([])
      .describe('Host names under which `bucket.host` is virtual-host style. Any other Host is path style.'),
    trustedProxies: z
      .array(z.string().refine(isAddressRange, 'expected an IP address or a CIDR range narrower than /0'))
      .max(256)
      .default([])
      .describe('Addresses whose `X-Forwarded-For`, `-Proto` and `-Host` are believed.'),
    keepAliveSeconds: seconds(
      75,
      'How long an idle connection stays open; longer than the balancer in front keeps its own.',
    ),
    slowReplySeconds: seconds(
      10,
      'How long a copy or a CompleteMultipartUpload may take to answer with a status of its own. After that it is 200 and white space, then the result or an error in the body.',
    ),
    concurrentRequests: z
      .number()
      .int()
      .min(1)
      .max(1_000_000)
      .default(1024)
      .describe(
        'Most requests at once; one more is 503 SlowDown before anything of it is read. Health and admin do not count.',
      ),
    formMemoryMiB: z
      .number()
      .int()
      .min(16)
      .max(1_048_576)
      .default(256)
      .describe(
        "Most MiB that the files of browsers' forms hold together, each up to 8 until its length is known; one more is 503 SlowDown. While they are sealed they take up to three times as much.",
      ),
    idleSeconds: seconds(60, 'How long a connection may stand still within a request. There is no total limit.'),
  });
}

export function adminListener(path: Path) {
  return strict({
    host: host('Address to listen on. Off loopback, TLS is required.'),
    port: port(9401),
    tls: tls(path).exactOptional().describe('TLS.'),
  }).check((ctx) => {
    if (ctx.value.tls !== undefined || isLoopback(ctx.value.host)) return;
    issue(ctx.issues, ctx.value, ['tls'], 'is required unless host is a loopback address');
  });
}

/** 127.0.0.0/8, ::1 and localhost. */
export function isLoopback(text: string): boolean {
  return text === 'localhost' || text === '::1' || (isIP(text) === 4 && text.startsWith('127.'));
}

function isAddressRange(text: string): boolean {
  const [address = '', bits, more] = text.split('/');
  const family = isIP(address);
  if (family === 0 || more !== undefined || address.includes('%')) return false;
  return bits === undefined || (/^[1-9]\d{0,2}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128));
}
