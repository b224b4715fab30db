import { setTimeout as sleep } from 'node:timers/promises';
import { xmlText, type RawResponse } from '../support/s3-raw.ts';
import type { FaultKind } from './kinds.ts';
import type { Lane } from './lane.ts';
import type { FaultedOperation, Prepared } from './operation.ts';
import { stepName } from './steps.ts';

/** Of one fault at one step. */
export interface Sighting {
  readonly step: string;
  readonly kind: FaultKind;
  /** What the client was told; undefined where the fault does not fit the request. */
  readonly told: string | undefined;
  readonly problems: readonly string[];
}

/** Longer than any chain of time-outs and pauses here, on a machine that does other things too. */
const HANGS_MS = 25_000;

/** `200`, `broken` (no whole answer), or status and code of an error, which may stand inside a 200. */
export function told({ status, text, complete }: RawResponse): string {
  if (status === 0 || !complete) return 'broken';
  const code = /<Error>.*?<Code>([^<]*)/s.exec(text)?.[1];
  if (code === undefined) return String(status);
  return status < 300 ? `${status}: ${code}` : `${status} ${code}`;
}

function isRetryable(answer: RawResponse): boolean {
  const text = told(answer);
  return text === 'broken' || answer.status >= 500 || /^200: (?:InternalError|ServiceUnavailable|SlowDown)$/.test(text);
}

function isSuccess(answer: RawResponse): boolean {
  return answer.status < 300 && !/:|broken/.test(told(answer));
}

async function inTime<T>(work: Promise<T>): Promise<T | undefined> {
  return Promise.race([work, sleep(HANGS_MS, undefined, { ref: false })]);
}

/** The steps of an operation that nothing befalls, in words. */
export function stepsOf(lane: Lane, operation: FaultedOperation): Promise<string[]> {
  return steadily(
    () => stepsOnce(lane, operation),
    () => true,
  );
}

async function stepsOnce(lane: Lane, operation: FaultedOperation): Promise<string[]> {
  let prepared = await operation.prepare(lane);
  lane.proxy.record();
  let answer = await prepared.send();
  for (let more = 3; more > 0 && isRetryable(answer); more -= 1) {
    prepared = await operation.prepare(lane);
    lane.proxy.record();
    answer = await prepared.send();
  }
  const { calls } = await lane.proxy.disarm();
  const problems = await judge(operation, prepared, answer);
  const seen = await prepared.look();
  if (seen !== prepared.after) problems.push(`is ${seen} afterwards`);
  if (problems.length > 0) throw new Error(`${operation.name}, with no fault: ${problems.join('; ')}`);
  return calls.map((call) => stepName(call, lane.systemBucket));
}

/** A 2xx must be true, a 4xx one of those that may be; everything else is for the client to retry. */
function judge({ finals = [] }: FaultedOperation, prepared: Prepared, answer: RawResponse): Promise<string[]> {
  if (isSuccess(answer)) {
    const wrong = prepared.wrong?.(answer);
    return Promise.resolve(wrong === undefined ? [] : [`${told(answer)}, but ${wrong}`]);
  }
  const final = answer.status < 500 && finals.includes(xmlText(answer.text, 'Code'));
  return Promise.resolve(final || isRetryable(answer) ? [] : [`the client is told ${told(answer)}`]);
}

/** As a client retries: a machine that stands still for two seconds is a store that is silent. */
async function retried(prepared: Prepared): Promise<RawResponse> {
  let answer = await prepared.send();
  for (let more = 2; more > 0 && isRetryable(answer); more -= 1) answer = await prepared.send();
  return answer;
}

/** A case whole: preparing it and looking at what is left ask the gateway too, and may wait as long. */
const CASE_MS = 90_000;
const TRIES = 3;
/** All that a standstill can look like. What is lost, or is not what was acknowledged, is seen once and for all. */
const STANDSTILL = /^hangs$|^a retry is told (?:nothing|broken|SlowDown|50[03] )/;

/**
 * What `work` makes, or makes the second or third time: a machine that stands still for two seconds is one fault more
 * than the one that is looked at, in the preparing, the looking or the retry.
 */
async function steadily<T>(work: () => Promise<T>, isClean: (made: T) => boolean): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    const last = tries === TRIES;
    try {
      const made = await Promise.race([work(), sleep(CASE_MS, undefined, { ref: false })]);
      if (made !== undefined && (last || isClean(made))) return made;
      if (last) throw new Error(`no end within ${CASE_MS / 1000} s`);
    } catch (err) {
      if (last) throw err;
    }
  }
}

/** One fault at one step: what the client is told, what lies there, and that a plain retry mends it. */
export async function befall(...job: Parameters<typeof befallOnce>): Promise<Sighting> {
  const [, , , step, kind] = job;
  try {
    return await steadily(
      () => befallOnce(...job),
      ({ problems }) => !problems.some((problem) => STANDSTILL.test(problem)),
    );
  } catch (err) {
    // One case of hundreds: the others are to be looked at all the same.
    return { step, kind, told: 'nothing', problems: [`did not come to an end: ${String(err)}`] };
  }
}

async function befallOnce(
  lane: Lane,
  operation: FaultedOperation,
  at: number,
  step: string,
  kind: FaultKind,
): Promise<Sighting> {
  // A try before this one may have ended anywhere.
  await lane.proxy.disarm();
  const prepared = await operation.prepare(lane);
  lane.proxy.arm(at, kind.fault);
  const answer = await inTime(prepared.send());
  const { befallen } = await lane.proxy.disarm();
  if (answer === undefined) return { step, kind, told: 'nothing', problems: ['hangs'] };
  if (!befallen) return { step, kind, told: undefined, problems: [] };
  const problems = await judge(operation, prepared, answer);
  if (prepared.before !== prepared.after) {
    const seen = await prepared.look();
    const expected = isSuccess(answer) ? [prepared.after] : [prepared.before, prepared.after];
    if (!expected.includes(seen)) problems.push(`after ${told(answer)} it is ${seen}`);
  }
  const again = await inTime(retried(prepared));
  const code = again === undefined ? 'nothing' : xmlText(again.text, 'Code');
  const mended = again !== undefined && (isSuccess(again) || operation.retried?.includes(code) === true);
  if (!mended) problems.push(`a retry is told ${again === undefined ? code : told(again)}`);
  const wrong = again !== undefined && isSuccess(again) ? prepared.wrong?.(again) : undefined;
  if (wrong !== undefined) problems.push(`a retry has ${wrong}`);
  const last = await prepared.look();
  if (last !== prepared.after) problems.push(`after the retry it is ${last}`);
  const end = await prepared.ends?.();
  if (end !== undefined) problems.push(end);
  const isGap = operation.gaps?.[`${step}, ${kind.name}`] !== undefined;
  const left = isGap ? (problems.length > 0 ? [] : ['is no gap any more']) : problems;
  return { step, kind, told: told(answer), problems: left };
}
