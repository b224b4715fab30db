/**
 * `*` for any characters, none included, and `?` for exactly one (IAM "Using wildcards"). Greedy with one step back to
 * the last `*`: at most pattern × text steps, whatever a policy or a request says; a regular expression could take for ever.
 */
export function matchesWildcard(pattern: string, text: string): boolean {
  if (pattern === '*' || pattern === text) return true;
  let at = 0;
  let star = -1;
  let resume = 0;
  for (let i = 0; i < text.length;) {
    const wanted = pattern[at];
    if (wanted === '*') {
      star = at;
      at += 1;
      resume = i;
    } else if (wanted === '?' || wanted === text[i]) {
      at += 1;
      i += 1;
    } else if (star !== -1) {
      at = star + 1;
      resume += 1;
      i = resume;
    } else {
      return false;
    }
  }
  while (pattern[at] === '*') at += 1;
  return at === pattern.length;
}
