import { randomBytes, X509Certificate } from 'node:crypto';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/config.ts';
import { createLog } from '../../src/log.ts';
import { startServer, type RunningServer } from '../../src/server.ts';
import { issue, makeCa } from '../support/certs.ts';
import { s3, type RawStore } from '../support/s3-raw.ts';
import { makeSite, type Site } from './site.ts';

const silent = createLog('silent');
const ca = makeCa('server test CA');

async function eventually(holds: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + 20_000;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error('it never came to be');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe('the stand-alone server', () => {
  let site: Site;
  let server: RunningServer;
  let raw: RawStore;
  const certFile = () => join(site.folder, 'cert.pem');
  const keyFile = () => join(site.folder, 'key.pem');
  const install = (days: number): string => {
    const { cert, key } = issue(ca, ['127.0.0.1'], days);
    writeFileSync(keyFile(), key, { mode: 0o600 });
    writeFileSync(certFile(), cert);
    return new X509Certificate(cert).fingerprint256;
  };
  const config = () => {
    const { data, ...rest } = site.options();
    return parseConfig({ ...rest, data: { ...data, tls: { certFile: certFile(), keyFile: keyFile() } } });
  };
  const shown = (): Promise<string> =>
    new Promise((resolve, reject) => {
      const { hostname, port } = new URL(server.dataUrl);
      const socket = connect({ host: hostname, port: Number(port), ca: ca.cert }, () => {
        resolve(socket.getPeerCertificate().fingerprint256);
        socket.destroy();
      });
      socket.on('error', reject);
    });
  const metric = async (line: string): Promise<number> => {
    const text = await (await fetch(`${server.adminUrl}/metrics`)).text();
    const found = text.split('\n').find((one) => one.startsWith(`${line} `));
    return found === undefined ? 0 : Number(found.split(' ').at(-1));
  };

  beforeAll(async () => {
    site = await makeSite();
    install(10);
    server = await startServer(config(), silent, 50);
    await server.ready;
    raw = { endpoint: server.dataUrl, region: 'us-east-1', ...site.user, ca: ca.cert };
    expect((await s3(raw, { method: 'PUT', bucket: 'bucket' })).status).toBe(200);
  });
  afterAll(async () => {
    await server.close(200);
    site.remove();
  });

  it('counts bytes both ways, and what is in flight', async () => {
    const body = randomBytes(200_000);
    const [inBefore, outBefore] = [await metric('s3sse_bytes_in_total'), await metric('s3sse_bytes_out_total')];
    let go = (): void => undefined;
    const until = new Promise<void>((resolve) => (go = resolve));
    const put = s3(raw, { method: 'PUT', bucket: 'bucket', key: 'k', body, pauseAfter: { bytes: 1000, until } });
    await eventually(async () => (await metric('s3sse_requests_in_flight')) === 1);
    go();
    expect((await put).status).toBe(200);
    expect((await s3(raw, { method: 'GET', bucket: 'bucket', key: 'k' })).body.equals(body)).toBe(true);
    await eventually(async () => (await metric('s3sse_requests_in_flight')) === 0);
    const grown = [
      (await metric('s3sse_bytes_in_total')) - inBefore,
      (await metric('s3sse_bytes_out_total')) - outBefore,
    ];
    for (const bytes of grown) {
      expect(bytes).toBeGreaterThanOrEqual(200_000);
      expect(bytes).toBeLessThan(203_000);
    }
  });

  it('times the calls to the KMS by backend and kind', async () => {
    await s3(raw, { method: 'PUT', bucket: 'bucket', key: 'kms', body: 'x' });
    expect(await metric('s3sse_kms_call_seconds_count{backend="local",call="generate"}')).toBeGreaterThan(0);
    expect(await metric('s3sse_kms_call_seconds_count{backend="local",call="health"}')).toBeGreaterThan(0);
  });

  it('serves a renewed certificate without a restart, and only with its key', async () => {
    expect(await metric('s3sse_certificate_days_left{listener="data"}')).toBeCloseTo(10, 0);
    const before = await shown();
    const { cert } = issue(ca, ['127.0.0.1'], 30);
    writeFileSync(certFile(), cert);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await shown()).toBe(before);
    const renewed = install(40);
    await eventually(async () => (await shown()) === renewed);
    expect(await metric('s3sse_certificate_days_left{listener="data"}')).toBeCloseTo(40, 0);
    expect((await s3(raw, { method: 'GET', bucket: 'bucket' })).status).toBe(200);
  });

  it('refuses a key that others may read, and one of another certificate', async () => {
    chmodSync(keyFile(), 0o644);
    await expect(startServer(config(), silent)).rejects.toThrow(/key\.pem is open to group or others/);
    chmodSync(keyFile(), 0o600);
    writeFileSync(keyFile(), issue(ca).key);
    await expect(startServer(config(), silent)).rejects.toThrow(/does not belong to the certificate/);
  });
});
