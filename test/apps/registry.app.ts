import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { USER } from '../support/gateway.ts';
import { startProgram, type Service } from '../support/program.ts';
import { documented } from './documented.ts';
import { AppSite, type Application } from './site.ts';
import { digest } from './tree.ts';

const APPLICATION: Application = {
  name: 'registry',
  store: 'radosgw',
  because: 'a registry copies each blob to its place on the server, and radosgw is the strictest about copies',
};
const MiB = 1024 ** 2;
const MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';

interface Blob {
  readonly bytes: Buffer;
  readonly digest: string;
}

function makeBlob(bytes: Buffer): Blob {
  return { bytes, digest: `sha256:${digest(bytes)}` };
}

/** The driver copies a blob with CopyObject up to 32 MiB, and with UploadPartCopy above. */
const LAYERS = [100_000, 12 * MiB, 34 * MiB].map((size) => makeBlob(randomBytes(size)));
const CONFIG = makeBlob(
  Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers' } })),
);
const OTHER = makeBlob(randomBytes(6 * MiB));

describe(`a Docker registry over ${APPLICATION.store}`, () => {
  let site: AppSite;
  let registry: Service;
  let url: string;
  beforeAll(async () => {
    site = await AppSite.start(APPLICATION);
    const port = await freePort();
    url = `http://127.0.0.1:${port}/v2/team/app`;
    await writeFile(site.path('registry.yml'), configuration(site, port), { mode: 0o600 });
    registry = await startProgram(site.home, 'docker-registry', ['serve', 'registry.yml'], /listening on/);
  });
  afterAll(async () => {
    await registry.stop();
    await site.stop();
  });

  const call = async (method: string, path: string, wanted: number, init: RequestInit = {}): Promise<Response> => {
    const answer = await fetch(path.startsWith('http') ? path : `${url}${path}`, { ...init, method });
    if (answer.status !== wanted)
      throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}\n${registry.output().slice(-4000)}`);
    return answer;
  };
  const location = (answer: Response): string => answer.headers.get('location') ?? '';

  /** As `docker push` does, but in two pieces: the second one resumes the upload in parts. */
  const push = async ({ bytes, digest }: Blob): Promise<void> => {
    let at = location(await call('POST', '/blobs/uploads/', 202));
    const half = bytes.length >> 1;
    for (const [from, to] of [
      [0, half],
      [half, bytes.length],
    ] as const) {
      const headers = { 'content-type': 'application/octet-stream', 'content-range': `${from}-${to - 1}` };
      at = location(await call('PATCH', at, 202, { headers, body: bytes.subarray(from, to) }));
    }
    await call('PUT', `${at}&digest=${digest}`, 201);
  };
  const tag = async (name: string, config: Blob, layers: readonly Blob[]): Promise<string> => {
    const described = (mediaType: string, blob: Blob) => ({ mediaType, size: blob.bytes.length, digest: blob.digest });
    const body = JSON.stringify({
      schemaVersion: 2,
      mediaType: MANIFEST,
      config: described('application/vnd.docker.container.image.v1+json', config),
      layers: layers.map((layer) => described('application/vnd.docker.image.rootfs.diff.tar.gzip', layer)),
    });
    const answer = await call('PUT', `/manifests/${name}`, 201, { headers: { 'content-type': MANIFEST }, body });
    return answer.headers.get('docker-content-digest') ?? '';
  };
  const pull = async ({ digest }: Blob, range?: string): Promise<Buffer> => {
    const headers: Record<string, string> = range === undefined ? {} : { range };
    const answer = await call('GET', `/blobs/${digest}`, range === undefined ? 200 : 206, { headers });
    // The registry sends the client to a presigned URL of the gateway.
    expect(answer.url.startsWith(site.endpoint)).toBe(true);
    return Buffer.from(await answer.arrayBuffer());
  };
  const operations = (): Set<unknown> => new Set(site.gateway.auditRecords().map(({ operation }) => operation));

  let image: string;

  it('an image is pushed, in parts that are resumed, and moved to its place by copies on the server', async () => {
    for (const blob of [CONFIG, ...LAYERS]) await push(blob);
    image = await tag('latest', CONFIG, LAYERS);
    expect(operations()).toContain('CopyObject');
    expect(operations()).toContain('UploadPartCopy');
  });

  it('it is pulled by its digest, byte for byte', async () => {
    const answer = await call('GET', `/manifests/${image}`, 200, { headers: { accept: MANIFEST } });
    const manifest = (await answer.json()) as { readonly layers: readonly { readonly digest: string }[] };
    expect(manifest.layers.map(({ digest }) => digest)).toEqual(LAYERS.map(({ digest }) => digest));
    for (const blob of [CONFIG, ...LAYERS]) {
      const { headers } = await call('HEAD', `/blobs/${blob.digest}`, 200);
      expect(headers.get('content-length')).toBe(String(blob.bytes.length));
      expect(digest(await pull(blob))).toBe(blob.digest.slice('sha256:'.length));
    }
    const [, , large] = LAYERS as [Blob, Blob, Blob];
    const [from, to] = [32 * MiB - 5000, 32 * MiB + 5000];
    expect((await pull(large, `bytes=${from}-${to - 1}`)).equals(large.bytes.subarray(from, to))).toBe(true);
  });

  it('what it stored is sealed', () => site.expectSealed([]));

  it('a deleted image is collected with its layers, and another one stays', async () => {
    await push(OTHER);
    await tag('other', CONFIG, [OTHER]);
    await call('DELETE', `/manifests/${image}`, 202);
    await call('GET', `/manifests/${image}`, 404, { headers: { accept: MANIFEST } });
    await site.run('docker-registry', ['garbage-collect', '--delete-untagged', 'registry.yml']);
    const keys = await site.keys('registry/docker/registry/v2/blobs/');
    const isStored = ({ digest }: Blob): boolean => keys.some((key) => key.includes(digest.slice('sha256:'.length)));
    expect(LAYERS.map(isStored)).toEqual([false, false, false]);
    expect([CONFIG, OTHER].map(isStored)).toEqual([true, true]);
    expect((await pull(OTHER)).equals(OTHER.bytes)).toBe(true);
  });
});

function configuration(site: AppSite, port: number): string {
  return documented('Docker registry', {
    'http://gateway.example:9400': site.endpoint,
    'bucket: app': `bucket: ${site.bucket.bucket}`,
    'accesskey: APP': `accesskey: ${USER.accessKeyId}`,
    'APP-SECRET': USER.secretAccessKey,
    'REGISTRY-SECRET': randomBytes(16).toString('hex'),
    '127.0.0.1:5000': `127.0.0.1:${port}`,
  });
}
