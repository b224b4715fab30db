import { createSecretKey, randomBytes, type KeyObject } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { integrityError, ServiceError } from '../../src/errors.ts';
import { DataKeyCache, type CacheOptions, type UnwrapId } from '../../src/kms/cache.ts';
import { Gate } from '../../src/kms/gate.ts';
import type { KmsMetrics } from '../../src/kms/ports.ts';

let now = 1_000_000;
let cache: DataKeyCache;
let gate: Gate;
let counts: Record<string, number>;

const metrics: KmsMetrics = {
  cacheHit: () => count('hits'),
  cacheMiss: () => count('misses'),
  cacheLoad: () => count('loads'),
  cacheEvicted: (n) => count('evictions', n),
  cacheStaleHit: () => count('stale'),
  cacheSize: (n) => (counts.size = n),
  backendCall: (_operation, outcome) => count(outcome),
  queued: (n) => (counts.queued = Math.max(n, counts.queued ?? 0)),
};
function count(name: string, by = 1): void {
  counts[name] = (counts[name] ?? 0) + by;
}

function build(more: Partial<CacheOptions> = {}, limits = { concurrency: 8, queue: 8, timeoutMs: 10_000 }): void {
  gate = new Gate({ ...limits, metrics });
  cache = new DataKeyCache({
    enabled: true,
    maxKeys: 100,
    ttlMs: 1000,
    staleMs: 0,
    clock: () => now,
    random: () => 0,
    metrics,
    ...more,
    gate,
  });
}

function id(keyId = 'k'): UnwrapId {
  return { keyId, wrapped: randomBytes(61), context: randomBytes(32) };
}
function newKey(): KeyObject {
  return createSecretKey(randomBytes(32));
}
const loads = (key: KeyObject) => vi.fn(() => Promise.resolve(key));
const fails = (err: Error) => vi.fn(() => Promise.reject<KeyObject>(err));

const unreachable = () => new ServiceError('ServiceUnavailable', { reason: 'kms-unavailable' });
const throttled = () => new ServiceError('SlowDown', { reason: 'kms-throttled' });
const denied = () => new ServiceError('AccessDenied', { reason: 'kms-denied' });
const lockedOut = () => new ServiceError('ServiceUnavailable', { reason: 'kms-login' });

beforeEach(() => {
  now = 1_000_000;
  counts = {};
  build();
});
afterEach(() => cache.close());

describe('hits and misses', () => {
  it('asks the KMS once for what it is asked twice', async () => {
    const [one, key] = [id(), newKey()];
    const load = loads(key);
    expect(await cache.unwrap(one, load)).toEqual({ key, hit: false });
    expect(await cache.unwrap(one, load)).toEqual({ key, hit: true });
    expect(load).toHaveBeenCalledTimes(1);
    expect(counts).toMatchObject({ hits: 1, misses: 1, loads: 1, size: 1 });
  });

  it.each(['keyId', 'wrapped', 'context'] as const)('does not answer for another %s', async (field) => {
    const one = id();
    await cache.unwrap(one, loads(newKey()));
    const other = { ...one, [field]: field === 'keyId' ? 'j' : randomBytes(one[field].byteLength) };
    const load = loads(newKey());
    expect(await cache.unwrap(other, load)).toMatchObject({ hit: false });
    expect(load).toHaveBeenCalledTimes(1);
  });

  it('does not confuse a boundary between fields', async () => {
    await cache.unwrap({ keyId: 'ab', wrapped: Buffer.from('c'), context: Buffer.from('d') }, loads(newKey()));
    const shifted = { keyId: 'a', wrapped: Buffer.from('bc'), context: Buffer.from('d') };
    expect(await cache.unwrap(shifted, loads(newKey()))).toMatchObject({ hit: false });
  });

  it('keeps at most its maximum, and says what it evicts', async () => {
    build({ maxKeys: 3 });
    for (let i = 0; i < 10; i++) await cache.unwrap(id(), loads(newKey()));
    expect(cache.size).toBe(3);
    expect(counts.evictions).toBe(7);
  });

  it('asks the KMS every time when it is off', async () => {
    build({ enabled: false });
    const one = id();
    const load = loads(newKey());
    for (let i = 0; i < 3; i++) expect(await cache.unwrap(one, load)).toMatchObject({ hit: false });
    cache.keep(one, newKey(), gate.epoch);
    const failing = fails(denied());
    await expect(cache.unwrap(one, failing)).rejects.toMatchObject({ code: 'AccessDenied' });
    await expect(cache.unwrap(one, failing)).rejects.toMatchObject({ code: 'AccessDenied' });
    expect(load).toHaveBeenCalledTimes(3);
    expect(failing).toHaveBeenCalledTimes(2);
    expect(cache.size).toBe(0);
  });
});

describe('time', () => {
  it.each([
    [999, true],
    [1000, false],
    [1001, false],
  ])('after %i ms of a TTL of 1000 a hit is %s', async (passed, hit) => {
    const one = id();
    await cache.unwrap(one, loads(newKey()));
    now += passed;
    expect(await cache.unwrap(one, loads(newKey()))).toMatchObject({ hit });
  });

  it('lets jitter shorten a TTL and never lengthen it', async () => {
    build({ random: () => 0.999 });
    const one = id();
    await cache.unwrap(one, loads(newKey()));
    now += 899;
    expect(await cache.unwrap(one, loads(newKey()))).toMatchObject({ hit: true });
    now += 5;
    expect(await cache.unwrap(one, loads(newKey()))).toMatchObject({ hit: false });
  });

  it('drops an expired key by itself, without being asked for it', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    try {
      build();
      await cache.unwrap(id(), loads(newKey()));
      now += 1001;
      expect(cache.size).toBe(1);
      vi.advanceTimersByTime(300);
      expect(cache.size).toBe(0);
      expect(counts.size).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe('soft and hard TTL', () => {
  const rows: readonly (readonly [string, () => ServiceError, boolean])[] = [
    ['unreachable', unreachable, true],
    ['throttled', throttled, true],
    ['a denial', denied, false],
    ['a failed login', lockedOut, false],
    ['its own full queue', () => new ServiceError('SlowDown', { reason: 'kms-queue' }), false],
    ['an integrity error', () => integrityError('kms-unwrap'), false],
    ['a disabled key', () => new ServiceError('KMS.DisabledException'), false],
    ['a deleted key', () => new ServiceError('KMS.NotFoundException'), false],
  ];
  it.each(rows)('between them, %s: served stale %s', async (_name, error, served) => {
    build({ staleMs: 500 });
    const [one, key] = [id(), newKey()];
    await cache.unwrap(one, loads(key));
    now += 1200;
    const again = cache.unwrap(one, fails(error()));
    if (served) expect(await again).toEqual({ key, hit: true });
    else await expect(again).rejects.toMatchObject({ code: error().code });
    expect(counts.stale ?? 0).toBe(served ? 1 : 0);
  });

  it('after the hard TTL nothing is served', async () => {
    build({ staleMs: 500 });
    const one = id();
    await cache.unwrap(one, loads(newKey()));
    now += 1500;
    await expect(cache.unwrap(one, fails(unreachable()))).rejects.toMatchObject({ reason: 'kms-unavailable' });
  });

  it('an entry that reaches its hard TTL while the KMS is asked is not served', async () => {
    build({ staleMs: 500 });
    const one = id();
    await cache.unwrap(one, loads(newKey()));
    now += 1400;
    const load = () => {
      now += 200;
      return Promise.reject<KeyObject>(unreachable());
    };
    await expect(cache.unwrap(one, load)).rejects.toMatchObject({ reason: 'kms-unavailable' });
  });

  it.each([
    ['a denial purges every key under that KMS key', denied, 0, 1],
    ['an integrity error purges that key alone', () => integrityError('kms-unwrap'), 1, 1],
  ])('%s', async (_name, error, sameKey, otherKey) => {
    build({ staleMs: 500 });
    const [one, sibling, other] = [id('k'), id('k'), id('j')];
    for (const each of [one, sibling, other]) await cache.unwrap(each, loads(newKey()));
    now += 1100;
    await expect(cache.unwrap(one, fails(error()))).rejects.toBeInstanceOf(ServiceError);
    const stale = (each: UnwrapId) =>
      cache.unwrap(each, fails(unreachable())).then(
        () => 1,
        () => 0,
      );
    expect(await stale(sibling)).toBe(sameKey);
    expect(await stale(other)).toBe(otherKey);
  });
});

describe('refusals', () => {
  it.each([
    ['a denial', denied, 1],
    ['an integrity error', () => integrityError('kms-unwrap'), 1],
    ['an outage', unreachable, 2],
    ['throttling', throttled, 2],
  ])('%s is asked again at once: %#', async (_name, error, calls) => {
    const one = id();
    const load = fails(error());
    for (let i = 0; i < 2; i++) await expect(cache.unwrap(one, load)).rejects.toBeInstanceOf(ServiceError);
    expect(load).toHaveBeenCalledTimes(calls);
  });

  it('holds for ten seconds, and not over a purge', async () => {
    const one = id();
    await expect(cache.unwrap(one, fails(denied()))).rejects.toMatchObject({ code: 'AccessDenied' });
    now += 9_999;
    await expect(cache.unwrap(one, loads(newKey()))).rejects.toMatchObject({ code: 'AccessDenied' });
    now += 2;
    expect(await cache.unwrap(one, loads(newKey()))).toMatchObject({ hit: false });
    const two = id();
    await expect(cache.unwrap(two, fails(denied()))).rejects.toMatchObject({ code: 'AccessDenied' });
    cache.purge();
    expect(await cache.unwrap(two, loads(newKey()))).toMatchObject({ hit: false });
  });
});

describe('single flight and epochs', () => {
  function pending() {
    let settle: (key: KeyObject) => void = () => undefined;
    let signal: AbortSignal | undefined;
    const load = vi.fn((given: AbortSignal) => {
      signal = given;
      return new Promise<KeyObject>((resolve) => (settle = resolve));
    });
    return { load, settle: (key: KeyObject) => settle(key), signal: () => signal };
  }

  it('makes one call for callers that come together', async () => {
    const [one, key] = [id(), newKey()];
    const { load, settle } = pending();
    const all = Promise.all(Array.from({ length: 20 }, () => cache.unwrap(one, load)));
    await sleep(1);
    settle(key);
    expect((await all).every((each) => each.key === key)).toBe(true);
    expect(load).toHaveBeenCalledTimes(1);
  });

  it('drops a load under way at a purge: aborted, not cached, not used', async () => {
    const [one, key] = [id(), newKey()];
    const { load, settle, signal } = pending();
    const waiting = cache.unwrap(one, load);
    const refused = expect(waiting).rejects.toMatchObject({ code: 'ServiceUnavailable', reason: 'kms-epoch' });
    await sleep(1);
    cache.purge();
    expect(signal()?.aborted).toBe(true);
    settle(key);
    await refused;
    await sleep(1);
    expect(cache.size).toBe(0);
    expect(await cache.unwrap(one, loads(newKey()))).toMatchObject({ hit: false });
  });

  it('does not let a caller of the new epoch join a load of the old one', async () => {
    const [one, newer] = [id(), newKey()];
    const { load, settle } = pending();
    const old = cache.unwrap(one, load).catch(() => undefined);
    await sleep(1);
    cache.purge();
    const fresh = cache.unwrap(one, loads(newer));
    settle(newKey());
    expect((await fresh).key).toBe(newer);
    await old;
    expect((await cache.unwrap(one, loads(newKey()))).key).toBe(newer);
  });

  it('does not keep a key that was made in an older epoch', () => {
    const began = gate.epoch;
    cache.purge();
    cache.keep(id(), newKey(), began);
    expect(cache.size).toBe(0);
  });

  it('says how many keys a purge dropped', async () => {
    for (let i = 0; i < 4; i++) await cache.unwrap(id(), loads(newKey()));
    expect(cache.purge()).toBe(4);
    expect(cache.size).toBe(0);
  });
});

describe('the gate', () => {
  it('lets no more than its number through, queues a few, and tells the rest to slow down', async () => {
    build({}, { concurrency: 2, queue: 3, timeoutMs: 10_000 });
    let at = 0;
    let most = 0;
    const release: (() => void)[] = [];
    const load = async () => {
      most = Math.max(most, ++at);
      await new Promise<void>((resolve) => release.push(resolve));
      at--;
      return newKey();
    };
    const results = Array.from({ length: 8 }, () => cache.unwrap(id(), load).catch((err: unknown) => err));
    const draining = setInterval(() => release.shift()?.(), 1);
    const settled = await Promise.all(results);
    clearInterval(draining);
    const refused = settled.filter((each) => each instanceof ServiceError);
    expect(most).toBe(2);
    expect(refused).toHaveLength(3);
    expect(refused[0]).toMatchObject({ code: 'SlowDown', status: 503, reason: 'kms-queue' });
    expect(counts.queued).toBe(3);
    // Nothing of it is remembered: the next caller is served.
    const next = cache.unwrap(id(), loads(newKey()));
    expect(await next).toMatchObject({ hit: false });
  });

  it('gives up a call that is deaf to its signal', async () => {
    build({}, { concurrency: 1, queue: 1, timeoutMs: 20 });
    const deaf = () => new Promise<KeyObject>(() => undefined);
    await expect(cache.unwrap(id(), deaf)).rejects.toMatchObject({ reason: 'kms-unavailable' });
  });

  it('refuses at a purge what waits for its turn', async () => {
    build({}, { concurrency: 1, queue: 5, timeoutMs: 10_000 });
    const never = vi.fn(() => new Promise<KeyObject>(() => undefined));
    const all = [1, 2, 3].map(() => cache.unwrap(id(), never).catch((err: unknown) => err));
    await sleep(1);
    cache.purge();
    for (const each of await Promise.all(all)) expect(each).toMatchObject({ reason: 'kms-epoch' });
    expect(never).toHaveBeenCalledTimes(1);
  });
});
