import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { KmsBackend } from '../../src/kms/ports.ts';

/**
 * One suite for every backend. `keyId` is a key that exists; `otherKeyId` a second one. Rotation is done by `rotate`
 * where the backend cannot do it itself (an administrator's credential, say).
 */
export interface BackendUnderTest {
  readonly backend: KmsBackend;
  readonly keyId: string;
  readonly otherKeyId: string;
  /** A key id of the right form that does not exist. */
  readonly missingKeyId: string;
  readonly rotate: (keyId: string) => Promise<void>;
  readonly end: () => Promise<void>;
}

const integrity = { code: 'InternalError', reason: 'integrity:kms-unwrap' };

export function kmsConformance(name: string, makeBackend: () => Promise<BackendUnderTest>): void {
  describe(`KMS backend: ${name}`, () => {
    let under: BackendUnderTest;
    let backend: KmsBackend;
    const context = randomBytes(32);
    beforeAll(async () => {
      under = await makeBackend();
      ({ backend } = under);
    });
    afterAll(async () => {
      await backend.close();
      await under.end();
    });

    it('gives back the data key that it wrapped', async () => {
      const made = await backend.generateDataKey(under.keyId, context);
      expect(made.key.symmetricKeySize).toBe(32);
      expect(made.wrapped.byteLength).toBeLessThanOrEqual(400);
      const opened = await backend.unwrap(under.keyId, made.wrapped, context);
      expect(opened.equals(made.key)).toBe(true);
    });

    it('makes another data key each time', async () => {
      const [a, b] = await Promise.all([1, 2].map(() => backend.generateDataKey(under.keyId, context)));
      expect(a?.key.equals(b?.key ?? a.key)).toBe(false);
      expect(a?.wrapped.equals(b?.wrapped ?? a.wrapped)).toBe(false);
    });

    it('refuses every context but the right one', async () => {
      const { wrapped } = await backend.generateDataKey(under.keyId, context);
      const flipped = Buffer.from(context);
      flipped[31] = (flipped[31] ?? 0) ^ 1;
      for (const wrong of [flipped, randomBytes(32), Buffer.alloc(32)]) {
        await expect(backend.unwrap(under.keyId, wrapped, wrong)).rejects.toMatchObject(integrity);
      }
    });

    it('refuses another key', async () => {
      const { wrapped } = await backend.generateDataKey(under.keyId, context);
      await expect(backend.unwrap(under.otherKeyId, wrapped, context)).rejects.toMatchObject(integrity);
    });

    it('refuses wrapped bytes with one bit flipped, wherever it is', async () => {
      const { wrapped } = await backend.generateDataKey(under.keyId, context);
      for (let at = 0; at < wrapped.byteLength; at += 5) {
        const tampered = Buffer.from(wrapped);
        tampered[at] = (tampered[at] ?? 0) ^ 1;
        await expect(backend.unwrap(under.keyId, tampered, context), `byte ${at}`).rejects.toMatchObject(integrity);
      }
    });

    it.each(['empty', 'short', 'long', 'noise'])('refuses wrapped bytes that are %s', async (how) => {
      const { wrapped } = await backend.generateDataKey(under.keyId, context);
      const bytes = {
        empty: Buffer.alloc(0),
        short: wrapped.subarray(0, -1),
        long: Buffer.concat([wrapped, wrapped]),
        noise: randomBytes(wrapped.byteLength),
      }[how];
      await expect(backend.unwrap(under.keyId, bytes ?? wrapped, context)).rejects.toMatchObject(integrity);
    });

    it('says that a missing key is missing', async () => {
      const missing = { code: 'KMS.NotFoundException' };
      await expect(backend.generateDataKey(under.missingKeyId, context)).rejects.toMatchObject(missing);
      await expect(backend.describeKey(under.missingKeyId)).rejects.toMatchObject(missing);
    });

    it.each(['', '.', '../x', 'a/b', 'a b', '-a', '_a', 'a.1', 'a%2fb', 'ä', 'a\0', 'x'.repeat(65), '../../sys/seal'])(
      'never takes the key id %j further',
      async (keyId) => {
        const refused = { code: 'KMS.NotFoundException' };
        const { wrapped } = await backend.generateDataKey(under.keyId, context);
        await expect(backend.generateDataKey(keyId, context)).rejects.toMatchObject(refused);
        await expect(backend.unwrap(keyId, wrapped, context)).rejects.toMatchObject(refused);
        await expect(backend.describeKey(keyId)).rejects.toMatchObject(refused);
      },
    );

    it('reports its versions from the wrapped form alone, and keeps old ones readable over a rotation', async () => {
      const before = await backend.describeKey(under.keyId);
      const old = await backend.generateDataKey(under.keyId, context);
      expect(old.version).toBe(before.latestVersion);
      expect(backend.wrappedVersion(old.wrapped)).toBe(old.version);
      await under.rotate(under.keyId);
      const after = await backend.describeKey(under.keyId);
      expect(after).toMatchObject({ keyId: under.keyId, latestVersion: before.latestVersion + 1 });
      const made = await backend.generateDataKey(under.keyId, context);
      expect(made.version).toBe(after.latestVersion);
      expect(backend.wrappedVersion(made.wrapped)).toBe(after.latestVersion);
      expect((await backend.unwrap(under.keyId, old.wrapped, context)).equals(old.key)).toBe(true);
    });

    it('rewraps under the newest version, the context kept', async () => {
      const rewrap = backend.rewrap?.bind(backend);
      expect(backend.capabilities.rewrap).toBe(rewrap !== undefined);
      if (rewrap === undefined) return;
      const old = await backend.generateDataKey(under.keyId, context);
      await under.rotate(under.keyId);
      const wrapped = await rewrap(under.keyId, old.wrapped, context);
      expect(backend.wrappedVersion(wrapped)).toBe(old.version + 1);
      expect((await backend.unwrap(under.keyId, wrapped, context)).equals(old.key)).toBe(true);
      await expect(backend.unwrap(under.keyId, wrapped, randomBytes(32))).rejects.toMatchObject(integrity);
      await expect(rewrap(under.keyId, old.wrapped, randomBytes(32))).rejects.toMatchObject(integrity);
    });

    it('lists keys without their prefix, where it can', async () => {
      if (backend.listKeys === undefined) {
        expect(backend.capabilities.listKeys).toBe(false);
        return;
      }
      expect(await backend.listKeys()).toEqual(expect.arrayContaining([under.keyId, under.otherKeyId].sort()));
    });

    it.each(['createKey', 'rotateKey', 'rewrap', 'listKeys'] as const)('has %s if it declares it', (name) => {
      if (backend.capabilities[name]) expect(name in backend).toBe(true);
      else expect(backend.capabilities[name]).toBe(false);
    });

    it('does not begin a call whose signal has aborted', async () => {
      const reason = new Error('gone');
      const signal = AbortSignal.abort(reason);
      const { wrapped } = await backend.generateDataKey(under.keyId, context);
      await expect(backend.generateDataKey(under.keyId, context, signal)).rejects.toBeInstanceOf(Error);
      await expect(backend.unwrap(under.keyId, wrapped, context, signal)).rejects.toBeInstanceOf(Error);
    });

    it('serves concurrent callers, each with what is theirs', async () => {
      const contexts = Array.from({ length: 40 }, () => randomBytes(32));
      const made = await Promise.all(contexts.map((each) => backend.generateDataKey(under.keyId, each)));
      const opened = await Promise.all(
        made.map(({ wrapped }, i) => backend.unwrap(under.keyId, wrapped, contexts[i] ?? context)),
      );
      opened.forEach((key, i) => expect(key.equals(made[i]?.key ?? key)).toBe(true));
      expect(new Set(made.map(({ wrapped }) => wrapped.toString('hex'))).size).toBe(40);
    });

    it('answers its health check', async () => {
      await expect(backend.check()).resolves.toBeUndefined();
    });
  });
}
