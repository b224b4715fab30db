import { createSecretKey, randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openControlDirectory } from '../../src/control/directory.ts';
import { initControl } from '../../src/control/init.ts';
import { openLocalBackend } from '../../src/kms/backends/local.ts';
import { noKmsMetrics } from '../../src/kms/options.ts';
import { openKeyService } from '../../src/kms/service.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'kms-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

describe('smoke', () => {
  it('configures, starts, generates, unwraps, restarts', async () => {
    const masterKey = createSecretKey(randomBytes(32));
    let control = await openControlDirectory({ path: join(dir, 'control'), masterKey, create: true });
    await initControl(control, Date.now());
    const open = () =>
      openKeyService({
        control,
        backends: { local: openLocalBackend, vault: () => Promise.reject(new Error('none')) },
        clock: Date.now,
        markerFile: join(dir, 'stop'),
        metrics: noKmsMetrics,
        region: 'us-east-1',
        account: '000000000000',
        environment: () => Buffer.alloc(32, 7),
      });
    let service = await open();
    expect(service.state()).toBe('NotConfigured');
    await service.configure(
      {
        backend_type: 'Local',
        key_dir: join(dir, 'keys'),
        master_key_env: 'MASTER',
        default_key_id: 'main',
        sse_s3_key_id: 's3',
        create_default_key: true,
      },
      'admin',
    );
    expect(service.state()).toBe('Stopped');
    await service.start('admin');
    expect(await service.status()).toMatchObject({ state: 'Running', health: 'healthy' });
    const context = randomBytes(32);
    const made = await service.generate(await service.resolve(undefined), context);
    const again = await service.unwrap(made.keyId, made.wrapped, context);
    expect(again.key.equals(made.key)).toBe(true);
    await service.close();
    await control.close();
    control = await openControlDirectory({ path: join(dir, 'control'), masterKey });
    service = await open();
    expect(await service.status()).toMatchObject({ state: 'Running', health: 'healthy' });
    const third = await service.unwrap(made.keyId, made.wrapped, context);
    expect(third.key.equals(made.key)).toBe(true);
    await service.stop({ reason: 'x', by: 'a', streams: 'abort', drainSeconds: 0, scope: 'managed' });
    await expect(service.unwrap(made.keyId, made.wrapped, context)).rejects.toMatchObject({
      code: 'ServiceUnavailable',
    });
    await service.close();
    service = await open();
    expect(service.state()).toBe('Stopped');
    await service.close();
  });
});
