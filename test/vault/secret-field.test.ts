import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { takeSecretField } from '../../src/vault/secret-field.ts';

const key = randomBytes(32);
const base64 = key.toString('base64');

describe('taking a key from the bytes of a JSON answer', () => {
  test.each([
    ['as Go writes it', `{"data":{"ciphertext":"vault:v1:x","key_version":1,"plaintext":"${base64}"},"warnings":null}`],
    ['with space around', `{ "data": { "plaintext" : \n\t"${base64}" } }`],
    ['beside a string that speaks of it', `{"note":"\\"plaintext\\":\\"AAAA\\"","data":{"plaintext":"${base64}"}}`],
    ['beside a member whose name ends like it', `{"x\\"plaintext":"AAAA","data":{"plaintext":"${base64}"}}`],
    ['beside a value of that name', `{"note":"plaintext","data":{"plaintext":"${base64}"}}`],
  ])('%s', (_, text) => {
    const json = Buffer.from(text);
    expect(takeSecretField(json, 'plaintext')?.export().equals(key)).toBe(true);
    expect(json.includes(base64)).toBe(false);
    expect(json.includes(base64.slice(0, 8))).toBe(false);
    expect(() => JSON.parse(json.toString()) as unknown).not.toThrow();
  });

  test('random keys of every kind of byte', () => {
    for (let i = 0; i < 500; i++) {
      const any = randomBytes(32);
      const json = Buffer.from(`{"plaintext":"${any.toString('base64')}"}`);
      expect(takeSecretField(json, 'plaintext')?.export().equals(any)).toBe(true);
    }
  });

  test.each([
    ['absent', '{"data":{}}'],
    ['empty', '{"plaintext":""}'],
    ['31 bytes', `{"plaintext":"${randomBytes(31).toString('base64')}"}`],
    ['33 bytes', `{"plaintext":"${randomBytes(33).toString('base64')}"}`],
    ['twice', `{"plaintext":"${base64}","data":{"plaintext":"${base64}"}}`],
    ['not a string', '{"plaintext":12}'],
    ['a foreign character', `{"plaintext":"-${base64.slice(1)}"}`],
    ['base64url', `{"plaintext":"${'_'.repeat(43)}="}`],
    ['no padding', `{"plaintext":"${base64.slice(0, 43)}A"}`],
    ['loose bits at the end', `{"plaintext":"${'A'.repeat(42)}B="}`],
    ['cut off', `{"plaintext":"${base64.slice(0, 20)}`],
    ['nothing', ''],
  ])('%s gives no key', (_, text) => {
    expect(takeSecretField(Buffer.from(text), 'plaintext')).toBeUndefined();
  });
});
