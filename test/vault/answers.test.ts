import { describe, expect, test } from 'vitest';
import {
  ACTIONS,
  ANSWERS,
  classify,
  errorMessages,
  OUTAGES,
  verdictError,
  type Verdict,
} from '../../src/vault/answers.ts';

describe('the answer table', () => {
  test.each<[number, string[], Verdict]>([
    [200, [], 'ok'],
    [204, [], 'ok'],
    [400, ['cipher: message authentication failed'], 'integrity'],
    [400, ['invalid ciphertext: version is too new'], 'version-too-new'],
    [400, ['encryption key not found'], 'key-not-found'],
    [400, ['ciphertext or signature version is disallowed by policy (too old)'], 'version-too-old'],
    [400, ['invalid ciphertext: no prefix'], 'integrity'],
    [400, ['invalid ciphertext length'], 'integrity'],
    [400, ['invalid role or secret ID'], 'bad-credentials'],
    [400, ['something else'], 'unexpected'],
    [400, [], 'unexpected'],
    [401, [], 'unexpected'],
    [403, ['permission denied'], 'forbidden'],
    [403, [], 'forbidden'],
    [404, ['no handler for route "x/y". route entry not found.'], 'mount-not-found'],
    [404, [], 'key-not-found'],
    [405, [], 'unexpected'],
    [412, ['required index state not present'], 'lagging'],
    [429, ['rate limit quota exceeded'], 'throttled'],
    [500, ['internal error'], 'outage'],
    [502, [], 'outage'],
    [503, ['Vault is sealed'], 'sealed'],
    [503, [], 'outage'],
    [504, [], 'outage'],
    [307, [], 'unexpected'],
    [101, [], 'unexpected'],
  ])('%i %j is %s', (status, errors, verdict) => {
    expect(classify(status, errors)).toBe(verdict);
  });

  test('every row can be reached: none is shadowed by one above it', () => {
    for (const row of ANSWERS) {
      const status = typeof row.status === 'number' ? row.status : row.status[0];
      expect(classify(status, row.message === undefined ? [] : [`x ${row.message} y`])).toBe(row.verdict);
    }
  });

  test('throttling never counts against the breaker, and no denial is ever tried again', () => {
    expect([...OUTAGES].sort()).toEqual(['lagging', 'outage', 'sealed']);
    const retried = Object.entries(ACTIONS).filter(([, action]) => action === 'retry');
    expect(retried.map(([verdict]) => verdict).sort()).toEqual(['lagging', 'outage', 'sealed', 'throttled']);
  });

  test.each<[Exclude<Verdict, 'ok'>, string, string]>([
    ['integrity', 'InternalError', 'integrity:kms-unwrap'],
    ['version-too-new', 'InternalError', 'integrity:kms-unwrap'],
    ['version-too-old', 'KMS.KMSInvalidStateException', 'kms-version-too-old'],
    ['key-not-found', 'KMS.NotFoundException', 'kms-key-not-found'],
    ['mount-not-found', 'KMS.NotFoundException', 'kms-mount-not-found'],
    ['bad-credentials', 'AccessDenied', 'kms-denied'],
    ['forbidden', 'AccessDenied', 'kms-denied'],
    ['throttled', 'SlowDown', 'kms-throttled'],
    ['lagging', 'ServiceUnavailable', 'kms-unavailable'],
    ['outage', 'ServiceUnavailable', 'kms-unavailable'],
    ['sealed', 'ServiceUnavailable', 'kms-unavailable'],
    ['unexpected', 'InternalError', 'kms-unexpected'],
  ])('%s becomes %s, %s', (verdict, code, reason) => {
    expect(verdictError(verdict)).toMatchObject({ code, reason });
  });

  test.each([
    ['{"errors":["a","b"]}', ['a', 'b']],
    ['{"errors":"a"}', []],
    ['{"errors":[1,"b"]}', ['b']],
    ['{"errors":["a"', []],
    ['<html>502</html>', []],
    ['null', []],
    ['', []],
  ])('messages of %j', (body, messages) => {
    expect(errorMessages(Buffer.from(body))).toEqual(messages);
  });
});
