import { expect, test } from 'vitest';
import { Breaker } from '../../src/vault/breaker.ts';

function setup() {
  let now = 0;
  const breaker = new Breaker({ now: () => now, random: () => 0.5 });
  return { breaker, pass: (ms: number) => (now += ms) };
}

function fail(breaker: Breaker, times: number): void {
  for (let i = 0; i < times; i++) breaker.failed();
}

test('four failures leave it closed, the fifth opens it', () => {
  const { breaker } = setup();
  fail(breaker, 4);
  expect(breaker.admits()).toBe(true);
  fail(breaker, 1);
  expect(breaker.admits()).toBe(false);
});

test('a success between failures starts the count again', () => {
  const { breaker } = setup();
  fail(breaker, 4);
  breaker.succeeded();
  fail(breaker, 4);
  expect(breaker.admits()).toBe(true);
});

test('after the pause one trial passes, and only one', () => {
  const { breaker, pass } = setup();
  fail(breaker, 5);
  pass(1000);
  expect([breaker.admits(), breaker.admits(), breaker.admits()]).toEqual([true, false, false]);
});

test('a trial that fails makes the pause longer, up to a limit; one that succeeds closes it', () => {
  const { breaker, pass } = setup();
  fail(breaker, 5);
  const pauses: number[] = [];
  for (let i = 0; i < 5; i++) {
    let waited = 0;
    while (!breaker.admits()) waited += pass(100) && 100;
    pauses.push(waited);
    breaker.failed();
  }
  expect(pauses).toEqual([1000, 2000, 4000, 4000, 4000]);
  pass(4000);
  expect(breaker.admits()).toBe(true);
  breaker.succeeded();
  expect([breaker.admits(), breaker.admits()]).toEqual([true, true]);
});
