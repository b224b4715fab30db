import { createHmac } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readMasterKey, readSecret, readSigningKey } from '../../src/config.ts';

const folder = mkdtempSync(join(tmpdir(), 's3sse-secrets-'));
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
function file(content: string | Buffer, mode = 0o600) {
  const path = join(folder, `secret-${(count += 1)}`);
  writeFileSync(path, content);
  chmodSync(path, mode);
  return { kind: 'file', path } as const;
}

const env = (value: string) => [{ kind: 'env', name: 'SECRET' } as const, { SECRET: value }] as const;

describe('a file with a secret', () => {
  it.each([0o640, 0o604, 0o620, 0o602, 0o610, 0o644])('is refused with mode %o', (mode) => {
    expect(() => readSecret(file('secret-value', mode))).toThrow(/is open to group or others; set its mode to 0600/);
  });

  it.each([0o600, 0o400])('is read with mode %o', (mode) => {
    expect(readSecret(file('secret-value', mode)).toString()).toBe('secret-value');
  });

  it('may be reached through a link, as Kubernetes mounts it, and the mode is the target’s', () => {
    const link = join(folder, 'link');
    symlinkSync(file('secret-value').path, link);
    expect(readSecret({ kind: 'file', path: link }).toString()).toBe('secret-value');
    const open = join(folder, 'open-link');
    symlinkSync(file('secret-value', 0o644).path, open);
    expect(() => readSecret({ kind: 'file', path: open })).toThrow(/mode/);
  });

  it.each([
    ['missing', () => ({ kind: 'file', path: join(folder, 'none') }) as const, /ENOENT/],
    ['empty', () => file(''), /must hold/],
    ['a folder', () => ({ kind: 'file', path: folder }) as const, /not a regular file/],
    ['too long', () => file(Buffer.alloc(65_537)), /must hold/],
  ])('is refused when it is %s', (_, ref, expected) => {
    expect(() => readSecret(ref())).toThrow(expected);
  });

  it('is refused, and not waited for, when it is a FIFO', () => {
    const path = join(folder, 'fifo');
    execFileSync('mkfifo', ['-m', '600', path]);
    expect(() => readSecret({ kind: 'file', path })).toThrow(/not a regular file/);
  });

  it('comes in a buffer of its own, which can be wiped', () => {
    const bytes = readSecret(file('secret-value'));
    expect(bytes.buffer.byteLength).toBe(bytes.length);
    const own = readSecret(...env('x'));
    expect(own.buffer.byteLength).toBe(own.length);
  });
});

describe('a variable with a secret', () => {
  it.each([{}, { SECRET: '' }])('is refused when it is not set (%j)', (environment) => {
    expect(() => readSecret({ kind: 'env', name: 'SECRET' }, environment)).toThrow('variable SECRET is not set');
  });
});

describe('a signing key', () => {
  const macOf = (secret: string) => createHmac('sha256', `AWS4${secret}`).update('x').digest('hex');
  const secret = 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY';

  it.each([
    ['as it is', secret],
    ['with a line feed', `${secret}\n`],
    ['with CR LF', `${secret}\r\n`],
  ])('is the secret %s', (_, text) => {
    const key = readSigningKey(file(text));
    expect(createHmac('sha256', key).update('x').digest('hex')).toBe(macOf(secret));
  });

  it.each(['short', `${secret} `, `${secret}\n\n`, 'sécret-access-key', 'x'.repeat(257)])('is not %j', (text) => {
    expect(() => readSigningKey(...env(text))).toThrow(/must hold a secret access key of 8 to 256/);
  });
});

describe('a master key', () => {
  const raw = Buffer.from(Array.from({ length: 32 }, (_, i) => (i * 37 + 11) & 0xff));

  it.each([
    ['raw', raw],
    ['hex', raw.toString('hex')],
    ['upper-case hex and a line feed', `${raw.toString('hex').toUpperCase()}\n`],
    ['base64', raw.toString('base64')],
    ['base64 and a line feed', `${raw.toString('base64')}\n`],
    ['base64url', raw.toString('base64url')],
    ['base64 with every bit set', Buffer.alloc(32, 0xff).toString('base64')],
  ])('is 32 bytes: %s', (name, content) => {
    const expected = name.endsWith('set') ? Buffer.alloc(32, 0xff) : raw;
    expect(readMasterKey(file(content)).export()).toEqual(expected);
  });

  it.each([
    ['31 bytes', raw.subarray(1)],
    ['33 bytes', Buffer.concat([raw, Buffer.from('x')])],
    ['63 digits', raw.toString('hex').slice(1)],
    ['a digit that is none', raw.toString('hex').replace(/^../, 'zz')],
    ['base64 of 31 bytes', raw.subarray(1).toString('base64')],
    ['base64 with loose bits at its end', `${raw.toString('base64url').slice(0, 42)}B`],
    ['base64 with a foreign character', raw.toString('base64').replace(/^./, '!')],
  ])('is not %s', (_, content) => {
    expect(() => readMasterKey(file(content))).toThrow(/must hold 32 bytes/);
  });
});

it('no refusal repeats the secret', () => {
  const attempts = [
    () => readSigningKey(...env('hunter2')),
    () => readMasterKey(...env('hunter2hunter2')),
    () => readSecret(file('hunter2hunter2', 0o644)),
  ];
  for (const attempt of attempts) expect(attempt).toThrow(/^(?!.*hunter2)/);
});
