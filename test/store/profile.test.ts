import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, inject, test } from 'vitest';
import { records, type ControlStore, type Json, type Stored } from '../../src/control/port.ts';
import { ServiceError } from '../../src/errors.ts';
import type { StoreClient, StoreRequest, StoreTraits } from '../../src/store/port.ts';
import { loadProfile, type TraitPins } from '../../src/store/profile.ts';
import { ensureSystemBucket } from '../../src/store/system-bucket.ts';
import { CAREFUL_TRAITS, TRAITS, traitsOf } from '../../src/store/traits.ts';
import { clientFor } from './clients.ts';

/** A control store in memory, for what the profile does with one. */
function memory(): ControlStore & { value: Json; writes: number } {
  let version = 0;
  return {
    value: null,
    writes: 0,
    get(name): Promise<Stored> {
      expect(name).toBe(records.traits);
      return Promise.resolve({ value: this.value, version });
    },
    list: () => Promise.resolve([]),
    compareAndSet(_name, value, at) {
      if (at !== version) return Promise.reject(new ServiceError('Conflict', { reason: 'control-cas' }));
      this.value = value;
      this.writes++;
      return Promise.resolve(++version);
    },
    close: () => Promise.resolve(),
  };
}

const store = inject('stores')[0] ?? expect.fail('no store runs');
const bucket = `profile-${randomBytes(4).toString('hex')}`;
let requests: StoreRequest[] = [];
let server = 'Fake/1';

/** The real store behind a client that counts, and that says which software it is. */
function client(traits: StoreTraits): StoreClient {
  const real = clientFor(store, traits);
  return {
    traits,
    request: async (request) => {
      requests.push(request);
      const response = await real.request(request);
      if (request.method !== 'HEAD' || request.key !== undefined) return response;
      return { ...bound(response), headers: { ...response.headers, server } };
    },
    upload: (request, length) => real.upload(request, length),
    close: () => real.close(),
  };
}

function bound(response: Awaited<ReturnType<StoreClient['request']>>): Awaited<ReturnType<StoreClient['request']>> {
  return {
    status: response.status,
    headers: response.headers,
    pump: (sink) => response.pump(sink),
    resume: () => response.resume(),
    collect: (limit) => response.collect(limit),
    discard: () => response.discard(),
  };
}

/** A store that cannot be reached. */
function gone(traits: StoreTraits): StoreClient {
  return clientFor({ ...store, endpoint: 'http://127.0.0.1:1' }, traits);
}

/** Takes HEAD of the bucket, and no write. */
function readOnly(traits: StoreTraits): StoreClient {
  const real = client(traits);
  const refuse = (): never => {
    throw new ServiceError('ServiceUnavailable', { reason: 'store-unreachable' });
  };
  return {
    ...real,
    request: async (request) => (request.key === undefined ? real.request(request) : refuse()),
    upload: refuse,
  };
}

const load = (control: ControlStore, pins: TraitPins = {}, factory = client) =>
  loadProfile({
    client: factory,
    systemBucket: bucket,
    run: randomBytes(8).toString('hex'),
    control,
    pins,
    clock: () => new Date(0),
  });
const probed = (): boolean => requests.some(({ method }) => method === 'PUT');

beforeAll(async () => {
  const setUp = clientFor(store);
  await ensureSystemBucket(setUp, bucket);
  await setUp.close();
});

describe('the profile', () => {
  test('is probed at first start, kept, and used again while the store is the same', async () => {
    const control = memory();
    const first = await load(control);
    expect(first.found).toEqual(first.traits);
    expect(Object.values(first.found)).not.toContain('unknown');
    expect(control.value).toMatchObject({ format: 1, server: 'Fake/1', found: first.found });
    requests = [];
    expect(await load(control)).toEqual(first);
    expect(probed()).toBe(false);
    server = 'Fake/2';
    requests = [];
    expect((await load(control)).server).toBe('Fake/2');
    expect(probed()).toBe(true);
    expect(control.value).toMatchObject({ server: 'Fake/2' });
  });

  test.each([[null], ['x'], [{ format: 2 }], [{ format: 1, server: 1, found: {} }], [{ format: 1, server: 'Fake/2' }]])(
    'in a record of another form (%j) is probed again',
    async (value) => {
      const control = memory();
      control.value = value;
      requests = [];
      await load(control);
      expect(probed()).toBe(true);
    },
  );

  test('what could not be found out is unknown, counts as missing, and is tried again', async () => {
    const control = memory();
    const blind = await load(control, {}, readOnly);
    // No probe can show that one: it is the operator's to pin.
    const { atomicCopy, ...found } = blind.found;
    expect(atomicCopy).toBe(false);
    expect(new Set(Object.values(found))).toEqual(new Set(['unknown']));
    expect(blind.traits).toEqual(CAREFUL_TRAITS);
    requests = [];
    const seeing = await load(control);
    expect(probed()).toBe(true);
    expect(Object.values(seeing.found)).not.toContain('unknown');
  });

  test('cannot be had from a store that does not answer: nothing is recorded', async () => {
    const control = memory();
    await expect(load(control, {}, gone)).rejects.toMatchObject({ reason: 'store-unreachable' });
    expect(control.writes).toBe(0);
  });

  test('a pin stands above what was found, in both directions, and is not recorded', async () => {
    const control = memory();
    const pinned = await load(control, { refusesShortBody: false, putIfMatch: true });
    expect(pinned.traits).toMatchObject({ refusesShortBody: false, putIfMatch: true });
    expect(JSON.stringify(control.value)).toContain('"refusesShortBody":"unknown"');
  });

  test('with every trait pinned the store is not touched at all', async () => {
    const control = memory();
    requests = [];
    const profile = await load(
      control,
      traitsOf(({ name }) => name === 'putIfMatch'),
    );
    expect(requests).toEqual([]);
    expect(control.writes).toBe(0);
    expect(TRAITS.filter(({ name }) => profile.traits[name]).map(({ name }) => name)).toEqual(['putIfMatch']);
  });

  test('bare markers are readable by pin only, whatever the store was found to do', async () => {
    const control = memory();
    await load(control);
    const lossy = { ...(control.value as object), found: { ...CAREFUL_TRAITS } } as Json;
    control.value = lossy;
    requests = [];
    const found = await load(control);
    expect(probed()).toBe(false);
    expect(found.traits.keepsSlashMetadata).toBe(false);
    expect(found.bareMarkersReadable).toBe(false);
    expect((await load(control, { keepsSlashMetadata: false })).bareMarkersReadable).toBe(true);
    expect((await load(control, { keepsSlashMetadata: true })).bareMarkersReadable).toBe(false);
  });

  test('two replicas that probe at once both start', async () => {
    const control = memory();
    const [a, b] = await Promise.all([load(control), load(control)]);
    expect(a.traits).toEqual(b.traits);
    expect(control.writes).toBe(1);
  });
});
