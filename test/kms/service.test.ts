import { createSecretKey, randomBytes } from 'node:crypto';
import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { initControl } from '../../src/control/init.ts';
import { records } from '../../src/control/port.ts';
import type { ServiceError } from '../../src/errors.ts';
import { noKmsMetrics, type KeyServiceOptions } from '../../src/kms/options.ts';
import type { StopRequest } from '../../src/kms/ports.ts';
import { openKeyService, type OpenKeyService } from '../../src/kms/service.ts';
import { controlDown, FakeBackend, FakeControlStore, FakeKms, outage } from './fakes.ts';

let dir: string;
let control: FakeControlStore;
let kms: FakeKms;
let now: number;
let services: OpenKeyService[];
const context = randomBytes(32);
const body = { backend_type: 'local', key_dir: '/unused', master_key_file: '/unused', default_key_id: 'main' };
const scope = { bucketId: 'AAAAAAAAAAAAAAAAAAAAAA' };

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'service-'));
  control = new FakeControlStore();
  kms = new FakeKms();
  for (const keyId of ['main', 's3', 'other']) kms.addKey(keyId);
  now = Date.parse('2026-01-01T00:00:00Z');
  services = [];
  await initControl(control, now);
});
afterEach(async () => {
  control.broken = control.readOnly = undefined;
  await Promise.all(services.map((service) => service.close()));
  await rm(dir, { recursive: true });
});

async function open(more: Partial<KeyServiceOptions> = {}): Promise<OpenKeyService> {
  const service = await openKeyService({
    control,
    backends: {
      local: () => Promise.resolve(new FakeBackend(kms)),
      vault: () => Promise.reject(outage()),
    },
    clock: () => now,
    markerFile: join(dir, 'stop'),
    metrics: noKmsMetrics,
    region: 'us-east-1',
    account: '000000000000',
    retryMs: 5,
    controlTimeoutMs: 100,
    recordFreshMs: 0,
    ...more,
  });
  services.push(service);
  return service;
}

async function running(more: Record<string, unknown> = {}, options: Partial<KeyServiceOptions> = {}) {
  const service = await open(options);
  await service.configure({ ...body, ...more }, 'admin');
  await service.start('admin');
  kms.calls = [];
  return service;
}

const stop: StopRequest = { reason: 'drill', by: 'admin', streams: 'abort', drainSeconds: 0, scope: 'managed' };
const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );
async function eventually(check: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 400; i++) {
    if (await check()) return;
    await sleep(5);
  }
  throw new Error('did not come true');
}
function serviceRecord() {
  return control.records.get(records.service)?.value as Record<string, unknown>;
}

describe('states', () => {
  it('NotConfigured, then Stopped, then Running', async () => {
    const service = await open();
    expect(service.state()).toBe('NotConfigured');
    await expect(service.start('admin')).rejects.toMatchObject({ code: 'Conflict' });
    expect(await service.configure(body, 'admin')).toMatchObject({ state: 'Stopped', durable: true });
    await expect(service.resolve(undefined)).rejects.toMatchObject({ code: 'ServiceUnavailable' });
    expect(await service.start('admin')).toMatchObject({ state: 'Running', applied: 'cluster', durable: true });
    expect(await service.resolve(undefined)).toBe('main');
  });

  it.each(['NotConfigured', 'Stopped'] as const)('%s answers 503 with Retry-After to the data plane', async (state) => {
    const service = await open();
    if (state === 'Stopped') await service.configure(body, 'admin');
    expect(service.state()).toBe(state);
    for (const call of [
      () => service.resolve('main'),
      () => service.generate('main', context),
      () => service.unwrap('main', Buffer.from('1:x'), context),
    ]) {
      const failure = (await call().catch((err: unknown) => err)) as ServiceError;
      expect(failure).toMatchObject({ code: 'ServiceUnavailable', status: 503 });
      expect(failure.headers['Retry-After']).toMatch(/^\d+$/);
    }
    expect(() => service.sseS3KeyId()).toThrow(expect.objectContaining({ code: 'ServiceUnavailable' }));
    expect(() => service.assertRunning(service.epoch())).toThrow();
    expect(kms.count('generate', 'unwrap')).toBe(state === 'Stopped' ? 1 + 2 : 0);
  });

  it('is stopped before its first configuration, over restarts, until somebody starts it', async () => {
    const first = await open();
    expect(await first.stop({ ...stop, scope: 'all' })).toMatchObject({ state: 'Stopped', durable: true });
    await first.close();
    const second = await open();
    expect(second.state()).toBe('Stopped');
    expect(second.frozen()).toBe(true);
    await expect(second.start('admin')).rejects.toMatchObject({ reason: 'kms-not-configured' });
    expect(second.frozen()).toBe(true);
    expect(await second.configure(body, 'admin')).toMatchObject({ state: 'Stopped' });
    expect(second.frozen()).toBe(true);
    expect(await second.start('admin')).toMatchObject({ state: 'Running' });
    expect(second.frozen()).toBe(false);
  });

  it('comes back running after a restart', async () => {
    const first = await running();
    const made = await first.generate('main', context);
    await first.close();
    const second = await open();
    expect(second.state()).toBe('Running');
    expect((await second.unwrap('main', made.wrapped, context)).key.equals(made.key)).toBe(true);
  });

  it('comes back stopped after a restart', async () => {
    const first = await running();
    await first.stop(stop);
    await first.close();
    expect((await open()).state()).toBe('Stopped');
    expect(await exists(join(dir, 'stop'))).toBe(false);
  });

  it('a failing start leaves it stopped, here and in the control store', async () => {
    const service = await open();
    await service.configure(body, 'admin');
    kms.down = outage();
    await expect(service.start('admin')).rejects.toMatchObject({ code: 'ServiceUnavailable' });
    expect(service.state()).toBe('Stopped');
    expect(serviceRecord().desired).toBe('stopped');
    expect(kms.open).toBe(0);
  });

  it('start does not give keys out before the control store has taken it', async () => {
    const service = await open();
    await service.configure(body, 'admin');
    control.readOnly = controlDown();
    await expect(service.start('admin')).rejects.toMatchObject({ reason: 'control-store' });
    expect(service.state()).toBe('Stopped');
    expect(kms.open).toBe(0);
  });

  it.each([
    ['the backend', () => (kms.down = outage()), () => (kms.down = undefined)],
    ['the control store', () => (control.broken = controlDown()), () => (control.broken = undefined)],
  ])('starts without %s as Error, and recovers by itself', async (_name, breaks, heals) => {
    await (await running()).close();
    breaks();
    const service = await open();
    expect(service.state()).toBe('Error');
    expect(await service.status()).toMatchObject({
      reason: expect.stringMatching(/^(kms-unavailable|control-store)$/) as string,
    });
    await expect(service.generate('main', context)).rejects.toMatchObject({ code: 'ServiceUnavailable' });
    await sleep(30);
    heals();
    await eventually(() => service.state() === 'Running');
    await service.generate('main', context);
  });

  it('an uninitialised control store is an Error, and is not initialised', async () => {
    control.records.clear();
    const service = await open();
    expect(service.state()).toBe('Error');
    expect(await service.status()).toMatchObject({ reason: 'control-missing' });
    await expect(service.configure(body, 'admin')).rejects.toMatchObject({ reason: 'control-missing' });
    expect(control.records.size).toBe(0);
  });

  it('is degraded while the backend is down, and serves what is cached', async () => {
    const service = await running({}, { probeMs: 10 });
    const made = await service.generate('main', context);
    await service.unwrap('main', made.wrapped, context);
    kms.down = outage();
    await eventually(async () => (await service.status()).health === 'degraded');
    expect(service.state()).toBe('Running');
    expect((await service.unwrap('main', made.wrapped, context)).cacheHit).toBe(true);
    await expect(service.generate('main', context)).rejects.toMatchObject({ reason: 'kms-unavailable' });
    kms.down = undefined;
    await eventually(async () => (await service.status()).health === 'healthy');
  });
});

describe('configure and reconfigure', () => {
  it.each([
    ['a body that does not parse', { ...body, nonsense: 1 }, 'ValidationException'],
    ['a key that does not exist', { ...body, default_key_id: 'none' }, 'ValidationException'],
    ['a backend that is not built', { ...body, backend_type: 'aws' }, 'NotImplemented'],
    [
      'a backend that does not answer',
      { backend_type: 'vault', address: 'https://v', auth_method: { cert: {} } },
      'ServiceUnavailable',
    ],
  ])('%s leaves the running service untouched', async (_name, bad, code) => {
    const service = await running();
    const made = await service.generate('main', context);
    await service.unwrap('main', made.wrapped, context);
    const [before, shown, epoch] = [serviceRecord(), service.config(), service.epoch()];
    await expect(service.configure(bad, 'admin')).rejects.toMatchObject({ code });
    expect(serviceRecord()).toEqual(before);
    expect(service.config()).toEqual(shown);
    expect(service.epoch()).toBe(epoch);
    expect((await service.unwrap('main', made.wrapped, context)).cacheHit).toBe(true);
    expect(kms.open).toBe(1);
  });

  it('a control store that fails leaves the running service untouched', async () => {
    const service = await running();
    control.readOnly = controlDown();
    await expect(service.reconfigure({ cache_ttl_seconds: 5 }, 'admin')).rejects.toMatchObject({ status: 503 });
    expect(service.config()).toMatchObject({ cache_ttl_seconds: 300 });
    control.readOnly = undefined;
    await service.generate('main', context);
    expect(kms.open).toBe(1);
  });

  it('swaps with no stopped interval, in a new epoch', async () => {
    const service = await running();
    const seen = new Set<string>();
    const swap = { over: false };
    const watching = (async () => {
      while (!swap.over) {
        seen.add(service.state());
        await service.generate('main', context);
      }
    })();
    const epoch = service.epoch();
    await service.reconfigure({ default_key_id: 'other' }, 'admin');
    swap.over = true;
    await watching;
    expect([...seen]).toEqual(['Running']);
    expect(service.epoch()).toBeGreaterThan(epoch);
    expect(await service.resolve(undefined)).toBe('other');
    // A commit that began before is not a commit after a stop.
    service.assertRunning(epoch);
    expect(kms.open).toBe(1);
  });

  it('refuses a key that is not bound to its context', async () => {
    kms.ignoresContext = true;
    const service = await open();
    await expect(service.configure(body, 'admin')).rejects.toMatchObject({ reason: 'key-unfit' });
    expect(service.state()).toBe('NotConfigured');
    expect(kms.open).toBe(0);
  });

  it('creates missing keys only when told to', async () => {
    kms.keys.clear();
    const service = await open();
    await expect(service.configure(body, 'admin')).rejects.toMatchObject({ code: 'ValidationException' });
    await service.configure({ ...body, sse_s3_key_id: 's3', create_default_key: true }, 'admin');
    expect([...kms.keys.keys()]).toEqual(['main', 's3']);
  });

  it('does not make a lost key anew', async () => {
    const service = await running({ create_default_key: true });
    kms.keys.delete('main');
    await expect(service.reconfigure({ cache_ttl_seconds: 5 }, 'admin')).rejects.toMatchObject({ code: 'Conflict' });
    expect(kms.keys.has('main')).toBe(false);
  });

  it('keeps an inline secret apart from the record, and brings it back', async () => {
    let given: unknown;
    const backends: KeyServiceOptions['backends'] = {
      local: () => Promise.reject(outage()),
      vault: (config) => {
        given = config.auth_method;
        return Promise.resolve(new FakeBackend(kms));
      },
    };
    const auth_method = { approle: { role_id: 'role', secret_id: 'inline-secret' } };
    const vault = { backend_type: 'vault', address: 'https://v', auth_method, default_key_id: 'main' };
    const first = await running(vault, { backends }).catch(() => undefined);
    expect(first).toBeUndefined();
    const service = await open({ backends });
    await service.configure(vault, 'admin');
    await service.start('admin');
    expect(JSON.stringify([serviceRecord(), service.config(), await service.status()])).not.toContain('inline-secret');
    await service.close();
    given = undefined;
    await open({ backends });
    expect(given).toMatchObject({ approle: { secret_id: 'inline-secret' } });
  });
});

describe('canary', () => {
  it('another KMS with keys of the same names is refused: 409, the running service untouched', async () => {
    const service = await running();
    const made = await service.generate('main', context);
    const own = kms.keys.get('main') ?? [];
    kms.keys.set('main', ['another secret']);
    await expect(service.configure(body, 'admin')).rejects.toMatchObject({ code: 'Conflict', reason: 'kms-canary' });
    kms.keys.set('main', own);
    await service.unwrap('main', made.wrapped, context);
  });

  it('a KMS that lost a key of the inventory is refused, named in the configuration or not', async () => {
    const service = await running();
    await service.resolve('other');
    kms.keys.delete('other');
    await expect(service.reconfigure({ cache_ttl_seconds: 5 }, 'admin')).rejects.toMatchObject({
      reason: 'kms-canary',
    });
  });

  it('a canary that opens to another key is refused', async () => {
    const service = await running();
    for (const made of kms.wrapped.values()) made.key = createSecretKey(randomBytes(32));
    await expect(service.configure(body, 'admin')).rejects.toMatchObject({ code: 'Conflict', reason: 'kms-canary' });
  });

  it('a restored KMS stops a start', async () => {
    const service = await running();
    const snapshot = [...(kms.keys.get('main') ?? [])];
    await service.keys.rotateKey('main');
    await service.stop(stop);
    kms.keys.set('main', snapshot);
    await expect(service.start('admin')).rejects.toMatchObject({ code: 'Conflict', reason: 'kms-version-behind' });
    kms.rotate('main');
    await expect(service.start('admin')).rejects.toMatchObject({ code: 'Conflict', reason: 'kms-canary' });
    expect(service.state()).toBe('Stopped');
  });

  it('a version below the recorded one stops new wraps, and reads go on', async () => {
    const service = await running();
    const snapshot = [...(kms.keys.get('main') ?? [])];
    const old = await service.generate('main', context);
    await service.keys.rotateKey('main');
    kms.keys.set('main', snapshot);
    await expect(service.generate('main', context)).rejects.toMatchObject({
      status: 503,
      reason: 'kms-version-behind',
    });
    await expect(service.generate('main', context, scope)).rejects.toMatchObject({ reason: 'kms-version-behind' });
    expect((await service.unwrap('main', old.wrapped, context)).key.equals(old.key)).toBe(true);
  });

  it('the probe finds a canary that does not open, and stops new wraps', async () => {
    const service = await running({}, { probeMs: 10 });
    kms.keys.set('main', ['another secret']);
    await eventually(async () => (await service.status()).health === 'degraded');
    expect(await service.status()).toMatchObject({ reason: 'kms-canary' });
    await expect(service.generate('main', context)).rejects.toMatchObject({ status: 503, reason: 'kms-canary' });
  });

  it('a version that others made gets a canary of its own', async () => {
    const service = await running();
    kms.rotate('main');
    expect((await service.generate('main', context)).version).toBe(2);
    const record = control.records.get(records.key('main'))?.value as { canaries: object; latestVersion: number };
    expect(record.latestVersion).toBe(2);
    expect(Object.keys(record.canaries)).toEqual(['1', '2']);
  });
});

describe('stop', () => {
  it('holds before anything is awaited', async () => {
    const service = await running();
    control.broken = controlDown();
    const stopping = service.stop(stop);
    expect(service.state()).toBe('Stopped');
    await expect(service.generate('main', context)).rejects.toMatchObject({ status: 503, reason: 'kms-stopped' });
    await stopping;
  });

  it('drops what was cached and what is under way', async () => {
    const service = await running();
    const made = await service.generate('main', context);
    await service.unwrap('main', made.wrapped, context);
    let release: () => void = () => undefined;
    kms.hold = new Promise((resolve) => (release = resolve));
    const pending = [service.generate('main', context), service.unwrap('main', Buffer.from('1:other'), context)];
    const settled = Promise.allSettled(pending);
    await sleep(5);
    await service.stop(stop);
    release();
    kms.hold = undefined;
    for (const each of await settled) {
      expect(each).toMatchObject({ status: 'rejected', reason: { code: 'ServiceUnavailable' } });
    }
    await service.start('admin');
    expect((await service.unwrap('main', made.wrapped, context)).cacheHit).toBe(false);
  });

  it('is told to the control store with reason, principal and scope', async () => {
    const service = await running();
    const { generation } = serviceRecord();
    expect(await service.stop({ ...stop, scope: 'all' })).toMatchObject({
      state: 'Stopped',
      applied: 'cluster',
      durable: true,
    });
    expect(serviceRecord()).toMatchObject({
      desired: 'stopped',
      generation: Number(generation) + 1,
      stop: { reason: 'drill', by: 'admin', scope: 'all' },
    });
    expect(service.frozen()).toBe(true);
    await service.start('admin');
    expect(service.frozen()).toBe(false);
    expect(serviceRecord()).not.toHaveProperty('stop');
  });

  it('without the control store: local, not durable, retried in the background', async () => {
    const service = await running();
    control.broken = controlDown();
    expect(await service.stop(stop)).toMatchObject({ state: 'Stopped', applied: 'local', durable: false });
    expect(await exists(join(dir, 'stop'))).toBe(true);
    control.broken = undefined;
    await eventually(() => serviceRecord().desired === 'stopped');
    await eventually(async () => !(await exists(join(dir, 'stop'))));
    expect(await service.status()).toMatchObject({ durable: true });
  });

  it('with a control store that hangs it answers within its limit', async () => {
    const service = await running();
    let release: () => void = () => undefined;
    const hanging = new Promise<void>((resolve) => (release = resolve));
    control.beforeWrite = () => hanging;
    expect(await service.stop(stop)).toMatchObject({ durable: false });
    control.beforeWrite = undefined;
    release();
    await eventually(() => serviceRecord().desired === 'stopped');
  });

  it('its marker wins at a restart while the control store says running, and is then told', async () => {
    const first = await running();
    control.broken = controlDown();
    await first.stop(stop);
    await first.close();
    control.broken = undefined;
    expect(serviceRecord().desired).toBe('running');
    const second = await open();
    expect(second.state()).toBe('Stopped');
    expect(serviceRecord().desired).toBe('stopped');
    await second.start('admin');
    await second.close();
    expect((await open()).state()).toBe('Running');
  });

  it('a marker that is not newer than the control store does not win', async () => {
    await (await running()).close();
    const { generation } = serviceRecord();
    const marker = { generation, reason: 'old', by: 'admin', scope: 'managed' };
    await writeFile(join(dir, 'stop'), JSON.stringify(marker), { mode: 0o600 });
    expect((await open()).state()).toBe('Running');
  });

  it.each(['', '{', '{"generation":"1"}', 'null'])('a marker that reads %j is a stop', async (text) => {
    await (await running()).close();
    await writeFile(join(dir, 'stop'), text, { mode: 0o600 });
    expect((await open()).state()).toBe('Stopped');
  });

  it('stopped while the control store was never read, it stays stopped', async () => {
    await (await running()).close();
    control.broken = controlDown();
    const second = await open();
    expect(second.state()).toBe('Error');
    expect(await second.stop(stop)).toMatchObject({ state: 'Stopped', durable: false });
    await second.close();
    control.broken = undefined;
    expect((await open()).state()).toBe('Stopped');
  });

  it('wins over a start that is under way', async () => {
    const service = await open();
    await service.configure(body, 'admin');
    let release: () => void = () => undefined;
    kms.hold = new Promise((resolve) => (release = resolve));
    const starting = expect(service.start('admin')).rejects.toMatchObject({ code: 'Conflict' });
    await sleep(5);
    expect(service.state()).toBe('Starting');
    await service.stop(stop);
    release();
    await starting;
    expect(service.state()).toBe('Stopped');
    expect(serviceRecord().desired).toBe('stopped');
    await eventually(() => kms.open === 0);
  });

  it('wins over a start that is being written', async () => {
    const service = await open();
    await service.configure(body, 'admin');
    let stopped: Promise<unknown> | undefined;
    control.beforeWrite = (name) => {
      if (name === records.service && stopped === undefined) stopped = service.stop(stop);
      return Promise.resolve();
    };
    await expect(service.start('admin')).rejects.toMatchObject({ code: 'Conflict' });
    await stopped;
    expect(service.state()).toBe('Stopped');
    expect(serviceRecord().desired).toBe('stopped');
    expect(kms.open).toBe(0);
  });

  it('wins over a reconfigure that is under way', async () => {
    const service = await running();
    let release: () => void = () => undefined;
    kms.hold = new Promise((resolve) => (release = resolve));
    const changing = expect(service.reconfigure({ cache_ttl_seconds: 5 }, 'admin')).rejects.toMatchObject({
      code: 'Conflict',
    });
    await sleep(5);
    await service.stop(stop);
    release();
    await changing;
    expect(service.state()).toBe('Stopped');
  });

  it('is kept by a configure that the control store takes before the stop', async () => {
    const service = await running();
    control.readOnly = controlDown();
    await service.stop(stop);
    control.readOnly = undefined;
    await service.configure({ ...body, cache_ttl_seconds: 5 }, 'admin');
    expect(service.state()).toBe('Stopped');
    expect(serviceRecord().desired).toBe('stopped');
  });

  it('is written over a change that came between', async () => {
    const service = await running();
    let once = true;
    control.beforeWrite = async (name) => {
      if (name !== records.service || !once) return;
      once = false;
      const { value, version } = await control.get(name);
      await control.compareAndSet(name, value, version);
    };
    expect(await service.stop(stop)).toMatchObject({ durable: true });
    expect(serviceRecord().desired).toBe('stopped');
  });

  it('does not write its reason to a log-sized marker without bounds', async () => {
    const service = await running();
    control.broken = controlDown();
    await service.stop({ ...stop, reason: 'x'.repeat(10_000) });
    expect((await readFile(join(dir, 'stop'))).byteLength).toBeLessThan(4096);
  });
});

describe('streams in flight', () => {
  it('abort: they end at once, and none commits', async () => {
    const service = await running();
    const [epoch, signal] = [service.epoch(), service.stopping];
    service.assertRunning(epoch);
    await service.stop(stop);
    expect(signal.aborted).toBe(true);
    expect(() => service.assertRunning(epoch)).toThrow(expect.objectContaining({ status: 503 }));
    await service.start('admin');
    expect(() => service.assertRunning(epoch)).toThrow(expect.objectContaining({ status: 503 }));
    expect(service.stopping.aborted).toBe(false);
    service.assertRunning(service.epoch());
  });

  it('drain: they may finish until the limit, new ones are refused at once', async () => {
    const service = await running();
    const [epoch, signal] = [service.epoch(), service.stopping];
    expect(await service.stop({ ...stop, streams: 'drain', drainSeconds: 0.6 })).toMatchObject({ state: 'Stopping' });
    await expect(service.generate('main', context)).rejects.toMatchObject({ status: 503 });
    expect(signal.aborted).toBe(false);
    service.assertRunning(epoch);
    await eventually(() => service.state() === 'Stopped');
    expect(signal.aborted).toBe(true);
    expect(() => service.assertRunning(epoch)).toThrow(expect.objectContaining({ status: 503 }));
  });

  it('abort cuts a drain short', async () => {
    const service = await running();
    const signal = service.stopping;
    await service.stop({ ...stop, streams: 'drain', drainSeconds: 60 });
    await service.stop(stop);
    expect(service.state()).toBe('Stopped');
    expect(signal.aborted).toBe(true);
  });
});

describe('keys', () => {
  it.each([
    ['main', 'main'],
    ['arn:aws:kms:us-east-1:000000000000:key/other', 'other'],
    ['alias/team', 'other'],
    ['arn:aws:kms:us-east-1:000000000000:alias/team', 'other'],
  ])('%s resolves to %s', async (reference, keyId) => {
    const service = await running();
    await service.resolve('other');
    await control.compareAndSet(records.alias('team'), { keyId: 'other' }, 0);
    expect(await service.resolve(reference)).toBe(keyId);
  });

  it.each([
    'none',
    'alias/none',
    '',
    'alias/',
    '../../sys/seal',
    'alias/../x',
    'arn:aws:kms:eu-west-1:000000000000:key/main',
    'arn:aws:kms:us-east-1:111111111111:key/main',
    'arn:aws-cn:kms:us-east-1:000000000000:key/main',
    'arn:aws:kms:us-east-1:000000000000:main',
    'arn:aws:kms:us-east-1:000000000000:key/main/x',
    'arn:aws:kms:us-east-1:000000000000:key/',
    'key/main',
    'main\n',
  ])('%j is not found', async (reference) => {
    const service = await running();
    await expect(service.resolve(reference)).rejects.toMatchObject({ code: 'KMS.NotFoundException', status: 400 });
  });

  it('asks the KMS once about a key that it does not have', async () => {
    const service = await running();
    for (let i = 0; i < 5; i++) await expect(service.resolve('none')).rejects.toBeInstanceOf(Error);
    expect(kms.count('describe')).toBe(1);
    now += 10_001;
    kms.addKey('none');
    expect(await service.resolve('none')).toBe('none');
  });

  it('answers with the ARN', async () => {
    expect((await running()).arn('main')).toBe('arn:aws:kms:us-east-1:000000000000:key/main');
  });

  it('never unwraps under a key that is not in the inventory', async () => {
    const service = await running();
    await expect(service.unwrap('other', Buffer.from('1:x'), context)).rejects.toMatchObject({
      code: 'KMS.NotFoundException',
    });
    expect(kms.calls).toEqual([]);
  });

  it.each([
    ['disabled', (s: OpenKeyService) => s.keys.disableKey('main'), 'KMS.DisabledException'],
    ['pending deletion', (s: OpenKeyService) => s.keys.scheduleDeletion('main', 7), 'KMS.KMSInvalidStateException'],
  ])('%s: refused although it is cached', async (_name, change, code) => {
    const service = await running();
    const made = await service.generate('main', context);
    await service.unwrap('main', made.wrapped, context);
    await change(service);
    kms.calls = [];
    await expect(service.unwrap('main', made.wrapped, context)).rejects.toMatchObject({ code });
    await expect(service.generate('main', context, scope)).rejects.toMatchObject({ code });
    await expect(service.resolve('main')).rejects.toMatchObject({ code });
    expect(kms.calls).toEqual([]);
  });

  it('a change by another process is seen within the freshness of a record, before the cache', async () => {
    const service = await running({}, { recordFreshMs: 1000 });
    const made = await service.generate('main', context);
    await service.unwrap('main', made.wrapped, context);
    const { value, version } = await control.get(records.key('main'));
    await control.compareAndSet(records.key('main'), { ...(value as object), state: 'Disabled' }, version);
    now += 1001;
    await expect(service.unwrap('main', made.wrapped, context)).rejects.toMatchObject({
      code: 'KMS.DisabledException',
    });
  });

  it('serves from the last reading of the control store for control_stale_seconds, no longer', async () => {
    const service = await running({ control_stale_seconds: 100, cache_ttl_seconds: 1000 });
    const made = await service.generate('main', context);
    await service.unwrap('main', made.wrapped, context);
    control.broken = controlDown();
    now += 99_000;
    await service.unwrap('main', made.wrapped, context);
    now += 1_001;
    await expect(service.unwrap('main', made.wrapped, context)).rejects.toMatchObject({ status: 503 });
  });

  it('a deletion can be cancelled until it is due, and never after', async () => {
    const service = await running();
    await service.keys.scheduleDeletion('main', 7);
    expect(await service.keys.cancelDeletion('main')).toMatchObject({ state: 'Disabled' });
    await service.keys.enableKey('main');
    await service.keys.scheduleDeletion('main', 7);
    await expect(service.keys.enableKey('main')).rejects.toMatchObject({ code: 'KMS.KMSInvalidStateException' });
    now += 7 * 86_400_000;
    await expect(service.keys.cancelDeletion('main')).rejects.toMatchObject({ code: 'KMS.KMSInvalidStateException' });
  });

  it.each([6, 31, 7.5, NaN])('a deletion in %d days is refused', async (days) => {
    const service = await running();
    await expect(service.keys.scheduleDeletion('main', days)).rejects.toMatchObject({ code: 'ValidationException' });
  });
});

describe('bucket keys', () => {
  it('1000 PUTs make at most two calls, and their 1000 GETs none', async () => {
    const service = await running({ sse_s3_key_id: 's3' });
    const puts = [];
    for (let i = 0; i < 1000; i++) puts.push(await service.generate('s3', context, scope));
    expect(kms.calls.length).toBeLessThanOrEqual(2);
    for (const put of puts) await service.unwrap('s3', put.wrapped, context);
    expect(kms.calls.length).toBeLessThanOrEqual(2);
  });

  it('1000 concurrent PUTs and, after a restart, 1000 concurrent GETs make at most two calls each', async () => {
    const first = await running({ sse_s3_key_id: 's3' });
    const puts = await Promise.all(Array.from({ length: 1000 }, () => first.generate('s3', context, scope)));
    expect(kms.calls.length).toBeLessThanOrEqual(2);
    await first.close();
    const second = await open();
    kms.calls = [];
    await Promise.all(puts.map(({ wrapped }) => second.unwrap('s3', wrapped, context)));
    expect(kms.calls.length).toBeLessThanOrEqual(2);
    const again = await second.generate('s3', context, scope);
    expect(again.wrapped.equals(puts[0]?.wrapped ?? again.wrapped)).toBe(true);
  });

  it('differ by bucket and by key, and are not used for another context', async () => {
    const service = await running();
    const one = await service.generate('main', context, scope);
    const rows = [
      await service.generate('main', context, { bucketId: 'BBBBBBBBBBBBBBBBBBBBBA' }),
      await service.generate('other', context, scope),
      await service.generate('main', randomBytes(32), scope),
    ];
    for (const row of rows) expect(row.wrapped.equals(one.wrapped)).toBe(false);
    const same = await service.generate('main', context, scope);
    expect(same.wrapped.equals(one.wrapped)).toBe(true);
  });

  const ends: readonly (readonly [string, (service: OpenKeyService) => Promise<unknown>])[] = [
    ['its time', () => Promise.resolve((now += 86_400_000))],
    ['a rotation', (s) => s.keys.rotateKey('main')],
    [
      'a rotation by others',
      (s) => {
        kms.rotate('main');
        return s.generate('main', context);
      },
    ],
    [
      'disable and enable',
      async (s) => {
        await s.keys.disableKey('main');
        await s.keys.enableKey('main');
      },
    ],
    [
      'stop and start',
      async (s) => {
        await s.stop(stop);
        await s.start('admin');
      },
    ],
    ['a reconfigure', (s) => s.reconfigure({ cache_ttl_seconds: 60 }, 'admin')],
  ];
  it.each(ends)('end by %s', async (_name, change) => {
    const service = await running();
    const before = await service.generate('main', context, scope);
    await change(service);
    const after = await service.generate('main', context, scope);
    expect(after.wrapped.equals(before.wrapped)).toBe(false);
    expect((await service.unwrap('main', before.wrapped, context)).key.equals(before.key)).toBe(true);
  });

  it('outlive clear-cache, which drops their plaintext only', async () => {
    const service = await running();
    const before = await service.generate('main', context, scope);
    expect(await service.clearCache('admin')).toEqual({ dropped: 1 });
    kms.calls = [];
    const after = await service.generate('main', context, scope);
    expect(after.wrapped.equals(before.wrapped)).toBe(true);
    expect(kms.calls).toEqual(['unwrap']);
  });

  it('the loser of a race uses the winner’s', async () => {
    const service = await running();
    const other = await open();
    let winner: Promise<{ wrapped: Buffer }> | undefined;
    control.beforeWrite = async (name) => {
      if (!name.startsWith(records.bucketKeys) || winner !== undefined) return;
      winner = other.generate('main', context, scope);
      await winner;
    };
    const loser = await service.generate('main', context, scope);
    expect(loser.wrapped.equals((await winner)?.wrapped ?? Buffer.alloc(0))).toBe(true);
  });

  it('SSE-S3’s own key makes no key for a single object', async () => {
    const service = await running({ sse_s3_key_id: 's3' });
    expect(service.sseS3KeyId()).toBe('s3');
    await expect(service.generate('s3', context)).rejects.toMatchObject({ code: 'InvalidRequest' });
  });
});

describe('clear-cache', () => {
  it('asks the KMS again, stops nothing, and begins an epoch', async () => {
    const service = await running();
    const made = await service.generate('main', context);
    await service.unwrap('main', made.wrapped, context);
    const epoch = service.epoch();
    expect(await service.clearCache('admin')).toEqual({ dropped: 1 });
    expect(service.epoch()).toBeGreaterThan(epoch);
    service.assertRunning(epoch);
    expect((await service.unwrap('main', made.wrapped, context)).cacheHit).toBe(false);
  });

  it('a load under way is made again, and its caller sees nothing of it', async () => {
    const service = await running();
    const made = await service.generate('main', context);
    let release: () => void = () => undefined;
    kms.hold = new Promise((resolve) => (release = resolve));
    const waiting = service.unwrap('main', made.wrapped, context);
    await sleep(5);
    kms.hold = undefined;
    await service.clearCache('admin');
    release();
    expect((await waiting).key.equals(made.key)).toBe(true);
    expect(kms.count('unwrap')).toBe(2);
  });
});
