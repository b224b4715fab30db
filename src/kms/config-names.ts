/** Spellings that RustFS's administrators use for what this project names once (kms.md: "The body of configure"). */

const BACKENDS: ReadonlyMap<string, string> = new Map([
  ['local', 'local'],
  ['vault', 'vault'],
  ['vaulttransit', 'vault'],
  ['aws', 'aws'],
  ['awskms', 'aws'],
  ['age', 'age'],
  ['pkcs11', 'pkcs11'],
  ['cosmian', 'cosmian'],
  ['rustyvault', 'rustyvault'],
]);

const AUTH_METHODS: ReadonlyMap<string, string> = new Map([
  ['approle', 'approle'],
  ['kubernetes', 'kubernetes'],
  ['tokenfile', 'token_file'],
  ['cert', 'cert'],
  ['tlscert', 'cert'],
  ['token', 'token'],
]);

/** `VaultTransit`, `vault-transit` and `vault_transit` are one name. */
function folded(name: string): string {
  return name.toLowerCase().replaceAll(/[-_]/g, '');
}

export function backendName(spelling: string): string | undefined {
  return BACKENDS.get(folded(spelling));
}

export function authMethodName(spelling: string): string | undefined {
  return AUTH_METHODS.get(folded(spelling));
}

/** The known name nearest to a misspelled one, or undefined when nothing is near. */
export function nearestName(given: string, known: readonly string[]): string | undefined {
  if (given.length > 64) return undefined;
  const wanted = folded(given);
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(wanted.length / 2)) + 1;
  for (const name of known) {
    const candidate = folded(name);
    const contained = wanted.length > 3 && (candidate.includes(wanted) || wanted.includes(candidate));
    const distance = Math.min(editDistance(wanted, candidate), contained ? 2 : Infinity);
    if (distance < bestDistance) [best, bestDistance] = [name, distance];
  }
  return best;
}

/** Levenshtein's distance, on names of at most 64 characters. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(change, (previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1));
    }
    previous = row;
  }
  return previous[b.length] ?? 0;
}
