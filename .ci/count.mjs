// Reads vitest's JSON reports (REPORT=EXIT-STATUS each), names what failed where it can still be read (the end of a log
// is what is kept of it) and what passed at its second try only, and ends with the line of counts. Skipped tests count
// as failed: a suite never passes by skipping.
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';

const SHOWN = 60;
const LENGTH = 300;
let passed = 0;
const failures = [];
const unsteady = [];

for (const argument of process.argv.slice(2)) {
  const [file, exitStatus] = argument.split('=');
  const suite = basename(file, '.json');
  const report = JSON.parse(readFileSync(file, 'utf8'));
  passed += report.numPassedTests;
  for (const { name, status, message, assertionResults } of report.testResults) {
    const bad = assertionResults.filter((test) => test.status !== 'passed');
    failures.push(...bad.map((test) => line(suite, test.status, test.fullName, test.failureMessages?.[0])));
    const again = assertionResults.filter((test) => test.status === 'passed' && test.failureMessages?.length > 0);
    unsteady.push(
      ...again.map((test) => line(suite, 'passed at its second try', test.fullName, test.failureMessages[0])),
    );
    if (status === 'failed' && !bad.some((test) => test.status === 'failed')) {
      failures.push(line(suite, 'failed', name, message));
    }
  }
  if (exitStatus !== '0' && !failures.some((failure) => failure.startsWith(suite))) {
    failures.push(line(suite, 'failed', 'outside a test', 'an unhandled error: see above'));
  }
}

function line(suite, status, name, why = '') {
  return `${suite} ${status}: ${name}: ${why}`.replace(/\s+/g, ' ').slice(0, LENGTH);
}

for (const one of unsteady.slice(0, SHOWN)) console.log(one);
for (const failure of failures.slice(0, SHOWN)) console.log(failure);
if (failures.length > SHOWN) console.log(`and ${String(failures.length - SHOWN)} more`);
console.log(`${String(passed)} passed, ${String(failures.length)} failed`);
process.exitCode = failures.length === 0 ? 0 : 1;
